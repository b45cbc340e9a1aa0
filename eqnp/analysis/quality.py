"""The quality of a gradient estimate: its cosine with the exact gradient, lowered if a layer is worse."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from eqnp.analysis.diagnostics import cosine
from eqnp.networks import Gradient
from eqnp.stencils import Stencil, circle, four_point, one_sided, symmetric
from eqnp.watching import squared_norm

GOOD, USABLE = 0.99, 0.9  # smallest quality with this name
LAYER = 5  # the quality is at most 1 - (1 - cosine of a layer) / LAYER
UNEVEN = 0.1  # a layer is named if its cosine is this much lower than that of all parameters


@dataclass(frozen=True)
class Setting:
    """The settings that determine an estimate. ``estimator`` is the name of a stencil, ``points`` those of circle."""

    T1: int
    T2: int
    beta: float
    estimator: str
    points: int = 4

    @property
    def cost(self) -> int:
        """The number of steps of all phases together; a complex step counts as two."""
        nudged = {"symmetric": 2, "four-point": 4, "circle": self.points}
        return self.T1 + self.T2 * nudged.get(self.estimator, 1)


def make_stencil(setting: Setting, sign: int = 1) -> Stencil:
    """Return the stencil of a setting. ``sign`` is the sign of beta, 1 or -1."""
    if setting.estimator == "circle":
        return circle(sign * setting.beta, setting.points)
    make = {"symmetric": symmetric, "four-point": four_point}.get(setting.estimator, one_sided)
    return make(sign * setting.beta)


def grade(estimate: Gradient, exact: Gradient) -> float:
    """Return the quality of an estimate, at most 1: its cosine, or less if a layer is worse.

        min(cosine, 1 - (1 - smallest cosine of a weight) / 5),

    over weights with a nonzero exact gradient. A layer learns from its own part of the gradient. That part may be wrong
    although the larger part of another layer is right. The result is rounded to three decimals, as it is shown.
    """
    layers = layer_cosines(estimate, exact).values()
    return round(min([cosine(estimate, exact), *(1 - (1 - c) / LAYER for c in layers)]), 3)


def layer_cosines(estimate: Gradient, exact: Gradient) -> dict[str, float]:
    """Return the cosine with the exact gradient by weight; weights with a zero exact gradient are left out."""
    weights = [name for name, g in exact.items() if name.endswith(".weight") and squared_norm(g) > 0]
    return {name: cosine({name: estimate[name]}, {name: exact[name]}) for name in weights}


def word(quality: float) -> str:
    """Return ``good``, ``usable`` or ``poor``."""
    return "good" if quality >= GOOD else "usable" if quality >= USABLE else "poor"


def worst_layer(layers: Mapping[str, float], cosine: float, margin: float = UNEVEN) -> str:
    """Return the weight with the lowest cosine if that is more than ``margin`` below ``cosine``, else ""."""
    worst = min(layers, key=layers.__getitem__, default="")
    return worst if worst and layers[worst] < cosine - margin else ""
