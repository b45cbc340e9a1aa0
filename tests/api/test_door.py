"""What ``import eqnp`` offers: names, runs, arrays of a user, networks from every source, wrong calls."""

from __future__ import annotations

import ast
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import standin
from commands import run as command

import eqnp
from eqnp.errors import CheckpointError, ConfigurationError

SMALL = {
    "data.train_samples": 60,
    "data.test_samples": 40,
    "model.layers": [{"conv": 3, "kernel": 5, "stride": 2, "pool": "max"}, {"dense": 10}],
    "dynamics.T1": 4,
    "dynamics.T2": 2,
    "training.epochs": 2,
    "training.batch_size": 20,
    "training.threads": 2,
}
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (12, 28, 28, 1), np.uint8)


def says(error, *words):
    """Return a context in which ``error`` is raised with all ``words`` in one line."""
    return pytest.raises(error, match="^" + "".join(f"(?=.*{word})" for word in words) + "[^\n]*$")


# ---- names


def test_the_stub_offers_what_the_module_offers():
    tree = ast.parse((Path(eqnp.__file__).parent / "__init__.pyi").read_text())
    stub = {alias.name: node.module for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert sorted(stub) == eqnp.__all__ == sorted(eqnp.__all__)
    for name, module in stub.items():
        assert getattr(eqnp, name) is getattr(sys.modules[module], name), name
        assert getattr(eqnp, name).__doc__, name


def test_import_is_light_and_names_come_when_they_are_used():
    code = (
        "import sys, eqnp\n"
        "heavy = {'numpy', 'scipy', 'h5py', 'cupy', 'matplotlib', 'sklearn', 'click'}\n"
        "print(heavy & set(sys.modules), set(eqnp.__all__) <= set(dir(eqnp)))\n"
        "for name in eqnp.__all__: getattr(eqnp, name)\n"
        "print({'cupy', 'matplotlib', 'sklearn', 'click'} & set(sys.modules), callable(eqnp.bptt))\n"
        "from eqnp import *\n"
        "print(callable(train))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:3] == ["set() True", "set() True", "True"]
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = eqnp.trian


# ---- runs


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return eqnp.train("digits", SMALL, out=tmp_path_factory.mktemp("door") / "run")


def test_a_run_is_that_of_the_command(trained, tmp_path, capsys):
    words = [word for key, value in SMALL.items() if key != "model.layers" for word in ("--set", f"{key}={value}")]
    words += ["--set", "model.layers=[{conv=3,kernel=5,stride=2,pool='max'},{dense=10}]"]
    assert command(capsys, "train", "digits", "--out", tmp_path / "run", *words).code == 0
    other = eqnp.open_run(tmp_path / "run")
    assert other.config == trained.config
    assert all((other.parameters[name] == w).all() for name, w in trained.parameters.items())
    assert [row["test_loss"] for row in other.metrics] == [row["test_loss"] for row in trained.metrics]
    shown = command(capsys, "evaluate", trained.path).out
    assert f"{trained.evaluate('test').error:.2f} %" in shown


def test_training_is_quiet_unless_asked(tmp_path, capfd):
    lines = []
    eqnp.train("digits", SMALL | {"training.epochs": 1}, out=tmp_path / "a")
    assert capfd.readouterr() == ("", "")
    eqnp.train("digits", SMALL | {"training.epochs": 1}, out=tmp_path / "b", report=lines.append)
    assert capfd.readouterr() == ("", "") and any(line.startswith("epoch 1/1") for line in lines)


def test_predictions_are_those_of_the_outputs_and_of_the_states(trained):
    last = eqnp.open_run(str(trained.path), checkpoint="last")
    assert last.state.epoch == 2 and last.checkpoint == "last"
    assert repr(last) == f"<Run {trained.path}: last.h5 after 2 epochs, digits on mnist-small>"
    outputs, states = last.outputs(PIXELS), last.states(PIXELS)
    assert outputs.shape == (12, 10) and [s.shape for s in states] == [(12, 6, 6, 3)]
    assert (last.predict(PIXELS) == outputs.argmax(axis=1)).all()
    np.testing.assert_array_equal(last.outputs(PIXELS[..., 0]), outputs)  # (N, H, W) are images of one channel
    np.testing.assert_allclose(last.outputs(PIXELS / 255), outputs, rtol=1e-5)
    np.testing.assert_array_equal(last.outputs(standin.asarray(PIXELS)), outputs)
    labels = last.predict(PIXELS)
    assert last.evaluate(data=(PIXELS, labels)).error == 0
    assert last.evaluate(data=(PIXELS, np.eye(10)[labels])).mistakes == 0


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (PIXELS[0], [r"\(28, 28, 1\)", r"images\[None\]"]),
        (PIXELS.transpose(0, 3, 1, 2), ["channels come last", "transpose"]),
        (PIXELS.reshape(12, 784), [r"reshape\(-1, 28, 28, 1\)"]),
        (PIXELS.astype(float), ["whole numbers from 0 to 255", "astype"]),
        (PIXELS.astype(int), ["int64", "uint8 pixels or floats"]),
        (PIXELS / 127.5 - 1, ["from -1 to 1", "pixels / 255"]),
        (np.where(np.arange(12).reshape(12, 1, 1, 1) == 3, np.nan, PIXELS / 255), ["NaN", "sample 3"]),
        (PIXELS[:0], ["at least one sample"]),
        (PIXELS.tolist(), ["an array", "list"]),
    ],
)
def test_images_that_a_run_does_not_take(trained, images, words):
    with says(ValueError, *words):
        trained.predict(images)


