"""The poster's claims on one network and one batch: EP is BPTT step by step, and its bias is of a known order.

Everything is without dropout, and in float64 if the arguments are. Both functions return plain numbers and arrays,
nested by name; ``eqnp.plots`` draws them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from eqnp.backend import Array, array_module, to_host
from eqnp.bptt import backpropagate, bptt_gradient, implicit_gradient, trajectory
from eqnp.contrasts import Contrast, default_contrast
from eqnp.diagnostics import Agreement, ep_steps, sample_moves, squared_norm
from eqnp.dynamics import relax
from eqnp.networks import Gradient, Network, States, accumulate
from eqnp.prepared import PreparedNetwork
from eqnp.stencils import Stencil, four_point, one_sided, symmetric

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
STILL = 3e-15  # phases go on until no state moves by more than this: rounding
SETTLED = 1e-12  # a sample whose states move by no more than this is at its steady state
ROUNDING = 1e-12  # a bias below this over beta is rounding, which beta divides
HALVINGS = 6


def check_steps(
    network: Network,
    parameters: Mapping[str, Array],
    x: Array,
    target: Array,
    T1: int,
    T2: int,
    beta: float,
) -> dict[str, Any]:
    """Compare EP's update at every nudged step with BPTT's contribution at the mirrored step.

    Returns ``residual`` of the free phase and, for every stencil and parameter: ``relative_error`` (root mean square
    over entries and steps), ``sign_disagreement`` (a share), ``distance`` of the totals relative to BPTT's, ``errors``
    and ``sizes`` per step (T2,), and ``cumulative`` (T2 + 1,): the sum of the updates so far along BPTT's total
    gradient, which ends at 1 for BPTT itself (stencil ``bptt``).
    """
    prepared = PreparedNetwork(network, parameters, x)
    path = trajectory(prepared, T1, T2)
    total = bptt_gradient(prepared, path, target)
    series = {name: ep_steps(prepared, path.final.states, target, make(beta), T2) for name, make in STENCILS.items()}
    agreement = {name: Agreement() for name in STENCILS}
    sums: dict[str, Gradient] = {name: {} for name in (*STENCILS, "bptt")}
    along: dict[str, dict[str, list[float]]] = {name: {p: [0.0] for p in total} for name in sums}
    for _, reference in backpropagate(prepared, path, target):
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
    """Measure the bias of the estimators against implicit differentiation, all phases settled.

    The law of the order holds where nothing switches. So only samples count that settle within ``steps`` steps and keep
    their activity pattern (winners of the pools, units on a clip) at +-beta and +-2 beta; and beta is halved until a
    quarter of the samples do, or as many as there are. Then it is halved further, ``HALVINGS`` times in all.

    Returns ``samples`` (how many count; none where the exact gradient is zero), ``of``, and if there are any:
    ``betas``, ``exact`` (the norm of the exact gradient), the adjoint's ``residual``, and for each estimator its
    ``bias`` relative to the exact gradient at each beta, and the ``slope`` fitted on log-log axes (nan if there is
    nothing to fit).
    """
    prepared = PreparedNetwork(network, parameters, x)
    free = relax(prepared, prepared.zero_states(), steps, tolerance=STILL).states
    settled = _settled(prepared, free)
    pattern = _pattern(prepared, free)

    def unchanged(beta: float) -> np.ndarray:
        good = settled.copy()
        for b in (beta, -beta, 2 * beta, -2 * beta):
            states = relax(prepared, free, steps, b, target, STILL).states
            good &= _settled(prepared, states, b, target) & _same(pattern, _pattern(prepared, states, b, target))
        return good

    beta, good = _first_with_enough(unchanged, beta, len(x) / 4)
    result: dict[str, Any] = {"samples": int(good.sum()), "of": len(x)}
    if not good.any():
        return result
    which = array_module(x).asarray(good)
    chosen = PreparedNetwork(network, parameters, x[which])
    start, target = [s[which] for s in free], target[which]
    exact = implicit_gradient(chosen, start, target, steps, STILL)
    size = _total_norm(exact.gradient)
    if not size:  # all units on a clip: there is nothing that a bias would be relative to
        return result | {"samples": 0, "exact": 0.0}
    betas = [beta / 2**k for k in range(HALVINGS)]
    result |= {"betas": np.array(betas), "exact": size, "residual": exact.residual}
    contrast = contrast or default_contrast(network)
    for name, (make, order) in ORDERS.items():
        biases = []
        for b in betas:
            terms = [(c, p, _nudged(chosen, start, steps, p, target)) for p, c in make(b).points]
            estimate = contrast(chosen, start, terms, target)
            biases.append(_total_norm({p: estimate[p] - g for p, g in exact.gradient.items()}) / size)
        result[name] = {"bias": np.array(biases), "order": order, "slope": _slope(betas, biases)}
    return result


def _first_with_enough(
    unchanged: Callable[[float], np.ndarray], beta: float, enough: float
) -> tuple[float, np.ndarray]:
    """Halve beta until ``enough`` samples are unchanged, sixteen times at most; return it, or the best, and which."""
    best = beta, unchanged(beta)
    for _ in range(16):
        if best[1].sum() >= enough:
            break
        beta /= 2
        good = unchanged(beta)
        if good.sum() > best[1].sum():
            best = beta, good
    return best


def _nudged(prepared: PreparedNetwork, start: States, steps: int, beta: float, target: Array) -> States:
    return relax(prepared, start, steps, beta, target, STILL).states if beta else start


def _settled(prepared: PreparedNetwork, states: States, beta: float = 0.0, target: Array | None = None) -> np.ndarray:
    """Return which samples (N,) a further step leaves where they are."""
    new = prepared.step(states, beta, target)
    return sample_moves(new, states) <= SETTLED


def _pattern(prepared: PreparedNetwork, states: States, beta: float = 0.0, target: Array | None = None) -> list[Array]:
    """Return what is piecewise constant at ``states``, each (N, ...): winners, and which units are on a clip."""
    _, winners = prepared.drives(states)
    places = prepared.feedback_winners(states, winners)
    pattern = [w.copy() for w in (*winners, *places) if w is not None]
    field = prepared.vector_field(states, beta, target)
    activations = prepared.network.activations
    return pattern + [sigma.derivative(u) == 0 for sigma, u in zip(activations, field, strict=True)]


def _same(a: list[Array], b: list[Array]) -> np.ndarray:
    """Return in which samples (N,) two patterns agree."""
    return np.all([to_host((p == q).reshape(len(p), -1).all(axis=1)) for p, q in zip(a, b, strict=True)], axis=0)


def _slope(betas: Sequence[float], biases: Sequence[float]) -> float:
    """Return the slope of log bias against log beta, over what is above rounding."""
    pairs = [
        (math.log(beta), math.log(bias)) for beta, bias in zip(betas, biases, strict=True) if bias > ROUNDING / beta
    ]
    return float(np.polyfit(*zip(*pairs, strict=True), 1)[0]) if len(pairs) > 1 else math.nan


def _projection(g: Array, onto: Array) -> float:
    square = squared_norm(onto)
    return float(to_host((g * onto).sum())) / square if square else 0.0


def _norm(g: Array) -> float:
    return math.sqrt(squared_norm(g))


def _total_norm(gradient: Gradient) -> float:
    return math.sqrt(sum(map(squared_norm, gradient.values())))
