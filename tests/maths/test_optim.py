"""Optimisers against one number at a time; clipping and the schedule by their formulas."""

from __future__ import annotations

import math
from itertools import pairwise

import naive
import numpy as np
import pytest
import standin
from learners import batch, learner
from tolerances import ORACLE

from eqnp.backends.backend import array_module, to_host
from eqnp.backends.sharding import serial_map
from eqnp.optim import SGD, Adam, Update, clip_by_norm, cosine, moved_average, one_cycle, warm_up
from eqnp.training import initial_state, train_batch

RATES, DECAYS = {"w": 0.1, "b": 0.02}, {"w": 0.03, "b": 0.0}


def run(optimizer, gradients, start):
    parameters, state = dict(start), optimizer.init(start)
    for g in gradients:
        before = {name: p.copy() for name, p in parameters.items()}
        old = parameters
        parameters, state = optimizer.update({k: a.copy() for k, a in g.items()}, state, parameters, RATES, DECAYS)
        for name, p in before.items():
            np.testing.assert_array_equal(old[name], p)  # all but the gradient stay as they are
    return parameters


def problem(dtype=np.float64):
    generator = np.random.default_rng(0)
    start = {"w": generator.standard_normal((2, 3)).astype(dtype), "b": generator.standard_normal(3).astype(dtype)}
    gradients = [{k: generator.standard_normal(p.shape).astype(dtype) for k, p in start.items()} for _ in range(7)]
    return start, gradients


CASES = {
    "plain": (SGD(), lambda t, g, r, d: naive.sgd(t, g, r, d, 0.0)),
    "momentum": (SGD(0.9), lambda t, g, r, d: naive.sgd(t, g, r, d, 0.9)),
    "nesterov": (SGD(0.9, nesterov=True), lambda t, g, r, d: naive.nesterov(t, g, r, d, 0.9)),
    "adam": (Adam(), lambda t, g, r, d: naive.adam(t, g, r, d, 0.9, 0.999, 1e-8)),
    "adam, others": (Adam(0.5, 0.8, 0.1), lambda t, g, r, d: naive.adam(t, g, r, d, 0.5, 0.8, 0.1)),
}


@pytest.mark.parametrize("name", CASES)
def test_optimizer_against_one_number_at_a_time(name):
    optimizer, oracle = CASES[name]
    start, gradients = problem()
    result = run(optimizer, gradients, start)
    for key, theta in start.items():
        for index in np.ndindex(theta.shape):
            series = [g[key][index] for g in gradients]
            expected = oracle(theta[index], series, RATES[key], DECAYS[key])
            assert result[key][index] == pytest.approx(expected, rel=1e-12, abs=1e-14)


@pytest.mark.parametrize("name", CASES)
def test_the_dtype_stays(name):
    start, gradients = problem(np.float32)
    assert all(p.dtype == np.float32 for p in run(CASES[name][0], gradients, start).values())


def test_nesterov_is_gradient_descent_with_momentum_as_seen_from_where_the_gradient_is_taken():
    """With phi = theta + eta mu v this is Nesterov's own form: v <- mu v + g(theta), phi <- phi - eta v."""
    rate, mu, v, theta, phi = 0.1, 0.9, np.zeros(1), np.ones(1), np.ones(1)
    parameters, state = {"w": theta.copy()}, SGD(mu, nesterov=True).init({"w": theta})
    for _ in range(9):
        g = 2 * parameters["w"]  # of theta^2
        v = mu * v + g
        phi = phi - rate * v
        parameters, state = SGD(mu, nesterov=True).update({"w": g.copy()}, state, parameters, {"w": rate}, {"w": 0.0})
        np.testing.assert_allclose(parameters["w"], phi - rate * mu * v, rtol=ORACLE[np.float64])
        np.testing.assert_allclose(state["velocity"]["w"], v, rtol=ORACLE[np.float64])


def test_nesterov_without_momentum_is_refused():
    with pytest.raises(ValueError, match="nesterov: needs momentum"):
        SGD(nesterov=True)


def copied(gradient):
    return {name: g.copy() for name, g in gradient.items()}


