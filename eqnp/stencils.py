"""Stencils: values of beta and coefficients with which an estimator approximates the derivative by beta.

If the c_k beta_k^m sum to 0 for m = 0 and to 1 for m = 1, the stencil gives d/dbeta in the limit of small beta. If they
also sum to 0 for m = 2 .. p, the bias is of order beta^p. The poster, "Symmetric estimate", has the first three.

beta may be complex. Then the states are complex, and the estimate is the real part of the sum: with real weights and
inputs the state at the conjugate of beta is the conjugate of the state at beta, so one of the two is enough.
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from eqnp.inputs import require_nudging, whole
from eqnp.ops.pairs import is_complex


@dataclass(frozen=True)
class Stencil:
    """Values of beta with their coefficients; beta 0 is the free steady state.

    Raises:
        ValueError: a beta or a coefficient is not finite, or there are no points.
    """

    name: str
    points: tuple[tuple[complex, complex], ...]

    def __post_init__(self) -> None:
        if not self.points or not all(cmath.isfinite(number) for point in self.points for number in point):
            raise ValueError(f"stencil {self.name}: {self.points} are not finite pairs (beta, coefficient)")

    @property
    def is_complex(self) -> bool:
        """Whether a beta is complex, so that the states are complex."""
        return any(is_complex(beta) for beta, _ in self.points)


def one_sided(beta: float) -> Stencil:
    """Return {(beta, 1 / beta), (0, -1 / beta)}: two phases, bias of order beta. ``beta`` may be negative."""
    require_nudging(beta)
    return Stencil("one-sided", ((beta, 1 / beta), (0.0, -1 / beta)))


def random_sign(beta: float, generator: np.random.Generator) -> Stencil:
    """Return the one-sided stencil at +beta or -beta at random: on average no bias of order beta, but noise."""
    require_nudging(beta)
    sign = 1 if generator.random() < 0.5 else -1
    return Stencil("random-sign", one_sided(sign * beta).points)


def symmetric(beta: float) -> Stencil:
    """Return {(beta, 1 / (2 beta)), (-beta, -1 / (2 beta))}: three phases, bias of order beta^2."""
    require_nudging(beta)
    return Stencil("symmetric", ((beta, 0.5 / beta), (-beta, -0.5 / beta)))


def four_point(beta: float) -> Stencil:
    """Return {(+-beta, +-2 / (3 beta)), (+-2 beta, -+1 / (12 beta))}: five phases, bias of order beta^4."""
    require_nudging(beta)
    near, far = 2 / (3 * beta), 1 / (12 * beta)
    return Stencil("four-point", ((beta, near), (-beta, -near), (2 * beta, -far), (-2 * beta, far)))


def circle(beta: float, points: int = 4) -> Stencil:
    """Return N ``points`` on a circle of radius ``beta``: N / 2 + 2 phases, bias of order beta^N (arXiv:2209.00530).

        beta_k = beta e^{2 pi i k / N},    c_k = e^{-2 pi i k / N} / (N beta),    k = 0 .. N - 1

    This is the first Fourier coefficient on the circle: the c_k beta_k^m sum to beta^(m - 1) for m = 1, N + 1, 2 N + 1,
    ... and to 0 for all other m. The stencil holds the points +-beta and those above the real axis, the latter twice,
    since the estimate is the real part of the sum. N = 2 is the symmetric stencil.

    Raises:
        ValueError: ``points`` is odd or below 2, or ``beta`` is 0, NaN or infinite, or 1 / beta is infinite.
    """
    require_nudging(beta)
    count = whole(points)
    if count is None or count < 2 or count % 2:
        raise ValueError(f"points = {points!r}: must be an even whole number, at least 2")
    upper = [cmath.exp(2j * math.pi * k / count) for k in range(1, count // 2)]
    own = 1 / (count * beta)
    return Stencil("circle", ((beta, own), (-beta, -own), *((beta * u, 2 * own * u.conjugate()) for u in upper)))


ESTIMATORS = ("symmetric", "one-sided", "random-sign", "four-point", "circle")


def make_stencil(name: str, beta: float, seed: Sequence[int], points: int = 4) -> Stencil:
    """Return the stencil called ``name``, one of ``ESTIMATORS``.

    Only random-sign uses ``seed``, only circle uses ``points``.

    Raises:
        ValueError: the name is unknown, or ``beta`` is 0, NaN or infinite, or 1 / beta is infinite; or circle cannot
            have so many points.
    """
    if name not in ESTIMATORS:
        raise ValueError(f"estimator {name!r} is not known; choose one of {', '.join(ESTIMATORS)}")
    if name == "random-sign":
        return random_sign(beta, np.random.default_rng(seed))
    if name == "circle":
        return circle(beta, points)
    return {"symmetric": symmetric, "one-sided": one_sided, "four-point": four_point}[name](beta)
