"""Estimators with every kind of network, loss, activation, dropout and graph: each trains a batch, or is refused."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from commands import assert_fails, overrides, train_small

from eqnp.backends.backend import get_backend
from eqnp.backends.sharding import serial_map
from eqnp.errors import ConfigurationError
from eqnp.runs.configfile import load
from eqnp.runs.experiment import make_learner
from eqnp.training import initial_state, train_batch

ESTIMATORS = ("one-sided", "random-sign", "symmetric", "four-point", "circle")
KINDS = {  # dynamics and contrast
    "symmetric": (),
    "symmetric, common": ("training.common_update=true",),
    "symmetric, asymmetric": ("training.nudging=asymmetric",),
    "field": ("model.kind=vector-field",),
    "field, forward winners": ("model.kind=vector-field", "model.feedback_winners=forward"),
    "field, common": ("model.kind=vector-field", "training.common_update=true"),
    "field, asymmetric": ("model.kind=vector-field", "training.nudging=asymmetric"),
    "field, both": ("model.kind=vector-field", "training.nudging=asymmetric", "training.common_update=true"),
}
ALGORITHMS = ("ep", "bptt")
ACTIVATIONS = ("tanh", "half_hard_sigmoid", "relu")
POOLS = ("average", "max")
LOSSES = ("squared_error", "cross_entropy", "cross_entropy_readout")
DROPOUT = ("", "weights", "states")
GRAPHS = ("", ", skips=[{source=0, dense=true}]")
MOVES = ((), ("dynamics.schedule=even-odd", "dynamics.omega=0.8"))
SIZES = ("dynamics.T1=7", "dynamics.T2=5", "training.threads=1")


def combinations():
    """Yield every estimator, kind, algorithm, activation and pooling, with the other settings in turn."""
    for n, (estimator, kind, algorithm, sigma, pool) in enumerate(
        product(ESTIMATORS, KINDS, ALGORITHMS, ACTIVATIONS, POOLS)
    ):
        for turn in range(2):
            k = 2 * n + turn + n // 6  # so that no setting repeats in step with another
            others = LOSSES[k % 3], DROPOUT[k // 3 % 3], GRAPHS[k // 2 % 2], () if algorithm == "bptt" else MOVES[k % 2]
            yield estimator, kind, algorithm, sigma, pool, *others


def settings_of(estimator, kind, algorithm, sigma, pool, loss, dropout, graph, moves, units=4):
    keep = ", keep=0.7" if dropout else ""
    layers = f"{{conv=4, kernel=3, pool='{pool}'{keep}}}, {{dense=9{keep}{graph}}}, {{dense={units}}}"
    more = (f"model.dropout_scaling={dropout}",) if dropout else ()
    chosen = (f"training.estimator={estimator}", f"training.algorithm={algorithm}", *KINDS[kind], *moves, *more)
    return (f"model.layers=[{layers}]", f"model.activation={sigma}", f"model.loss={loss}", *chosen, *SIZES)


def is_refused(estimator, kind, algorithm, sigma, pool, *others):
    """The rules, from the mathematics alone."""
    if kind in ("symmetric, common", "symmetric, asymmetric", "field, both"):
        return True  # weights are aligned already, J is symmetric already, and one gradient is not two
    if algorithm == "bptt":
        return estimator == "circle" or kind == "field, asymmetric"  # there are no nudged phases
    return estimator == "circle" and (kind != "symmetric" or sigma != "tanh" or pool == "max")


def train_one(settings):
    """Return the parameters before and after one batch in float64."""
    learner = make_learner(load("digits", [*settings, "training.dtype=float64"]), (6, 6, 1), 4, get_backend("numpy"))
    before = initial_state(learner, 1.0, "float64")
    inside = {name: p + 0.3 if name.endswith(".bias") else p for name, p in before.parameters.items()}
    before = replace(before, parameters=inside)  # off the clip at 0
    x, labels = np.random.default_rng(0).random((4, 6, 6, 1)), np.arange(4)
    return before.parameters, train_batch(learner, before, x, labels, serial_map).parameters


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_combination_trains_or_is_refused(estimator, kind):
    for case in combinations():
        if case[:2] != (estimator, kind):
            continue
        if is_refused(*case):
            with pytest.raises(ConfigurationError) as error:
                train_one(settings_of(*case))
            assert error.value.exit_code == 2 and "\n" not in str(error.value), case
        else:
            before, after = train_one(settings_of(*case))
            assert all(np.isfinite(p).all() for p in after.values()), case
            assert set(after) == set(before), case
            moved = {name for name, p in after.items() if (p != before[name]).any()}
            assert any(name.startswith("backward.") for name in moved) == case[1].startswith("field"), (case, moved)
            assert {"forward.0.weight", "forward.1.weight"} <= moved, case


def test_the_refusals_are_one_line_of_the_command(capsys, tmp_path):
    """One of every estimator, kind and algorithm that is refused whatever the layers are, or with a clip."""
    seen = set()
    for case in combinations():
        if is_refused(*case) and case[:3] not in seen:
            seen.add(case[:3])
            settings = overrides(*settings_of(*case, units=10))
            assert_fails(train_small(capsys, tmp_path / "run", *settings), 2)
            assert not (tmp_path / "run").exists()
    assert len(seen) > 20
