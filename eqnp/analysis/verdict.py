"""How far the configured estimate (T1, T2, beta) is from the exact gradient, why, and which change helps.

The cosine with the exact gradient is measured as configured, and again after each of these corrections, in turn:

    free phase settled; nudged phases settled too; samples that switch their activity pattern left out;
    beta -> 0 (only in a vector field, where an error remains; in a symmetric network it vanishes)

The parts are the differences of 1 - cosine from one stage to the next. For small angles 1 - cosine is half the squared
angle, in which independent errors add up. The parts sum to the first value. A part is negative if its error concealed
another.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from eqnp.analysis.cures import find_cure
from eqnp.analysis.diagnostics import alignment_angles, cosine, minus, total_norm
from eqnp.analysis.quality import GOOD, Setting, grade, layer_cosines, make_stencil
from eqnp.analysis.steady import SettledPhases, growing
from eqnp.contrasts import asymmetric_contrast
from eqnp.networks import Gradient, VectorFieldNetwork
from eqnp.stencils import Stencil, symmetric
from eqnp.watching import learns_below, norms

NEAR = 0.01  # a cure must come this near to the quality at beta -> 0, if that is not good
FOLDS = 5
STAGES = 8 + FOLDS  # of ``judge``, without a cure


def judge(
    phases: SettledPhases, setting: Setting, tolerance: float = 0.0, every: int = 1, least_beta: float = 0.0
) -> dict[str, Any]:
    """Measure the estimate of ``setting`` against the exact gradient, over the samples whose free phase settles.

    ``tolerance`` and ``every`` belong to the configured phases (see ``relax``). Cures are tried without a tolerance.

    Returns ``of`` (number of samples) and ``samples`` (how many settle). If none does, ``growing`` is the number of
    samples whose states grow without limit, if there are any. If there is no exact gradient, ``unknown`` says why:
    ``zero``, ``outputs`` (it is zero for all weights below those of the outputs) or ``adjoint`` (its fixed point does
    not converge). Otherwise, with g the configured estimate and r the exact gradient, over all parameters:

        cosine, distance, length   <g, r> / (|g| |r|), |g - r| / |r|, |g| / |r|
        layers, quality            cosine by weight; ``quality.grade``
        residual, free_steps       of the free phase as configured
        silent                     weights whose exact gradient is zero, separated by commas
        sign                       of beta: 1, or for a random sign the worse of 1 and -1
        fifths                     cosines of fifths of the samples (5,)
        stages                     cosine and distance after each correction
        switching, restless        samples that switch or do not settle under nudging; those that do not settle
        parts, cause               differences of 1 - cosine by stage; the largest
        limit, goal, cure          cosine at beta -> 0, phases settled; quality to reach; if below it ``find_cure``
        asymmetric                 in a vector field with plain nudging: the cosine with asymmetric nudging
    """
    good = phases.settled()
    result: dict[str, Any] = {"of": len(phases), "samples": int(good.sum())}
    if not good.any():
        grown = int(growing(phases.free.moves, phases.dtype).sum())
        return result | ({"growing": grown} if grown else {})
    phases = phases if good.all() else phases.only(good)
    found = phases.exact()
    exact, size = found.gradient, total_norm(found.gradient)
    if not phases.is_solved(found):
        return result | {"unknown": "adjoint"}
    if not size:
        return result | {"unknown": "zero"}
    if not learns_below(phases.network, norms(exact)):
        return result | {"unknown": "outputs"}
    sign, estimate = _worse_sign(phases, setting, exact, tolerance, every)
    stencil = make_stencil(setting, sign)
    result |= _compared(estimate, exact) | {"length": total_norm(estimate) / size, "sign": sign}
    free = phases.free_after(setting.T1, tolerance, every)
    result |= {"residual": free.residual, "free_steps": free.steps}
    result["fifths"] = _fifths(phases, setting, stencil, tolerance, every)
    layers = result["layers"] = layer_cosines(estimate, exact)
    result["silent"] = ", ".join(name for name in exact if name.endswith(".weight") and name not in layers)
    limit = phases.settled_estimate(symmetric(_smallest(setting.beta, phases.dtype)))
    result |= {"limit": cosine(limit, exact), "quality": grade(estimate, exact)}
    result |= _split(phases, setting.T2, stencil, estimate, exact, limit)
    if phases.contrast is not asymmetric_contrast and isinstance(phases.network, VectorFieldNetwork):
        result["asymmetric"] = _asymmetric(phases, setting, stencil)
    result["goal"] = min(GOOD, grade(limit, exact) - NEAR)
    if result["quality"] < result["goal"]:
        result["cure"] = find_cure(
            phases, setting, sign, exact, result["quality"], result["goal"], least_beta, tolerance
        )
    return result


def _worse_sign(
    phases: SettledPhases, setting: Setting, exact: Gradient, tolerance: float, every: int
) -> tuple[int, Gradient]:
    """Return the sign of beta and the configured estimate; for a random sign, the one with the lower cosine."""
    phases.watch.stage("the estimate as configured")
    free = phases.free_after(setting.T1, tolerance, every).states
    signs = (1, -1) if setting.estimator == "random-sign" else (1,)
    estimates = {
        sign: phases.estimate(free, setting.T2, make_stencil(setting, sign), tolerance, every) for sign in signs
    }
    return min(estimates.items(), key=lambda item: cosine(item[1], exact))


def _split(
    phases: SettledPhases, T2: int, stencil: Stencil, estimate: Gradient, exact: Gradient, limit: Gradient
) -> dict[str, Any]:
    """Return the stages from ``estimate`` to ``exact``, the part of each in 1 - cosine, and the largest part."""
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
    """Return by how much 1 - cosine shrinks from each stage to the next. The parts sum to the first value.

    If every sample switches, the bias in beta cannot be separated from the effect of switching.
    """
    last = lacks.get("limit", 0.0)
    parts = {
        "free": lacks["configured"] - lacks["free"],
        "nudged": lacks["free"] - lacks["nudged"],
        "switches": lacks["nudged"] - lacks.get("unswitched", last),
        "bias": lacks.get("unswitched", last) - last,
    }
    return parts | ({"field": last} if "limit" in lacks else {})


def _asymmetric(phases: SettledPhases, setting: Setting, stencil: Stencil) -> float:
    """Return the cosine with the exact gradient that the setting would have with asymmetric nudging."""
    other = phases.by(asymmetric_contrast)
    estimate = other.estimate(other.free_after(setting.T1).states, setting.T2, stencil)
    return cosine(estimate, other.exact().gradient)


def _fifths(phases: SettledPhases, setting: Setting, stencil: Stencil, tolerance: float, every: int) -> np.ndarray:
    """Return the cosine of the configured estimate on each fifth of the samples; with under five, on each sample."""
    cosines = []
    for k in range(count := min(FOLDS, len(phases))):
        part = phases.only(np.arange(len(phases)) % count == k)
        free = part.free_after(setting.T1, tolerance, every).states
        cosines.append(cosine(part.estimate(free, setting.T2, stencil, tolerance, every), part.exact().gradient))
    return np.array(cosines)


def _smallest(beta: float, dtype: np.dtype) -> float:
    """Return beta eps^(1/3): there the truncation error, O(beta^2), and rounding, O(eps / beta), are about equal."""
    return float(beta * float(np.finfo(dtype).eps) ** (1 / 3))


def _compared(estimate: Gradient, exact: Gradient) -> dict[str, float]:
    return {"cosine": cosine(estimate, exact), "distance": total_norm(minus(estimate, exact)) / total_norm(exact)}


def mean_angle(parameters: Mapping[str, Any]) -> float:
    """Return the mean angle in degrees between backward and forward weights, NaN if there are none."""
    angles = alignment_angles(parameters)
    return float(np.mean(list(angles.values()))) if angles else math.nan
