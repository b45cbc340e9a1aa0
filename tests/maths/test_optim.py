"""Optimisers against one number at a time; the schedule by its formula."""

from __future__ import annotations

import math
from itertools import pairwise

import naive
import numpy as np
import pytest

from eqnp.optim import SGD, Adam, cosine

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


def test_cosine_falls_to_the_minimum_and_stays():
    rates = [cosine(epoch, 0.25, 1e-5, 100) for epoch in range(120)]
    assert rates[0] == 0.25
    assert rates[50] == pytest.approx((0.25 + 1e-5) / 2)
    assert rates[25] == pytest.approx(1e-5 + (0.25 - 1e-5) * (1 + math.cos(math.pi / 4)) / 2)
    assert all(a > b for a, b in pairwise(rates[:101]))
    assert rates[100:] == [1e-5] * 20
