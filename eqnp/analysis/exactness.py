"""The angle between a run's gradient and the exact gradient at the steady state, during training."""

from __future__ import annotations

import math

import numpy as np

from eqnp.analysis.diagnostics import cosine, degrees
from eqnp.contrasts import add_partners
from eqnp.dynamics import Phase, relax
from eqnp.learner import Learner
from eqnp.prepared import PreparedNetwork, PreparedWeights
from eqnp.reference import implicit_gradient
from eqnp.training import State, on_backend
from eqnp.watching import learns_below, norms

SAMPLES = 20
STEPS = 500  # at most, of the free phase and again of the adjoint iteration


def angle_with_exact(learner: Learner, state: State, x: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Return the angle in degrees between the learner's gradient and the exact one, over all parameters together.

    x is (N, ...), ``labels`` (N,), on the host. ``angle_exact`` is 0 for the exact gradient and 90 for an unrelated
    one; ``exact_residual`` is how far the free states or the adjoint still moved in their last step, in the run's
    precision. The angle is NaN if the exact gradient is zero for all weights below those of the outputs. If forward and
    backward weights learn from one gradient, the exact gradient has the sum of both. Dropout is left out, and with a
    random sign the angle is that of the sign of the epoch's first batch.
    """
    network = learner.network
    weights = PreparedWeights(network, state.parameters)
    xs, target, _ = on_backend(learner, x, labels)
    estimate = learner.gradient(weights, xs, target, learner.stencil(state.epoch, 0), None)
    prepared = PreparedNetwork(network, weights, xs)
    still = 16 * float(np.finfo(x.dtype).eps)
    way = learner.phases.way  # another schedule may settle in another steady state
    free = relax(prepared, None, Phase(STEPS, still, *way, every=learner.phases.every))
    exact = implicit_gradient(prepared, free.states, target, STEPS, still, omega=way[1])
    if learner.common_update:
        add_partners(exact.gradient)
    alive = learns_below(network, norms(exact.gradient))
    return {
        "angle_exact": degrees(cosine(estimate.gradient, exact.gradient)) if alive else math.nan,
        "exact_residual": float(np.maximum(free.residual, exact.residual)),
    }
