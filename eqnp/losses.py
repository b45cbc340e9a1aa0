"""Losses of the output units: value and gradient per sample, and the prediction.

Symbols: N samples, K classes; o (N, K) output units or logits, y (N, K) one-hot target.

Squared error and cross-entropy are holomorphic: for complex o both give the analytic continuation, with squares and
exponentials of o and no conjugates. It is the derivative of a complex loss that nudges complex states.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from eqnp.backends.backend import Array, array_module
from eqnp.inputs import require_labels


def one_hot(labels: Array, classes: int, dtype: object) -> Array:
    """Return the target y: labels (N,) -> (N, classes), 1 at the label and 0 elsewhere.

    Raises:
        ValueError: labels are not integers of shape (N,), or, on the host, not in 0 .. classes - 1.
    """
    require_labels(labels, classes)
    xp = array_module(labels)
    return (labels[:, None] == xp.arange(classes)).astype(dtype)


def smooth(target: Array, smoothing: float) -> Array:
    """Return the target with smoothed labels: (1 - e) y + e / K, where e is ``smoothing``: (N, K) -> (N, K).

    Its entries still sum to 1, so value and gradient of both losses keep their form. The cross-entropy becomes
    (1 - e) times that of the label plus e times its mean over all classes.
    """
    return target * (1 - smoothing) + smoothing / target.shape[1]


def predict(o: Array) -> Array:
    """Return the class of the largest output: (N, K) -> (N,)."""
    return o.argmax(axis=1)


class Loss(ABC):
    """A loss l(o, y) that nudges the outputs by -beta dl/do."""

    linear_output: bool = False
    """Whether output units inside the system have no activation."""

    holomorphic: bool = False
    """Whether value and gradient take complex o, too, and are the analytic continuation."""

    @abstractmethod
    def value(self, o: Array, y: Array) -> Array:
        """Return l for every sample: (N, K) -> (N,)."""

    @abstractmethod
    def gradient(self, o: Array, y: Array, out: Array | None = None) -> Array:
        """Return dl/do for every sample: (N, K) -> (N, K), written to ``out`` if given, else a new array."""


class SquaredError(Loss):
    """l = |o - y|^2 / 2, dl/do = o - y."""

    linear_output = False
    holomorphic = True

    def value(self, o: Array, y: Array) -> Array:
        """Return |o - y|^2 / 2: (N, K) -> (N,)."""
        return ((o - y) ** 2).sum(axis=1) / 2

    def gradient(self, o: Array, y: Array, out: Array | None = None) -> Array:
        """Return o - y: (N, K) -> (N, K)."""
        return array_module(o).subtract(o, y, out=out)


class CrossEntropy(Loss):
    """l = -log softmax(o)[label], dl/do = softmax(o) - y."""

    linear_output = True
    holomorphic = True

    def value(self, o: Array, y: Array) -> Array:
        """Return log(sum exp o) - o[label]: (N, K) -> (N,)."""
        shifted = o - o.real.max(axis=1, keepdims=True)
        log_sum = array_module(o).log(array_module(o).exp(shifted).sum(axis=1))
        return log_sum - (shifted * y).sum(axis=1)

    def gradient(self, o: Array, y: Array, out: Array | None = None) -> Array:
        """Return softmax(o) - y: (N, K) -> (N, K)."""
        p = softmax(o, out)
        p -= y
        return p


def softmax(o: Array, out: Array | None = None) -> Array:
    """Return exp(o) / sum exp(o) over the classes: (N, K) -> (N, K).

    Shifted by the maximum of the real parts, so it cannot overflow; a shift of all o changes nothing.
    """
    xp = array_module(o)
    p = xp.subtract(o, o.real.max(axis=1, keepdims=True), out=out)
    xp.exp(p, out=p)
    p /= p.sum(axis=1, keepdims=True)
    return p
