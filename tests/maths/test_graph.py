"""Layers that are joined further apart: names, shapes, messages, colours, initial weights, and edges that go wrong."""

from __future__ import annotations

from dataclasses import replace

import derivatives
import nets
import numpy as np
import pytest

import eqnp
from eqnp import derivatives as engine
from eqnp.architecture import Architecture
from eqnp.connections.layers import ConvLayer, DenseLayer, Skip
from eqnp.contrasts import symmetric_contrast
from eqnp.dynamics import Phase, relax
from eqnp.errors import ConfigurationError
from eqnp.networks import SymmetricNetwork
from eqnp.prepared import PreparedNetwork
from eqnp.reference import implicit_gradient

RESIDUAL, EVERY = nets.make("residual").network, nets.make("every edge").network


def chain(count):
    return SymmetricNetwork(Architecture((3,), (DenseLayer(2),) * count))


def test_a_chain_keeps_its_names_and_has_two_colours():
    net = chain(5)
    assert [edge.name for edge in net.edges] == [f"forward.{n}" for n in range(5)]
    assert net.colours == ((1, 3), (0, 2, 4))
    assert net.architecture.is_chain and not RESIDUAL.architecture.is_chain
    assert chain(1).colours == ((0,),)


def test_names_say_from_where_to_where():
    names = list(EVERY.architecture.parameter_shapes())
    assert names == [
        *("forward.0.weight", "forward.0.bias", "forward.1.weight", "forward.1.bias"),
        *("forward.0-2.weight", "forward.1-2.weight", "forward.0-2.2.weight"),
        *("forward.2.weight", "forward.2.bias", "forward.1-3.weight", "forward.3.weight", "forward.3.bias"),
    ]
    assert EVERY.architecture.layer_of()["forward.1-3.weight"] == 2
    branches = nets.make("branches", kind="own winners").network.architecture
    assert branches.backward_names == ("backward.2", "backward.1-3", "backward.3")
    assert "forward.0-2.weight" in branches.parameter_shapes() and "forward.1.bias" in branches.parameter_shapes()


@pytest.mark.parametrize("shape", nets.SHAPES)
def test_no_two_layers_of_a_colour_are_joined(shape):
    net = nets.make(shape).network
    assert sorted(n for colour in net.colours for n in colour) == list(range(len(net.activations)))
    for colour in net.colours:
        for edge in net.edges:
            assert not {edge.lower - 1, edge.upper - 1} <= set(colour), (colour, edge.name)


CONV = ConvLayer(3, 3, padding=1)
OUT = DenseLayer(10)


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        (
            (replace(CONV, stride=2, skips=(Skip(0),)), OUT),
            ["model.layers.0.skips.0", "(8, 6, 3)", "(4, 3, 3)", "layer 0"],
        ),
        ((CONV, replace(CONV, skips=(Skip(2),)), OUT), ["model.layers.1.skips.0", "2", "0 (the input) to 1"]),
        ((CONV, replace(OUT, source=2)), ["model.layers.1", "from 2"]),
        ((CONV, replace(OUT, source=-1)), ["model.layers.1", "from -1"]),
        ((CONV, replace(OUT, skips=(Skip(0, stride=2),))), ["model.layers.1.skips.0", "stride", "dense"]),
        ((CONV, replace(CONV, skips=(Skip(0, 9),)), OUT), ["model.layers.1.skips.0", "9x9", "8x6"]),
        ((OUT, replace(OUT, skips=[Skip(0, kernel=(1, 1, 1))])), ["model.layers.1.skips.0", "kernel"]),
        ((replace(CONV, skips=(Skip(0, stride=0),)), OUT), ["model.layers.0.skips.0", "stride 0"]),
        ((replace(CONV, skips=(Skip(0, pool="min"),)), OUT), ["model.layers.0.skips.0", "'min'", "average"]),
        ((replace(CONV, skips=(0,)), OUT), ["model.layers.0", "Skip"]),
        ((replace(CONV, gain=0.0), OUT), ["model.layers.0", "gain"]),
        ((replace(CONV, skips=(Skip(0, gain=-1.0),)), OUT), ["model.layers.0.skips.0", "gain"]),
        ((replace(CONV, activation="softplus"), OUT), ["activation", "'softplus'", "relu6"]),
    ],
)
def test_what_does_not_fit_is_said(layers, words):
    with pytest.raises(ConfigurationError) as caught:
        Architecture((8, 6, 1), layers)
    for word in ("\n" not in str(caught.value) and "", *words):
        assert word in str(caught.value), (word, str(caught.value))


def test_a_readout_reads_the_last_layer_alone():
    for last in (replace(OUT, skips=(Skip(0),)), replace(OUT, source=0), replace(OUT, activation="tanh")):
        with pytest.raises(ConfigurationError, match=r"model\.layers\.1"):
            Architecture((8, 6, 1), (CONV, last), loss="cross_entropy_readout")


def test_initial_weights_have_the_gain_of_their_edge():
    layers = (
        ConvLayer(40, 3, padding=1),
        ConvLayer(50, 3, padding=1, gain=0.5, skips=[Skip(0, gain=2.0), Skip(1)]),
        OUT,
    )
    for scheme, root in (("uniform", 1.0), ("kaiming", np.sqrt(3))):
        spec = Architecture((8, 6, 4), layers, initialisation=scheme, bias_gain=0.25)
        p = spec.initial_parameters(np.random.default_rng(0), 1.5)
        for name, gain, fan_in in (
            *(("forward.0", 1.5, 36), ("forward.1", 0.5, 360), ("forward.0-2", 2.0, 4), ("forward.1-2", 1.5, 40)),
        ):
            bound = root * gain / np.sqrt(fan_in)
            assert 0.95 * bound < np.abs(p[f"{name}.weight"]).max() <= bound * (1 + 1e-6), name
        for name, fan_in in (("forward.0.bias", 36), ("forward.1.bias", 360)):
            bound = 1.5 * 0.25 / np.sqrt(fan_in)
            assert 0.7 * bound < np.abs(p[name]).max() <= bound * (1 + 1e-6), name


