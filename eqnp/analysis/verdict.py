"""How far the estimate of the configured T1, T2 and beta is from the exact gradient, what is the matter, what cures it.

The cosine with the exact gradient is measured as configured, and again as one thing after the other is put right:

    free phase settled; nudged phases settled too; samples whose activity pattern switches left out;
    beta -> 0 (in a vector field, where something is left; in a symmetric network nothing is)

The parts are the differences between one value of 1 - cosine and the next, about half the squared sine of the angle:
errors that have nothing to do with each other add up in it. They sum to the first value, and one is negative if the
fault hid another.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from eqnp.analysis.cures import find_cure
from eqnp.analysis.diagnostics import alignment_angles, cosine, minus, total_norm
from eqnp.analysis.quality import GOOD, Setting, grade, layer_cosines, make_stencil
from eqnp.analysis.steady import Phases, settled_move
from eqnp.networks import Gradient, VectorFieldNetwork
from eqnp.stencils import Stencil, symmetric

NEAR = 0.01  # a cure leads this near to the quality that beta -> 0 leaves, where that is less than good
FOLDS = 5
STAGES = 8 + FOLDS  # of ``judge``, without a cure
UNSOLVED = 1e-6  # an adjoint that still moves by this, has no limit


def judge(phases: Phases, setting: Setting, tolerance: float = 0.0, every: int = 1) -> dict[str, Any]:
    """Measure the estimate of ``setting`` against the exact gradient, over the samples whose free phase settles.

    ``tolerance`` and ``every`` are those of the configured phases, as ``relax`` takes them; cures have none.

    Returns ``of`` and ``samples`` (how many there are, and settle). If any do and the exact gradient is known, of the
    configured estimate: ``cosine``, ``distance`` and ``length``, relative to the exact gradient, over all parameters;
    ``layers`` (cosine by parameter) and ``quality`` (``grade``); ``residual`` of its free phase; ``sign`` of beta (of a
    random sign the worse one; else 1); ``fifths`` (cosines of fifths of the samples). ``stages``: cosine and distance
    as one thing after the other is put right; ``switching``: how many samples do, or do not settle under nudging, which
    ``restless`` counts; ``parts`` of 1 - cosine, and ``cause``, the largest. ``limit``: cosine of settled phases as
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
    if not found.residual <= max(UNSOLVED, settled_move(phases.dtype)) or not math.isfinite(size):
        return result | {"unknown": "adjoint"}
    if not size:
        return result | {"unknown": "zero"}
    sign, estimate = _worse_sign(phases, setting, exact, tolerance, every)
    stencil = make_stencil(setting, sign)
    result |= _compared(estimate, exact) | {"length": total_norm(estimate) / size, "sign": sign}
    result["residual"] = phases.free_after(setting.T1, tolerance, every).residual
    result["fifths"] = _fifths(phases, setting, stencil, tolerance, every)
    result["layers"] = layer_cosines(estimate, exact)
    limit = phases.settled_estimate(symmetric(_smallest(setting.beta, phases.dtype)))
    result |= {"limit": cosine(limit, exact), "quality": grade(estimate, exact)}
    result |= _split(phases, setting.T2, stencil, estimate, exact, limit)
    result["goal"] = min(GOOD, grade(limit, exact) - NEAR)
    if result["quality"] < result["goal"]:
        result["cure"] = find_cure(phases, setting, sign, exact, result["quality"], result["goal"])
    return result


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
    """Return the stages from ``estimate`` to ``exact``, by how much each raises the cosine, and the largest one."""
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
    parts = _parts({name: 1 - stage["cosine"] for name, stage in stages.items()})
    cause = max(parts, key=parts.__getitem__)
    return {
        "stages": stages,
        "switching": int(switching.sum()),
        "restless": int(restless.sum()),
        "parts": parts,
        "cause": cause,
    }


def _parts(lacks: Mapping[str, float]) -> dict[str, float]:
    """Return by how much 1 - cosine shrinks from each stage to the next; they sum to that of the first.

    Where every sample switches, a bias in beta cannot be told from what the switches do.
    """
    last = lacks.get("limit", 0.0)
    parts = {
        "free": lacks["configured"] - lacks["free"],
        "nudged": lacks["free"] - lacks["nudged"],
        "switches": lacks["nudged"] - lacks.get("unswitched", last),
        "bias": lacks.get("unswitched", last) - last,
    }
    return parts | ({"field": last} if "limit" in lacks else {})


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
    return float(beta * float(np.finfo(dtype).eps) ** (1 / 3))


def _compared(estimate: Gradient, exact: Gradient) -> dict[str, float]:
    return {"cosine": cosine(estimate, exact), "distance": total_norm(minus(estimate, exact)) / total_norm(exact)}


def mean_angle(parameters: Mapping[str, Any]) -> float:
    """Return the mean angle in degrees between backward and forward weights, nan where there are none."""
    angles = alignment_angles(parameters)
    return float(np.mean(list(angles.values()))) if angles else math.nan
