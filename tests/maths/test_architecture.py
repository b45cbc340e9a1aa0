"""Shapes that follow from a spec, initial parameters, and the message where sizes clash."""

from __future__ import annotations

import numpy as np
import pytest

from eqnp.architecture import Architecture
from eqnp.connections.layers import ConvLayer, DenseLayer
from eqnp.errors import ConfigurationError


def paper_net(loss="cross_entropy_readout"):
    convs = [ConvLayer(k, (3, 3), 1, p, "max") for k, p in ((128, 1), (256, 1), (512, 1), (512, 0))]
    return Architecture((32, 32, 3), (*convs, DenseLayer(10)), loss=loss)


def test_shapes_of_the_papers_net():
    net = paper_net()
    assert net.state_shapes == ((16, 16, 128), (8, 8, 256), (4, 4, 512), (1, 1, 512))
    assert net.layer_shapes[-1] == (10,) and net.classes == 10
    assert net.connection_names == ("forward.0", "forward.1", "forward.2", "forward.3", "readout")
    shapes = net.parameter_shapes()
    assert shapes["forward.1.weight"] == (3, 3, 128, 256) and shapes["readout.weight"] == (512, 10)
    squared = paper_net("squared_error")
    assert squared.state_shapes[-1] == (10,) and squared.connection_names[-1] == "forward.4"


@pytest.mark.parametrize("gain", [1.0, 0.3])
def test_initial_parameters_are_uniform_within_the_bound(gain):
    net = Architecture((6, 6, 4), (ConvLayer(50, (5, 5)), DenseLayer(40)))
    parameters = net.initial_parameters(np.random.default_rng(0), gain)
    for name, fan_in in (("forward.0", 100), ("forward.1", 200)):
        bound = gain / np.sqrt(fan_in)
        w = parameters[f"{name}.weight"]
        assert w.dtype == np.float32
        assert 0.98 * bound < np.abs(w).max() <= bound * (1 + 1e-6)
        assert abs(w.std() - bound / np.sqrt(3)) < 0.03 * bound and abs(w.mean()) < 0.05 * bound
        assert np.abs(parameters[f"{name}.bias"]).max() <= bound * (1 + 1e-6)
    again = net.initial_parameters(np.random.default_rng(0), gain)
    assert all((again[name] == p).all() for name, p in parameters.items())


@pytest.mark.parametrize(
    ("layers", "options", "words"),
    [
        ((ConvLayer(4, (3, 3)),), {}, ["last layer", "dense"]),
        ((), {}, ["last layer", "dense"]),
        ((DenseLayer(10),), {"loss": "cross_entropy_readout"}, ["readout", "one more layer"]),
        ((DenseLayer(9), ConvLayer(4, (3, 3)), DenseLayer(10)), {}, ["model.layers.1", "(9,)", "image"]),
        ((ConvLayer(4, (9, 3)), DenseLayer(10)), {}, ["model.layers.0", "9x3", "8x6"]),
        (
            (ConvLayer(4, (8, 5), 1, 0, "max"), DenseLayer(10)),
            {},
            ["model.layers.0", "pool", "1x2"],
        ),
        ((ConvLayer(4, (3, 3), pool="min"), DenseLayer(10)), {}, ["model.layers.0", "'min'", "average"]),
        ((DenseLayer(10),), {"activation": "softplus"}, ["model.activation", "'softplus'", "tanh"]),
        ((DenseLayer(10),), {"loss": "hinge"}, ["model.loss", "'hinge'", "squared_error"]),
    ],
)
def test_what_does_not_fit_is_said(layers, options, words):
    with pytest.raises(ConfigurationError) as caught:
        Architecture((8, 6, 1), layers, **options)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, (word, message)
