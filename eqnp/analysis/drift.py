"""How much of a one-sided estimate is the rest of its free phase.

A one-sided stencil compares the end of a nudged phase with the end of the free phase. A free phase that has not settled
goes on in the nudged one, whatever beta is. The estimate then holds

    drift = c (dPhi/dtheta (s') - dPhi/dtheta (s)),      s the end of the free phase, s' = s after T2 more steps

with the coefficient c = 1 / beta (with its sign) and steps in the order of a nudged phase. The drift does not become
smaller with beta: the coefficient grows. In a symmetric stencil it cancels.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

import numpy as np

from eqnp.analysis.diagnostics import minus
from eqnp.analysis.precision import SAMPLES, times
from eqnp.backends.backend import Array
from eqnp.contrasts import nudged_network
from eqnp.dynamics import Phase, relax
from eqnp.errors import memory_errors
from eqnp.learner import Learner
from eqnp.prepared import PreparedNetwork, PreparedWeights
from eqnp.training import on_backend
from eqnp.watching import squared_norm

MOST = 0.5  # a drift above this share of the rest of the estimate causes a warning


def drift_warning(learner: Learner, parameters: Mapping[str, Array], x: np.ndarray, labels: np.ndarray) -> str:
    """Return one line if the drift is large, measured on the first samples of x (N, ...), else an empty string.

    ``labels`` (N,) and x are on the host. Estimators that nudge in every phase, and BPTT, have no drift.
    """
    if learner.bptt is not None or all(beta for beta, _ in learner.stencil(0, 0).points):
        return ""
    shares: dict[str, float] = {}
    with suppress(MemoryError), memory_errors():  # the run itself reports it
        shares = drift_shares(learner, parameters, x[:SAMPLES], labels[:SAMPLES])
    worst = max(shares, key=shares.__getitem__, default="")
    if not worst or not shares[worst] > MOST:
        return ""
    return (
        f"warning: the free phase has not settled after dynamics.T1 = {learner.phases.T1} steps, and the "
        f"{learner.estimator} estimate compares with its end: what still moves is about {times(shares[worst])} the "
        f"rest of the gradient of {worst}; raise dynamics.T1, or take training.estimator = symmetric"
    )


def drift_shares(
    learner: Learner, parameters: Mapping[str, Array], x: np.ndarray, labels: np.ndarray
) -> dict[str, float]:
    """Return |drift| / |estimate - drift| for every weight but the readout's, without dropout.

    x is (N, ...), ``labels`` (N,), on the host.
    """
    weights = PreparedWeights(learner.network, parameters)
    xs, target, _ = on_backend(learner, x, labels)
    stencil = learner.stencil(0, 0)
    found = learner.gradient(weights, xs, target, stencil, None)
    prepared, free = PreparedNetwork(learner.network, weights, xs), found.free.states
    network, start = nudged_network(learner.contrast, prepared, free)
    further = relax(network, start, Phase(learner.phases.T2, 0.0, *learner.phases.way), 0.0, target).states
    terms = [(c, 0.0, further if beta else start) for beta, c in stencil.points]
    drift = learner.contrast(prepared, free, terms, target)
    rest = minus(found.gradient, drift)
    names = [name for name in drift if name.endswith(".weight") and not name.startswith("readout.")]
    squares = {name: (squared_norm(drift[name]), squared_norm(rest[name])) for name in names}
    return {name: (d / r) ** 0.5 if r else float(d > 0) for name, (d, r) in squares.items()}
