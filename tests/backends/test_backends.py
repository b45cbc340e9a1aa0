"""The same library on another backend: training, evaluation, BPTT and checkpoints, with no array going astray."""

from __future__ import annotations

import re
import sys
import tracemalloc
from functools import partial

import numpy as np
import pytest
import standin
from commands import assert_fails, run
from conftest import make_backend
from fakecuda import CUDADriverError

from eqnp import dynamics
from eqnp.analysis.settling import check_settling
from eqnp.analysis.theorem import check_bias, check_steps
from eqnp.analysis.trajectories import record
from eqnp.backends.backend import array_module, get_backend, to_host
from eqnp.backends.sharding import thread_map
from eqnp.data import Augmentation, Batches
from eqnp.data import load as load_data
from eqnp.dynamics import Phase, Phases, relax
from eqnp.errors import BackendError, OutOfMemoryError, memory_errors
from eqnp.estimators import estimate
from eqnp.losses import one_hot
from eqnp.prepared import Moves, PreparedNetwork, PreparedWeights
from eqnp.runs.configfile import load
from eqnp.runs.environment import describe_environment
from eqnp.runs.experiment import from_content, make_learner, to_content
from eqnp.stencils import symmetric
from eqnp.step import Memory, step, sweep
from eqnp.training import evaluate, initial_state, train_epoch

NUMPY = get_backend("numpy")
WAYS = [
    [],
    ["model.loss=squared_error", "training.estimator=one-sided"],
    ["model.loss=cross_entropy", "training.estimator=random-sign", "dynamics.tolerance=1e-3"],
    ["model.kind=vector-field", "model.layers.0.pool=average"],
    ["model.kind=vector-field", "training.common_update=true", "model.layers.1.keep=0.8"],
    ["model.kind=vector-field", "model.feedback_winners=forward", "training.estimator=four-point"],
    ["model.kind=vector-field", "training.nudging=asymmetric", "training.estimator=one-sided"],
    ["model.kind=vector-field", "training.nudging=asymmetric", "dynamics.schedule=even-odd", "model.layers.1.keep=0.8"],
    ["training.algorithm=bptt", "model.activation=tanh"],
    ["dynamics.schedule=even-odd", "model.layers.1.keep=0.7"],
    ["dynamics.schedule=even-odd", "dynamics.omega=1.6"],
    ["dynamics.schedule=up-down", "model.layers.1.keep=0.8"],
    ["training.algorithm=bptt", "model.kind=vector-field", "model.layers.0.keep=0.8", "model.activation=sigmoid"],
    ["optimizer.name=adam", "optimizer.momentum=0", "model.activation=centered_hard_sigmoid"],
    ["optimizer.nesterov=true", "optimizer.clip_norm=0.1", "model.activation=relu6"],
    ["optimizer.average=0.9", "optimizer.schedule=one-cycle", "optimizer.warmup=0.5", "training.label_smoothing=0.1"],
    ["model.activation=relu", "dynamics.schedule=even-odd", "dynamics.omega=1.6", "optimizer.clip_norm=0.1"],
    ["training.estimator=circle", "model.activation=tanh", "model.layers.0.pool=average", "model.layers.1.keep=0.8"],
    [
        "training.estimator=circle",
        "dynamics.points=6",
        "model.activation=sigmoid",
        "model.layers=[{conv=3,kernel=3},{conv=4,kernel=3,stride=2,skips=[{source=0,stride=2,kernel=5}]},{dense=10}]",
        "model.loss=cross_entropy",
        "dynamics.beta=0.1",
        "dynamics.schedule=even-odd",
    ],
]


def small(extra):
    layers = "model.layers=[{conv=3,kernel=5,stride=2,padding=1,pool='max'},{dense=12},{dense=10}]"
    sizes = ["dynamics.T1=5", "dynamics.T2=3", "training.batch_size=8", "training.threads=1", "training.dtype=float64"]
    return load("digits", [layers, *sizes, *extra])


