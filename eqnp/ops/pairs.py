"""A complex array as a pair of real ones: z = a + i b of N samples as a real array of 2 N samples, a first, then b.

A linear map with real weights acts on a and on b separately. A map of batches therefore computes it for z as it is, and
the real operations and kernels serve complex states. Only what is not linear takes z itself.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from eqnp.backends.backend import Array, array_module


def is_complex(value: Any) -> bool:
    """Return whether a number or an array of any shape is of a complex type."""
    return isinstance(value, complex) or getattr(getattr(value, "dtype", None), "kind", "") == "c"


def complex_dtype(dtype: np.typing.DTypeLike) -> np.dtype:
    """Return the complex type of a real one: complex64 for float32, complex128 for float64."""
    return np.result_type(np.dtype(dtype), np.complex64)


def to_pair(z: Array) -> Array:
    """Return the real parts, then the imaginary parts: (N, ...) -> (2 N, ...). ``z`` may be real."""
    return array_module(z).concatenate([z.real, z.imag])


def to_conjugate_pair(z: Array) -> Array:
    """Return the pair of the complex conjugate of z: (N, ...) -> (2 N, ...)."""
    pair = to_pair(z)
    pair[len(z) :] *= -1
    return pair


def from_pair(pair: Array, out: Array | None = None) -> Array:
    """Return the complex array of a pair, in ``out`` if given: (2 N, ...) -> (N, ...). The inverse of ``to_pair``."""
    half = len(pair) // 2
    if out is None:
        out = array_module(pair).empty((half, *pair.shape[1:]), dtype=complex_dtype(pair.dtype))
    out.real[...] = pair[:half]
    out.imag[...] = pair[half:]
    return out
