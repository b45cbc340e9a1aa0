"""The method in one file judges the engine: the same states after every step, gradients and updates, in float64."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from tolerances import DIRECTIONAL, ONE_FILE, relative_error

from eqnp import from_scratch
from eqnp.architecture import Architecture, ConvLayer, DenseLayer
from eqnp.dynamics import relax
from eqnp.estimators import estimate
from eqnp.losses import one_hot
from eqnp.networks import SymmetricNetwork
from eqnp.optim import SGD
from eqnp.prepared import PreparedNetwork
from eqnp.stencils import symmetric

SOURCE = Path(from_scratch.__file__)
CLASSES, UPDATES = 4, 3
NETS = {  # size and channels of the images, padding, then channels and kernel of every layer
    "one layer": ((9, 8, 2), 0, (3, (3, 2))),
    "unpadded": ((15, 12, 2), 0, (3, (4, 3)), (4, (2, 2))),
    "padded": ((11, 14, 1), 1, (4, (3, 3)), (3, (2, 3))),
    "three layers": ((17, 19, 1), 1, (3, (3, 3)), (4, (3, 2)), (3, (2, 2))),
}


class Case:
    """A network of the engine by its direct form, with parameters and a batch."""

    def __init__(self, name, samples=3):
        shape, self.padding, *layers = NETS[name]
        convs = [ConvLayer(k, kernel, padding=self.padding, pool="max") for k, kernel in layers]
        architecture = Architecture(shape, (*convs, DenseLayer(CLASSES)), "half_hard_sigmoid", "cross_entropy_readout")
        self.network = SymmetricNetwork(architecture, convolution="direct")
        generator = np.random.default_rng(5)
        self.theta = architecture.initial_parameters(generator, gain=1.5, dtype=np.float64)
        for n in range(len(layers)):
            self.theta[f"forward.{n}.bias"] += 0.5  # most neurons are off the bounds, some are not
        self.x = generator.random((samples, *shape))
        self.y = one_hot(generator.integers(0, CLASSES, samples), CLASSES, np.float64)

    def zero_states(self):
        return self.network.zero_states(self.x)

    def of_engine(self, T1, T2, beta, eta, mu):
        """Yield (what, array): states after every step, the gradient, the parameters after every update."""
        prepared = PreparedNetwork(self.network, self.theta, self.x)
        free = self.zero_states()
        for phase, steps, strength, target in (("free", T1, 0, None), ("+", T2, beta, self.y), ("-", T2, -beta, self.y)):
            states = free
            for t in range(steps):
                states = relax(prepared, states, 1, strength, target).states
                yield from ((f"{phase} phase, step {t + 1}, s^{n}", s) for n, s in enumerate(states, 1))
            free = free if target is not None else states
        theta, optimizer = self.theta, SGD(mu)
        state, rates, decays = optimizer.init(theta), dict.fromkeys(theta, eta), dict.fromkeys(theta, 0.0)
        for update in range(UPDATES):
            gradient = estimate(self.network, theta, self.x, self.y, symmetric(beta), T1, T2).gradient
            gradient = {name: g / len(self.x) for name, g in gradient.items()}
            yield from ((f"gradient {update}, {name}", gradient[name].copy()) for name in theta)
            theta, state = optimizer.update(gradient, state, theta, rates, decays)
            yield from ((f"update {update + 1}, {name}", theta[name]) for name in theta)

    def of_file(self, file):
        """Yield the same from the one file."""
        free = [self.x, *self.zero_states()]
        for phase, steps, beta in (("free", file.T1, 0.0), ("+", file.T2, file.BETA), ("-", file.T2, -file.BETA)):
            s = free
            for t in range(steps):
                s = file.relax(self.theta, s, 1, beta, self.y)
                yield from ((f"{phase} phase, step {t + 1}, s^{n}", s[n]) for n in range(1, len(s)))
            free = free if beta else s
        theta, velocity = self.theta, dict.fromkeys(self.theta, 0.0)
        for update in range(UPDATES):
            gradient = {name: g / len(self.x) for name, g in file.estimate(theta, self.x, self.y).items()}
            yield from ((f"gradient {update}, {name}", gradient[name]) for name in theta)
            theta, velocity = file.sgd(theta, velocity, gradient)
            yield from ((f"update {update + 1}, {name}", theta[name]) for name in theta)


def disagreement(name, file, monkeypatch):
    """Return the largest relative difference between engine and file, and where it is."""
    case = Case(name)
    monkeypatch.setattr(file, "D", case.padding)
    found = []
    for (what, expected), (same, actual) in zip(
        case.of_engine(file.T1, file.T2, file.BETA, file.ETA, file.MU), case.of_file(file), strict=True
    ):
        assert what == same and expected.shape == actual.shape
        found.append((relative_error(actual, expected), what))
    return max(found)


@pytest.mark.parametrize("name", NETS)
def test_engine_and_file_are_equal(name, monkeypatch):
    error, where = disagreement(name, from_scratch, monkeypatch)
    print(name, error, where)
    assert error <= ONE_FILE, where
