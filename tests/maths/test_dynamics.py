"""Relaxation: how long, how settled, and that it leaves alone what it is given."""

from __future__ import annotations

import nets
import numpy as np
import pytest

from eqnp.dynamics import Phase, relax, residual
from eqnp.step import step


def test_residual_is_the_largest_move():
    old = [np.zeros((2, 3)), np.ones((2, 2, 2, 1))]
    new = [old[0].copy(), old[1].copy()]
    new[0][1, 2], new[1][0, 1, 1, 0] = -0.25, 1.5
    assert residual(new, old) == 0.5
    new[0][0, 0] = np.nan
    assert np.isnan(residual(new, old))


@pytest.mark.parametrize(("shape", "loss"), nets.NETS)
def test_a_steady_state_stays(shape, loss):
    """At the end of a long free phase s = sigma(dPhi/ds) to rounding."""
    case = nets.make(shape, loss)
    free = case.settle()
    assert free.residual <= 1e-14
    assert residual(step(case.prepare(), free.states), free.states) <= 1e-14


def test_the_residual_reported_is_that_of_the_last_step():
    case = nets.make("max")
    prepared = case.prepare()
    states = relax(prepared, prepared.zero_states(), 4).states
    last = relax(prepared, prepared.zero_states(), 5)
    assert last.steps == 5
    assert last.residual == residual(last.states, states) > 0


def test_a_tolerance_ends_a_phase_at_the_first_step_that_meets_it():
    case = nets.make("max")
    prepared = case.prepare()
    trace = []

    def keep(t, states):
        trace.append([s.copy() for s in states])

    relax(prepared, prepared.zero_states(), 40, observe=keep)
    sizes = [residual(b, a) for a, b in zip([prepared.zero_states(), *trace], trace, strict=False)]
    tolerance = sizes[9] * 1.001
    first = next(t for t, size in enumerate(sizes, start=1) if size <= tolerance)
    early = relax(prepared, prepared.zero_states(), Phase(40, tolerance))
    assert early.steps == first < 40 and early.residual <= tolerance
    for a, b in zip(early.states, trace[first - 1], strict=True):
        np.testing.assert_array_equal(a, b)


def test_no_steps_return_the_start():
    case = nets.make("max")
    start = case.random_states()
    ended = relax(case.prepare(), start, 0)
    assert ended.steps == 0 and ended.residual == float("inf")
    for a, b in zip(ended.states, start, strict=True):
        np.testing.assert_array_equal(a, b)
        assert a is not b


def test_the_start_is_not_written_to():
    case = nets.make("strided")
    start = case.random_states()
    before = [s.copy() for s in start]
    relax(case.prepare(), start, 3, 0.1, case.target)
    for a, b in zip(start, before, strict=True):
        np.testing.assert_array_equal(a, b)


def test_two_phases_one_after_the_other_are_one_long_one():
    case = nets.make("average", "cross_entropy_readout")
    prepared = case.prepare()
    long = relax(prepared, prepared.zero_states(), 12)
    first = relax(prepared, prepared.zero_states(), 5)
    second = relax(prepared, first.states, 7)
    for a, b in zip(long.states, second.states, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("shape", "loss"), nets.NETS)
def test_each_sample_may_have_its_own_beta_and_none_meets_another(shape, loss):
    case = nets.make(shape, loss)
    start, betas = case.random_states(), np.array([0.2, -0.3, 0.0])[:, None]
    together = relax(case.prepare(), start, 4, betas, case.target).states
    for i, beta in enumerate(betas[:, 0]):
        alone = nets.Case(case.network, case.parameters, case.x[i : i + 1], case.target[i : i + 1])
        states = relax(alone.prepare(), [s[i : i + 1] for s in start], 4, beta, alone.target).states
        for a, b in zip(together, states, strict=True):
            np.testing.assert_allclose(a[i : i + 1], b, atol=1e-14)
