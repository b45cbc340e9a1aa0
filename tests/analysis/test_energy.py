"""The energy: its derivative is sigma^{-1}(s) - dPhi/ds, and settled states are stationary."""

from __future__ import annotations

import numpy as np
import pytest
from tolerances import DIRECTIONAL, relative_error

import eqnp
from eqnp.analysis.energy import energy, potential
from eqnp.ops.activations import ACTIVATIONS, LINEAR, Activation
from eqnp.prepared import PreparedNetwork
from eqnp.step import vector_field

RNG = np.random.default_rng(0)
LAYERS = (eqnp.ConvLayer(3, 3, pool="max"), eqnp.DenseLayer(5), eqnp.DenseLayer(4))


def network_of(activation):
    network, parameters = eqnp.build(eqnp.Architecture((7, 8, 2), LAYERS, activation), seed=1, dtype=np.float64)
    return network, parameters, RNG.random((3, 7, 8, 2))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_its_derivative_is_the_inverse_of_sigma_minus_the_field(name):
    network, parameters, x = network_of(name)
    sigma = ACTIVATIONS[name]
    u = [RNG.uniform(0.1, 0.4, s.shape) for s in network.zero_states(x)]
    states = [sigma.value(each) for each in u]  # inside the clips, so u = sigma^{-1}(s)
    field = vector_field(PreparedNetwork(network, parameters, x), states)
    direction = [RNG.standard_normal(s.shape) for s in states]
    expected = sum(((a - f) * d).reshape(3, -1).sum(axis=1) for a, f, d in zip(u, field, direction, strict=True))
    h = 1e-5
    ends = [
        energy(network, parameters, x, [s + sign * h * d for s, d in zip(states, direction, strict=True)])
        for sign in (1, -1)
    ]
    assert relative_error((ends[0] - ends[1]) / (2 * h), expected) < DIRECTIONAL


def test_sweeps_lower_it():
    network, parameters, x = network_of("half_hard_sigmoid")
    path = []
    eqnp.relax(
        network,
        parameters,
        x,
        eqnp.Phase(30, schedule="even-odd"),
        observe=lambda t, states: path.append(energy(network, parameters, x, states)),
    )
    assert (np.diff(path, axis=0) <= 1e-12).all() and (path[-1] < path[0]).all()


def test_where_there_is_none():
    field = eqnp.Architecture((6,), (eqnp.DenseLayer(4), eqnp.DenseLayer(3)), vector_field=True)
    network, parameters = eqnp.build(field, seed=0, dtype=np.float64)
    x = RNG.random((2, 6))
    assert energy(network, parameters, x, network.zero_states(x)) is None
    odd = Activation("odd", "u^3", lambda u, out=None: np.power(u, 3, out=out), lambda u: 3 * u * u)
    assert potential(odd) is None and potential(LINEAR)(np.array([3.0]))[0] == 4.5
