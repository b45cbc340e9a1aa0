"""What only a whole run shows of a GPU: `pytest -m gpu`. Where a body can, it runs on the kernels' stand-in as well."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from commands import overrides, run, train_small
from conftest import GPU, make_backend

from eqnp.backends.backend import get_backend, to_host
from eqnp.backends.sharding import thread_map
from eqnp.data import load as load_data
from eqnp.dynamics import Phase, relax
from eqnp.losses import one_hot
from eqnp.prepared import PreparedNetwork
from eqnp.runs.configfile import load
from eqnp.runs.experiment import make_learner
from eqnp.step import step
from eqnp.training import initial_state, train_batch

# By the norm of the difference. In float32 roundings of 1e-7 may switch a winner of a pool within a phase, and then a
# few numbers jump; so phases and updates are compared in float64 as well, where none does.
CLOSE = {"float32": (1e-5, 1e-2), "float64": (1e-12, 1e-9)}  # a step, a phase
UPDATES = 1e-8  # 20 of them, in float64
WAYS = ["digits", "small-ce-symmetric", "small-kp-vf", "small-mse-bptt"]


@pytest.fixture(params=["kernels", *GPU])
def device(request):
    return make_backend(request.param)


def setup(preset, backend, dtype, form="auto"):
    """Return a learner, its initial parameters and images with labels."""
    small = ["dynamics.T1=12", "dynamics.T2=5", "training.batch_size=10", "training.threads=1"]
    small += [f"training.dtype={dtype}", f"training.convolution={form}"]
    config = load(preset, small)
    learner = make_learner(config, (28, 28, 1), 10, backend)
    data = load_data("mnist-small", None, 200, 10)
    images = data.train_images.astype(dtype) / 255
    return learner, initial_state(learner, config.model.gain, dtype), images, data.train_labels


def train(preset, backend, steps, dtype="float32", form="auto"):
    """Return the parameters after ``steps`` updates, on the host."""
    learner, state, x, y = setup(preset, backend, dtype, form)
    with thread_map(1) as run:
        for k in range(steps):
            part = slice(10 * k, 10 * (k + 1))
            state = train_batch(learner, state, x[part], y[part], run)
    return {name: to_host(p) for name, p in state.parameters.items()}


def distance(actual, expected):
    """Return the largest |a - b| / |b| of the arrays, each as one vector: a few winners may switch, not many."""
    pairs = [(to_host(a), to_host(b)) for a, b in zip(actual, expected, strict=True)]
    return max(float(np.linalg.norm(a - b)) / max(1e-3, float(np.linalg.norm(b))) for a, b in pairs)


@pytest.mark.parametrize("dtype", CLOSE)
@pytest.mark.parametrize("preset", WAYS)
def test_a_step_and_phases_are_numpys(device, preset, dtype):
    found = []
    for place in (get_backend(), device):
        learner, state, x, y = setup(preset, place, dtype)
        prepared = PreparedNetwork(learner.network, state.parameters, place.asarray(x[:10]))
        target = place.asarray(one_hot(y[:10], 10, dtype))
        first = step(prepared, prepared.zero_states())
        free = relax(prepared, prepared.zero_states(), learner.phases.T1).states
        nudged = relax(prepared, free, learner.phases.T2, learner.beta, target).states
        phase = Phase(learner.phases.T2, 0.0, "even-odd", 1.6)
        over_relaxed = relax(prepared, free, phase, learner.beta, target).states
        found.append((first, free, nudged, over_relaxed))
    of_step, of_phase = CLOSE[dtype]
    for close, expected, actual in zip((of_step, of_phase, of_phase, of_phase), *found, strict=True):
        assert distance(actual, expected) <= close


@pytest.mark.parametrize("preset", WAYS)
def test_twenty_updates_are_numpys(device, preset):
    actual, expected = (train(preset, place, 20, "float64") for place in (device, get_backend()))
    assert distance(actual.values(), expected.values()) <= UPDATES


@pytest.mark.parametrize("form", ["winograd-2x2", "winograd-4x4"])
@pytest.mark.parametrize("preset", WAYS[1:])
def test_twenty_updates_by_every_form_are_the_direct_ones(preset, form):
    """Where windows tie, and in the first updates many do, rounding must not choose another winner."""
    actual, expected = (train(preset, get_backend(), 20, "float64", each) for each in (form, "direct"))
    assert distance(actual.values(), expected.values()) <= UPDATES


@pytest.mark.gpu
@pytest.mark.parametrize("preset", WAYS)
def test_ten_equal_runs_are_equal_bit_for_bit(preset):
    first, *others = (train(preset, make_backend("cupy"), 6) for _ in range(10))
    for other in others:
        for name, p in first.items():
            np.testing.assert_array_equal(other[name], p)


def test_tf32_is_near_and_never_winograd(cupy):
    exact = train("small-ce-symmetric", cupy, 3)
    rounded = train("small-ce-symmetric", replace(cupy, device=cupy.device.with_tf32()), 3)
    assert 0 < distance(rounded.values(), exact.values()) < 0.05


def test_without_memory_a_run_says_what_would_fit_and_goes_on(cupy, capsys, tmp_path):
    big = overrides(
        "training.batch_size=600",
        "data.train_samples=600",
        "data.test_samples=50",
        "training.epochs=1",
        "training.threads=1",
    )
    arguments = ["train", "digits", "--out", tmp_path / "run", "--backend", "cupy", "--device-memory", "0.06"]
    result = run(capsys, *arguments, *big)
    assert result.code == 7, result.err
    fits = re.search(r"--set (training.batch_size=\d+) would fit", result.err)[1]
    result = run(
        capsys, "train", "--resume", tmp_path / "run", *arguments[4:], *overrides(fits, "data.train_samples=300")
    )
    assert result.code == 0, result.err


def test_a_run_goes_on_on_the_other_backend(cupy, capsys, tmp_path):
    for first, second in (("cupy", "numpy"), ("numpy", "cupy")):
        folder = tmp_path / first
        assert train_small(capsys, folder, "--backend", first, *overrides("training.epochs=1")).code == 0
        result = run(capsys, "train", "--resume", folder, "--backend", second, *overrides("training.epochs=2"))
        assert result.code == 0, result.err
        assert run(capsys, "evaluate", folder, "--backend", first).code == 0


def test_every_command(cupy, capsys, tmp_path):
    """One run on the GPU, and all that can be asked of it there."""
    run_folder, there = tmp_path / "run", ["--backend", "cupy"]
    assert train_small(capsys, run_folder, *there, "--tf32", *overrides("training.epochs=1")).code == 0
    quick = [*there, "--samples", "0:6"]
    for arguments, expected in (
        (["evaluate", run_folder, *there, "--device", "0"], "error"),
        (["check", run_folder, *quick], "EP against BPTT"),
        (["check", run_folder, *quick, "--settle", *overrides("dynamics.schedule=even-odd")], "advice"),
        (["states", run_folder, *quick, "--out", tmp_path / "states.h5"], "states.h5"),
        (["bench", run_folder / "config.toml", *there, "--runs", "1", "--steps", "2"], "in CuPy's pool"),
        (["doctor"], "cupy         available"),
    ):
        result = run(capsys, *arguments)
        assert result.code == 0, result.err
        assert expected in result.out, result.out
