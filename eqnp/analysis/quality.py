"""How good an estimate of the gradient is, and what it depends on.

The measure is the cosine of the angle with the exact gradient over all parameters, lowered where a layer is worse.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from eqnp.analysis.diagnostics import cosine, squared_norm
from eqnp.networks import Gradient
from eqnp.stencils import Stencil, four_point, one_sided, symmetric

GOOD, USABLE = 0.99, 0.9  # least quality
LAYER = 5  # what a layer's cosine lacks of 1 counts with one part in so many
UNEVEN = 0.1  # a layer whose cosine is this much lower than that of all parameters is worth a word


@dataclass(frozen=True)
class Setting:
    """What an estimate depends on. ``estimator`` is a stencil's name."""

    T1: int
    T2: int
    beta: float
    estimator: str

    @property
    def cost(self) -> int:
        """Steps of all phases together."""
        return self.T1 + self.T2 * {"symmetric": 2, "four-point": 4}.get(self.estimator, 1)


def make_stencil(setting: Setting, sign: int = 1) -> Stencil:
    """Return the stencil of a setting; with a random sign, the one of ``sign``."""
    make = {"symmetric": symmetric, "four-point": four_point}.get(setting.estimator, one_sided)
    return make(sign * setting.beta)


def grade(estimate: Gradient, exact: Gradient) -> float:
    """Return the quality of an estimate, at most 1: its cosine, or less where a layer is worse.

    A layer learns by its own part of the gradient, which may be wrong where another layer's, larger one is right: the
    least cosine of a weight, of those whose exact gradient is not zero, counts with a fifth of what it lacks. Three
    decimals, as they are shown.
    """
    layers = layer_cosines(estimate, exact).values()
    return round(min([cosine(estimate, exact), *(1 - (1 - c) / LAYER for c in layers)]), 3)


def layer_cosines(estimate: Gradient, exact: Gradient) -> dict[str, float]:
    """Return the cosine by weight, where the exact gradient is not zero."""
    weights = [name for name, g in exact.items() if name.endswith(".weight") and squared_norm(g) > 0]
    return {name: cosine({name: estimate[name]}, {name: exact[name]}) for name in weights}


def word(quality: float) -> str:
    """Return ``good``, ``usable`` or ``poor``."""
    return "good" if quality >= GOOD else "usable" if quality >= USABLE else "poor"


def worst_layer(layers: Mapping[str, float], cosine: float, margin: float = UNEVEN) -> str:
    """Return the weight with the lowest cosine if it is more than ``margin`` below that of all together, or else ""."""
    worst = min(layers, key=layers.__getitem__, default="")
    return worst if worst and layers[worst] < cosine - margin else ""
