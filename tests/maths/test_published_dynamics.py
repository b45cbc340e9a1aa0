"""Parity with what the authors' code computes, array by array, in float64."""

from __future__ import annotations

import numpy as np
import published
import pytest
from conftest import make_backend
from tolerances import PUBLISHED, relative_error

from eqnp.analysis.diagnostics import ep_steps
from eqnp.backends.backend import to_host
from eqnp.connections.forms import suits
from eqnp.connections.layers import ConvLayer
from eqnp.contrasts import common_contrast
from eqnp.dynamics import Phases, relax
from eqnp.estimators import estimate
from eqnp.losses import one_hot
from eqnp.networks import SymmetricNetwork, VectorFieldNetwork
from eqnp.prepared import PreparedNetwork
from eqnp.reference import backpropagate, bptt_gradient, trajectory
from eqnp.stencils import one_sided, symmetric
from eqnp.step import step

NETWORKS = {
    "MLP": SymmetricNetwork,
    "CNN": SymmetricNetwork,
    "VFMLP": VectorFieldNetwork,
    "VFCNN": VectorFieldNetwork,
}


@pytest.fixture(params=published.chains(), ids=lambda path: path.stem)
def path(request):
    return request.param


FORMS = ("direct", "merged", "winograd-2x2", "winograd-4x4")
WAYS = [pytest.param(("numpy", form), id=form) for form in FORMS]
WAYS += [pytest.param(("kernels", form), id=f"kernels, {form}") for form in FORMS]
WAYS += [pytest.param(("cupy", form), id=f"cupy, {form}", marks=pytest.mark.gpu) for form in FORMS]


@pytest.fixture(params=WAYS)
def case(request, path):
    place, form = request.param
    kind = published.model(path)
    if kind not in NETWORKS:
        pytest.skip(f"{path.stem}: networks of kind {kind} are not known")
    case = published.read(path)
    convolutions = [layer for layer in case.architecture.layers if isinstance(layer, ConvLayer)]
    if form != "direct" and not any(suits(form, layer) for layer in convolutions):
        pytest.skip(f"{path.stem} has no convolution that {form} suits")
    case.backend, case.convolution = make_backend(place), form
    return case


def assert_equal(name: str, actual: np.ndarray, expected: np.ndarray) -> None:
    assert actual.shape == expected.shape, name
    actual = to_host(actual)
    error = relative_error(actual, expected)
    assert error <= PUBLISHED, f"{name} differs by {error:.1e} relative to its largest entry"


def assert_states(phase: str, actual: list[np.ndarray], case: published.Published) -> None:
    for n, expected in enumerate(case.states(phase)):
        assert_equal(f"{phase}/{n}", actual[n], expected)


def setup(case):
    backend = case.backend
    kind = NETWORKS[case.config["model"]]
    network = kind(case.architecture, convolution=case.convolution, means=backend.device)
    target = one_hot(case.arrays["y"], case.architecture.classes, np.float64)
    parameters = {name: backend.asarray(np.ascontiguousarray(p)) for name, p in case.group("param").items()}
    return network, parameters, backend.asarray(np.ascontiguousarray(case.arrays["x"])), backend.asarray(target)


def expected_gradient(kind, case):
    if not (expected := case.group(kind)):
        pytest.skip(f"the fixture has no {kind}")
    return expected


def assert_gradient(kind, actual, case, scale):
    expected = expected_gradient(kind, case)
    assert set(actual) == set(expected)
    for key in expected:
        assert_equal(f"{kind}/{key}", actual[key] / scale, expected[key])


def test_the_fixtures_of_the_project_are_there():
    assert len(list(published.FOLDER.glob("*.npz"))) >= 10


def test_states_of_every_phase(case):
    network, parameters, x, target = setup(case)
    prepared, config = PreparedNetwork(network, parameters, x), case.config
    assert_states("step1", step(prepared, prepared.zero_states()), case)
    free = relax(prepared, prepared.zero_states(), config["T1"]).states
    assert_states("free", free, case)
    for phase, beta in (("plus", config["beta"]), ("minus", -config["beta"])):
        assert_states(phase, relax(prepared, free, config["T2"], beta, target).states, case)
    loss = network.loss_value(parameters, free, target).mean()
    assert_equal("loss_free", loss, case.arrays["loss_free"])


@pytest.mark.parametrize("joint", [False, True], ids=["apart", "jointly"])
@pytest.mark.parametrize(
    ("name", "stencil", "contrast"),
    [
        ("onesided", one_sided, None),
        ("symmetric", symmetric, None),
        ("vf_symmetric", symmetric, None),
        ("kp_common", symmetric, common_contrast),
    ],
)
def test_gradients(case, name, stencil, contrast, joint):
    network, parameters, x, target = setup(case)
    config = case.config
    phases = Phases(config["T1"], config["T2"])
    expected_gradient(name, case)  # or skip
    result = estimate(network, parameters, x, target, stencil(config["beta"]), phases, joint=joint, contrast=contrast)
    assert_gradient(name, result.gradient, case, len(x))


@pytest.mark.parametrize("segment", [0, 1, 5])
def test_bptt(case, segment):
    network, parameters, x, target = setup(case)
    prepared = PreparedNetwork(network, parameters, x)
    path = trajectory(prepared, case.config["T1"], case.config["T2"], segment)
    assert_states("free", path.final.states, case)
    assert_gradient("bptt", bptt_gradient(prepared, path, target), case, len(x))


def test_bptt_step_by_step(case):
    network, parameters, x, target = setup(case)
    expected = case.group("per_step_bptt")
    if not expected:
        pytest.skip("the fixture has no per_step_bptt")
    prepared = PreparedNetwork(network, parameters, x)
    path = trajectory(prepared, case.config["T1"], case.config["T2"])
    for t, (cotangent, gradient) in enumerate(backpropagate(prepared, path, target)):
        # theirs is - N dL/ds of the mean loss L
        found = {f"state.{n}": -s for n, s in enumerate(cotangent)} | {k: g / len(x) for k, g in gradient.items()}
        for key, series in expected.items():
            assert_step(f"per_step_bptt/{key}, step {t}", found[key], series, t)


def test_ep_step_by_step(case):
    network, parameters, x, target = setup(case)
    expected, beta = case.group("per_step_ep"), case.config["beta"]
    if not expected:
        pytest.skip("the fixture has no per_step_ep")
    prepared = PreparedNetwork(network, parameters, x)
    free = relax(prepared, prepared.zero_states(), case.config["T1"]).states
    states, at_rest = free, network.dl_dtheta(parameters, free, target)
    for t, gradient in enumerate(ep_steps(prepared, free, target, one_sided(beta), case.config["T2"])):
        new = step(prepared, states, beta, target)
        found = {f"state.{n}": (a - b) / beta for n, (a, b) in enumerate(zip(new, states, strict=True))}
        if t == 0:  # theirs leaves out the readout's own share of the first step
            gradient |= {name: gradient[name] - g for name, g in at_rest.items()}
        found |= {name: g / len(x) for name, g in gradient.items()}
        for key, series in expected.items():
            assert_step(f"per_step_ep/{key}, step {t}", found[key], series, t)
        states = new


def assert_step(name, actual, series, t):
    """Compare one step, relative to the largest entry of all steps: the first ones are rounding where nothing moves."""
    error = np.abs(to_host(actual) - series[t]).max() / np.abs(series).max()
    assert error <= PUBLISHED, f"{name} differs by {error:.1e} relative to the largest entry of all steps"
