"""Small networks for the tests: every kind of connection, pooling and loss, in float64, off the kinks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eqnp.architecture import Architecture, ConvLayer, DenseLayer
from eqnp.dynamics import relax
from eqnp.losses import one_hot
from eqnp.networks import SymmetricNetwork
from eqnp.prepared import PreparedNetwork

LOSSES = ("squared_error", "cross_entropy", "cross_entropy_readout")
SHAPES = {
    "dense": ((6,), (DenseLayer(5), DenseLayer(4))),
    "deep dense": ((3, 2, 1), (DenseLayer(5), DenseLayer(4), DenseLayer(6), DenseLayer(3))),
    "max": ((7, 9, 2), (ConvLayer(3, (3, 2), 1, 1, "max"), ConvLayer(4, (2, 2), 1, 0, "max"), DenseLayer(4))),
    "average": ((8, 6, 1), (ConvLayer(3, (3, 3), 1, 1, "average"), DenseLayer(5), DenseLayer(4))),
    "strided": ((9, 8, 2), (ConvLayer(3, (3, 3), 2, 1, "none"), ConvLayer(2, (2, 3), 1, 1, "max"), DenseLayer(4))),
}
NETS = [(shape, loss) for shape in SHAPES for loss in LOSSES]


@dataclass
class Case:
    """A network with parameters, a batch and a target."""

    network: SymmetricNetwork
    parameters: dict
    x: np.ndarray
    target: np.ndarray

    def prepare(self):
        return PreparedNetwork(self.network, self.parameters, self.x)

    def settle(self, steps=2000, tolerance=1e-15):
        prepared = self.prepare()
        return relax(prepared, prepared.zero_states(), steps, tolerance=tolerance)

    def random_states(self, seed=3):
        generator = np.random.default_rng(seed)
        return [generator.uniform(0.1, 0.9, s.shape) for s in self.network.zero_states(self.x)]


def make(shape="max", loss="squared_error", activation="hard_sigmoid", gain=0.25, samples=3, seed=0) -> Case:
    """Return a case with small weights and biases around 1/2, so that states stay inside the clip."""
    input_shape, layers = SHAPES[shape]
    architecture = Architecture(input_shape, layers, activation, loss)
    generator = np.random.default_rng(seed)
    parameters = architecture.initial_parameters(generator, gain, np.float64)
    for name in parameters:
        if name.endswith(".bias") and activation != "tanh":
            parameters[name] += 0.4
    x = generator.uniform(-1, 1, (samples, *input_shape))
    target = one_hot(generator.integers(0, architecture.classes, samples), architecture.classes, np.float64)
    return Case(SymmetricNetwork(architecture), parameters, x, target)


def direction(parameters, seed=11):
    """Return a random direction in the space of parameters."""
    generator = np.random.default_rng(seed)
    return {name: generator.standard_normal(p.shape) for name, p in parameters.items()}


def moved(parameters, along, step):
    """Return parameters moved by ``step`` along a direction."""
    return {name: p + step * along[name] for name, p in parameters.items()}


def dot(gradient, along) -> float:
    """Return the derivative along a direction."""
    return float(sum((g * along[name]).sum() for name, g in gradient.items()))