def norm(gradient):
    """The norm over all parameters, one number after the other."""
    return math.sqrt(math.fsum(float(x) ** 2 for g in gradient.values() for x in g.ravel()))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("size", [1.0, 1e-6, 1e25])
def test_clipping_scales_all_arrays_by_one_factor(dtype, size):
    """Small norms show the 1e-6 of the denominator; the squares of large ones overflow float32."""
    gradient = {name: (size * g).astype(dtype) for name, g in problem()[1][0].items()}
    clipped, largest = copied(gradient), 0.3 * norm(gradient)
    clip_by_norm(clipped, largest)
    factor = largest / (norm(gradient) + 1e-6)
    assert factor <= 0.3
    for name, g in gradient.items():
        np.testing.assert_allclose(clipped[name], factor * g, rtol=ORACLE[dtype])
        assert clipped[name].dtype == dtype


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_gradient_below_the_largest_norm_is_unchanged(dtype):
    gradient = problem(dtype)[1][0]
    clipped = copied(gradient)
    clip_by_norm(clipped, 1.01 * norm(gradient))
    for name, g in gradient.items():
        np.testing.assert_array_equal(clipped[name], g)
    zero = {name: np.zeros_like(g) for name, g in gradient.items()}
    clip_by_norm(zero, 1.0)
    assert not any(g.any() for g in zero.values())


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_clipping_hides_no_divergence(bad):
    gradient = problem()[1][0]
    gradient["b"][1] = bad
    with np.errstate(invalid="ignore"):
        clip_by_norm(gradient, 1.0)
    assert np.isnan(gradient["b"][1])


def test_an_update_clips_before_weight_decay_and_only_if_asked_to():
    start, gradients = problem()
    optimizer = SGD(0.9)
    state, rates = optimizer.init(start), {"w": 0.1, "b": 0.1}
    for largest in (0.0, 0.5):
        g = copied(gradients[0])
        factor = min(1.0, largest / (norm(g) + 1e-6)) if largest else 1.0
        new, _ = Update(optimizer, lambda epoch: rates, DECAYS, largest).take(g, state, start, 0)
        for name, theta in start.items():
            expected = theta - rates[name] * (factor * gradients[0][name] + DECAYS[name] * theta)
            np.testing.assert_allclose(new[name], expected, rtol=0, atol=ORACLE[np.float64])


def test_clipping_on_a_device_reads_nothing_back():
    gradient = problem(np.float32)[1][0]
    on_device, reads = {name: standin.asarray(g) for name, g in gradient.items()}, standin.reads[0]
    clip_by_norm(on_device, 0.5)
    assert standin.reads[0] == reads
    clip_by_norm(gradient, 0.5)
    for name, g in gradient.items():
        assert array_module(on_device[name]) is standin
        np.testing.assert_array_equal(to_host(on_device[name]), g)


CLIPPED = ["optimizer.clip_norm=0.01", "optimizer.rates=1.0", "optimizer.momentum=0", "optimizer.weight_decay=0"]


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("count", [6, 16])
def test_a_run_clips_the_mean_of_the_whole_batch(threads, count):
    """With a rate of 1 an update moves the weights by the clipped gradient, whatever shards it was summed from."""
    made = learner([*CLIPPED, f"training.threads={threads}"], dtype="float64")
    state = initial_state(made, 1.0, "float64")
    x, labels = batch(count, np.float64)
    weights = train_batch(made, state, x, labels, serial_map).parameters
    one = train_batch(learner(CLIPPED, dtype="float64"), state, x, labels, serial_map).parameters
    moved = {name: state.parameters[name] - p for name, p in weights.items()}
    assert norm(moved) == pytest.approx(0.01, rel=1e-3)  # the 1e-6 is that small beside the norm
    for name, p in weights.items():
        np.testing.assert_allclose(p, one[name], rtol=0, atol=ORACLE[np.float64])


def test_cosine_may_end_at_a_tiny_rate():
    made = learner(["optimizer.schedule=cosine", "optimizer.minimum_rate=2e-6", "optimizer.T_max=300"])
    assert set(made.update.rates(300).values()) == {2e-6} and min(made.update.rates(299).values()) > 2e-6