def batches(count=24, in_order=False):
    data = load_data("mnist-small", None, count, 10)
    return Batches(
        data.train_images,
        data.train_labels,
        8,
        dtype=np.float64,
        augmentation=Augmentation(crop=2),
        in_order=in_order,
    )


def train(backend, extra):
    config = small(extra)
    learner = make_learner(config, (28, 28, 1), 10, backend)
    with thread_map(1) as run:
        *_, state = train_epoch(learner, initial_state(learner, 1.5, "float64"), batches(), run)
    return learner, state


@pytest.mark.parametrize("extra", WAYS, ids=" ".join)
def test_training_is_the_same_as_on_numpy(tier, extra):
    learner, state = train(tier, extra)
    _, expected = train(NUMPY, extra)
    for name, p in state.parameters.items():
        assert array_module(p) is tier.xp, f"{name} lives elsewhere"
        np.testing.assert_allclose(to_host(p), expected.parameters[name], rtol=1e-9, atol=1e-12, err_msg=name)
    assert state.tally.mistakes == expected.tally.mistakes
    with thread_map(1) as run:
        assert evaluate(learner, state.parameters, batches(in_order=True), run).samples == 24


@pytest.mark.parametrize("extra", [[], ["model.kind=vector-field"]], ids=" ".join)
def test_checks_are_the_same_as_on_numpy(tier, extra):
    found = []
    for place in (tier, NUMPY):
        config = small([*extra, "model.loss=squared_error"])
        learner = make_learner(config, (28, 28, 1), 10, place)
        x, labels = batches(in_order=True).batch(0, 0)
        arguments = (
            learner.network,
            initial_state(learner, 1.5, "float64").parameters,
            place.asarray(x),
            place.asarray(one_hot(labels, 10, np.float64)),
        )
        steps = check_steps(*arguments, 6, 3, 0.1)
        bias = check_bias(*arguments, 0.1, 300)
        settling = check_settling(*arguments, ("synchronous", 1.0, 5, 5), 0.1, 60)
        found.append((steps, bias, *(settling[each] for each in ("even-odd", "over-relaxed", "configured"))))
    for own, expected in zip(*found, strict=True):
        assert_close(own, expected, "")


def assert_close(own, expected, where):
    """Compare nested numbers and host arrays."""
    if isinstance(expected, dict):
        assert own.keys() == expected.keys()
        for key, value in expected.items():
            assert_close(own[key], value, f"{where}/{key}")
    elif isinstance(expected, str):
        assert own == expected
    else:
        np.testing.assert_allclose(own, expected, rtol=1e-4, atol=1e-7, err_msg=where)


def test_a_checkpoint_of_one_backend_goes_on_on_another(backend):
    learner, state = train(backend, WAYS[0])
    content = to_content(state)
    assert all(isinstance(p, np.ndarray) for p in content["parameters"].values())
    other = make_learner(small(WAYS[0]), (28, 28, 1), 10, NUMPY)
    restored = from_content(content, other, initial_state(other, 1.5, "float64"))
    back = from_content(to_content(restored), learner, initial_state(learner, 1.5, "float64"))
    for name, p in state.parameters.items():
        np.testing.assert_array_equal(to_host(back.parameters[name]), to_host(p))


def test_the_configured_omega_reaches_gradients_evaluation_and_recorded_states():
    found = {}
    for omega in (1.0, 1.6):
        learner = make_learner(
            small(["dynamics.schedule=even-odd", f"dynamics.omega={omega}", "dynamics.T2=5"]), (28, 28, 1), 10, NUMPY
        )
        parameters = initial_state(learner, 1.5, "float64").parameters
        x, labels = batches(in_order=True).batch(0, 0)
        target, stencil = one_hot(labels, 10, np.float64), symmetric(learner.beta)
        weights = PreparedWeights(learner.network, parameters)
        own = learner.gradient(weights, x, target, stencil, None)
        phases = Phases(5, 5, schedule="even-odd", omega=omega)
        expected = estimate(learner.network, parameters, x, target, stencil, phases)
        for name, g in expected.gradient.items():
            np.testing.assert_array_equal(own.gradient[name], g)
        with thread_map(1) as run:
            tally = evaluate(learner, parameters, batches(8, in_order=True), run)
        assert tally.residual == expected.free.residual
        recorded = record(learner, parameters, x, labels)["phases"]
        assert recorded["free"]["residual"] == expected.free.residual
        np.testing.assert_array_equal(recorded["plus"]["s1"][-1], expected.nudged[0].states[0])
        found[omega] = expected.free.residual
    assert found[1.0] != found[1.6]


