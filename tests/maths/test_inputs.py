"""What enters the library is checked at its entries: every mistake is one message that names shapes."""

from __future__ import annotations

import nets
import numpy as np
import pytest
import standin

from eqnp.architecture import Architecture
from eqnp.connections.layers import ConvLayer, DenseLayer
from eqnp.contrasts import (
    asymmetric_contrast,
    common_contrast,
    default_contrast,
    symmetric_contrast,
    vector_field_contrast,
)
from eqnp.dynamics import Phase, Phases, relax
from eqnp.errors import ConfigurationError
from eqnp.estimators import estimate
from eqnp.losses import one_hot
from eqnp.networks import SymmetricNetwork, VectorFieldNetwork
from eqnp.prepared import PreparedNetwork, PreparedWeights
from eqnp.reference import bptt_gradient, implicit_gradient, trajectory
from eqnp.stencils import Stencil, four_point, make_stencil, one_sided, random_sign, symmetric


def says(error, *words):
    """Return a context in which ``error`` is raised with all ``words`` in one line."""
    pattern = "".join(f"(?=.*{word})" for word in words) + "[^\n]*$"
    return pytest.raises(error, match=f"^{pattern}")


# ---- labels


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (np.arange(1, 11), ["labels from 1 to 10", "0 to 9", "subtract 1"]),
        (np.array([0, -1]), ["labels from -1 to 0"]),
        (np.array([0, 255], np.uint8), ["labels from 0 to 255", "10 classes"]),
        (np.array([0.0, 1.0]), ["float64", "integers"]),
        (np.array([[0], [1]]), [r"\(2, 1\)", r"\(N,\)"]),
        (np.int64(3), [r"\(\)", r"\(N,\)"]),
        ([0, 1], ["an array", "list"]),
    ],
)
def test_labels_that_are_none(labels, words):
    with says(ValueError, *words):
        one_hot(labels, 10, np.float64)


def test_labels_that_are_some():
    assert one_hot(np.array([0, 9], np.uint8), 10, np.float32).sum() == 2
    assert one_hot(np.empty(0, int), 10, np.float32).shape == (0, 10)
    with says(ValueError, "classes = 0"):
        one_hot(np.array([0]), 0, np.float32)


def test_labels_on_a_device_are_not_read():
    standin.reads[0] = 0
    one_hot(standin.asarray(np.arange(3)), 3, np.float64)
    assert standin.reads[0] == 0


# ---- images


SQUARE = Architecture((6, 6, 1), (DenseLayer(4),))
IMAGES = np.full((5, 6, 6, 1), 0.5)


def prepare(x, architecture=SQUARE, dtype=np.float64):
    network = SymmetricNetwork(architecture)
    return PreparedNetwork(network, architecture.initial_parameters(np.random.default_rng(0), dtype=dtype), x)


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (IMAGES.transpose(0, 3, 1, 2), [r"\(5, 1, 6, 6\)", r"\(N, 6, 6, 1\)", "channels come last", "transpose"]),
        (IMAGES[0], [r"\(6, 6, 1\)", "sample axis", r"x\[None\]"]),
        (IMAGES[..., 0], [r"\(5, 6, 6\)", "channel axis"]),
        (IMAGES.reshape(5, 36), [r"\(5, 36\)", r"reshape\(-1, 6, 6, 1\)"]),
        (np.ones((5, 4, 9, 1)), [r"\(5, 4, 9, 1\)", r"\(N, 6, 6, 1\)"]),  # the same number of pixels
        (np.ones((5, 7, 6, 1)), [r"\(5, 7, 6, 1\)"]),
        (IMAGES[:0], [r"\(0, 6, 6, 1\)", "at least one sample"]),
        ((255 * IMAGES).astype(np.uint8), ["uint8", "float64", "255"]),
        (IMAGES.astype(np.float32), ["x is float32", "parameters float64"]),
        (np.where(np.arange(5).reshape(5, 1, 1, 1) == 3, np.nan, IMAGES), ["NaN", "sample 3"]),
        (np.where(np.arange(5).reshape(5, 1, 1, 1) == 2, np.inf, IMAGES), ["infinite", "sample 2"]),
        (IMAGES.tolist(), ["an array", "list"]),
    ],
)
def test_images_that_do_not_fit(x, words):
    with says(ValueError, *words):
        prepare(x)