def test_what_is_no_run_and_no_setting(trained, tmp_path):
    with says(ConfigurationError, "no such folder"):
        eqnp.open_run(tmp_path / "none")
    with says(ConfigurationError, "best or last"):
        eqnp.open_run(trained.path, checkpoint="first")
    with says(ConfigurationError, "settings: training.epoch=2", "epochs"):
        eqnp.train("digits", {"training.epoch": 2})
    with says(ConfigurationError, "has a run already"):
        eqnp.train("digits", SMALL, out=trained.path)
    empty = eqnp.train("digits", SMALL | {"training.epochs": 0}, out=tmp_path / "empty")
    assert empty.checkpoint == "last" and empty.state.epoch == 0 and empty.metrics == []
    with says(CheckpointError, "best.h5"):
        eqnp.open_run(tmp_path / "empty")


# ---- arrays of a user's own


def shades(dtype=np.uint8, samples=90):
    """Images of three shades, and which they are."""
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 3, samples)
    images = (80 * labels[:, None, None] + rng.integers(0, 80, (samples, 8, 7))).astype(np.uint8)
    return (images if dtype == np.uint8 else (images / 255).astype(dtype)), labels


OWN = {"model.layers": [{"conv": 4, "kernel": 3, "pool": "max"}, {"dense": 10}], "training.epochs": 1}
FLAT = {"model.layers": [{"dense": 8}, {"dense": 10}], "training.epochs": 1}


def test_three_classes_of_ones_own(tmp_path, capsys):
    x, y = shades()
    data = (x[:60], y[:60], x[60:], y[60:])
    run = eqnp.train(
        "digits", OWN | {"training.epochs": 12, "training.batch_size": 10}, data=data, out=tmp_path / "run"
    )
    assert run.network.architecture.input_shape == (8, 7, 1) and run.network.architecture.classes == 3
    assert run.evaluate("test").error < 20 and run.evaluate("test").samples == 30
    again = eqnp.open_run(tmp_path / "run")
    np.testing.assert_array_equal(again.predict(x), run.predict(x))
    with says(ConfigurationError, "given in Python", r"open_run\(run, data=...\)", "eqnp.resume"):
        again.evaluate("test")
    assert eqnp.open_run(tmp_path / "run", data=data).evaluate("train").samples == 60
    with says(ValueError, "the run has"):
        eqnp.open_run(tmp_path / "run", data=(x[:60, 1:], y[:60], x[60:, 1:], y[60:]))
    assert command(capsys, "evaluate", tmp_path / "run").code == 2
    assert eqnp.resume(tmp_path / "run", {"training.epochs": 13}, data=data).metrics[-1]["epoch"] == 13
    with says(ConfigurationError, "given in Python"):
        eqnp.resume(tmp_path / "run", {"training.epochs": 14})


def test_a_run_that_is_stopped_is_saved_and_goes_on(tmp_path):
    whole = eqnp.train("digits", SMALL, out=tmp_path / "whole")

    def stop(line):
        if line.startswith("epoch 1/2"):
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt, match="saved in"):
        eqnp.train("digits", SMALL, out=tmp_path / "parts", report=stop)
    parts = eqnp.resume(tmp_path / "parts")
    assert len(parts.metrics) == 2
    assert all((parts.parameters[name] == w).all() for name, w in whole.parameters.items())
    with says(ValueError, "the dataset mnist-small"):
        eqnp.resume(tmp_path / "parts", data=(X, Y, X, Y))


