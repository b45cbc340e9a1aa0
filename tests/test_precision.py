"""Rounding over beta: the estimate against a measurement, and who is told."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tolerances import ROUNDING_ESTIMATE

from eqnp.backend import get_backend
from eqnp.configfile import load
from eqnp.data import load as load_data
from eqnp.diagnostics import squared_norm
from eqnp.estimators import estimate
from eqnp.experiment import make_learner
from eqnp.losses import one_hot
from eqnp.precision import estimate_rounding
from eqnp.prepared import PreparedNetwork
from eqnp.sharding import serial_map
from eqnp.stencils import make_stencil
from eqnp.training import initial_state, train_batch

NUMPY = get_backend("numpy")
LAYERS = "model.layers=[{conv=6,kernel=5,stride=2,pool='max'},{dense=20},{dense=10}]"
KINDS = {
    "symmetric": [],
    "one-sided": ["training.estimator=one-sided", "model.loss=squared_error"],
    "vector field": ["model.kind=vector-field", "model.activation=hard_sigmoid"],
    "common": ["model.kind=vector-field", "training.common_update=true"],
    "four-point": ["training.estimator=four-point", "dynamics.schedule=even-odd", "dynamics.omega=1.6"],
    "smooth": ["model.activation=sigmoid", "model.layers.0.pool=average", "model.loss=cross_entropy"],
}


def learner(extra=(), backend=NUMPY, dtype="float32"):
    sizes = ["dynamics.T1=30", "dynamics.T2=8", "training.threads=1", f"training.dtype={dtype}"]
    return make_learner(load("digits", [LAYERS, *sizes, *extra]), (28, 28, 1), 10, backend)


def batch(count=16, dtype=np.float32):
    data = load_data("mnist-small", None, count, 10)
    return (data.train_images / 255).astype(dtype), data.train_labels


def trained(made, updates, dtype="float32"):
    state, (x, labels) = initial_state(made, 1.0, dtype), batch(16, dtype)
    for _ in range(updates):
        state = train_batch(made, state, x, labels, serial_map)
    return state.parameters


def estimates(made, parameters, x, labels):
    """Return the estimate of each dtype with the activity pattern of all its phases, (N, units)."""
    found = []
    for dtype in (np.float32, np.float64):
        cast = {name: p.astype(np.float32).astype(dtype) for name, p in parameters.items()}
        target, stencil = one_hot(labels, 10, dtype), make_stencil(made.estimator, made.beta, [made.seed])
        pace = {"contrast": made.contrast, **made.pace}
        result = estimate(made.network, cast, x.astype(dtype), target, stencil, made.T1, made.T2, **pace)
        prepared = PreparedNetwork(made.network, cast, x.astype(dtype))
        betas = [0.0, *(beta for beta, _ in stencil.points if beta)]
        phases = zip((result.free, *result.nudged), betas, strict=True)
        patterns = [pattern(prepared, phase.states, beta, target) for phase, beta in phases]
        found.append((result.gradient, np.concatenate(patterns, axis=1)))
    return found


def pattern(prepared, states, beta, target):
    winners = [w.copy() for w in prepared.drives(states)[1] if w is not None]
    field = prepared.vector_field(states, beta, target)
    clips = [sigma.derivative(u) == 0 for sigma, u in zip(prepared.network.activations, field, strict=True)]
    return np.concatenate([a.reshape(len(a), -1) for a in (*winners, *clips)], axis=1)


@pytest.mark.parametrize("updates", [0, 12], ids=["initial", "trained"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_estimate_is_what_float32_differs_from_float64_by(kind, updates):
    """Over three powers of beta, on the samples whose activity pattern is the same in both."""
    made = learner(KINDS[kind])
    parameters, (x, labels) = trained(made, updates), batch()
    for beta in (1e-2, 1e-3, 1e-4):
        at = replace(made, beta=beta)
        (_, single), (_, double) = estimates(at, parameters, x, labels)
        same = (single == double).all(axis=1)
        assert same.sum() >= 4, same
        (single, _), (double, _) = estimates(at, parameters, x[same], labels[same])
        found = estimate_rounding(at, parameters, x[same], labels[same])
        g = double[found.name]
        measured = np.sqrt(squared_norm(single[found.name] - g) / squared_norm(g))
        assert measured / ROUNDING_ESTIMATE <= found.share <= measured * ROUNDING_ESTIMATE, (beta, found, measured)
