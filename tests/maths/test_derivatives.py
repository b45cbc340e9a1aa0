"""Every derivative: connections, Phi, the loss, and what the estimators estimate."""

from __future__ import annotations

import derivatives
import nets
import numpy as np
import pytest

from eqnp.dynamics import Phases
from eqnp.estimators import estimate
from eqnp.stencils import make_stencil, one_sided, random_sign, symmetric


@pytest.mark.parametrize("name", derivatives.CONNECTIONS)
def test_the_four_maps_of_a_connection(name):
    derivatives.check_connection(*derivatives.CONNECTIONS[name])


@pytest.mark.parametrize(("shape", "loss"), nets.NETS)
def test_phi_and_the_loss(shape, loss):
    case = nets.make(shape, loss)
    derivatives.check_phi(case)
    derivatives.check_loss_derivatives(case)
    derivatives.check_step(case)


@pytest.mark.parametrize(("shape", "loss"), nets.NETS)
def test_the_order_of_the_estimators(shape, loss):
    derivatives.check_order(nets.make(shape, loss))


@pytest.mark.parametrize("activation", ["tanh", "sigmoid"])
def test_the_order_with_curved_activations(activation):
    derivatives.check_order(nets.make("deep dense", "squared_error", activation, gain=0.5))


def test_moments_of_the_stencils():
    generator = np.random.default_rng(0)
    for stencil in (one_sided(0.3), one_sided(-0.3), symmetric(0.7), random_sign(0.2, generator)):
        derivatives.check_moments(stencil)


def test_random_sign_is_drawn_from_the_generator():
    def signs(seed):
        generator = np.random.default_rng(seed)
        return [random_sign(0.1, generator).points[0][0] for _ in range(64)]

    assert signs(0) == signs(0) != signs(1)
    assert set(signs(0)) == {0.1, -0.1}
    assert 20 < signs(0).count(0.1) < 44


def test_the_mean_over_both_signs_is_symmetric():
    case = nets.make("max", "cross_entropy_readout")
    arguments = (case.network, case.parameters, case.x, case.target)
    plus, minus, both = (
        estimate(*arguments, stencil, Phases(50, 20)).gradient
        for stencil in (one_sided(0.2), one_sided(-0.2), symmetric(0.2))
    )
    for name, g in both.items():
        np.testing.assert_allclose((plus[name] + minus[name]) / 2, g, atol=1e-14 / 0.2)


def test_stencils_by_name():
    assert make_stencil("symmetric", 0.5, [1]) == symmetric(0.5)
    assert make_stencil("one-sided", 0.5, [1]) == one_sided(0.5)
    assert make_stencil("random-sign", 0.5, [1]).name == "random-sign"


def test_estimate_changes_none_of_its_arguments():
    case = nets.make("strided", "cross_entropy_readout")
    before = ({k: p.copy() for k, p in case.parameters.items()}, case.x.copy(), case.target.copy())
    result = estimate(case.network, case.parameters, case.x, case.target, symmetric(0.1), Phases(5, 3))
    for name, p in case.parameters.items():
        np.testing.assert_array_equal(p, before[0][name])
    np.testing.assert_array_equal(case.x, before[1])
    np.testing.assert_array_equal(case.target, before[2])
    assert set(result.gradient) == set(case.parameters)
    assert result.loss.shape == (3,) and result.outputs.shape == case.target.shape


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("shape", "loss"), nets.NETS)
def test_no_dtype_leaks(shape, loss, dtype):
    case = nets.make(shape, loss)
    parameters = {name: p.astype(dtype) for name, p in case.parameters.items()}
    x, target = case.x.astype(dtype), case.target.astype(dtype)
    for joint in (False, True):
        result = estimate(case.network, parameters, x, target, symmetric(0.1), Phases(3, 2), joint=joint)
        arrays = [*result.gradient.values(), *result.free.states, *result.nudged[0].states, result.loss, result.outputs]
        assert {a.dtype for a in arrays} == {np.dtype(dtype)}