def test_cosine_falls_to_the_minimum_and_stays():
    rates = [cosine(epoch, 0.25, 1e-5, 100) for epoch in range(120)]
    assert rates[0] == 0.25
    assert rates[50] == pytest.approx((0.25 + 1e-5) / 2)
    assert rates[25] == pytest.approx(1e-5 + (0.25 - 1e-5) * (1 + math.cos(math.pi / 4)) / 2)
    assert all(a > b for a, b in pairwise(rates[:101]))
    assert rates[100:] == [1e-5] * 20


def test_one_cycle_rises_in_a_line_then_falls_as_a_cosine():
    rates = [one_cycle(t / 10, 0.5, 1e-3, 10, 2) for t in range(120)]
    assert rates[0] == pytest.approx(0.02) and rates[10] == pytest.approx(0.26) and rates[20] == 0.5
    assert all(a < b for a, b in pairwise(rates[:21])) and all(a > b for a, b in pairwise(rates[20:101]))
    assert rates[60] == pytest.approx((0.5 + 1e-3) / 2) and rates[100:] == [1e-3] * 20
    assert [one_cycle(t, 0.5, 1e-3, 10, 0.0) for t in range(12)] == [cosine(t, 0.5, 1e-3, 10) for t in range(12)]


def test_a_warm_up_scales_any_schedule_and_ends():
    assert [warm_up(t, 2.0) for t in (0, 1, 2, 3)] == pytest.approx([0.04, 0.52, 1, 1]) and warm_up(0, 0.0) == 1
    for schedule, rate in (("constant", 0.1), ("cosine", cosine(1, 0.1, 0.005, 4))):
        made = learner([f"optimizer.schedule={schedule}", "optimizer.warmup=2.0", "training.epochs=4"])
        assert made.update.rates(1.5)["readout.weight"] == pytest.approx(rate * 0.76)
    plain = learner(["optimizer.schedule=cosine"]).update.rates
    assert plain(1.5) == plain(1)  # from epoch to epoch, as before


def test_the_rates_of_one_cycle_move_within_an_epoch():
    made = learner(["optimizer.schedule=one-cycle", "optimizer.minimum_rate=0", "training.epochs=2"])
    x, labels = batch()
    state = initial_state(made, 1.0, "float32")
    ends = [train_batch(made, state, x, labels, serial_map, time=time).parameters for time in (0.0, 1.0, 2.0)]
    moves = [norm({k: p - state.parameters[k] for k, p in end.items()}) for end in ends]
    assert moves[1] == pytest.approx(moves[0] / 2, rel=1e-4) and moves[2] == 0


def test_the_average_is_that_of_its_formula_and_the_optimiser_does_not_see_it():
    start, gradients = problem()
    update, plain = (Update(Adam(), lambda time: RATES, DECAYS, average=a) for a in (0.3, 0.0))
    one, two, parameters, others = update.init(start), plain.init(start), start, start
    expected, path = dict(start), []
    for count, g in enumerate(gradients, start=1):
        parameters, one = update.take({k: a.copy() for k, a in g.items()}, one, parameters, 0)
        others, two = plain.take({k: a.copy() for k, a in g.items()}, two, others, 0)
        decay = min(0.3, count / (count + 10))
        expected = {k: decay * a + (1 - decay) * parameters[k] for k, a in expected.items()}
        path.append(one["averaged"])
    assert path == [*range(1, 8)] and set(one) - set(two) == {"average", "averaged"}
    for name, theta in others.items():
        np.testing.assert_array_equal(parameters[name], theta)
        np.testing.assert_allclose(one["average"][name], expected[name], rtol=0, atol=ORACLE[np.float64])


def test_an_average_of_weights_that_stay_is_those_weights():
    start, _ = problem()
    average = moved_average({k: np.zeros_like(p) for k, p in start.items()}, start, 0.99, 1)
    for count in range(2, 3000):
        average = moved_average(average, start, 0.99, count)
    for name, theta in start.items():
        np.testing.assert_allclose(average[name], theta, rtol=1e-6)
