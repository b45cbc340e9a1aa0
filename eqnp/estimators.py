"""Estimators of the loss gradient: a stencil in beta, and what it costs to evaluate one.

With Phi_beta = Phi - beta l, s_beta the steady state under nudging beta, and points (beta_k, c_k),

    g = - sum over k of  c_k dPhi_{beta_k}/dtheta (s_{beta_k}),    dPhi_beta/dtheta = dPhi/dtheta - beta dl/dtheta

A stencil whose c_k beta_k^m sum to 0 for m = 0 and to 1 for m = 1 gives dL/dtheta in the limit of small beta. Its
bias is of order beta for the one-sided one and of order beta^2 for the symmetric one (the poster, "Symmetric
estimate").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from eqnp.backend import Array, array_module
from eqnp.dynamics import Relaxation, relax
from eqnp.networks import Network, Parameters, PreparedNetwork, States


@dataclass(frozen=True)
class Stencil:
    """Values of beta with their coefficients; beta 0 is the free steady state."""

    name: str
    points: tuple[tuple[float, float], ...]


def one_sided(beta: float) -> Stencil:
    """Return {(beta, 1 / beta), (0, -1 / beta)}: two phases, bias of order beta. ``beta`` may be negative."""
    return Stencil("one-sided", ((beta, 1 / beta), (0.0, -1 / beta)))


def random_sign(beta: float, generator: np.random.Generator) -> Stencil:
    """Return the one-sided stencil at +beta or -beta with equal chance: no bias of order beta on average, but noise."""
    sign = 1 if generator.random() < 0.5 else -1
    return Stencil("random-sign", one_sided(sign * beta).points)


def symmetric(beta: float) -> Stencil:
    """Return {(beta, 1 / 2 beta), (-beta, -1 / 2 beta)}: three phases, bias of order beta^2."""
    return Stencil("symmetric", ((beta, 0.5 / beta), (-beta, -0.5 / beta)))


ESTIMATORS = ("symmetric", "one-sided", "random-sign")


def make_stencil(name: str, beta: float, generator: np.random.Generator) -> Stencil:
    """Return the stencil called ``name``, one of ``ESTIMATORS``; ``generator`` is used by random-sign alone."""
    if name == "random-sign":
        return random_sign(beta, generator)
    return {"symmetric": symmetric, "one-sided": one_sided}[name](beta)


@dataclass(frozen=True)
class Estimate:
    """A gradient of the summed loss of a batch, and what was seen on the way.

    ``gradient`` maps a parameter's name to an array of its shape; ``loss`` and ``outputs`` are those of the free state,
    per sample (N,) and (N, K); ``nudged`` holds one relaxation for each point of the stencil with beta not 0.
    """

    gradient: dict[str, Array]
    loss: Array
    outputs: Array
    free: Relaxation
    nudged: tuple[Relaxation, ...]


def estimate(
    network: Network,
    parameters: Parameters,
    x: Array,
    target: Array,
    stencil: Stencil,
    T1: int,
    T2: int,
    tolerance: float = 0.0,
    joint: bool = False,
) -> Estimate:
    """Estimate the gradient of the loss summed over the batch, by Equilibrium Propagation.

    The free phase takes ``T1`` steps from zero states, each nudged phase ``T2`` steps from where the free one ended.
    x is (N, ...), target (N, K) one-hot. ``joint`` runs all nudged phases at once as one larger batch: the same numbers
    with fewer, larger calls.
    """
    prepared = network.prepare(parameters, x)
    free = relax(prepared, prepared.zero_states(), T1, tolerance=tolerance)
    betas = [beta for beta, _ in stencil.points if beta != 0]
    phases = (_nudge_jointly if joint else _nudge)(prepared, free, betas, target, T2, tolerance)
    at = {0.0: free.states} | {beta: phase.states for beta, phase in zip(betas, phases, strict=True)}
    outputs = network.outputs(parameters, free.states)
    loss = network.loss.value(outputs, target)
    terms = [(coefficient, beta, at[beta]) for beta, coefficient in stencil.points]
    return Estimate(contrast(prepared, terms, target), loss, outputs, free, tuple(phases))


def _nudge(
    prepared: PreparedNetwork, free: Relaxation, betas: Sequence[float], target: Array, T2: int, tolerance: float
) -> list[Relaxation]:
    """Run a nudged phase for every beta, each from the free steady state."""
    return [relax(prepared, free.states, T2, beta, target, tolerance) for beta in betas]


def _nudge_jointly(
    prepared: PreparedNetwork, free: Relaxation, betas: Sequence[float], target: Array, T2: int, tolerance: float
) -> list[Relaxation]:
    """Run the nudged phases of all betas as one batch: samples never meet, so each may have a beta of its own."""
    xp, count, n = array_module(target), len(betas), len(target)
    states = [xp.concatenate([s] * count) for s in free.states]
    each = xp.repeat(xp.asarray(betas, dtype=target.dtype), n)[:, None]  # (N count, 1)
    both = relax(prepared.repeated(count), states, T2, each, xp.concatenate([target] * count), tolerance)
    parts = [[s[k * n : (k + 1) * n] for s in both.states] for k in range(count)]
    return [Relaxation(part, both.residual, both.steps) for part in parts]


def contrast(
    prepared: PreparedNetwork, terms: Sequence[tuple[float, float, States]], target: Array
) -> dict[str, Array]:
    """Return - sum of c dPhi_beta/dtheta over ``terms`` (c, beta, states), summed over samples.

    The input is the same in all terms, so its connection contrasts the states first and correlates once.
    """
    upper = range(1, len(prepared.network.connections))
    gradient = prepared.input_gradient(-sum(c * states[0] for c, _, states in terms))
    for c, beta, states in terms:
        for name, dphi in prepared.dphi_dtheta(states, upper).items():
            _add(gradient, name, dphi, -c)
        for name, dl in prepared.network.dl_dtheta(prepared.parameters, states, target).items():
            _add(gradient, name, dl, c * beta)
    return gradient


def _add(gradient: dict[str, Array], name: str, term: Array, coefficient: float) -> None:
    term *= coefficient
    if name in gradient:
        gradient[name] += term
    else:
        gradient[name] = term
