"""The dense product and its two adjoints.

Letters: N samples, D input units, K output units. ``flatten`` brings a state of any shape (N, ...) to (N, D).
"""

from __future__ import annotations

from eqnp.backends.backend import Array, array_module


def flatten(s: Array) -> Array:
    """Return s with all axes but the first joined: (N, ...) -> (N, D), for example (N, H, W, C) -> (N, H W C)."""
    return s.reshape(s.shape[0], -1)


def dense(s: Array, w: Array, out: Array | None = None) -> Array:
    """Return ``s . w``: (N, D), (D, K) -> (N, K).

    Adjoint in s: ``dense_transpose``; in w: ``dense_weight_gradient``.
    """
    return array_module(s).matmul(s, w, out=out)


def dense_transpose(v: Array, w: Array, out: Array | None = None) -> Array:
    """Return ``v . w^T``: (N, K), (D, K) -> (N, D). The adjoint of ``dense`` in s."""
    return array_module(v).matmul(v, w.T, out=out)


def dense_weight_gradient(s: Array, v: Array) -> Array:
    """Return ``s^T . v``: (N, D), (N, K) -> (D, K), summed over samples. The adjoint of ``dense`` in w."""
    return array_module(s).matmul(s.T, v)
