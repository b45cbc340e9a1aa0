"""Stencils: values of beta and coefficients with which an estimator approximates the derivative by beta.

If the c_k beta_k^m sum to 0 for m = 0 and to 1 for m = 1, the stencil gives d/dbeta in the limit of small beta. If they
also sum to 0 for m = 2 .. p, the bias is of order beta^p. The poster, "Symmetric estimate", has the first three.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from eqnp.inputs import require_nudging


@dataclass(frozen=True)
class Stencil:
    """Values of beta with their coefficients; beta 0 is the free steady state.

    Raises:
        ValueError: a beta or a coefficient is not finite, or there are no points.
    """

    name: str
    points: tuple[tuple[float, float], ...]

    def __post_init__(self) -> None:
        if not self.points or not all(math.isfinite(number) for point in self.points for number in point):
            raise ValueError(f"stencil {self.name}: {self.points} are not finite pairs (beta, coefficient)")


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
    """Return {(beta, 1 / 2 beta), (-beta, -1 / 2 beta)}: three phases, bias of order beta^2."""
    require_nudging(beta)
    return Stencil("symmetric", ((beta, 0.5 / beta), (-beta, -0.5 / beta)))


def four_point(beta: float) -> Stencil:
    """Return {(+-beta, +-2 / 3 beta), (+-2 beta, -+1 / 12 beta)}: five phases, bias of order beta^4."""
    require_nudging(beta)
    near, far = 2 / (3 * beta), 1 / (12 * beta)
    return Stencil("four-point", ((beta, near), (-beta, -near), (2 * beta, -far), (-2 * beta, far)))


ESTIMATORS = ("symmetric", "one-sided", "random-sign", "four-point")


def make_stencil(name: str, beta: float, seed: Sequence[int]) -> Stencil:
    """Return the stencil called ``name``, one of ``ESTIMATORS``; only random-sign uses ``seed``.

    Raises:
        ValueError: the name is unknown, or ``beta`` is 0, NaN or infinite, or 1 / beta is infinite.
    """
    if name not in ESTIMATORS:
        raise ValueError(f"estimator {name!r} is not known; choose one of {', '.join(ESTIMATORS)}")
    if name == "random-sign":
        return random_sign(beta, np.random.default_rng(seed))
    return {"symmetric": symmetric, "one-sided": one_sided, "four-point": four_point}[name](beta)
