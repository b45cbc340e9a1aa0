"""The angle with the exact gradient is measured where the run settles: with its own schedule and omega."""

from __future__ import annotations

import numpy as np
import pytest
from learners import batch, learner

from eqnp.analysis import exactness
from eqnp.analysis.exactness import angle_with_exact
from eqnp.api.events import epoch_line
from eqnp.training import State, Tally, initial_state


@pytest.mark.parametrize("way", [("synchronous", 1.0), ("even-odd", 1.4), ("even-odd", 0.7), ("up-down", 1.0)])
def test_the_exact_gradient_is_at_the_runs_steady_state(monkeypatch, way):
    settings = [f"dynamics.schedule={way[0]}", f"dynamics.omega={way[1]}", "dynamics.T1=60", "dynamics.beta=0.01"]
    made = learner([*settings, "model.activation=tanh"], dtype="float64")
    seen, original = [], exactness.relax
    monkeypatch.setattr(exactness, "relax", lambda n, s, phase: seen.append(phase) or original(n, s, phase))
    found = angle_with_exact(made, initial_state(made, 1.0, "float64"), *batch(6, np.float64))
    assert [(phase.schedule, phase.omega) for phase in seen] == [way]
    assert found["exact_residual"] <= 1e-10 and found["angle_exact"] <= 5


def test_a_gradient_that_is_not_a_number_has_no_angle(monkeypatch):
    """0 degrees would mean that it is exact."""
    made = learner(["dynamics.T1=4", "dynamics.T2=2"])
    monkeypatch.setattr(exactness, "cosine", lambda *gradients: float("nan"))
    found = angle_with_exact(made, initial_state(made, 1.0, "float32"), *batch(3))
    assert np.isnan(found["angle_exact"])
    nowhere = epoch_line(State({}, {}), "test", Tally(), 1, found | {"exact_residual": float("nan")})
    assert "no angle with the exact gradient (`eqnp check` says why), " in nowhere


def test_a_net_whose_units_are_all_at_a_bound_has_no_angle():
    """The readout alone has the exact gradient: 0 degrees would be true and would mislead."""
    made = learner(["model.loss=cross_entropy_readout", "dynamics.T1=20"], dtype="float64")
    state = initial_state(made, 1.0, "float64")
    state.parameters["forward.0.bias"][...] = state.parameters["forward.1.bias"][...] = 100
    assert np.isnan(angle_with_exact(made, state, *batch(6, np.float64))["angle_exact"])


@pytest.mark.parametrize("algorithm", ["ep", "bptt"])
def test_weights_that_learn_from_one_gradient_are_compared_with_the_sum(monkeypatch, algorithm):
    settings = ["model.kind=vector-field", "training.common_update=true", f"training.algorithm={algorithm}"]
    made = learner([*settings, "dynamics.T1=300", "dynamics.T2=150", "dynamics.beta=0.001"], dtype="float64")
    state = initial_state(made, 0.5, "float64")
    assert made.common_update and angle_with_exact(made, state, *batch(6, np.float64))["angle_exact"] < 20
    added, seen = exactness.add_partners, []
    monkeypatch.setattr(exactness, "add_partners", lambda g: seen.append(dict(g)) or added(g))
    found = angle_with_exact(made, state, *batch(6, np.float64))
    monkeypatch.setattr(exactness, "add_partners", lambda gradient: None)
    assert seen and angle_with_exact(made, state, *batch(6, np.float64))["angle_exact"] > found["angle_exact"]
