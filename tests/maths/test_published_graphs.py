"""Parity with what a public code computes of networks whose connections skip layers, array by array, in float64."""

from __future__ import annotations

import numpy as np
import published
import pytest
from conftest import GPU, make_backend
from tolerances import PUBLISHED, SETTLED, relative_error

from eqnp.backends.backend import to_host
from eqnp.connections.forms import suits
from eqnp.connections.layers import ConvLayer
from eqnp.dynamics import Phase, Phases, relax
from eqnp.estimators import estimate
from eqnp.losses import one_hot
from eqnp.networks import SymmetricNetwork
from eqnp.prepared import PreparedNetwork
from eqnp.stencils import symmetric
from eqnp.step import step

FORMS = ("direct", "winograd-2x2", "winograd-4x4")
PLACES = ("numpy", "standin", "kernels", *GPU)
SWEEPS = [("synchronous", 1.0), ("even-odd", 1.0), ("even-odd", 1.6)]


@pytest.fixture(params=published.graphs(), ids=lambda path: path.stem)
def fixture(request):
    return published.read(request.param)


@pytest.fixture(params=PLACES)
def place(request):
    return make_backend(request.param)


@pytest.fixture(params=FORMS)
def case(request, fixture, place):
    """Return a fixture, its network, parameters, input and target on a backend."""
    form, spec = request.param, fixture.architecture
    if form != "direct" and not any(isinstance(e.layer, ConvLayer) and suits(form, e.layer) for e in spec.edges):
        pytest.skip(f"no convolution that {form} suits")
    network = SymmetricNetwork(spec, convolution=form, means=place.device)
    parameters = {name: place.asarray(np.ascontiguousarray(p)) for name, p in fixture.group("param").items()}
    x, y = fixture.arrays["x"], one_hot(fixture.arrays["y"], spec.classes, np.float64)
    return fixture, network, parameters, place.asarray(np.ascontiguousarray(x)), place.asarray(y)


def assert_close(name, actual, expected, tolerance):
    actual = to_host(actual)
    assert actual.shape == expected.shape, name
    error = relative_error(actual, expected)
    assert error <= tolerance, f"{name} differs by {error:.1e} relative to its largest entry"


def assert_states(phase, states, fixture, tolerance=PUBLISHED):
    expected = fixture.states(phase)
    assert len(states) == len(expected) > 0
    for n, s in enumerate(expected):
        assert_close(f"{phase}/{n}", states[n], s, tolerance)


def test_graphs_are_there():
    assert len(published.graphs()) >= 3


def test_steps_and_phases(case):
    fixture, network, parameters, x, target = case
    prepared, config = PreparedNetwork(network, parameters, x), fixture.config
    zero = prepared.zero_states()
    assert_states("step1", step(prepared, zero), fixture)
    assert_states("step3", relax(prepared, zero, 3).states, fixture)
    free = relax(prepared, zero, config["T1"]).states
    assert_states("free", free, fixture)
    for phase, beta in (("plus", config["beta"]), ("minus", -config["beta"])):
        assert_states(phase, relax(prepared, free, config["T2"], beta, target).states, fixture)
    phi = network.primitive_function(parameters, x, free)
    assert_close("minus_phi/free", -phi, fixture.arrays["minus_phi/free"], PUBLISHED)


def test_the_symmetric_estimate(case):
    fixture, network, parameters, x, target = case
    config = fixture.config
    phases = Phases(config["T1"], config["T2"])
    found = estimate(network, parameters, x, target, symmetric(config["beta"]), phases).gradient
    expected = fixture.group("centered")
    assert set(found) == set(expected)
    for name, g in expected.items():
        assert_close(f"centered/{name}", found[name] / len(x), g, PUBLISHED)


@pytest.mark.parametrize(("schedule", "omega"), SWEEPS)
def test_every_order_of_updates_settles_there(case, schedule, omega):
    fixture, network, parameters, x, target = case
    prepared, beta = PreparedNetwork(network, parameters, x), fixture.config["beta"]
    phase = Phase(4000, 1e-15, schedule, omega, every=10)
    settled = relax(prepared, prepared.zero_states(), phase).states
    assert_states("settled", settled, fixture, SETTLED)
    for name, sign in (("settled_plus", 1), ("settled_minus", -1)):
        assert_states(name, relax(prepared, settled, phase, sign * beta, target).states, fixture, SETTLED)
    phases = Phases(4000, 4000, 1e-15, schedule, omega, 10)
    found = estimate(network, parameters, x, target, symmetric(beta), phases)
    for name, g in fixture.group("settled_centered").items():
        assert_close(f"settled_centered/{name}", found.gradient[name] / len(x), g, SETTLED)
    phi = network.primitive_function(parameters, x, settled)
    assert_close("minus_phi/settled", -phi, fixture.arrays["minus_phi/settled"], SETTLED)
    assert_close("loss_settled", found.loss.mean(), fixture.arrays["loss_settled"], SETTLED)