def test_images_for_a_net_that_takes_vectors():
    flat = Architecture((36,), (DenseLayer(4),))
    with says(ValueError, r"\(5, 1, 6, 6\)", r"\(N, 36\)", r"\(H, W, C\) order"):
        prepare(IMAGES.transpose(0, 3, 1, 2), flat)
    prepare(IMAGES.reshape(5, 36), flat)


def test_arrays_of_two_modules_do_not_meet():
    network, host = SymmetricNetwork(SQUARE), SQUARE.initial_parameters(np.random.default_rng(0), dtype=np.float64)
    device = {name: standin.asarray(p) for name, p in host.items()}
    with says(ValueError, "x is an array of numpy", "parameters of standin", "backend.asarray"):
        PreparedNetwork(network, device, IMAGES)
    with says(ValueError, "x is an array of standin"):
        PreparedNetwork(network, host, standin.asarray(IMAGES))
    with says(ValueError, "forward.0.bias is an array of standin"):
        PreparedWeights(network, host | {"forward.0.bias": device["forward.0.bias"]})
    prepared = PreparedNetwork(network, device, standin.asarray(IMAGES))
    with says(ValueError, "target is an array of numpy"):
        relax(prepared, prepared.zero_states(), 1, 0.1, np.zeros((5, 4)))


def test_checks_read_nothing_from_a_device():
    network, host = SymmetricNetwork(SQUARE), SQUARE.initial_parameters(np.random.default_rng(0), dtype=np.float64)
    device, x = {name: standin.asarray(p) for name, p in host.items()}, standin.asarray(IMAGES)
    target = one_hot(standin.asarray(np.zeros(5, int)), 4, np.float64)
    standin.reads[0] = 0
    prepared = PreparedNetwork(network, device, x)
    prepared.require_target(target)
    prepared.require_states(prepared.zero_states())
    assert standin.reads[0] == 0


# ---- parameters


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"forward.1.weight": None}, [r"forward.1.weight \(2, 2, 3, 4\) is missing", "forward.0.weight"]),
        (
            {"forward.0.weight": np.ones((2, 3, 2, 3))},
            ["forward.0.weight", r"\(2, 3, 2, 3\)", r"must be \(3, 2, 2, 3\)"],
        ),
        ({"forward.2.bias": np.ones(4, np.float32)}, ["forward.2.bias", "float32", "float64"]),
        ({"forward.0.bias": np.ones(3, int)}, ["forward.0.bias", "int64", "float32 or float64"]),
        ({"forward.0.bias": np.ones(3, np.float16)}, ["forward.0.bias", "float16", "float32 or float64"]),
        ({"forward.0.bias": [1.0, 1.0, 1.0]}, ["forward.0.bias", "an array", "list"]),
        ({"backward.1.weight": np.ones((2, 2, 3, 4))}, ["no backward.1.weight", "forward.0.weight"]),
    ],
)
def test_parameters_that_do_not_fit(change, words):
    case = nets.make("max")
    parameters = {name: p for name, p in (case.parameters | change).items() if p is not None}
    with says(ValueError, *words):
        PreparedWeights(case.network, parameters)
    with says(ValueError, *words):
        estimate(case.network, parameters, case.x, case.target, symmetric(0.1), Phases(2, 1))


def test_initial_parameters_are_floats():
    with says(ValueError, "int64", "float32 or float64"):
        SQUARE.initial_parameters(np.random.default_rng(0), dtype=np.int64)


# ---- targets, states, masks


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (np.eye(4)[:1], [r"\(1, 4\)", r"\(3, 4\)", "3 samples"]),  # would be broadcast
        (np.eye(4)[0], [r"\(4,\)", r"\(3, 4\)"]),
        (np.arange(3), [r"\(3,\)", r"\(3, 4\)", "one_hot"]),
        (np.ones((3, 1)), [r"\(3, 1\)"]),
        (np.ones((3, 5)), [r"\(3, 5\)"]),
        (np.ones((3, 4), np.float32), ["target is float32", "float64"]),
        (np.full((3, 4), np.nan), ["target has NaN"]),
        (None, ["target", "NoneType"]),
    ],
)
def test_targets_that_do_not_fit(target, words):
    case = nets.make("max")
    prepared = case.prepare()
    steady, path = case.settle().states, trajectory(prepared, 3, 2)
    for entry in (
        lambda: estimate(case.network, case.parameters, case.x, target, symmetric(0.1), Phases(2, 1)),
        lambda: bptt_gradient(prepared, path, target),
        lambda: implicit_gradient(prepared, steady, target, 10, 0.0),
    ):
        with says(ValueError, *words):
            entry()
    with says(ValueError, *(words if target is not None else ["needs a target"])):
        relax(prepared, steady, 3, 0.1, target)