def test_a_run_on_the_stand_in_for_a_gpu(tmp_path, standin_for_cupy):
    run = eqnp.train("digits", SMALL | {"training.epochs": 1}, out=tmp_path / "run", backend="cupy")
    assert isinstance(run.parameters["forward.0.weight"], standin.ndarray)
    assert isinstance(run.predict(PIXELS), np.ndarray) and isinstance(run.states(PIXELS)[0], np.ndarray)
    here = eqnp.open_run(tmp_path / "run")
    np.testing.assert_allclose(run.outputs(PIXELS), here.outputs(PIXELS), atol=1e-5)


def test_labels_and_one_hot_numpy_and_other_arrays_pixels_and_floats_are_the_same(tmp_path):
    x, y = shades()
    first = eqnp.train("digits", OWN, data=(x, y, x, y), out=tmp_path / "a")
    hot = np.eye(3, dtype=np.float32)[y]
    same = [
        (x[..., None], hot, x, hot.astype(bool)),
        tuple(map(standin.asarray, (x, y, x, y.astype(np.uint8)))),
    ]
    for n, data in enumerate(same):
        other = eqnp.train("digits", OWN, data=data, out=tmp_path / f"same-{n}")
        assert all((other.parameters[name] == w).all() for name, w in first.parameters.items())
    f, _ = shades(np.float64)
    floats = eqnp.train("digits", OWN, data=(f, y, f, y), out=tmp_path / "floats")
    assert floats.config.data.normalisation == "none"
    for name, w in first.parameters.items():
        np.testing.assert_allclose(floats.parameters[name], w, atol=1e-5)
    with says(ValueError, "uint8", "trained on floats"):
        floats.predict(x)


def test_features_a_validation_set_and_parts(tmp_path):
    x, y = shades(np.float64)
    flat = x.reshape(len(x), -1)
    settings = FLAT | {"data.validation": 0.2, "data.test_samples": 20}
    run = eqnp.train("digits", settings, data=(flat, y, flat, y), out=tmp_path / "run")
    assert run.evaluate("validation").samples == 18 and run.evaluate("train").samples == 72
    assert run.evaluate("test").samples == 20


X, Y = shades()
F = X / 255


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ((X, Y), ["four arrays", "2 of them"]),
        ((X, Y[:-1], X, Y), ["y_train has 89 labels for 90 samples"]),
        ((X, Y + 1, X, Y), ["y_train has labels from 1 to 3", "start from 0"]),
        ((X, Y, X, Y + 1), ["y_test from 1 to 3", "3 classes"]),
        ((X, Y.astype(float), X, Y), ["y_train of dtype float64", "astype"]),
        ((X, Y[:, None], X, Y), [r"y_train has shape \(90, 1\)", "one-hot"]),
        ((X, np.ones((90, 3)), X, Y), [r"\(90, 3\)", "not one-hot"]),
        ((X, Y, X, np.eye(4)[Y]), ["y_test", r"\(N, 3\)"]),
        ((X, Y, X[:, 1:], Y), [r"x_test has shape \(90, 7, 7\)", r"\(N, 8, 7, 1\)"]),
        ((X, Y, F, Y), ["uint8", "float64", "both"]),
        ((X.astype(float), Y, X, Y), ["x_train is float64", "whole numbers"]),
        ((np.zeros((90, 3, 8, 8), np.uint8), Y, X, Y), ["channels come last"]),
        ((X[0, 0], Y, X, Y), [r"x_train has shape \(7,\)"]),
    ],
)
def test_data_that_leave_a_doubt(data, words):
    with says(ValueError, *words):
        eqnp.train("digits", OWN, data=data)


def test_images_of_features_are_neither_flipped_nor_cropped():
    with says(ConfigurationError, "data.flip"):
        eqnp.train("digits", FLAT | {"data.flip": True}, data=(F.reshape(90, -1), Y, F.reshape(90, -1), Y))


@pytest.mark.parametrize("setting", ["data.name=arrays", "data.shape=[3]", "data.normalisation=none"])
def test_a_command_has_no_arrays(setting, capsys):
    result = command(capsys, "train", "--set", setting)
    assert result.code == 2 and "arrays" in result.err


# ---- networks and gradients


