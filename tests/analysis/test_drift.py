"""What is left of a free phase in a one-sided estimate: its size, and the warning at the start of a run."""

from __future__ import annotations

import numpy as np
import pytest
from commands import overrides, run, train_small
from learners import batch, learner

from eqnp.analysis.drift import drift_shares, drift_warning
from eqnp.dynamics import Phase, relax
from eqnp.losses import one_hot
from eqnp.prepared import PreparedNetwork
from eqnp.training import initial_state
from eqnp.watching import squared_norm

ONE = "training.estimator=one-sided"


def made_by(*settings):
    made = learner([*settings], dtype="float64")
    return made, initial_state(made, 1.0, "float64").parameters, *batch(6, np.float64)


@pytest.mark.parametrize("schedule", ["synchronous", "even-odd", "up-down"])
@pytest.mark.parametrize("estimator", ["one-sided", "random-sign"])
def test_the_drift_is_the_estimate_without_a_nudge(estimator, schedule):
    """By hand: T2 more steps with beta 0, in the order of a nudged phase, and the difference of dPhi/dtheta."""
    settings = [f"training.estimator={estimator}", f"dynamics.schedule={schedule}", "dynamics.T1=3", "dynamics.T2=2"]
    made, parameters, x, labels = made_by(*settings, "dynamics.beta=0.1")
    found = drift_shares(made, parameters, x, labels)
    prepared = PreparedNetwork(made.network, parameters, x)
    target = one_hot(labels, 10, x.dtype)
    free = relax(prepared, None, made.phases.free).states
    further = relax(prepared, free, Phase(2, 0.0, schedule), 0.0, target).states
    nudged = {beta: relax(prepared, free, Phase(2, 0.0, schedule), beta, target).states for beta in (0.1, -0.1)}
    beta = next(b for b, _ in made.stencil(0, 0).points if b)
    for name in ("forward.0.weight", "forward.1.weight"):

        def of(states, name=name):
            return made.contrast(prepared, free, [(1.0, 0.0, states)], target)[name]

        drift, rest = of(further) - of(free), of(nudged[beta]) - of(further)
        expected = np.sqrt(squared_norm(drift) / squared_norm(rest))
        assert found[name] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("settings", "warns"),
    [
        ((ONE, "dynamics.T1=2"), True),
        ((ONE, "dynamics.T1=60"), False),
        (("training.estimator=random-sign", "dynamics.T1=2"), True),
        (("training.estimator=symmetric", "dynamics.T1=2"), False),
        ((ONE, "dynamics.T1=2", "training.algorithm=bptt", "dynamics.T2=2"), False),
        ((ONE, "dynamics.T1=2", "model.kind=vector-field"), True),
        # The asymmetric field takes the states where the free phase ended for its steady ones.
        ((ONE, "dynamics.T1=2", "model.kind=vector-field", "training.nudging=asymmetric"), False),
    ],
    ids=str,
)
def test_who_is_warned(settings, warns):
    line = drift_warning(*made_by(*settings))
    assert bool(line) == warns
    if warns:
        assert "dynamics.T1 = 2 steps" in line and "training.estimator = symmetric" in line and ".weight; raise" in line


def test_a_run_is_warned_before_its_first_epoch(capsys, tmp_path):
    deep = "model.layers=[{conv=3,kernel=5,stride=2,pool='max'},{dense=12},{dense=10}]"
    few = overrides(ONE, "dynamics.T1=1", "training.epochs=1", deep)
    err = train_small(capsys, tmp_path / "run", *few).err
    assert "warning: the free phase has not settled after dynamics.T1 = 1 steps" in " ".join(err.split())
    assert err.index("warning") < err.index("epoch 1/1")
    settled = overrides("dynamics.T1=60", "training.epochs=2", "optimizer.T_max=2")
    assert "warning" not in run(capsys, "train", "--resume", tmp_path / "run", *settled).err
