"""The method in one file is the judge: the engine has its states after every step, its gradients and its updates."""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import tokenize
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from derivatives import assert_derivative, difference
from nets import direction, dot, moved
from tolerances import ONE_FILE, relative_error

from eqnp import from_scratch
from eqnp.architecture import Architecture
from eqnp.connections.layers import ConvLayer, DenseLayer
from eqnp.dynamics import Phases, relax
from eqnp.estimators import estimate
from eqnp.losses import one_hot
from eqnp.networks import SymmetricNetwork
from eqnp.optim import SGD
from eqnp.prepared import PreparedNetwork
from eqnp.stencils import symmetric

SOURCE = Path(from_scratch.__file__).read_text()
CLASSES, SAMPLES, UPDATES = 4, 3, 3
NETS = {  # size and channels of the images, padding, then channels and kernel of every layer
    "one layer": ((9, 8, 2), 0, (3, (3, 2))),
    "unpadded": ((15, 12, 2), 0, (3, (4, 3)), (4, (2, 2))),
    "padded": ((11, 14, 1), 1, (4, (3, 3)), (3, (2, 3))),
    "three layers": ((17, 19, 1), 1, (3, (3, 3)), (4, (3, 2)), (3, (2, 2))),
}
MISTAKES = {
    "the feedback's sign": ("dphi[-1] + feedback", "dphi[-1] - feedback"),
    "the nudge's sign": ("- beta * dl_ds", "+ beta * dl_ds"),
    "1 / beta": ("/ (2 * BETA)", "/ BETA"),
    "both nudged phases the same": ("free, T2, -BETA, y)", "free, T2, BETA, y)"),
    "the readout's sign": ("-beta * (readout", "beta * (readout"),
    "a hard sigmoid": ("np.clip(layer / 2", "np.clip(layer"),
    "a flipped kernel in the feedback": ("g @ w[i, j].T", "g @ w[-1 - i, -1 - j].T"),
    "a flipped kernel in the gradient": ("dw[i, j] =", "dw[-1 - i, -1 - j] ="),
    "another place than the winner's": ("(winner == k)", "(winner == k ^ 1)"),
    "the last of equal places": (
        "np.argmax([place >= p - margin for place in places]",
        "3 - np.argmax([place >= p - margin for place in places[::-1]]",
    ),
    "a margin far above rounding": ("1e-12 * bound", "1e-3 * bound"),
    "the bias's gradient": ("g.sum(axis=(0, 1, 2))", "2 * g.sum(axis=(0, 1, 2))"),
    "no momentum": ("MU * velocity", "0 * velocity"),
}


def edited(*changes):
    """Return the file as a module of its own, after changes of its text (old, new)."""
    text = SOURCE
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    module = ModuleType("edited")
    exec(compile(text, "edited", "exec"), module.__dict__)
    return module


class Case:
    """A network of the engine by its direct form, parameters and a batch; ``file`` is the one file at its padding."""

    def __init__(self, name, *changes):
        shape, padding, *layers = NETS[name]
        self.file = edited(("\nD = 0 ", f"\nD = {padding} "), *changes)
        convs = [ConvLayer(k, kernel, padding=padding, pool="max") for k, kernel in layers]
        architecture = Architecture(shape, (*convs, DenseLayer(CLASSES)), "half_hard_sigmoid", "cross_entropy_readout")
        self.network = SymmetricNetwork(architecture, convolution="direct")
        generator = np.random.default_rng(2)
        self.theta = architecture.initial_parameters(generator, gain=2.0, dtype=np.float64)
        self.theta["readout.weight"] *= 8  # a strong nudge: its gradient is a difference far above rounding
        for n in range(len(layers)):
            self.theta[f"forward.{n}.bias"] += 0.5  # most neurons are off the bounds, some are not
        self.x = generator.random((SAMPLES, *shape))
        self.x[2, 2:8] = 0.3  # the inside of a digit: windows that tie
        self.y = one_hot(generator.integers(0, CLASSES, SAMPLES), CLASSES, np.float64)

    def random_states(self):
        generator = np.random.default_rng(3)
        return [self.x, *(generator.uniform(0.1, 0.9, s.shape) for s in self.network.zero_states(self.x))]

    def by_engine(self):
        """Yield (what, array): states after every step of the three phases, and per update gradient and parameters."""
        T1, T2, beta = self.file.T1, self.file.T2, self.file.BETA
        prepared, free = PreparedNetwork(self.network, self.theta, self.x), self.network.zero_states(self.x)
        for phase, steps, strength in (("free", T1, 0.0), ("+", T2, beta), ("-", T2, -beta)):
            states = free
            for t in range(1, steps + 1):
                states = relax(prepared, states, 1, strength, self.y if strength else None).states
                yield from named(f"{phase} phase, step {t}", states)
            free = free if strength else states
        theta, optimizer = self.theta, SGD(self.file.MU)
        velocity, rates, decays = optimizer.init(theta), dict.fromkeys(theta, self.file.ETA), dict.fromkeys(theta, 0.0)
        for update in range(1, UPDATES + 1):
            total = estimate(self.network, theta, self.x, self.y, symmetric(beta), Phases(T1, T2)).gradient
            gradient = {name: g / SAMPLES for name, g in total.items()}
            yield from named(f"gradient {update}", {name: g.copy() for name, g in gradient.items()})
            theta, velocity = optimizer.update(gradient, velocity, theta, rates, decays)
            yield from named(f"update {update}", theta)

    def by_file(self):
        """Yield the same from the one file."""
        file, free = self.file, self.file.zero_states(self.theta, self.x)
        for phase, steps, beta in (("free", file.T1, 0.0), ("+", file.T2, file.BETA), ("-", file.T2, -file.BETA)):
            s = free
            for t in range(1, steps + 1):
                s = file.relax(self.theta, s, 1, beta, self.y)
                yield from named(f"{phase} phase, step {t}", s[1:])
            free = free if beta else s
        theta, velocity = self.theta, {}
        for update in range(1, UPDATES + 1):
            gradient = file.estimate(theta, self.x, self.y)
            yield from named(f"gradient {update}", gradient)
            theta, velocity = file.sgd(theta, velocity, gradient, file.ETA)
            yield from named(f"update {update}", theta)

    def disagreement(self):
        """Return the largest relative difference between engine and file, and where it is."""
        by_file, largest = dict(self.by_file()), (0.0, "")
        for what, expected in self.by_engine():
            assert by_file[what].shape == expected.shape, what
            largest = max(largest, (relative_error(by_file.pop(what), expected), what))
        assert not by_file, f"the engine has no {list(by_file)}"
        return largest


