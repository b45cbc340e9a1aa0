"""Estimators of the loss gradient: a free phase, a nudged phase for every beta of a stencil, and a contrast.

    g = - sum over k of  c_k dPhi_{beta_k}/dtheta (s_{beta_k}),    dPhi_beta/dtheta = dPhi/dtheta - beta dl/dtheta

for a network that has a Phi. ``eqnp.contrasts`` computes this, and its counterpart for a vector field;
``eqnp.stencils`` has the values of beta and their coefficients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from eqnp.backends.backend import Array, array_module
from eqnp.contrasts import Contrast, default_contrast, nudged_network, require_contrast
from eqnp.dropout import Masks
from eqnp.dynamics import Phase, Phases, Relaxation, complex_relaxation, relax
from eqnp.holomorphic import ComplexNetwork, require_holomorphic
from eqnp.networks import Gradient, Network, Parameters, States
from eqnp.ops.pairs import complex_dtype, is_complex, to_pair
from eqnp.prepared import PreparedNetwork, PreparedWeights
from eqnp.stencils import Stencil


@dataclass(frozen=True)
class Estimate:
    """The gradient of the summed loss of a batch, and the phases that it comes from.

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
    phases: Phases,
    *,
    joint: bool = False,
    contrast: Contrast | None = None,
    masks: Masks | None = None,
) -> Estimate:
    """Estimate the gradient of the loss summed over the batch x (N, ...), target (N, K) one-hot.

    The free phase starts from zero states, each nudged phase from where the free one ended. ``joint`` runs all nudged
    phases at once as one larger batch: the same numbers with fewer, larger calls. ``contrast`` None is the one that
    suits the network; with ``asymmetric_contrast`` the nudged phases of a vector field are those of
    ``eqnp.asymmetric``. ``masks`` are those of dropout, for each state None or an array (N, ...). With a complex beta
    the states of its phase are complex; the gradient is the real part of the sum.

    Raises:
        ValueError: an array has another shape, dtype or module than the network needs.
        ConfigurationError: the contrast is for the other kind of network, or a beta is complex and the network is not
            holomorphic.
    """
    contrast = contrast or default_contrast(network)
    require_contrast(network, contrast)
    if stencil.is_complex:
        require_holomorphic(network)
    prepared = PreparedNetwork(network, parameters, x, masks)
    prepared.require_target(target)
    free = relax(prepared, None, phases.free)
    betas = [beta for beta, _ in stencil.points if beta != 0]
    at: dict[complex, States] = {0.0: free.states}
    found: dict[complex, Relaxation] = {}
    for kind in (False, True):  # real states, and complex ones
        some = [beta for beta in betas if is_complex(beta) == kind]
        if not some:
            continue
        together = joint and len(some) > 1
        of_nudging, start = nudged_network(contrast, prepared, free.states, len(some) if together else 1)
        nudge = _nudge_jointly if together else _nudge
        found |= zip(some, nudge(of_nudging, start, phases.nudged, some, target), strict=True)
        at[0.0] = [s[: len(x)] for s in start]
    nudged = [found[beta] for beta in betas]
    at |= {beta: phase.states for beta, phase in found.items()}
    terms = [(coefficient, beta, at[beta]) for beta, coefficient in stencil.points]
    gradient = contrast(prepared, free.states, terms, target)
    outputs = network.outputs(prepared.parameters, free.states)
    loss = network.loss.value(outputs, target)
    return Estimate(prepared.unscaled(gradient), loss, outputs, free, tuple(nudged))


def _nudge(
    network: PreparedNetwork, start: States, phase: Phase, betas: Sequence[complex], target: Array
) -> list[Relaxation]:
    """Run a nudged phase for every beta, all real or all complex, each from the free steady state ``start``."""
    if not any(map(is_complex, betas)):
        return [relax(network, start, phase, beta, target, unchanged=True) for beta in betas]
    of_pairs, pairs = ComplexNetwork(network), [to_pair(s) for s in start]
    return [complex_relaxation(relax(of_pairs, pairs, phase, beta, target)) for beta in betas]


def _nudge_jointly(
    network: PreparedNetwork, start: States, phase: Phase, betas: Sequence[complex], target: Array
) -> list[Relaxation]:
    """Run the nudged phases of all betas as one batch: samples never meet, so each may have a beta of its own.

    ``network`` and ``start`` hold the samples once for every beta.
    """
    xp, count, n = array_module(target), len(betas), len(target)
    dtype = complex_dtype(target.dtype) if any(map(is_complex, betas)) else target.dtype
    each = xp.repeat(xp.asarray(betas, dtype=dtype), n)[:, None]  # (N count, 1)
    both = relax(network, start, phase, each, xp.concatenate([target] * count))
    parts = [[s[k * n : (k + 1) * n] for s in both.states] for k in range(count)]
    return [Relaxation(part, both.residual, both.steps) for part in parts]
