"""Two claims, checked on one network and one batch: EP equals BPTT step by step, and its bias has a known order.

The first is the theorem of Ernoult et al. 2019 (arXiv:1905.13633). The second is from the poster and paper *Scaling
Equilibrium Propagation to Deep ConvNets by Drastically Reducing its Gradient Estimator Bias* (Laborieux et al.).

There is no dropout, and the precision is that of the arguments. The functions return numbers and arrays, nested by
name; ``eqnp.analysis.plots`` draws them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from scipy.stats import linregress
from scipy.stats import t as student_t

from eqnp.analysis.diagnostics import Agreement, ep_steps, minus, total_norm
from eqnp.analysis.steady import SettledPhases, Watch
from eqnp.backends.backend import Array, to_host
from eqnp.contrasts import Contrast, as_learned, asymmetric_contrast, common_contrast, vector_field_contrast
from eqnp.networks import Gradient, Network, accumulate
from eqnp.prepared import PreparedNetwork
from eqnp.reference import backpropagate, bptt_gradient, trajectory
from eqnp.stencils import Stencil, four_point, one_sided, symmetric
from eqnp.watching import squared_norm

STENCILS: dict[str, Callable[[float], Stencil]] = {
    "one-sided": one_sided,
    "one-sided, -beta": lambda beta: one_sided(-beta),
    "symmetric": symmetric,
}
ORDERS: dict[str, tuple[Callable[[float], Stencil], int]] = {
    "one-sided": (one_sided, 1),
    "symmetric": (symmetric, 2),
    "four-point": (four_point, 4),
}
KINDS: dict[str, Contrast] = {
    "plain": vector_field_contrast,
    "common": common_contrast,
    "asymmetric": asymmetric_contrast,
}
ABOVE = 10  # a bias is fitted if it is at least this many times its rounding error
HALVINGS = 6
STAGES = 4 + 2 * (HALVINGS + 1)  # of ``measure_bias``, if beta is not halved before


def check_steps(
    network: Network,
    parameters: Mapping[str, Array],
    x: Array,
    target: Array,
    T1: int,
    T2: int,
    beta: float,
    contrast: Contrast | None = None,
    watch: Watch | None = None,
) -> dict[str, Any]:
    """Compare EP's update at every nudged step with BPTT's contribution at the mirrored step.

    ``x`` is (N, ...), ``target`` (N, K). With g_t the update of nudged step t and r_t BPTT's contribution of the t-th
    last free step, the result has ``residual`` of the free phase and, for every stencil and parameter:

        relative_error      sqrt(sum |g_t - r_t|^2 / sum |r_t|^2), over all steps
        sign_disagreement   share of entries with opposite signs, of those that are nonzero in both, from 0 to 1
        distance            |sum g_t - sum r_t| / |sum r_t|
        errors, sizes       |g_t - r_t| and |r_t| at every step (T2,)
        cumulative          (T2 + 1,): <g_0 + .. + g_{t-1}, R> / |R|^2 with R = sum r_t

    The stencil ``bptt`` has ``cumulative`` alone, which ends at 1. If both weights of a connection learn from one
    gradient (``common_contrast``), BPTT's two gradients are added. All steps are synchronous.
    """
    prepared = PreparedNetwork(network, parameters, x)
    path = trajectory(prepared, T1, T2)
    total = bptt_gradient(prepared, path, target)
    as_learned(contrast, total)
    (watch or Watch()).stage("step by step against BPTT")
    series = {
        name: ep_steps(prepared, path.final.states, target, make(beta), T2, contrast) for name, make in STENCILS.items()
    }
    agreement = {name: Agreement() for name in STENCILS}
    sums: dict[str, Gradient] = {name: {} for name in (*STENCILS, "bptt")}
    along: dict[str, dict[str, list[float]]] = {name: {p: [0.0] for p in total} for name in sums}
    for _, reference in backpropagate(prepared, path, target):
        as_learned(contrast, reference)
        updates = {name: next(steps) for name, steps in series.items()}
        for name, update in (*updates.items(), ("bptt", reference)):
            accumulate(sums[name], update)
            for p, g in sums[name].items():
                along[name][p].append(_projection(g, total[p]))
        for name, update in updates.items():
            agreement[name].add(update, reference)
    result: dict[str, Any] = {"residual": path.final.residual, "bptt": {}}
    for p in total:
        result["bptt"][p] = {"cumulative": np.array(along["bptt"][p])}
    for name, agreed in agreement.items():
        result[name] = {
            p: {
                "relative_error": agreed.relative_error(p),
                "sign_disagreement": agreed.sign_disagreement(p),
                "distance": _norm(sums[name][p] - total[p]) / (_norm(total[p]) or 1.0),
                "errors": agreed.errors(p),
                "sizes": agreed.sizes(p),
                "cumulative": np.array(along[name][p]),
            }
            for p in total
        }
    return result


def check_bias(
    network: Network,
    parameters: Mapping[str, Array],
    x: Array,
    target: Array,
    beta: float,
    steps: int,
    contrast: Contrast | None = None,
) -> dict[str, Any]:
    """Measure the bias on a batch x (N, ...), target (N, K); see ``measure_bias``. ``steps`` is the most per phase."""
    return measure_bias(SettledPhases(network, parameters, x, target, steps, contrast), beta)


def measure_bias(phases: SettledPhases, beta: float) -> dict[str, Any]:
    """Measure the bias of the estimators against implicit differentiation, all phases settled.

    The bias is |estimate - exact| / |exact|, over all parameters. In theory it is of order beta, beta^2 and beta^4
    where the activity pattern (winners of the pools, saturated units) is unchanged. So the slope is fitted over the
    samples that settle and keep their pattern at +-beta and +-2 beta. First beta is halved until a quarter of the
    samples do so (at most 16 times). From there the bias is measured at ``HALVINGS`` values, each half the one before;
    and, for comparison, over all samples whose free phase settles.

    Returns ``samples`` (how many keep their pattern; 0 if the exact gradient is zero, or not known: ``unknown`` then
    says "adjoint") and ``of`` (how many there are).
    If there are any, also ``all`` (how many settle), ``betas`` (6,), ``exact`` (norm of the exact gradient), and
    ``residual`` of its fixed point. For each estimator: ``bias``, ``bias_all`` and ``rounding`` (the rounding error
    relative to the exact gradient), each (6,); ``slope`` on log-log axes and ``slope_error``, half of its 95 %
    interval, over the ``fitted`` values above rounding (NaN if there are fewer than three); ``order``, the theoretical
    slope.
    """
    beta, good = _first_with_enough(phases, beta, len(phases) / 4)
    result: dict[str, Any] = {"samples": int(good.sum()), "of": len(phases)}
    if not good.any():
        return result
    exact = phases.exact(good)
    if not phases.is_solved(exact):
        return result | {"samples": 0, "unknown": "adjoint"}
    size = total_norm(exact.gradient)
    if not size:  # all units are saturated: a relative bias is not defined
        return result | {"samples": 0, "exact": 0.0}
    betas = [beta / 2**k for k in range(HALVINGS)]
    settled = phases.settled()
    result |= {"all": int(settled.sum()), "betas": np.array(betas), "exact": size, "residual": exact.residual}
    of_all = phases.exact(settled).gradient
    for name, (make, order) in ORDERS.items():
        result[name] = _bias(phases, make, betas, good, exact.gradient)
        result[name] |= {"bias_all": biases_of(phases, [make(b) for b in betas], settled, of_all), "order": order}
    return result


def compare_kinds(phases: SettledPhases, beta: float) -> dict[str, Any]:
    """Compare the ways to nudge a vector field: ``plain``, ``common`` (KP-VF) and ``asymmetric``, all phases settled.

    Each is measured as in ``measure_bias``, over the samples that keep their own pattern, at the same values of beta:
    from the largest at which a quarter of the samples do so for each of them. The exact gradient of ``common`` has the
    sum of both weights.

    Returns ``betas`` (6,) and for each kind ``samples`` (how many keep their pattern) and, for each estimator,
    ``bias`` and ``rounding`` (6,), ``slope``, ``slope_error`` and ``fitted``. It is empty if no sample keeps its
    pattern, or the exact gradient is zero.
    """
    kinds = {name: phases.by(contrast) for name, contrast in KINDS.items()}
    enough = len(phases) / 4
    beta = min(_first_with_enough(each, beta, enough)[0] for each in kinds.values())
    betas = [beta / 2**k for k in range(HALVINGS)]
    result: dict[str, Any] = {"betas": np.array(betas)}
    for name, each in kinds.items():
        good = _unchanged(each, beta)
        exact = each.exact(good).gradient if good.any() else {}
        if not total_norm(exact):
            return {}
        result[name] = {"samples": int(good.sum())}
        result[name] |= {stencil: _bias(each, make, betas, good, exact) for stencil, (make, _) in ORDERS.items()}
    return result


def _unchanged(phases: SettledPhases, beta: float) -> np.ndarray:
    """Return which samples settle and keep their activity pattern at +-beta and +-2 beta: bool (N,)."""
    switched = [phases.switched(b) for b in (beta, -beta, 2 * beta, -2 * beta)]
    return np.asarray(phases.settled() & ~np.any(switched, axis=0))


def _bias(
    phases: SettledPhases, make: Callable[[float], Stencil], betas: Sequence[float], good: np.ndarray, exact: Gradient
) -> dict[str, Any]:
    """Return bias and rounding (K,) of a stencil at K betas over the samples ``good`` (N,), and the fitted slope."""
    stencils = [make(b) for b in betas]
    biases = biases_of(phases, stencils, good, exact)
    rounding = np.array([phases.rounding(stencil, good) for stencil in stencils]) / total_norm(exact)
    return {"bias": biases, "rounding": rounding, **fitted_slope(betas, biases, rounding)}


def _first_with_enough(phases: SettledPhases, beta: float, enough: float) -> tuple[float, np.ndarray]:
    """Halve beta, at most 16 times, until ``enough`` samples are unchanged. Return the best beta and these samples."""
    unchanged = partial(_unchanged, phases)
    best = beta, unchanged(beta)
    for _ in range(16):
        if best[1].sum() >= enough:
            break
        beta /= 2
        phases.watch.expect(2)  # the phases at +-beta
        good = unchanged(beta)
        if good.sum() > best[1].sum():
            best = beta, good
    return best


def biases_of(phases: SettledPhases, stencils: Sequence[Stencil], which: np.ndarray, exact: Gradient) -> np.ndarray:
    """Return |estimate - exact| / |exact| for the settled estimate of each of K stencils: (K,)."""
    estimates = [phases.settled_estimate(stencil, which) for stencil in stencils]
    return np.array([total_norm(minus(estimate, exact)) / (total_norm(exact) or 1.0) for estimate in estimates])


def fitted_slope(betas: Sequence[float], biases: np.ndarray, rounding: np.ndarray) -> dict[str, float]:
    """Return the least-squares slope of log bias against log beta, over the values well above rounding.

    ``slope_error`` is half of the 95 % interval, by Student's t with n - 2 degrees of freedom for n values.
    """
    points = [
        (math.log(beta), math.log(bias))
        for beta, bias, noise in zip(betas, biases, rounding, strict=True)
        if bias > ABOVE * noise
    ]
    if len(points) < 3:
        return {"slope": math.nan, "slope_error": math.nan, "fitted": len(points)}
    line = linregress(*zip(*points, strict=True))
    half_width = float(student_t.ppf(0.975, len(points) - 2)) * line.stderr
    return {"slope": float(line.slope), "slope_error": float(half_width), "fitted": len(points)}


def _projection(g: Array, onto: Array) -> float:
    square = squared_norm(onto)
    return float(to_host((g * onto).sum())) / square if square else 0.0


def _norm(g: Array) -> float:
    return math.sqrt(squared_norm(g))