def test_a_network_from_every_source(tmp_path, trained):
    config = eqnp.configure("digits", {"training.seed": 3})
    (tmp_path / "net.toml").write_text('base = "digits"\n[training]\nseed = 3\n')
    sources = ["digits", config, str(tmp_path / "net.toml"), tmp_path / "net.toml"]
    first, *others = [eqnp.build(source, seed=3) for source in sources]
    for network, parameters in [*others, eqnp.build(config)]:
        assert network.architecture == first[0].architecture
        assert all((parameters[name] == w).all() for name, w in first[1].items())
    network, parameters = eqnp.build(first[0].architecture, seed=3, dtype=np.float64)
    assert network.architecture == first[0].architecture and parameters["forward.0.weight"].dtype == np.float64
    assert isinstance(eqnp.build("digits", {"model.kind": "vector-field"})[0], eqnp.VectorFieldNetwork)
    with says(ConfigurationError, "settings"):
        eqnp.build(network.architecture, {"training.seed": 1})
    fresh = eqnp.build(trained.config)[1]
    assert {name: w.shape for name, w in fresh.items()} == {name: w.shape for name, w in trained.parameters.items()}


NETWORK, PARAMETERS = eqnp.build(
    eqnp.Architecture((6, 5, 2), (eqnp.ConvLayer(3, 3, pool="max"), eqnp.DenseLayer(3)), "sigmoid"), dtype="float64"
)
IN, LABELS = RNG.random((4, 6, 5, 2)), np.array([0, 2, 1, 1])


def test_a_vector_field_has_its_exact_gradient_by_asymmetric_nudging():
    layers = (eqnp.ConvLayer(3, 3, pool="max"), eqnp.DenseLayer(5), eqnp.DenseLayer(3))
    network, parameters = eqnp.build(
        eqnp.Architecture((6, 5, 2), layers, "sigmoid", vector_field=True), dtype="float64"
    )
    given = (network, parameters, IN, LABELS, eqnp.symmetric(1e-3), eqnp.Phases(200, 200))
    exact = eqnp.exact_gradient(network, parameters, IN, LABELS).gradient
    plain, own = (eqnp.estimate(*given, nudging=nudging).gradient for nudging in ("plain", "asymmetric"))
    same = eqnp.estimate(*given, contrast=eqnp.asymmetric_contrast).gradient
    for name, g in exact.items():
        np.testing.assert_allclose(own[name], g, rtol=0, atol=1e-5 * abs(g).max())
        np.testing.assert_array_equal(own[name], same[name])
    assert (
        abs(plain["backward.1.weight"] - exact["backward.1.weight"]).max() > 0.1 * abs(exact["backward.1.weight"]).max()
    )
    with says(ConfigurationError, "nudging", "leave contrast out"):
        eqnp.estimate(*given, nudging="asymmetric", contrast=eqnp.common_contrast)
    with says(ConfigurationError, "asymmetric_contrast", "SymmetricNetwork"):
        eqnp.estimate(NETWORK, PARAMETERS, IN, LABELS, eqnp.symmetric(0.1), eqnp.Phases(2, 1), nudging="asymmetric")


def test_gradients_take_labels_or_one_hot_and_agree():
    hot = np.eye(3)[LABELS]
    phases, stencil = eqnp.Phases(100, 60), eqnp.symmetric(0.01)
    exact = eqnp.exact_gradient(NETWORK, PARAMETERS, IN, LABELS)
    estimate = eqnp.estimate(NETWORK, PARAMETERS, IN, LABELS, stencil, phases).gradient
    assert exact.residual < 1e-12
    for name, g in exact.gradient.items():
        np.testing.assert_allclose(estimate[name], g, rtol=1e-2, atol=1e-4)
        np.testing.assert_allclose(eqnp.bptt(NETWORK, PARAMETERS, IN, LABELS, 100, 60)[name], g, atol=1e-9)
        same = eqnp.estimate(NETWORK, PARAMETERS, IN, hot, stencil, phases).gradient
        np.testing.assert_array_equal(same[name], estimate[name])
    free = eqnp.relax(NETWORK, PARAMETERS, IN, eqnp.Phase(100, tolerance=1e-12))
    nudged = eqnp.relax(NETWORK, PARAMETERS, IN, 60, states=free.states, beta=0.1, y=LABELS)
    assert free.steps < 100 and eqnp.relax(NETWORK, PARAMETERS, IN, 100).residual < 1e-10
    assert abs(nudged.states[-1] - hot).sum() < abs(free.states[-1] - hot).sum()


