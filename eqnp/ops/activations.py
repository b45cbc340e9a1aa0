"""The activations sigma used in the literature, each with its derivative.

The derivative is a function of the argument u. At a kink it is the derivative inside the range, for example 1 at both
ends of clip(u, 0, 1), as in the published code. NaN gives NaN.

``relu`` and ``linear`` have no upper bound, so strong weights can let the states of a network grow without limit:
``eqnp.ops.moves`` says when. ``relu6`` is a relu that cannot.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from eqnp.backends.backend import Array, array_module
from eqnp.ops.pairs import is_complex


@dataclass(frozen=True)
class Activation:
    """``value(u, out=None)`` is sigma(u), ``derivative(u)`` is sigma'(u); both elementwise, shape and dtype of u.

    With ``out``, sigma(u) is written there, and ``out`` may be u. sigma(u) is from ``low`` to ``high``.
    ``holomorphic`` says that both functions take complex u, too, and are the analytic continuation.
    """

    name: str
    formula: str
    value: Callable[..., Array]
    derivative: Callable[[Array], Array]
    low: float = -math.inf
    high: float = math.inf
    holomorphic: bool = False

    def require_out(self) -> None:
        """Check that ``value`` writes to ``out``, on which every step depends.

        Raises:
            ValueError: it does not.
        """
        u = np.linspace(-2, 2, 9)
        out = np.full_like(u, np.nan)
        self.value(u, out=out)
        if not np.array_equal(out, self.value(u)):
            raise ValueError(f"activation {self.name}: value(u, out=out) must write sigma(u) to out")

    @property
    def bounded(self) -> bool:
        """Whether sigma has a lower and an upper bound; then states cannot grow without limit."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    @property
    def has_bound(self) -> bool:
        """Whether sigma has a lower or an upper bound."""
        return math.isfinite(self.low) or math.isfinite(self.high)

    def clip(self, s: Array) -> None:
        """Clip s (any shape) to the range of sigma, in place. A range may have one bound only, or none."""
        if self.has_bound:
            array_module(s).clip(s, self.low, self.high, out=s)


def _sigmoid(u: Array, out: Array | None = None) -> Array:
    # 1 / (1 + exp(-4 v)) = (1 + tanh(2 v)) / 2 with v = u - 1/2; tanh cannot overflow
    out = array_module(u).multiply(u, 2, out=out)
    out -= 1
    _tanh(out, out=out)
    out += 1
    out *= 0.5
    return out


def _sigmoid_derivative(u: Array) -> Array:
    sigma = _sigmoid(u)
    return 4 * sigma * (1 - sigma)


def _tanh(u: Array, out: Array | None = None) -> Array:
    if is_complex(u):
        return _complex_tanh(u, out)
    return array_module(u).tanh(u, out=out)


def _complex_tanh(u: Array, out: Array | None) -> Array:
    # tanh(a + i b) = (t + i (1 - t^2) sin b cos b) / (cos^2 b + t^2 sin^2 b), t = tanh a: by real functions, which are
    # several times as fast as NumPy's complex tanh
    xp = array_module(u)
    out = xp.empty_like(u) if out is None else out
    t, b = xp.tanh(u.real), u.imag
    sine, cosine, square = xp.sin(b), xp.cos(b), t * t
    below = cosine * cosine + square * (sine * sine)
    out.real[...] = t / below
    out.imag[...] = (1 - square) * (sine * cosine) / below
    return out


def _tanh_derivative(u: Array) -> Array:
    return 1 - _tanh(u) ** 2


def _linear(u: Array, out: Array | None = None) -> Array:
    return array_module(u).multiply(u, 1, out=out)


def _clip(name: str, formula: str, slope: float, low: float, high: float) -> Activation:
    """Return sigma(u) = clip(slope u, low, high)."""

    def value(u: Array, out: Array | None = None) -> Array:
        xp = array_module(u)
        if slope != 1:
            u = xp.multiply(u, slope, out=out)
        return xp.clip(u, low, high, out=out)

    def derivative(u: Array) -> Array:
        inside = (u * slope >= low) & (u * slope <= high)
        return inside.astype(u.dtype) * slope

    return Activation(name, formula, value, derivative, low, high)


LINEAR = Activation("linear", "u", _linear, lambda u: array_module(u).ones_like(u), holomorphic=True)

ACTIVATIONS: dict[str, Activation] = {
    activation.name: activation
    for activation in (
        Activation("sigmoid", "1 / (1 + exp(-4 (u - 1/2)))", _sigmoid, _sigmoid_derivative, 0, 1, True),
        _clip("hard_sigmoid", "clip(u, 0, 1)", 1, 0, 1),
        _clip("half_hard_sigmoid", "clip(u / 2, 0, 1)", 0.5, 0, 1),
        _clip("centered_hard_sigmoid", "clip(u, -1/2, 1/2)", 1, -0.5, 0.5),
        Activation("tanh", "tanh(u)", _tanh, _tanh_derivative, -1, 1, True),
        _clip("relu", "max(u, 0)", 1, 0, math.inf),
        _clip("relu6", "clip(u, 0, 6)", 1, 0, 6),
        LINEAR,
    )
}