def test_a_layer_has_its_own_activation():
    layers = (ConvLayer(3, 3, activation="tanh"), DenseLayer(5), replace(OUT, activation="linear"))
    net = SymmetricNetwork(Architecture((8, 6, 1), layers, "relu6"))
    assert [sigma.name for sigma in net.activations] == ["tanh", "relu6", "linear"]


def triangle(w):
    """Return a case of three layers of one linear unit, all joined with weight ``w``; J has the eigenvalue 2 w."""
    network = SymmetricNetwork(
        Architecture((1,), (DenseLayer(1), DenseLayer(1), DenseLayer(1, skips=[Skip(1)])), "linear")
    )
    parameters = {name: np.full(shape, w) for name, shape in network.architecture.parameter_shapes().items()}
    return nets.Case(network, parameters, np.array([[0.7], [-0.4]]), np.array([[1.0], [0.3]]))


def test_the_exact_gradient_where_synchronous_steps_diverge():
    """Sweeps settle, since the energy is convex; J has the eigenvalue -1.2, and its powers grow."""
    case = triangle(-0.6)
    prepared = case.prepare()
    assert relax(prepared, prepared.zero_states(), 200).residual > 1

    def settled_loss(parameters):
        net = PreparedNetwork(case.network, parameters, case.x)
        free = relax(net, net.zero_states(), Phase(2000, 1e-15, "even-odd")).states
        return case.network.loss_value(parameters, free, case.target).sum()

    free = relax(prepared, prepared.zero_states(), Phase(2000, 1e-15, "even-odd")).states
    found = implicit_gradient(prepared, free, case.target, 2000, 1e-13)
    assert found.residual <= 1e-13
    for name, g in found.gradient.items():
        near = {sign: case.parameters | {name: case.parameters[name] + sign * 1e-5} for sign in (1, -1)}
        expected = (settled_loss(near[1]) - settled_loss(near[-1])) / 2e-5
        assert abs(g.sum() - expected) <= 1e-8 * max(1, abs(expected)), name
    arguments = case.network, case.parameters, case.x, case.target
    by_sweeps = eqnp.exact_gradient(*arguments, tolerance=1e-13, schedule="even-odd")
    assert by_sweeps.residual <= 1e-13 < eqnp.exact_gradient(*arguments, steps=100).residual
    for name, g in by_sweeps.gradient.items():
        np.testing.assert_allclose(g, found.gradient[name], rtol=1e-9)
    damped = eqnp.exact_gradient(*arguments, steps=200, tolerance=1e-13, omega=0.5)
    assert damped.residual <= 1e-13, "free steps and adjoint, both damped from the start"


# ---- every mistake on a graph is noticed


def without_a_skip(edges_of):
    """Return the edges into a state without the last skip."""
    return tuple(edges[:1] for edges in edges_of)


def twice(gradient):
    """Return a derivative whose skips carry the bias of their layer again."""

    def wrong(network, e, s, v, winner):
        found = gradient(network, e, s, v, winner)
        edge = network.network.edges[e]
        first = network.network.edges[network.network.into[edge.upper - 1][0]]
        if not edge.bias:
            found[first.bias] = 2 * v.sum(axis=tuple(range(v.ndim - 1)))
        return found

    return wrong


@pytest.mark.parametrize(
    ("shape", "attribute"), [*((shape, "into") for shape in nets.GRAPHS), ("every edge", "out_of")]
)
def test_an_edge_that_is_forgotten_is_noticed(shape, attribute):
    """A drive or a feedback left out: then F is no longer dPhi/ds."""
    case = nets.make(shape)
    derivatives.check_phi(case)
    setattr(case.network, attribute, without_a_skip(getattr(case.network, attribute)))
    with pytest.raises(AssertionError):
        derivatives.check_phi(case)


@pytest.mark.parametrize("shape", ["residual", "every edge"])
def test_a_skip_with_another_stride_or_padding_is_noticed(shape):
    """Everything that looks at the skip's connection alone agrees; loops over the specs do not."""
    case = nets.make(shape)
    e = next(e for e, edge in enumerate(case.network.edges) if isinstance(edge.layer, ConvLayer) and not edge.bias)
    case.network.connections[e].padding += 1
    with pytest.raises((AssertionError, ValueError)):
        derivatives.check_phi(case)


@pytest.mark.parametrize("shape", nets.GRAPHS)
def test_a_bias_that_is_counted_twice_is_noticed(monkeypatch, shape):
    case = nets.make(shape)
    monkeypatch.setattr(engine, "forward_gradient", twice(engine.forward_gradient))
    with pytest.raises(AssertionError):
        derivatives.check_phi(case)


def test_the_contrast_needs_every_edge():
    case = nets.make_settling("residual", "squared_error")
    prepared, free = case.prepare(), case.settle()
    gradient = symmetric_contrast(prepared, free.states, [(1.0, 0.5, free.states)], case.target)
    assert set(gradient) == set(case.parameters)
