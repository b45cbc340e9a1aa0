"""A number that goes wrong at any layer, phase or step of training ends the run within its epoch, with exit code 6."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from commands import overrides, run, train_small
from learners import batch, learner

from eqnp import training
from eqnp.backends.sharding import serial_map
from eqnp.errors import DivergedError
from eqnp.prepared import PreparedNetwork
from eqnp.runs import checkpoint

LAYERS = 3
NETS = {
    "readout": [],
    "squared error": ["model.loss=squared_error"],
    "vector field": ["model.kind=vector-field", "training.nudging=asymmetric"],
    "relu": ["model.activation=relu6"],
    "even-odd": ["dynamics.schedule=even-odd"],
    "bptt": ["training.algorithm=bptt"],
}
VALUES = {"NaN": math.nan, "infinity": math.inf, "-infinity": -math.inf}
SMALL_NET = "model.layers=[{conv=3,kernel=5,stride=2,pool='max'},{dense=12},{dense=10}]"
BATCHES = 6  # of two epochs


class Injection:
    """Puts a value into one state of one layer, in the ``step``-th move of that layer in batch ``batch``."""

    def __init__(self, monkeypatch, layer, step, batch, value):
        self.layer, self.step, self.batch, self.value = layer, step, batch, value
        self.batches = self.steps = self.done = 0
        self.move, self.train_batch = PreparedNetwork.move, training.train_batch
        monkeypatch.setattr(PreparedNetwork, "move", lambda *arguments, **more: self._move(*arguments, **more))
        monkeypatch.setattr(training, "train_batch", self._train_batch)

    def _train_batch(self, *arguments, **more):
        self.batches, self.steps = self.batches + 1, 0
        return self.train_batch(*arguments, **more)

    def _move(self, network, n, *arguments, **more):
        moved = self.move(network, n, *arguments, **more)
        if n == self.layer and self.batches == self.batch:
            self.steps += 1
            if self.steps == self.step:
                state = moved[0] if isinstance(moved, tuple) else moved
                state.reshape(-1)[1] = self.value
                self.done += 1
        return moved


def settings_of(net):
    return overrides(SMALL_NET, "training.threads=1", "data.train_samples=60", *NETS[net])


def assert_finite(folder):
    content = checkpoint.load(folder / "last.h5", kind="training")
    assert all(np.isfinite(p).all() for p in content["parameters"].values())
    assert math.isfinite(content["progress"]["loss_sum"])
    return content


def assert_diverged(capsys, folder, result, batch):
    """Check exit code, line, and that what was saved is finite and leads on."""
    *_, last = result.err.splitlines()
    assert result.code == 6 and result.out == "" and "Traceback" not in result.err, (result, batch)
    assert last.startswith("eqnp: diverged ") and f"epoch {1 + (batch - 1) // 3}" in last, last
    assert "continues from last.h5" in last
    assert assert_finite(folder)["progress"]["epoch"] == (batch - 1) // 3
    assert run(capsys, "train", "--resume", folder, "--quiet").code == 0


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("net", NETS)
def test_a_state_that_goes_wrong_anywhere_ends_the_run(capsys, tmp_path, monkeypatch, net, value):
    """Drawn: the layer, the step (of the free and of all nudged phases), and the batch."""
    generator = np.random.default_rng([list(NETS).index(net), list(VALUES).index(value)])
    layer, batch = int(generator.integers(LAYERS - (net != "squared error"))), int(generator.integers(1, BATCHES + 1))
    step = int(generator.integers(1, 5 if net == "bptt" else 9))  # 4 free, 2 x 2 nudged
    folder = tmp_path / "run"
    with monkeypatch.context() as patched:
        injection = Injection(patched, layer, step, batch, VALUES[value])
        result = train_small(capsys, folder, *settings_of(net), "--quiet")
    assert injection.done, (layer, step, batch)
    if result.code == 0:  # a bounded activation took an infinity back before it reached a gradient
        assert not math.isnan(VALUES[value]), f"{net}, layer {layer}, step {step}, batch {batch}: nothing was noticed"
        assert_finite(folder)
        return
    assert_diverged(capsys, folder, result, batch)


GROWS = {
    "states": (
        {"forward.0.weight": 1e30, "forward.1.weight": 1e30},
        r"layer 2 of 3 is (NaN|infinite) first, in step 2 of",
    ),
    "a weight": ({"forward.1.weight": math.nan}, "forward.1.weight is NaN"),
    "a bias": ({"forward.2.bias": math.inf}, "forward.2.bias is infinite"),
}


@pytest.mark.parametrize("kind", GROWS)
def test_the_layer_and_the_step_are_named(kind):
    factors, words = GROWS[kind]
    layers = "model.layers=[{conv=3,kernel=5,stride=2},{dense=12},{dense=10}]"
    made = learner([layers, "model.activation=linear", "model.loss=squared_error"])
    state, (x, labels) = training.initial_state(made, 1.0, "float32"), batch(4)
    parameters = {name: p * np.float32(factors.get(name, 1)) for name, p in state.parameters.items()}
    with np.errstate(all="ignore"), pytest.raises(DivergedError, match=f"batch 1: the .* is .* [(]{words}"):
        training.train_batch(made, replace(state, parameters=parameters), x, labels, serial_map)
