"""Divergence is found by what is NaN, infinite or too large to mean anything; saturated units are none."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from commands import overrides, train_small
from learners import batch, learner, trained

from eqnp.analysis.diagnostics import angle
from eqnp.analysis.settling import check_settling
from eqnp.backends.sharding import serial_map
from eqnp.dynamics import Phase, relax, residual
from eqnp.errors import ConfigurationError, DivergedError
from eqnp.losses import one_hot, predict
from eqnp.prepared import PreparedNetwork
from eqnp.training import Tally, initial_state, largest_sensible, require_finite, train_batch


@pytest.mark.parametrize("tallies", [[1.0, math.nan, 2.0], [math.nan, 1.0], [1.0, math.nan]])
def test_a_residual_that_is_nan_stays(tallies):
    total = sum((Tally(1, 0.5, 0, residual) for residual in tallies), Tally())
    assert math.isnan(total.residual) and total.samples == len(tallies)
    assert sum((Tally(1, 0.5, 0, r) for r in (0.5, 2.0, 1.0)), Tally()).residual == 2.0


def test_the_residual_of_a_phase_is_nan_if_any_state_is(tier):
    made = learner([], tier)
    parameters = initial_state(made, 1.0, "float32").parameters
    x = tier.asarray(batch(3)[0])
    for schedule in ("synchronous", "even-odd"):
        prepared = PreparedNetwork(made.network, parameters, x)
        states = prepared.zero_states()
        states[1][1] = math.nan  # of one sample
        ended = relax(prepared, states, Phase(1, schedule=schedule))
        assert math.isnan(ended.residual)
        assert math.isnan(residual(ended.states, states))


def test_an_angle_with_nan_is_nan():
    assert math.isnan(angle(np.array([1.0, np.nan]), np.ones(2)))
    assert angle(np.ones(2), -np.ones(2)) == pytest.approx(180)


def state_with(made, change):
    state = initial_state(made, 1.0, "float32")
    return change(state) or state


def put(where, name, value):
    def change(state):
        where(state)[name].reshape(-1)[3] = value

    return change


ADAM = ["optimizer.name=adam", "optimizer.momentum=0"]
LIMIT = largest_sensible(np.float32)


@pytest.mark.parametrize(
    ("extra", "change", "words"),
    [
        ([], put(lambda s: s.parameters, "forward.0.weight", np.nan), "forward.0.weight"),
        ([], put(lambda s: s.parameters, "readout.weight", -np.inf), "readout.weight"),
        ([], put(lambda s: s.parameters, "forward.1.weight", -1.01 * LIMIT), "forward.1.weight .* 8.4e"),
        ([], put(lambda s: s.optimizer["velocity"], "forward.1.bias", np.nan), "velocity of forward.1.bias"),
        (ADAM, put(lambda s: s.optimizer["variance"], "forward.0.weight", np.inf), "variance of forward.0.weight"),
    ],
)
def test_what_is_not_saved(extra, change, words):
    made = learner(extra)
    with pytest.raises(DivergedError, match=f"diverged in epoch 1, before batch 1: .*{words}.*; lower optimizer.rates"):
        require_finite(made, state_with(made, change))


@pytest.mark.parametrize(
    ("tally", "words"),
    [
        (Tally(10, math.nan, 0, 0.1), "test loss is nan"),
        (Tally(10, math.inf, 0, 0.1), "test loss is inf"),
        (Tally(10, 11 * LIMIT, 0, 0.1), r"test loss is 9.23e\+06"),
        (Tally(10, 1.0, 0, math.nan), "test residual is nan"),
    ],
)
def test_what_no_test_gives(tally, words):
    made = learner()
    with pytest.raises(DivergedError, match=words):
        require_finite(made, initial_state(made, 1.0, "float32"), tally)


def test_saturated_units_are_no_divergence():
    """Weights of a thousand put every unit on a clip; the loss is large and finite."""
    made = learner()
    state = initial_state(made, 1.0, "float32")
    state = replace(state, parameters={name: 1e4 * p for name, p in state.parameters.items()})
    after = train_batch(made, state, *batch(), serial_map)
    assert after.tally.loss > 100
    require_finite(made, after, after.tally)


def relu6(shift, guesses=True):
    """Return a learner, a state with the biases of s2 moved by ``shift``, and a batch with labels that it misses."""
    made = learner(["model.activation=relu6", "training.batch_size=20"])
    state = initial_state(made, 1.0, "float32")
    state.parameters["forward.1.bias"][...] += np.float32(shift)
    x, _ = batch(20)
    right = predict(outputs_of(made, state, x))
    return made, state, (x, (right + 1) % 10 if guesses else right)


def outputs_of(made, state, x):
    prepared = PreparedNetwork(made.network, state.parameters, x)
    return made.network.outputs(state.parameters, relax(prepared, prepared.zero_states(), made.phases.free).states)


def test_a_layer_with_all_units_at_a_bound_ends_the_run():
    for shift in (-100, 100):
        made, state, (x, labels) = relu6(shift)
        words = r"batch 1: every unit of s2 is at a bound.*guesses; lower optimizer\.rates"
        with pytest.raises(DivergedError, match=words):
            train_batch(made, state, x, labels, serial_map, measure=True)
        train_batch(made, state, x, labels, serial_map)  # only the last batch of an epoch is looked at


def test_neither_few_samples_nor_a_good_fit_nor_other_units_at_a_bound_end_a_run():
    made, state, (x, labels) = relu6(-100)
    train_batch(made, state, x[:19], labels[:19], serial_map, measure=True)
    made, state, (x, labels) = relu6(-100, guesses=False)
    train_batch(made, state, x, labels, serial_map, measure=True)
    made, state, (x, labels) = relu6(0)
    train_batch(made, state, x, labels, serial_map, measure=True)


def test_a_run_whose_units_die_is_exit_6(capsys, tmp_path):
    dying = overrides("model.activation=relu6", "optimizer.rates=100", "optimizer.momentum=0", "training.batch_size=20")
    result = train_small(capsys, tmp_path / "run", *dying)
    assert (result.code, result.err.count("\n")) == (6, 2), result.err  # what begins, and why it ended
    assert "every unit of s" in result.err and "continues from last.h5" in result.err


def test_infinite_variance_comes_from_a_gradient_whose_square_overflows():
    made = learner(ADAM)
    state = initial_state(made, 1.0, "float32")
    gradient = {name: np.full_like(p, 1e20) for name, p in state.parameters.items()}
    with np.errstate(over="ignore"):
        parameters, optimizer = made.update.take(gradient, state.optimizer, state.parameters, 0)
    assert all(np.isfinite(p).all() for p in parameters.values()), "nothing else shows it"
    with pytest.raises(DivergedError, match="variance"):
        require_finite(made, replace(state, parameters=parameters, optimizer=optimizer))


@pytest.mark.parametrize(
    ("extra", "dtype", "words", "key"),
    [
        (
            ["dynamics.beta=1e-8"],
            "float32",
            "raise dynamics.beta: at 1e-08 .* float32, .* 5e-03 or more",
            "dynamics.beta",
        ),
        (
            ["dynamics.beta=1e-8"],
            "float64",
            "raise dynamics.beta: at 1e-08 .* float64, .* 6e-06 or more",
            "dynamics.beta",
        ),
        (["dynamics.beta=1e-3"], "float64", "lower optimizer.rates, model.gain or dynamics.beta$", "optimizer.rates"),
        (["dynamics.beta=0.5"], "float32", "lower optimizer.rates, model.gain or dynamics.beta$", "optimizer.rates"),
        (["training.algorithm=bptt"], "float32", "lower optimizer.rates or model.gain$", "optimizer.rates"),
    ],
)
def test_what_a_diverged_run_is_told(extra, dtype, words, key):
    made, (x, labels) = learner(extra, dtype=dtype), batch(4, np.dtype(dtype))
    state = initial_state(made, 1.0, dtype)
    state = replace(state, parameters={name: 1e30 * p for name, p in state.parameters.items()})
    with pytest.raises(DivergedError, match=f"diverged at epoch 1, batch 1: .*; {words}") as caught:
        train_batch(made, state, x, labels, serial_map)
    assert caught.value.key == key


@pytest.mark.parametrize("activation", ["relu", "linear"])
def test_states_that_grow_without_limit_are_told_of_relu6(capsys, tmp_path, activation):
    settings = overrides(f"model.activation={activation}", "model.gain=30", "dynamics.T1=60")
    result = train_small(
        capsys, tmp_path / "run", *settings, *overrides("model.layers=[{dense=20},{dense=20},{dense=10}]")
    )
    assert result.code == 6 and result.out == ""
    last = result.err.splitlines()[-1]
    for words in ("diverged at epoch 1, batch 1", "model.gain", f"states of {activation} can grow", "relu6"):
        assert words in last
    for bounded in ([], ["model.loss=squared_error"], ["model.activation=relu6"], ["model.loss=cross_entropy"]):
        assert "without limit" not in learner(bounded).remedy("float32")[0]  # a linear output alone cannot grow


WRONG = {
    "readout": [],
    "squared error": ["model.loss=squared_error"],
    "adam": ADAM,
    "float64": ["training.dtype=float64"],
    "float64, squared error": ["training.dtype=float64", "model.loss=squared_error"],
}


@pytest.mark.parametrize("extra", WRONG.values(), ids=WRONG)
def test_a_rate_without_bounds_is_exit_6(capsys, tmp_path, extra):
    result = train_small(capsys, tmp_path / "run", *overrides("optimizer.rates=1e30", *extra))
    assert result.code == 6 and result.out == ""
    for words in (
        "diverged",
        "epoch 1",
        "lower optimizer.rates",
        "--set optimizer.rates=...",
        "continues from last.h5",
    ):
        assert words in result.err.splitlines()[-1]


def test_a_diverged_run_with_a_tiny_beta_is_told_to_raise_it(capsys, tmp_path):
    wrong = overrides("optimizer.rates=1e30", "dynamics.beta=1e-8")
    result = train_small(capsys, tmp_path / "run", *wrong)
    assert result.code == 6
    for words in ("raise dynamics.beta", "--set dynamics.beta=...", "continues from last.h5"):
        assert words in result.err.splitlines()[-1]
    assert "lower" not in result.err.splitlines()[-1].partition("dynamics.beta")[2].partition("; or")[0]


def test_a_beta_that_nothing_can_be_divided_by_is_a_mistake_of_the_configuration(capsys, tmp_path):
    with pytest.raises(ConfigurationError, match=r"dynamics\.beta = 1e-310"):
        learner(["dynamics.beta=1e-310"])
    result = train_small(capsys, tmp_path / "run", *overrides("dynamics.beta=1e-310"))
    assert result.code == 2 and "dynamics.beta = 1e-310" in result.err and not (tmp_path / "run").exists()


def test_no_advice_on_settling_without_finite_gradients():
    made = learner(["model.loss=cross_entropy"], dtype="float64")
    parameters = {name: 1e308 * p for name, p in trained(made, 0, "float64").items()}
    x, labels = batch(2, np.float64)
    target = one_hot(labels, 10, np.float64)
    with np.errstate(all="ignore"), pytest.raises(DivergedError, match=r"no finite gradient .* lower model\.gain"):
        check_settling(made.network, parameters, x, target, ("synchronous", 1.0, 5, 5), 0.1, 20)
