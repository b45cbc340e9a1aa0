"""How far the estimate of the configured T1, T2 and beta is from the exact gradient, what is the matter, what cures it.

The distance from the exact gradient is measured as configured, and again as one thing after the other is put right:

    free phase settled; nudged phases settled too; samples whose activity pattern switches left out;
    beta -> 0 (in a vector field, where a distance is left; in a symmetric network there is none)

The parts are the differences between one distance and the next. They sum to the first, and one is negative if the fault
hid another.

Cures are found by trying: a smaller beta, more T1, more T2, two-sided nudging.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from eqnp.backend import Array
from eqnp.diagnostics import alignment_angles, cosine, minus, squared_norm, total_norm
from eqnp.networks import Gradient, VectorFieldNetwork
from eqnp.steady import Phases
from eqnp.stencils import Stencil, four_point, one_sided, symmetric

GOOD, USABLE = 0.99, 0.9  # least quality
LAYER = 5  # what a layer's cosine lacks of 1 counts with one part in so many
NEAR = 0.01  # a cure leads this near to the quality that beta -> 0 leaves, where that is less than good
UNEVEN = 0.1  # a layer whose cosine is this much lower than that of all parameters is worth a word
LONGER = (2, 4, 8, 16)  # times T1 or T2
SMALLER = (2, 5, 10, 20, 50, 100)  # beta divided by
FOLDS = 5
STAGES = 8 + FOLDS  # of ``judge``, without a cure
UNSOLVED = 1e-6  # an adjoint that still moves by this, has no limit


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


def judge(phases: Phases, setting: Setting, tolerance: float = 0.0, every: int = 1) -> dict[str, Any]:
    """Measure the estimate of ``setting`` against the exact gradient, over the samples whose free phase settles.

    ``tolerance`` and ``every`` are those of the configured phases, as ``relax`` takes them; cures have none.

    Returns ``of`` and ``samples`` (how many there are, and settle). If any do and the exact gradient is known, of the
    configured estimate: ``cosine``, ``distance`` and ``length``, relative to the exact gradient, over all parameters;
    ``layers`` (cosine by parameter) and ``quality`` (``grade``); ``residual`` of its free phase; ``sign`` of beta (of a
    random sign the worse one; else 1); ``fifths`` (cosines of fifths of the samples). ``stages``: cosine and distance
    as one thing after the other is put right; ``switching``: how many samples do, or do not settle under nudging, which
    ``restless`` counts; ``parts`` of the distance, and ``cause``, the largest. ``limit``: cosine of settled phases as
    beta goes to 0; ``goal``, a quality, and below it ``cure`` (``find_cure``). Without an exact gradient ``unknown``
    says why: ``zero`` or ``adjoint``.
    """
    good = phases.settled()
    result: dict[str, Any] = {"of": len(phases), "samples": int(good.sum())}
    if not good.any():
        return result
    phases = phases if good.all() else phases.only(good)
    found = phases.exact()
    exact, size = found.gradient, total_norm(found.gradient)
    if not found.residual <= UNSOLVED or not math.isfinite(size):
        return result | {"unknown": "adjoint"}
    if not size:
        return result | {"unknown": "zero"}
    sign, estimate = _worse_sign(phases, setting, exact, tolerance, every)
    stencil = make_stencil(setting, sign)
    result |= _compared(estimate, exact) | {"length": total_norm(estimate) / size, "sign": sign}
    result["residual"] = phases.free_after(setting.T1, tolerance, every).residual
    result["fifths"] = _fifths(phases, setting, stencil, tolerance, every)
    result["layers"] = {n: cosine({n: estimate[n]}, {n: g}) for n, g in exact.items() if _has_layer(n, g)}
    limit = phases.settled_estimate(symmetric(_smallest(setting.beta, phases.dtype)))
    result |= {"limit": cosine(limit, exact), "quality": grade(estimate, exact)}
    result |= _split(phases, setting.T2, stencil, estimate, exact, limit)
    result["goal"] = min(GOOD, grade(limit, exact) - NEAR)
    if result["quality"] < result["goal"]:
        result["cure"] = find_cure(phases, setting, sign, exact, result["quality"], result["goal"])
    return result


def make_stencil(setting: Setting, sign: int = 1) -> Stencil:
    """Return the stencil of a setting; with a random sign, the one of ``sign``."""
    make = {"symmetric": symmetric, "four-point": four_point}.get(setting.estimator, one_sided)
    return make(sign * setting.beta)


def grade(estimate: Gradient, exact: Gradient) -> float:
    """Return the quality of an estimate, at most 1: its cosine, or less where a layer is worse.

    A layer learns by its own part of the gradient, which may be wrong where another layer's, larger one is right: the
    least cosine of a weight, of those whose exact gradient is not zero, counts with a fifth of what it lacks.
    """
    weights = [cosine({name: estimate[name]}, {name: g}) for name, g in exact.items() if _has_layer(name, g)]
    return min([cosine(estimate, exact), *(1 - (1 - c) / LAYER for c in weights)])


def _has_layer(name: str, g: Array) -> bool:
    return name.endswith(".weight") and squared_norm(g) > 0


def word(quality: float) -> str:
    """Return ``good``, ``usable`` or ``poor``."""
    return "good" if quality >= GOOD else "usable" if quality >= USABLE else "poor"


def worst_layer(layers: Mapping[str, float], cosine: float) -> str:
    """Return the parameter with the lowest cosine where it is much lower than that of all together, or else ""."""
    worst = min(layers, key=layers.__getitem__)
    return worst if layers[worst] < cosine - UNEVEN else ""


def find_cure(phases: Phases, setting: Setting, sign: int, exact: Gradient, now: float, goal: float) -> dict[str, Any]:
    """Try smaller betas, longer phases and two-sided nudging until a quality of ``goal`` is reached.

    First each alone, the smallest change first. Where none is enough, all together, and then each of them is taken back
    as far as the goal allows. Of several the cheapest in steps is chosen. Returns the setting, its ``cosine`` and
    ``quality``, ``enough`` (whether that reaches the goal; if not, it is the best of all), and what was ``tried``.
    """
    trial = _Trial(phases, sign, exact)
    knobs = _knobs(setting, phases.steps)
    phases.watch.expect(sum(map(len, knobs.values())))
    single = [
        trial.first([replace(setting, **{key: value}) for value in values], goal) for key, values in knobs.items()
    ]
    found = [candidate for candidate in single if candidate is not None]
    if not found:
        together = [
            replace(setting, **{key: values[min(k, len(values) - 1)] for key, values in knobs.items() if values})
            for k in range(max(map(len, knobs.values())))
        ]
        best = trial.first(together, goal)
        for key, values in knobs.items() if best is not None else ():
            less = [replace(best, **{key: value}) for value in (getattr(setting, key), *values)]
            best = trial.first(less[: less.index(best)], goal) or best
        found = [best] if best is not None else []
    if found:
        best = min(found, key=lambda s: (s.cost, -s.beta))
    else:
        best = max(trial.tried, key=lambda s: trial.tried[s][1], default=setting)
    reached = trial.tried.get(best, (0.0, -1.0))
    if reached[1] <= now:
        best, reached = setting, (cosine(trial.estimate(setting), exact), now)
    return asdict(best) | {
        "cosine": reached[0],
        "quality": reached[1],
        "enough": reached[1] >= goal,
        "tried": _table(trial.tried),
    }


class _Trial:
    """Settings tried, each with its cosine and its quality."""

    def __init__(self, phases: Phases, sign: int, exact: Gradient) -> None:
        self.phases, self.sign, self.exact = phases, sign, exact
        self.tried: dict[Setting, tuple[float, float]] = {}

    def first(self, settings: Sequence[Setting], goal: float) -> Setting | None:
        """Return the first setting that reaches the goal, or None; those after it are not tried."""
        return next((setting for setting in settings if self.quality(setting) >= goal), None)

    def quality(self, setting: Setting) -> float:
        """Return the quality of the estimate of a setting."""
        if setting not in self.tried:
            self.phases.watch.stage(f"trying T1 {setting.T1}, T2 {setting.T2}, beta {setting.beta:.2g}")
            estimate = self.estimate(setting)
            self.tried[setting] = cosine(estimate, self.exact), grade(estimate, self.exact)
        return self.tried[setting][1]

    def estimate(self, setting: Setting) -> Gradient:
        """Return the estimate of a setting."""
        free = self.phases.free_after(setting.T1).states
        return self.phases.estimate(free, setting.T2, make_stencil(setting, self.sign))


def _knobs(setting: Setting, steps: int) -> dict[str, list[Any]]:
    """Return what can be changed, by name, and the values to try, the smallest change first."""
    knobs: dict[str, list[Any]] = {
        "beta": [setting.beta / k for k in SMALLER],
        "T1": [setting.T1 * k for k in LONGER if setting.T1 * k <= steps],
        "T2": [setting.T2 * k for k in LONGER if setting.T2 * k <= steps],
    }
    if setting.estimator in ("one-sided", "random-sign"):
        knobs["estimator"] = ["symmetric"]
    return knobs


def _table(tried: Mapping[Setting, tuple[float, float]]) -> dict[str, np.ndarray]:
    """Return what was tried, column by column."""
    columns = {name: np.array([getattr(s, name) for s in tried]) for name in ("T1", "T2", "beta")}
    two_sided = np.array([s.estimator in ("symmetric", "four-point") for s in tried])
    cosines, qualities = np.array(list(tried.values())).reshape(-1, 2).T
    return columns | {"two_sided": two_sided, "cosine": cosines, "quality": qualities}


def _worse_sign(
    phases: Phases, setting: Setting, exact: Gradient, tolerance: float, every: int
) -> tuple[int, Gradient]:
    """Return the sign of beta, and the configured estimate with it. Of a random sign it is the worse of the two."""
    phases.watch.stage("the estimate as configured")
    free = phases.free_after(setting.T1, tolerance, every).states
    signs = (1, -1) if setting.estimator == "random-sign" else (1,)
    estimates = {
        sign: phases.estimate(free, setting.T2, make_stencil(setting, sign), tolerance, every) for sign in signs
    }
    return min(estimates.items(), key=lambda item: cosine(item[1], exact))


def _split(
    phases: Phases, T2: int, stencil: Stencil, estimate: Gradient, exact: Gradient, limit: Gradient
) -> dict[str, Any]:
    """Return the stages from ``estimate`` to ``exact``, by how much each shortens the distance, and the largest one."""
    settled = phases.settled_estimate(stencil)
    switching = np.any([phases.switched(beta) for beta, _ in stencil.points if beta], axis=0)
    stages = {
        "configured": _compared(estimate, exact),
        "free": _compared(phases.estimate(phases.free.states, T2, stencil), exact),
        "nudged": _compared(settled, exact),
    }
    if not switching.any():
        stages["unswitched"] = stages["nudged"]
    elif not switching.all():
        own = phases.settled_estimate(stencil, ~switching)
        stages["unswitched"] = _compared(own, phases.exact(~switching).gradient)
    if isinstance(phases.network, VectorFieldNetwork):
        stages["limit"] = _compared(limit, exact)
    restless = np.any([~phases.settled(beta) for beta, _ in stencil.points if beta], axis=0)
    parts = _parts({name: stage["distance"] for name, stage in stages.items()})
    cause = max(parts, key=parts.__getitem__)
    return {
        "stages": stages,
        "switching": int(switching.sum()),
        "restless": int(restless.sum()),
        "parts": parts,
        "cause": cause,
    }


def _parts(distances: Mapping[str, float]) -> dict[str, float]:
    """Return by how much the distance shrinks from each stage to the next; they sum to that of the first.

    Where every sample switches, a bias in beta cannot be told from what the switches do.
    """
    last = distances.get("limit", 0.0)
    parts = {
        "free": distances["configured"] - distances["free"],
        "nudged": distances["free"] - distances["nudged"],
        "switches": distances["nudged"] - distances.get("unswitched", last),
        "bias": distances.get("unswitched", last) - last,
    }
    return parts | ({"field": last} if "limit" in distances else {})


def _fifths(phases: Phases, setting: Setting, stencil: Stencil, tolerance: float, every: int) -> np.ndarray:
    """Return the configured estimate's cosine over every fifth of the samples, or over each if they are few."""
    cosines = []
    for k in range(count := min(FOLDS, len(phases))):
        part = phases.only(np.arange(len(phases)) % count == k)
        free = part.free_after(setting.T1, tolerance, every).states
        cosines.append(cosine(part.estimate(free, setting.T2, stencil, tolerance, every), part.exact().gradient))
    return np.array(cosines)


def _smallest(beta: float, dtype: np.dtype) -> float:
    """Return a beta so small that truncation, of order beta^2, and rounding, of order 1 / beta, are about equal."""
    return beta * float(np.finfo(dtype).eps) ** (1 / 3)


def _compared(estimate: Gradient, exact: Gradient) -> dict[str, float]:
    return {"cosine": cosine(estimate, exact), "distance": total_norm(minus(estimate, exact)) / total_norm(exact)}


def mean_angle(parameters: Mapping[str, Any]) -> float:
    """Return the mean angle in degrees between backward and forward weights, nan where there are none."""
    angles = alignment_angles(parameters)
    return float(np.mean(list(angles.values()))) if angles else math.nan