def test_recorded_states_are_on_the_host(backend):
    learner, state = train(backend, WAYS[0])
    x, labels = batches(in_order=True).batch(0, 0)
    content = record(learner, state.parameters, x, labels, {0, 2})
    assert isinstance(content["phases"]["plus"]["s1"], np.ndarray)
    assert content["phases"]["plus"]["s1"].shape == (2, 8, 6, 6, 3)


@pytest.mark.parametrize("name", ["standin", "kernels"])
def test_no_host_read_inside_a_phase(name):
    """Steps read nothing back; a phase reads its residual once, and with a tolerance after every so many steps."""
    device = make_backend(name)
    learner, state = train(device, WAYS[0])
    x = device.asarray(batches(in_order=True).batch(0, 0)[0])
    prepared = PreparedNetwork(learner.network, state.parameters, x)
    for tolerance, every, expected in ((0.0, 1, 1), (1e-300, 1, 10), (1e-300, 4, 3)):
        standin.reads[0] = 0
        relax(prepared, prepared.zero_states(), Phase(10, tolerance, every=every))
        assert standin.reads[0] == expected


@pytest.mark.parametrize("extra", [[], ["model.loss=squared_error"], ["model.kind=vector-field"]], ids=" ".join)
@pytest.mark.parametrize("way", dynamics.WAYS)
def test_steps_by_kernels_allocate_nothing(extra, way):
    """Once the buffers are there. A nudged step with a softmax makes two numbers for every sample."""
    device = make_backend("kernels")
    learner, state = train(device, extra)
    data = batches(in_order=True)
    x, labels = (np.concatenate([data.batch(0, 0)[k]] * 400) for k in (0, 1))
    x, target = device.asarray(x), device.asarray(one_hot(labels, 10, np.float64))
    prepared = PreparedNetwork(learner.network, state.parameters, x)
    buffers = [[s.copy() for s in prepared.zero_states()] for _ in range(2)]
    _, winners = prepared.drives(buffers[0])

    schedule, omega = dynamics.WAYS[way]
    by_sweeps = partial(sweep, prepared, prepared.colours, Memory(winners))
    move = partial(step, prepared) if schedule == "synchronous" else by_sweeps

    def steps(count, *nudging):
        for t in range(count):
            move(buffers[t % 2], *nudging, moves=Moves(omega, buffers[1 - t % 2]))

    for nudging, allowed in (((), 0), ((0.5, target), 3 * 8 * len(x))):
        steps(2, *nudging)
        tracemalloc.start()
        steps(10, *nudging)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        # NumPy's own buffer for a sum with broadcasting has 64 KiB.
        assert peak < 90_000 + allowed < min(s.nbytes for s in buffers[0]), f"{peak} bytes"


def test_the_standin_is_strict():
    a = standin.asarray(np.ones(3))
    for wrong in (
        lambda: np.asarray(a),
        lambda: np.add(a, 1),
        lambda: a + np.ones(3),
        lambda: np.ones(3) + a,
        lambda: standin.add(a, np.ones(3)),
        lambda: list(a),
    ):
        with pytest.raises(TypeError):
            wrong()
    assert not hasattr(standin, "linalg")


def test_backends_by_name():
    assert get_backend("numpy").xp is np
    assert get_backend("auto").name in ("numpy", "cupy")
    with pytest.raises(BackendError, match=r"'torch'.*numpy, cupy, auto"):
        get_backend("torch")
    assert get_backend("numpy").available_memory() is None or get_backend("numpy").available_memory() > 1e6


