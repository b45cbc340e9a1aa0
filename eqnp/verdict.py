"""How far the estimate of the configured T1, T2 and beta is from the exact gradient, what is the matter, what cures it.

The distance from the exact gradient is measured as configured, and again as one thing after the other is put right:

    free phase settled; nudged phases settled too; samples whose activity pattern switches left out;
    beta -> 0 (in a vector field, where a distance is left; in a symmetric network there is none)

The parts are the differences between one distance and the next. They sum to the first, and one is negative if the fault
hid another.

Cures are tried, one after the other: more T1, more T2, a smaller beta, two-sided nudging.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from eqnp.diagnostics import alignment_angles, cosine, minus, total_norm
from eqnp.networks import Gradient, VectorFieldNetwork
from eqnp.steady import Phases
from eqnp.stencils import Stencil, four_point, one_sided, symmetric

GOOD, USABLE = 0.99, 0.9  # least cosine with the exact gradient
NEAR = 0.01  # a cure leads this near to the best cosine that beta -> 0 leaves, where that is less than good
UNEVEN = 0.1  # a layer whose cosine is this much lower than that of all parameters is worth a word
LONGER = (2, 4, 8, 16)  # times T1 or T2
SMALLER = (2, 5, 10, 20, 50)  # beta divided by
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

    Returns ``of`` and ``samples`` (how many there are, and settle). If any do and the exact gradient is known:
    ``cosine``, ``distance`` and ``length`` of the estimate, relative to the exact gradient, over all parameters;
    ``residual`` of its free phase; ``sign`` of beta (random sign: the worse one; else 1); ``fifths`` (cosines of fifths
    of the samples); ``stages`` (cosine and distance as one thing after the other is put right); ``switching`` (how many
    samples do); ``parts`` of the distance; ``cause``, the largest; ``layers`` (cosine by parameter); ``limit`` (cosine
    of settled phases as beta goes to 0); ``goal`` and, below it, ``cure``: a setting, its cosine, ``enough`` (whether
    it reaches ``goal``), and ``tried``. Without an exact gradient ``unknown`` says why: ``zero`` or ``adjoint``.
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
    result["layers"] = {name: cosine({name: estimate[name]}, {name: g}) for name, g in exact.items()}
    limit = phases.settled_estimate(symmetric(_smallest(setting.beta, phases.dtype)))
    result["limit"] = cosine(limit, exact)
    result |= _split(phases, setting.T2, stencil, estimate, exact, limit)
    result["goal"] = min(GOOD, result["limit"] - NEAR)
    if result["cosine"] < result["goal"]:
        result["cure"] = find_cure(phases, setting, sign, exact, result["cosine"], result["goal"])
    return result


def make_stencil(setting: Setting, sign: int = 1) -> Stencil:
    """Return the stencil of a setting; with a random sign, the one of ``sign``."""
    make = {"symmetric": symmetric, "four-point": four_point}.get(setting.estimator, one_sided)
    return make(sign * setting.beta)


def word(cosine: float) -> str:
    """Return ``good``, ``usable`` or ``poor``."""
    return "good" if cosine >= GOOD else "usable" if cosine >= USABLE else "poor"


def worst_layer(layers: Mapping[str, float], cosine: float) -> str:
    """Return the parameter with the lowest cosine where it is much lower than that of all together, or else ""."""
    weights = {name: c for name, c in layers.items() if name.endswith(".weight")}
    worst = min(weights, key=weights.__getitem__)
    return worst if weights[worst] < cosine - UNEVEN else ""


def find_cure(phases: Phases, setting: Setting, sign: int, exact: Gradient, now: float, goal: float) -> dict[str, Any]:
    """Try longer phases, smaller betas and two-sided nudging; return the cheapest that reaches ``goal``, or the best.

    First one of them at a time. Where none is enough, the best is kept and the others are tried with it, and so on.
    """
    tried: list[tuple[Setting, float]] = []

    def quality(candidate: Setting) -> float:
        phases.watch.stage(f"trying T1 {candidate.T1}, T2 {candidate.T2}, beta {candidate.beta:.2g}")
        free = phases.free_after(candidate.T1).states
        found = cosine(phases.estimate(free, candidate.T2, make_stencil(candidate, sign)), exact)
        tried.append((candidate, found))
        return found

    best, found = setting, now
    knobs = dict(_knobs(phases.steps, setting.estimator))
    phases.watch.expect(sum(len(ladder(setting)) for ladder in knobs.values()))
    while knobs and found < goal:
        ends = {}
        for name, ladder in knobs.items():
            for candidate in ladder(best):
                c = quality(candidate)
                if name not in ends or c > ends[name][1]:
                    ends[name] = candidate, c
                if c >= goal:
                    break
        enough = [end for end in ends.values() if end[1] >= goal]
        if enough:
            best, found = min(enough, key=lambda end: (end[0].cost, -end[0].beta))
            break
        name, end = max(ends.items(), key=lambda item: item[1][1], default=("", (best, found)))
        if end[1] <= found:
            break
        best, found = end
        del knobs[name]
    return asdict(best) | {"cosine": found, "enough": found >= goal, "tried": _table(tried)}


def _knobs(steps: int, estimator: str) -> list[tuple[str, Callable[[Setting], list[Setting]]]]:
    """Return by name what can be changed, each as the settings that it leads to, the smallest change first."""
    knobs = [
        ("beta", lambda s: [replace(s, beta=s.beta / k) for k in SMALLER]),
        ("T1", lambda s: [replace(s, T1=s.T1 * k) for k in LONGER if s.T1 * k <= steps]),
        ("T2", lambda s: [replace(s, T2=s.T2 * k) for k in LONGER if s.T2 * k <= steps]),
    ]
    if estimator in ("one-sided", "random-sign"):
        knobs.append(("estimator", lambda s: [replace(s, estimator="symmetric")]))
    return knobs


def _table(tried: list[tuple[Setting, float]]) -> dict[str, np.ndarray]:
    """Return what was tried, column by column."""
    columns = {name: np.array([getattr(s, name) for s, _ in tried]) for name in ("T1", "T2", "beta")}
    two_sided = np.array([s.estimator in ("symmetric", "four-point") for s, _ in tried])
    return columns | {"two_sided": two_sided, "cosine": np.array([c for _, c in tried])}


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
    parts = _parts({name: stage["distance"] for name, stage in stages.items()})
    cause = max(parts, key=parts.__getitem__)
    return {"stages": stages, "switching": int(switching.sum()), "parts": parts, "cause": cause}


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