def test_gradients_on_another_backend():
    device = {name: standin.asarray(w) for name, w in PARAMETERS.items()}
    x, y = standin.asarray(IN), standin.asarray(LABELS)
    there = eqnp.bptt(NETWORK, device, x, y, 30, 10)
    here = eqnp.bptt(NETWORK, PARAMETERS, IN, LABELS, 30, 10)
    for name, g in here.items():
        np.testing.assert_allclose(there[name].get(), g, atol=1e-12)
    with says(ValueError, "numpy", "standin"):
        eqnp.bptt(NETWORK, device, IN, LABELS)
    with says(ValueError, "y is an array of numpy, x of standin"):
        eqnp.bptt(NETWORK, device, x, LABELS)


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        (IN[0], LABELS[:1], [r"\(6, 5, 2\)", r"x\[None\]"]),
        (IN.transpose(0, 3, 1, 2), LABELS, ["channels come last"]),
        (IN.astype(np.float32), LABELS, ["float32", "float64"]),
        ((IN * 255).astype(np.uint8), LABELS, ["uint8", "float64"]),
        (IN, LABELS + 1, ["labels from 1 to 3"]),
        (IN, LABELS.astype(float), [r"target has shape \(4,\)", r"\(4, 3\)"]),
        (IN, LABELS[:3], [r"\(3, 3\)", r"\(4, 3\)"]),
        (IN, LABELS.tolist(), ["y", "an array", "list"]),
        (IN.tolist(), LABELS, ["x", "an array", "list"]),
    ],
)
def test_wrong_calls(x, y, words):
    phases = eqnp.Phases(2, 1)
    for gradient in (
        lambda: eqnp.estimate(NETWORK, PARAMETERS, x, y, eqnp.symmetric(0.1), phases),
        lambda: eqnp.bptt(NETWORK, PARAMETERS, x, y, 2, 1),
        lambda: eqnp.exact_gradient(NETWORK, PARAMETERS, x, y, steps=2),
    ):
        with says(ValueError, *words):
            gradient()


def test_what_is_no_stencil_and_no_phases():
    with says(ValueError, "stencil", "eqnp.symmetric"):
        eqnp.estimate(NETWORK, PARAMETERS, IN, LABELS, 0.1, eqnp.Phases(2, 1))
    with says(ValueError, "phases", "eqnp.Phases", "Phase"):
        eqnp.estimate(NETWORK, PARAMETERS, IN, LABELS, eqnp.symmetric(0.1), eqnp.Phase(2))


# ---- parts of a user's own


def test_an_activation_that_forgets_out_is_refused():
    forgets = eqnp.Activation("forgets", "tanh(u)", lambda u, out=None: np.tanh(u), lambda u: 1 - np.tanh(u) ** 2)
    with says(ValueError, "forgets", "out"):
        eqnp.Architecture((4,), (eqnp.DenseLayer(3),), forgets)
    with says(ConfigurationError, "Activation"):
        eqnp.Architecture((4,), (eqnp.DenseLayer(3),), np.tanh)
    with says(ConfigurationError, "Loss"):
        eqnp.Architecture((4,), (eqnp.DenseLayer(3),), loss=eqnp.SquaredError)


def test_an_activation_of_ones_own_with_a_known_name_is_used_and_not_the_known_one(tier):
    half = eqnp.Activation("tanh", "u / 2", _half, lambda u: 0 * u + 0.5)
    architecture = replace(NETWORK.architecture, activation=half)
    network = eqnp.SymmetricNetwork(architecture, means=tier.device)
    parameters = {name: tier.asarray(w) for name, w in PARAMETERS.items()}
    states = eqnp.relax(network, parameters, tier.asarray(IN), 3).states
    here = eqnp.relax(eqnp.SymmetricNetwork(architecture), PARAMETERS, IN, 3).states
    for a, b in zip(states, here, strict=True):
        np.testing.assert_allclose(tier.to_host(a), b, atol=1e-12)


def _half(u, out=None):
    out = u.copy() if out is None else out
    out[...] = u * 0.5
    return out


# ---- data


def test_published_data_as_arrays():
    digits = eqnp.load_data()
    assert digits.train_images.shape == (5000, 28, 28, 1) and digits.train_images.dtype == np.uint8
    assert digits.test_labels.shape == (1000,) and digits.classes == tuple("0123456789")
    with says(ConfigurationError, "mnist-smal", "mnist-small"):
        eqnp.load_data("mnist-smal")