def test_states_and_masks_that_do_not_fit():
    case = nets.make("max", dropout=True)
    prepared, states = case.prepare(), case.random_states()
    for wrong, words in (
        (states[:-1], ["2 arrays for 3 layers"]),
        ([s[:1] for s in states], [r"s\^1 has shape \(1,", r"must be \(3,"]),
        ([s.astype(np.float32) for s in states], [r"s\^1 is float32"]),
    ):
        with says(ValueError, *words):
            relax(prepared, wrong, 3)
        with says(ValueError, *words):
            implicit_gradient(prepared, wrong, case.target, 3, 0.0)
    with says(ValueError, "masks", "2 arrays for 3 layers"):
        PreparedNetwork(case.network, case.parameters, case.x, case.masks[:-1])
    with says(ValueError, r"mask of s\^1 has shape \(1,"):
        PreparedNetwork(case.network, case.parameters, case.x, [case.masks[0][:1], *case.masks[1:]])


def test_weights_prepared_for_something_else():
    case = nets.make("max", dropout=True)
    with says(ValueError, "dropout=True", "no masks"):
        PreparedNetwork(case.network, PreparedWeights(case.network, case.parameters, dropout=True), case.x)
    with says(ValueError, "dropout=False", "but there are masks"):
        PreparedNetwork(case.network, PreparedWeights(case.network, case.parameters), case.x, case.masks)
    other = nets.make("max", dropout=True)
    with says(ValueError, "another network"):
        PreparedNetwork(other.network, PreparedWeights(case.network, case.parameters), case.x)


def test_contrasts_for_the_other_kind_of_network():
    case = nets.make("max")
    for contrast in (vector_field_contrast, common_contrast, asymmetric_contrast):
        with says(ConfigurationError, contrast.__name__, "SymmetricNetwork", "take symmetric_contrast"):
            estimate(
                case.network, case.parameters, case.x, case.target, symmetric(0.1), Phases(2, 1), contrast=contrast
            )
    with says(ConfigurationError, "common_contrast", "SymmetricNetwork"):
        default_contrast(case.network, common=True)
    with says(ConfigurationError, "asymmetric_contrast", "SymmetricNetwork"):
        default_contrast(case.network, nudging="asymmetric")
    with says(ValueError, "nudging", "'sideways'", "plain, asymmetric"):
        default_contrast(case.network, nudging="sideways")
    case = nets.make("max", kind="own winners")
    with says(ConfigurationError, "symmetric_contrast", "VectorFieldNetwork", "common_contrast"):
        estimate(
            case.network,
            case.parameters,
            case.x,
            case.target,
            symmetric(0.1),
            Phases(2, 1),
            contrast=symmetric_contrast,
        )


# ---- numbers


@pytest.mark.parametrize(
    ("T1", "T2", "words"),
    [(-5, 3, ["T1 = -5"]), (0, 3, ["T1 = 0"]), (5, 0, ["T2 = 0", "every gradient is zero"]), (5.0, 3, ["T1 = 5.0"])],
)
def test_numbers_of_steps(T1, T2, words):
    case = nets.make("max")
    with says(ValueError, *words):
        estimate(case.network, case.parameters, case.x, case.target, symmetric(0.1), Phases(T1, T2))
    with says(ValueError, words[0]):
        trajectory(case.prepare(), T1, T2)


def test_bptt_goes_back_through_free_steps_alone():
    with says(ValueError, "T2 = 6", "at most 5", "free steps"):
        trajectory(nets.make("max").prepare(), 5, 6)
    with says(ValueError, "segment = -1"):
        trajectory(nets.make("max").prepare(), 5, 3, -1)
    case = nets.make("max")
    with says(ValueError, "steps = 0"):
        implicit_gradient(case.prepare(), case.random_states(), case.target, 0, 0.0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"steps": -1}, ["steps = -1"]),
        ({"steps": 2.5}, ["steps = 2.5", "whole"]),
        ({"every": 0}, ["every = 0"]),
        ({"tolerance": -1.0}, ["tolerance = -1.0"]),
        ({"tolerance": np.nan}, ["tolerance = nan"]),
        ({"omega": 2.0}, ["omega = 2.0", "settle"]),
        ({"omega": 0.0}, ["omega = 0.0"]),
        ({"schedule": "even_odd"}, ["'even_odd'", "synchronous, even-odd, up-down"]),
        ({"beta": 0.1}, ["needs a target"]),
        ({"beta": np.nan}, ["beta = nan"]),
        ({"beta": np.ones((2, 1))}, [r"beta has shape \(2, 1\)", r"\(3, 1\)"]),
    ],
)
def test_settings_of_a_phase(options, words):
    case, options = nets.make("max"), dict(options)
    with says(ValueError, *words):
        nudging = {"beta": options.pop("beta")} if "beta" in options else {}
        relax(case.prepare(), case.random_states(), Phase(**({"steps": 3} | options)), **nudging)