def named(what, arrays):
    """Yield (what and which, array) for a dictionary of parameters or a list of states."""
    items = arrays.items() if isinstance(arrays, dict) else enumerate(arrays, start=1)
    yield from ((f"{what}, {name}", a) for name, a in items)


@pytest.mark.parametrize("name", NETS)
def test_engine_and_file_are_equal(name):
    error, where = Case(name).disagreement()
    assert error <= ONE_FILE, where


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_either_would_be_seen(mistake):
    error, _ = Case("three layers", MISTAKES[mistake]).disagreement()
    assert error > 1e3 * ONE_FILE


@pytest.mark.parametrize("name", NETS)
def test_the_energy_is_that_of_the_engines_phi(name):
    case = Case(name)
    s = case.random_states()
    phi = case.network.primitive_function(case.theta, case.x, s[1:])
    expected = sum((layer**2).sum(axis=(1, 2, 3)) for layer in s[1:]) - phi
    assert relative_error(case.file.energy(case.theta, s), expected) <= ONE_FILE


@pytest.mark.parametrize("name", NETS)
def test_the_derivatives_are_those_of_the_energy(name):
    """Of Phi_beta = |s|^2 - E - beta l, by the states at beta = 0 and by the parameters."""
    case = Case(name)
    file, theta, s = case.file, case.theta, case.random_states()

    def phi(theta, s, beta):
        l = -np.log((file.readout(theta, s) * case.y).sum(axis=1))  # noqa: E741
        return sum((layer**2).sum() for layer in s[1:]) - (file.energy(theta, s) + beta * l).sum()

    states = dict(enumerate(s[1:]))
    along = direction(states)
    dphi_ds = dict(enumerate(file.dphi_ds(theta, s, file.drive(theta, 0, s)[0])))
    expected = difference(lambda h: phi(theta, [case.x, *moved(states, along, h).values()], 0.0), 0.0, 1.0)
    assert_derivative(dot(dphi_ds, along), expected)

    along = direction(theta)
    expected = difference(lambda h: phi(moved(theta, along, h), s, 0.3), 0.0, 1.0)
    assert_derivative(dot(file.dphi_dtheta(theta, s, 0.3, case.y), along), expected)


@pytest.mark.parametrize(("kernel", "channels", "k"), [(5, 1, 8), (3, 3, 7), (5, 16, 32), (3, 64, 64)])
def test_windows_of_one_colour_choose_their_first_place(kernel, channels, k):
    """There all places are equal in exact arithmetic, and no product may tell them apart by rounding."""
    generator = np.random.default_rng(0)
    theta = {"forward.0.weight": generator.standard_normal((kernel, kernel, channels, k))}
    theta["forward.0.bias"] = generator.standard_normal(k)
    x = np.tile(generator.random((2, 1, 1, channels)), (1, 15, 18, 1))
    assert (from_scratch.drive(theta, 0, [x])[1] == 0).all()


def test_a_later_place_wins_by_more_than_rounding():
    generator, shape = np.random.default_rng(0), (2, 6, 8, 3)
    rounded = generator.uniform(1, 1 + 1e-15, shape)
    assert (from_scratch.pool(rounded, np.full(3, 1e-12))[1] == 0).all()
    rounded[:, 1::2, ::2] += 1e-11
    assert (from_scratch.pool(rounded, np.full(3, 1e-12))[1] == 2).all()


def test_it_has_two_hundred_lines_and_a_third_of_them_explain():
    tree, tokens = ast.parse(SOURCE), tokenize.generate_tokens(io.StringIO(SOURCE).readline)
    explaining = {token.start[0] for token in tokens if token.type == tokenize.COMMENT}
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.FunctionDef) and ast.get_docstring(node):
            explaining |= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    count = len(SOURCE.splitlines())
    assert count <= 200 and len(explaining) >= count / 3


@pytest.mark.slow
def test_it_learns_the_digits():
    """As a reader runs it: a line an epoch, then the final test error below 8 %."""
    command = [sys.executable, "-m", "eqnp.from_scratch"]
    output = subprocess.run(command, capture_output=True, text=True, check=True, timeout=1200).stdout
    epochs = re.findall(r"^epoch \d+ of \d+: test error ([\d.]+) %", output, re.MULTILINE)
    final = re.search(r"^final test error: ([\d.]+) %", output, re.MULTILINE)[1]
    assert len(epochs) == from_scratch.EPOCHS and epochs[-1] == final
    assert float(final) < 8
