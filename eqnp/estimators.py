"""Estimators of the loss gradient: settle freely, settle nudged at a stencil's values of beta, contrast.

    g = - sum over k of  c_k dPhi_{beta_k}/dtheta (s_{beta_k}),    dPhi_beta/dtheta = dPhi/dtheta - beta dl/dtheta

for a network that has a Phi; ``eqnp.contrasts`` has this and what takes its place in a vector field, and
``eqnp.stencils`` the values and their coefficients.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from eqnp.backends.backend import Array, array_module
from eqnp.contrasts import Contrast, default_contrast, require_contrast
from eqnp.dynamics import Relaxation, relax
from eqnp.inputs import require_count
from eqnp.networks import Gradient, Network, Parameters, States
from eqnp.prepared import Beta, Masks, PreparedNetwork, PreparedWeights
from eqnp.stencils import Stencil

# A nudged phase: network, where it starts, beta and target.
Settle = Callable[[PreparedNetwork, States, Beta, Array], Relaxation]


@dataclass(frozen=True)
class Estimate:
    """A gradient of the summed loss of a batch, and what was seen on the way.

    ``gradient`` maps a parameter's name to an array of its shape; ``loss`` and ``outputs`` are those of the free state,
    per sample (N,) and (N, K); ``nudged`` holds one relaxation for each point of the stencil with beta not 0.
    """

    gradient: Gradient
    loss: Array
    outputs: Array
    free: Relaxation
    nudged: tuple[Relaxation, ...] = ()


def estimate(
    network: Network,
    parameters: Parameters | PreparedWeights,
    x: Array,
    target: Array,
    stencil: Stencil,
    T1: int,
    T2: int,
    tolerance: float = 0.0,
    joint: bool = False,
    contrast: Contrast | None = None,
    masks: Masks | None = None,
    schedule: str = "synchronous",
    every: int = 1,
    omega: float = 1.0,
) -> Estimate:
    """Estimate the gradient of the loss summed over the batch, by Equilibrium Propagation.

    The free phase takes ``T1`` steps from zero states, each nudged phase ``T2`` steps from where the free one ended.
    x is (N, ...), target (N, K) one-hot. ``joint`` runs all nudged phases at once as one larger batch: the same numbers
    with fewer, larger calls. ``contrast`` None is the one that suits the network; ``masks`` are those of dropout;
    ``tolerance``, ``schedule``, ``every`` and ``omega`` are those of ``relax``.

    Raises:
        ValueError: an array has another shape, dtype or module than the network needs, or a number is out of its range.
        ConfigurationError: the contrast is for the other kind of network.
    """
    require_count("T1", T1, 1)
    require_count("T2", T2, 1, why=": without nudged steps every gradient is zero")
    settled = partial(relax, tolerance=tolerance, schedule=schedule, every=every, omega=omega)
    contrast = contrast or default_contrast(network)
    require_contrast(network, contrast)
    prepared = PreparedNetwork(network, parameters, x, masks)
    prepared.require_target(target)
    free = settled(prepared, prepared.zero_states(), T1)

    def settle(network: PreparedNetwork, states: States, beta: Beta, target: Array) -> Relaxation:
        return settled(network, states, T2, beta, target)

    betas = [beta for beta, _ in stencil.points if beta != 0]
    nudge = _nudge_jointly if joint and len(betas) > 1 else _nudge
    phases = nudge(settle, prepared, free, betas, target)
    at = {0.0: free.states} | {beta: phase.states for beta, phase in zip(betas, phases, strict=True)}
    terms = [(coefficient, beta, at[beta]) for beta, coefficient in stencil.points]
    gradient = contrast(prepared, free.states, terms, target)
    outputs = network.outputs(prepared.parameters, free.states)
    loss = network.loss.value(outputs, target)
    return Estimate(prepared.unscaled(gradient), loss, outputs, free, tuple(phases))


def _nudge(
    settle: Settle, prepared: PreparedNetwork, free: Relaxation, betas: Sequence[float], target: Array
) -> list[Relaxation]:
    """Run a nudged phase for every beta, each from the free steady state."""
    return [settle(prepared, free.states, beta, target) for beta in betas]


def _nudge_jointly(
    settle: Settle, prepared: PreparedNetwork, free: Relaxation, betas: Sequence[float], target: Array
) -> list[Relaxation]:
    """Run the nudged phases of all betas as one batch: samples never meet, so each may have a beta of its own."""
    xp, count, n = array_module(target), len(betas), len(target)
    states = [xp.concatenate([s] * count) for s in free.states]
    each = xp.repeat(xp.asarray(betas, dtype=target.dtype), n)[:, None]  # (N count, 1)
    both = settle(prepared.repeated(count), states, each, xp.concatenate([target] * count))
    parts = [[s[k * n : (k + 1) * n] for s in both.states] for k in range(count)]
    return [Relaxation(part, both.residual, both.steps) for part in parts]