@pytest.mark.parametrize("beta", [0, 0.0, np.nan, np.inf, -np.inf, 1e-310])
def test_estimators_divide_by_beta(beta):
    for make in (one_sided, symmetric, four_point, lambda beta: random_sign(beta, np.random.default_rng(0))):
        with says(ValueError, "beta = ", "finite"):
            make(beta)


def test_stencils_that_are_none():
    with says(ValueError, "estimator 'central'", "symmetric"):
        make_stencil("central", 0.1, [0])
    for points in ((), ((0.1, np.nan),), ((np.inf, 1.0),)):
        with says(ValueError, "stencil mine", "finite"):
            Stencil("mine", points)


# ---- architectures and networks


def test_a_kernel_may_be_a_number():
    assert ConvLayer(8, 3) == ConvLayer(8, (3, 3)) == ConvLayer(8, [3, 3]) == ConvLayer(8, np.int64(3))
    given = Architecture([8, 8, 1], [ConvLayer(4, 3), DenseLayer(10)])
    assert given == Architecture((8, 8, 1), (ConvLayer(4, (3, 3)), DenseLayer(10)))


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (ConvLayer(0, 3), ["layers.0", "channels 0"]),
        (ConvLayer(-2, 3), ["channels -2"]),
        (ConvLayer(2.5, 3), ["channels 2.5"]),
        (ConvLayer(4, 0), ["kernel height 0"]),
        (ConvLayer(4, (3, -1)), ["kernel width -1"]),
        (ConvLayer(4, (3, 3, 1)), [r"kernel \(3, 3, 1\)", r"\(KH, KW\)"]),
        (ConvLayer(4, 2.5), ["kernel 2.5"]),
        (ConvLayer(4, "3x3"), ["kernel '3x3'"]),
        (ConvLayer(4, 3, stride=0), ["stride 0"]),
        (ConvLayer(4, 3, stride=-1), ["stride -1"]),
        (ConvLayer(4, 3, padding=-1), ["padding -1"]),
        (ConvLayer(4, 3, keep=0.0), ["keep 0.0"]),
        (DenseLayer(0), ["units 0"]),
        (DenseLayer(3.0), ["units 3.0"]),
        (10, ["10 is neither a ConvLayer nor a DenseLayer"]),
    ],
)
def test_layers_that_cannot_be(layer, words):
    with says(ConfigurationError, *words):
        Architecture((8, 6, 1), (layer, DenseLayer(10)))


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((28, 28), [r"\(28, 28\)", r"\(H, W, C\)"]),
        ((5, 28, 28, 1), [r"\(5, 28, 28, 1\)"]),
        ((0,), [r"\(0,\)"]),
        ((8, -8, 1), ["-8"]),
        ((8.0, 8, 1), ["8.0"]),
        (784, ["784", "tuple"]),
        ((), [r"\(\)"]),
    ],
)
def test_inputs_that_cannot_be(shape, words):
    with says(ConfigurationError, "input_shape", *words):
        Architecture(shape, (DenseLayer(10),))


def test_layers_are_a_sequence():
    with says(ConfigurationError, "layers", "tuple"):
        Architecture((8,), DenseLayer(10))


def test_a_network_takes_its_own_kind_of_architecture():
    layers = (DenseLayer(5), DenseLayer(4))
    with says(ConfigurationError, "SymmetricNetwork", "vector_field=True", "VectorFieldNetwork"):
        SymmetricNetwork(Architecture((6,), layers, vector_field=True))
    with says(ConfigurationError, "VectorFieldNetwork", "vector_field=False", "SymmetricNetwork"):
        VectorFieldNetwork(Architecture((6,), layers))
    with says(ConfigurationError, "'winograd'", "winograd-2x2"):
        SymmetricNetwork(Architecture((6,), layers), "winograd")
