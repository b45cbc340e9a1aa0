"""Parity with what the authors' code computes, array by array, in float64."""

from __future__ import annotations

import numpy as np
import published
import pytest
from tolerances import PUBLISHED, relative_error

from eqnp.dynamics import relax
from eqnp.estimators import estimate, one_sided, symmetric
from eqnp.losses import one_hot
from eqnp.networks import SymmetricNetwork

KNOWN = {"MLP", "CNN"}


@pytest.fixture(params=published.paths(), ids=lambda path: path.stem)
def case(request):
    kind = published.model(request.param)
    if kind not in KNOWN:
        pytest.skip(f"{request.param.stem}: networks of kind {kind} are not there yet")
    return published.read(request.param)


def assert_equal(name: str, actual: np.ndarray, expected: np.ndarray) -> None:
    assert actual.shape == expected.shape, name
    error = relative_error(actual, expected)
    assert error <= PUBLISHED, f"{name} differs by {error:.1e} relative to its largest entry"


def assert_states(phase: str, actual: list[np.ndarray], case: published.Published) -> None:
    for n, expected in enumerate(case.states(phase)):
        assert_equal(f"{phase}/{n}", actual[n], expected)


def setup(case):
    network = SymmetricNetwork(case.architecture)
    target = one_hot(case.arrays["y"], case.architecture.classes, np.float64)
    return network, case.group("param"), case.arrays["x"], target


def test_the_fixtures_of_the_project_are_there():
    assert len(list(published.FOLDER.glob("*.npz"))) >= 10


def test_states_of_every_phase(case):
    network, parameters, x, target = setup(case)
    prepared, config = network.prepare(parameters, x), case.config
    assert_states("step1", prepared.step(prepared.zero_states()), case)
    free = relax(prepared, prepared.zero_states(), config["T1"]).states
    assert_states("free", free, case)
    for phase, beta in (("plus", config["beta"]), ("minus", -config["beta"])):
        assert_states(phase, relax(prepared, free, config["T2"], beta, target).states, case)
    loss = network.loss_value(parameters, free, target).mean()
    assert_equal("loss_free", loss, case.arrays["loss_free"])


@pytest.mark.parametrize("joint", [False, True], ids=["apart", "jointly"])
@pytest.mark.parametrize(("name", "stencil"), [("onesided", one_sided), ("symmetric", symmetric)])
def test_gradients(case, name, stencil, joint):
    network, parameters, x, target = setup(case)
    config = case.config
    result = estimate(network, parameters, x, target, stencil(config["beta"]), config["T1"], config["T2"], joint=joint)
    expected = case.group(name)
    assert set(result.gradient) == set(expected)
    for key in expected:
        assert_equal(f"{name}/{key}", result.gradient[key] / len(x), expected[key])