def test_a_run_stays_on_its_device(standin_for_cupy):
    found = get_backend("cupy", device=1)
    assert found.xp.cuda.Device().id == 1 and describe_environment("cupy")["gpu"] == "GPU 1"
    get_backend("cupy", device=0)
    assert describe_environment("cupy")["gpu"] == "GPU 0"
    with pytest.raises(BackendError, match=r"--device 2: this machine has 2 GPU"):
        get_backend("cupy", device=2)


@pytest.mark.parametrize("missing", ["libcublas", "CUDA headers"])
def test_a_missing_part_of_cuda_is_one_line(standin_for_cupy, monkeypatch, missing):
    def fail(*arguments, **options):
        raise {"libcublas": ImportError, "CUDA headers": RuntimeError}[missing](f"Failed to find {missing}\nPlease ...")

    if missing == "libcublas":
        monkeypatch.setattr(standin.cuda.device, "get_cublas_handle", fail)
    else:
        monkeypatch.setattr(standin, "RawModule", fail)
    with pytest.raises(BackendError, match=rf"\(Failed to find {missing}\).*\[ctk\].*--backend numpy"):
        get_backend("cupy")
    assert get_backend("auto").name == "numpy"


BROKEN = {
    "a folder that an uninstall left": (
        None,
        r"not installed properly: .*cupy is a remnant of an earlier installation; remove",
    ),
    "an empty package": (
        "",
        r"not installed properly: .*cupy is a remnant of an earlier installation; remove it or reinst",
    ),
    "a part of a package": ("__version__ = '14'", r"not installed properly: .*cupy is a remnant of"),
    "CuPy's own message": (
        "raise ImportError('\\n' + '=' * 64 + '\\nCuPy is not correctly installed.\\n\\nIf ...\\n\\nOriginal error:\\n"
        "  ImportError: libcuda.so.1: cannot open shared object file\\n' + '=' * 64)",
        r"cannot be imported \(ImportError: libcuda.so.1: cannot open shared object file\); install it",
    ),
    "a message with a frame": (
        "raise ImportError('\\n====\\nFailed to import CuPy.\\n====')",
        r"\(Failed to import CuPy\.\)",
    ),
    "no message": ("raise ImportError('====')", r"\(ImportError\)"),
    "another error": ("import os; os.nothing", r"not installed properly \(AttributeError: .*nothing.*\); reinstall"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_left_of_cupy_is_one_line(capsys, tmp_path, monkeypatch, what):
    code, words = BROKEN[what]
    (tmp_path / "cupy").mkdir()
    if code is not None:
        (tmp_path / "cupy" / "__init__.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    monkeypatch.chdir(tmp_path)
    result = run(capsys, "train", "--backend", "cupy")
    assert_fails(result, 4, "backend cupy", "--backend numpy")
    assert re.search(words, result.err) and "==" not in result.err, result.err
    assert get_backend("auto").name == "numpy"
    doctor = run(capsys, "doctor")
    assert doctor.code == 0 and re.search(words, doctor.out), doctor.out
    assert [path.name for path in tmp_path.iterdir()] == ["cupy"]
    sys.modules.pop("cupy", None)


@pytest.mark.parametrize(
    "message",
    ["CUDA_ERROR_OUT_OF_MEMORY: out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUBLAS_STATUS_NOT_INITIALIZED"],
)
def test_want_of_memory_beside_the_pool_is_a_memory_error(message):
    with pytest.raises(MemoryError, match=message), memory_errors():
        raise CUDADriverError(message)
    for other in (CUDADriverError("CUDA_ERROR_LAUNCH_FAILED"), OutOfMemoryError("out of memory"), KeyError(message)):
        with pytest.raises(type(other)), memory_errors():
            raise other


def test_peak_memory_is_counted_in_a_pool_of_its_own(standin_for_cupy):
    kept, pool = standin.zeros(1000), standin.get_default_memory_pool()
    pool.set_limit(size=pool.used_bytes() + 8 * 900)
    assert standin_for_cupy.peak_of(lambda: standin.zeros(400) + 1.0) == 2 * 8 * 400
    with pytest.raises(MemoryError):
        standin_for_cupy.peak_of(lambda: standin.zeros(1000))
    assert len(kept) == 1000
