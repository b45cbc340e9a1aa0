"""The CUDA kernels: compiled for GPUs without one, and run on the CPU against the simple form."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import fakecuda
import numpy as np
import nvrtc
import pytest
import standin
import ties
from conftest import GPU, make_backend
from places import ROOT
from tolerances import ORACLE, WINOGRAD_FORM

from benchmarks.tf32 import Tf32Connection
from eqnp.backends import device
from eqnp.backends.backend import to_host
from eqnp.backends.device import CudaDevice, launch_arguments, source_text
from eqnp.backends.workspace import Workspace
from eqnp.connections.cuda import CudaDense
from eqnp.connections.dense import DenseConnection
from eqnp.connections.forms import FORMS, connect, fastest, suits
from eqnp.connections.layers import ConvLayer
from eqnp.errors import ConfigurationError
from eqnp.ops.activations import ACTIVATIONS
from eqnp.ops.moves import Move

# below, layer: odd sizes, sizes that no tile divides, strides, kernels that are not square
SHAPES = [
    ((9, 12, 4), ConvLayer(5, (3, 3), padding=1, pool="max")),
    ((8, 7, 3), ConvLayer(2, (3, 3), pool="max")),
    ((11, 8, 2), ConvLayer(3, (5, 5), padding=2, pool="max")),
    ((9, 8, 2), ConvLayer(4, (3, 2), stride=2, padding=1, pool="max")),
    ((9, 11, 2), ConvLayer(3, (3, 3), padding=1, pool="average")),
    ((13, 9, 1), ConvLayer(3, (4, 3), stride=3, padding=2, pool="average")),
    ((6, 7, 2), ConvLayer(3, (3, 3), padding=2)),
    ((10, 9, 3), ConvLayer(2, (5, 5), stride=2)),
]
DEVICE = CudaDevice(standin)
CASES = [(below, layer, form) for below, layer in SHAPES for form in FORMS[1:] if suits(form, layer, DEVICE)]
needs_compiler = pytest.mark.skipif(fakecuda.COMPILER is None, reason="no C++ compiler")


@pytest.fixture(params=["kernels", GPU[0]])
def module(request):
    """The stand-in, and CuPy where a GPU answers."""
    return make_backend(request.param).xp


def case_name(case):
    return f"{case[1]} {case[1].pool} on {case[0]} {case[2]}" if isinstance(case, tuple) else None


def every_map(case, dtype, cupy=standin):
    """Return what every map of a connection gives by kernels, and what it should."""
    below, layer, form = case
    generator = np.random.default_rng(1)
    w = generator.standard_normal((*layer.kernel, below[2], layer.channels)).astype(dtype)
    b = generator.standard_normal(layer.channels).astype(dtype)
    s = generator.random((3, *below)).astype(dtype)
    simple, own, space = connect(layer, below, "direct"), connect(layer, below, form, CudaDevice(cupy)), Workspace()
    assert type(own).__module__ in ("eqnp.connections.cuda", "eqnp.connections.cuda_winograd")
    put, found = cupy.asarray, []
    w0, w1, s1 = simple.prepare(w), own.prepare(put(w)), put(s)

    def note(actual, expected):
        found.append((to_host(actual), expected))

    d, winner = simple.drive(w0, b, s)
    note(own.drive(w1, put(b), s1, space)[0], d)
    place = None if winner is None else put(winner)
    if winner is not None:
        note(own.winners(w1, s1, space), winner)
    v = generator.standard_normal(d.shape).astype(dtype)
    v1, feedback = put(v), simple.feedback(w0, v, winner)
    note(own.feedback(w1, v1, place, space), feedback)
    note(own.drive_at_winners(w1, s1, place, space), simple.drive_at_winners(w0, s, winner))
    note(own.weight_gradient(s1, v1, place, space), simple.weight_gradient(s, v, winner))
    note(own.bias_gradient(v1), simple.bias_gradient(v))
    drive, old = (generator.standard_normal(s.shape).astype(dtype) for _ in range(2))
    sigma, out = ACTIVATIONS["half_hard_sigmoid"], put(np.empty_like(s))
    for omega in (1.0, 1.6):
        moved = own.update(w1, v1, place, [put(drive)], Move(sigma, put(old), out, omega, True), space)
        expected = np.empty_like(s)
        Move(sigma, old, expected, omega).take(drive + feedback)
        note(out, expected)
        note(moved, np.abs(to_host(out) - old).max())
    return found


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("case", CASES, ids=case_name)
def test_kernels_are_the_simple_form(case, dtype, module):
    close = (WINOGRAD_FORM if case[-1].startswith("winograd") else ORACLE)[dtype]
    for actual, expected in every_map(case, dtype, module):
        exact = actual.dtype == np.uint8  # winners
        np.testing.assert_allclose(
            actual, expected, rtol=0, atol=0 if exact else close * max(1, np.abs(expected).max())
        )


@needs_compiler
@pytest.mark.parametrize("case", CASES, ids=case_name)
def test_no_thread_meets_another(case, monkeypatch):
    """Whether each has one output or several, and in whatever order threads run, the bits are the same."""
    one = every_map(case, np.float32)
    backwards = SimpleNamespace(
        asarray=standin.asarray, cuda=standin.cuda, RawModule=partial(standin.RawModule, backwards=True)
    )
    monkeypatch.setattr(device, "THREADS", 3)
    monkeypatch.setattr(device, "BLOCKS", 2)
    for cupy in (standin, backwards):
        for (actual, _), (expected, _) in zip(every_map(case, np.float32, cupy), one, strict=True):
            np.testing.assert_array_equal(actual, expected)


GUARDED = """
import sys
sys.path[:0] = {paths!r}
import fakecuda
fakecuda.FUSED += ("-fsanitize=address", "-g")
import numpy as np, standin, test_kernels
for n in map(int, sys.argv[1:]):
    test_kernels.every_map(test_kernels.CASES[n], np.float32)
    print("kept within", n, flush=True)
if not sys.argv[1:]:
    sizes = {{"REAL": "float", "SIGMA": "linear", "SIGMA_RANGE": "linear_range", "OMEGA": 1}}
    a, b = (standin.asarray(np.ones(3000, np.float32)) for _ in range(2))
    test_kernels.DEVICE.kernel("update", "update", sizes)(3001, None, None, a, None, None, None, b, None)
"""


def guarded(*numbers):
    """Run every map of these cases with a compiler that finds reads and writes outside of arrays."""
    found = subprocess.run([fakecuda.COMPILER, "-print-file-name=libasan.so"], capture_output=True, text=True)
    library = found.stdout.strip()
    if not os.path.isabs(library):
        pytest.skip("the compiler has no AddressSanitizer")
    text = GUARDED.format(paths=[str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "connections")])
    environment = os.environ | {"LD_PRELOAD": library, "ASAN_OPTIONS": "detect_leaks=0", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-c", text, *map(str, numbers)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


@needs_compiler
@pytest.mark.parametrize(
    "numbers", [range(0, len(CASES), 5), pytest.param(range(len(CASES)), marks=pytest.mark.slow)], ids=["some", "all"]
)
def test_no_kernel_reads_or_writes_beyond_its_arrays(numbers):
    result = guarded(*numbers)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("kept within") == len(numbers)


@needs_compiler
def test_a_kernel_that_reads_too_far_would_be_found():
    result = guarded()
    assert result.returncode and "heap-buffer-overflow" in result.stderr, result.stderr


@needs_compiler
@pytest.mark.parametrize("form", ["direct", "winograd-2x2", "winograd-4x4"])
@pytest.mark.parametrize("size", [1, 3])
def test_nan_passes_a_maximum_as_it_does_in_the_simple_form(form, size):
    below = (5, 6, 2)
    layer = ConvLayer(3, (size, size), padding=size // 2, pool="max")
    if not suits(form, layer, DEVICE):
        pytest.skip("no such form")
    generator = np.random.default_rng(6)
    w, b = generator.standard_normal((size, size, 2, 3)), np.zeros(3)
    simple, own = connect(layer, below, "direct"), connect(layer, below, form, DEVICE)
    for place in np.ndindex(below[:2]):
        s = generator.random((1, *below))
        s[0, *place, 0] = np.nan
        expected = simple.drive(simple.prepare(w), b, s)[0]
        actual = own.drive(own.prepare(standin.asarray(w)), standin.asarray(b), standin.asarray(s))[0]
        spread = np.isnan(to_host(actual))  # a Winograd form brings it to the whole tile
        assert spread[np.isnan(expected)].all() and (form != "direct" or (spread == np.isnan(expected)).all())


@needs_compiler
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", [*ties.WEIGHTS, "zero", "huge"])
@pytest.mark.parametrize("shape", [(3, 3, 8, 5), (5, 3, 6, 2), (3, 3, 1, 4), (2, 2, 3, 70), (3, 3, 64, 2)], ids=str)
def test_how_weights_spread_rounding_errors(shape, kind, dtype):
    generator = np.random.default_rng(7)
    w = ties.make_weights(kind, shape, generator, dtype)
    w *= {"zero": 0, "huge": dtype(1e30)}.get(kind, 1)
    layer = ConvLayer(shape[3], shape[:2], pool="max")
    for form in ("direct", "winograd-2x2", "winograd-4x4"):
        if suits(form, layer, DEVICE):
            own, simple = (connect(layer, (12, 12, shape[2]), form, means) for means in (DEVICE, None))
            expected = simple.prepare(w).ties.spread
            actual = to_host(own.prepare(standin.asarray(w)).spread)
            np.testing.assert_allclose(actual, expected, rtol=1e-5 if dtype == np.float32 else 1e-12)


@needs_compiler
@pytest.mark.parametrize("case", [case for case in CASES if case[-1] == "direct"], ids=case_name)
def test_tf32_on_a_cpu_is_the_devices(case):
    """What benchmarks measure of TF32 without a GPU is what eqnp asks a GPU for."""
    below, layer, _ = case
    generator = np.random.default_rng(5)
    s, w = (generator.random(shape, np.float32) for shape in ((3, *below), (*layer.kernel, below[2], layer.channels)))
    v, b, found = generator.random((3, *Tf32Connection(below, layer).above), np.float32), np.zeros(layer.channels), []
    on_device = connect(layer, below, "direct", CudaDevice(standin).with_tf32())
    for put, own in ((standin.asarray, on_device), (np.asarray, Tf32Connection(below, layer))):
        prepared, space = own.prepare(put(w)), Workspace()
        d, winner = own.drive(prepared, put(b.astype(np.float32)), put(s), space)
        maps = [to_host(d), to_host(own.feedback(prepared, put(v), winner, space))]
        maps.append(to_host(own.drive_at_winners(prepared, put(s), winner, space)))
        found.append([*maps, to_host(own.weight_gradient(put(s), put(v), winner, space))])
    exact = connect(layer, below, "direct")
    for actual, expected in zip(*found, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=0, atol=2e-6 * np.abs(expected).max())
    assert np.abs(found[0][0] - exact.drive(exact.prepare(w), b.astype(np.float32), s)[0]).max() > 1e-5


@needs_compiler
@pytest.mark.parametrize("form", ["direct", "winograd-2x2", "winograd-4x4"])
def test_kernels_break_ties_as_the_simple_form(form):
    """A state that is the same everywhere: inside, all windows tie, and no rounding tells their places apart."""
    layer, below = ConvLayer(6, (3, 3), padding=1, pool="max"), (12, 12, 5)
    w = np.random.default_rng(2).standard_normal((3, 3, 5, 6)).astype(np.float32)
    for s in (np.zeros((2, *below), np.float32), np.full((2, *below), 0.3, np.float32)):
        winners = []
        for put, place in ((standin.asarray, CudaDevice(standin)), (np.asarray, None)):
            connection = connect(layer, below, form, place)
            drive = connection.drive(connection.prepare(put(w)), put(np.zeros(6, np.float32)), put(s))
            winners.append(to_host(drive[1]))
        np.testing.assert_array_equal(*winners)
        assert (winners[0][:, 2:4, 2:4] == 0).all()


@needs_compiler
@pytest.mark.parametrize("omega", [1.0, 1.6, 0.5])
@pytest.mark.parametrize("sigma", ACTIVATIONS.values(), ids=lambda sigma: sigma.name)
@pytest.mark.parametrize("addends", [1, 2, 3, 5])
def test_the_state_update(sigma, omega, addends):
    generator = np.random.default_rng(3)
    connection = CudaDense((3, 2, 2), (5,), CudaDevice(standin))
    w, v = generator.standard_normal((12, 5)), generator.standard_normal((4, 5))
    *d, old, nudge = generator.standard_normal((addends + 2, 4, 3, 2, 2))
    w1, v1, old1, nudge1, *d1 = map(standin.asarray, (w, v, old, nudge, *d))
    out, expected = standin.empty_like(old1), np.empty_like(old)
    move = Move(sigma, old1, out, omega, measured=True)
    moved = connection.update(w1, v1, None, d1, move, Workspace())
    Move(sigma, old, expected, omega).take(sum(d) + DenseConnection((3, 2, 2), (5,)).feedback(w, v, None))
    np.testing.assert_allclose(to_host(out), expected, rtol=0, atol=1e-14)
    assert moved == abs(out - old1).max()
    assert connection.update(w1, v1, None, d1, replace(move, measured=False), Workspace()) is None
    assert connection.update_last(d1, nudge1, move, Workspace()) == abs(out - old1).max()
    Move(sigma, old, expected, omega).take(sum(d) - nudge)
    np.testing.assert_allclose(to_host(out), expected, rtol=0, atol=1e-14)
    d[-1][0, 0] = np.nan
    nan = [standin.asarray(each) for each in d]
    assert np.isnan(float(connection.update(w1, v1, None, nan, move, Workspace())))


@needs_compiler
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("omega", [1.0, 1.9])
@pytest.mark.parametrize("sigma", ACTIVATIONS.values(), ids=lambda sigma: sigma.name)
def test_the_state_update_keeps_nan_and_the_range(sigma, omega, dtype):
    u = np.append(np.linspace(-9, 9, 37), np.nan).astype(dtype)
    old = sigma.value(u[::-1]).astype(dtype)
    old[np.isnan(old)] = 0.25
    u1, old1, out, expected = standin.asarray(u), standin.asarray(old), standin.asarray(0 * old), np.empty_like(u)
    CudaDense((4,), (2,), CudaDevice(standin)).update_last([u1], None, Move(sigma, old1, out, omega), Workspace())
    Move(sigma, old, expected, omega).take(u)
    np.testing.assert_allclose(to_host(out), expected, rtol=ORACLE[dtype], atol=ORACLE[dtype])  # NaN at the same place
    assert np.isnan(expected).tolist() == [False] * 37 + [True]
    for s in (to_host(out)[:37], expected[:37]):
        assert s.min() >= sigma.low and s.max() <= sigma.high


class Recorder:
    """A device that collects what it is asked to compile."""

    exact = True

    def __init__(self):
        self.sources = {}

    def kernel(self, source, name, macros):
        self.sources[source, tuple(macros.items())] = dict(macros)
        return lambda *arguments: None


def sources(dtype):
    """Return (name, text) of every source, as the shapes above and the paper's second layer compile them."""
    recorder, found = Recorder(), {}
    paper = ((16, 16, 128), ConvLayer(256, (3, 3), padding=1, pool="max"), "winograd-4x4")
    for below, layer, form in (*CASES[::3], paper):
        connection = connect(layer, below, form, recorder)
        for kernels in (
            connection._columns,
            connection._pooling,
            connection._ties,
            getattr(connection, "_winograd", None),
        ):
            if kernels:
                for sigma, omega in (("sigmoid", 1.6), ("half_hard_sigmoid", 1.0)):
                    kernels.get("any", np.dtype(dtype), sigma, omega)
    for sigma in ACTIVATIONS:
        for omega in (1.0, 1.6):
            CudaDense((4,), (2,), recorder)._update.get("update", np.dtype(dtype), sigma, omega)
    for (source, _), macros in recorder.sources.items():
        found[source_text(source, macros)] = source
    assert set(found.values()) == {"columns", "pooling", "ties", "winograd", "update"}
    return found


@pytest.mark.skipif(not nvrtc.available(), reason="nvidia-cuda-nvrtc is not installed")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("architecture", ["compute_80", "compute_90", "compute_100"])
def test_every_source_compiles_for_gpus(architecture, dtype):
    for text, source in sources(dtype).items():
        ptx, log = nvrtc.compile_cuda(text, architecture)
        assert not log, f"{source}: {log}"
        kernels = set(re.findall(r"^KERNEL (\w+)", text, re.MULTILINE))
        assert kernels and kernels == set(re.findall(r"\.entry (\w+)\(", ptx)), source
        assert "atom." not in ptx and "red." not in ptx, f"{source}: atomics do not repeat bit for bit"


@pytest.mark.skipif(not nvrtc.available(), reason="nvidia-cuda-nvrtc is not installed")
def test_transforms_stay_in_registers_and_skip_zeros():
    texts = [t for t, s in sources(np.float32).items() if s == "winograd" and "#define C 128\n" in t]
    (text,) = [t for t in texts if "#define OMEGA 1.0\n" in t]
    ptx, _ = nvrtc.compile_cuda(text, "compute_90")
    assert ".local" not in ptx
    body = ptx[ptx.index(".entry transform_inputs") :].split(".entry")[1]
    # B^T of F(4x4, 3x3) has 22 numbers that are not zero: over both axes 2 * 6 * 22 multiplications, not 2 * 6 * 36.
    assert body.count("fma.rn") + body.count("mul.rn") <= 264
    _, log = nvrtc.compile_cuda(text, "sm_90", "--ptxas-options=-v")
    kept = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", log)
    assert len(kept) == len(re.findall("^KERNEL ", text, re.MULTILINE)) and set(kept) == {("0", "0", "0")}


def test_launch_arguments():
    a = np.zeros((3, 4), np.float32)
    array, none, number, count = launch_arguments(7, (a, None, 5))
    assert array is a and none.nbytes == 8 and none == 0 and (number.dtype, number, count) == (np.uint32, 5, 7)
    with pytest.raises(ValueError, match="contiguous"):
        launch_arguments(7, (a.T,))
    with pytest.raises(ConfigurationError, match=r"lower training.batch_size"):
        launch_arguments(2**31, (a,))


@pytest.mark.parametrize("batch", [(), (3,)], ids=["one", "several"])
@pytest.mark.parametrize("transposed", [(False, False), (True, False), (False, True), (True, True)], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_products_as_cublas_is_asked_for_them(batch, transposed, dtype):
    generator = np.random.default_rng(4)
    m, k, n = 4, 5, 6
    a = generator.standard_normal((*batch, *((k, m) if transposed[0] else (m, k)))).astype(dtype)
    b = generator.standard_normal((*batch, *((n, k) if transposed[1] else (k, n)))).astype(dtype)
    a1, b1, out = map(standin.asarray, (a, b, np.zeros((*batch, m, n), dtype)))
    expected = (a.swapaxes(-1, -2) if transposed[0] else a) @ (b.swapaxes(-1, -2) if transposed[1] else b)
    exact = CudaDevice(standin)
    assert exact.multiply(a1, b1, out, *transposed) is out and exact.exact
    np.testing.assert_allclose(to_host(out), expected, rtol=1e-5 if dtype == np.float32 else 1e-13)
    cublas = standin.cuda.cublas
    assert cublas.compute == (cublas.CUBLAS_COMPUTE_32F if dtype == np.float32 else cublas.CUBLAS_COMPUTE_64F)
    tf32 = exact.with_tf32()
    tf32.multiply(a1, b1, out, *transposed)
    assert cublas.compute == (cublas.CUBLAS_COMPUTE_32F_FAST_TF32 if dtype == np.float32 else cublas.CUBLAS_COMPUTE_64F)
    close, far = (3e-3, 1e-6) if dtype == np.float32 else (1e-13, 0)  # 2^-11 of each factor; doubles stay as they are
    off, scale = np.abs(to_host(out) - expected).max(), np.abs(a).max() * np.abs(b).max() * k
    assert not tf32.exact and far <= off < close * scale


@pytest.mark.parametrize("order", ["C", "F"])
def test_products_of_arrays_in_any_order(order):
    """A pointer says nothing of strides."""
    generator = np.random.default_rng(8)
    connection, simple = CudaDense((6,), (4,), DEVICE), DenseConnection((6,), (4,))
    w, s, v = (np.asarray(generator.random(shape), order=order) for shape in ((6, 4), (5, 6), (5, 4)))
    w1, s1, v1 = map(standin.ndarray, (w, s, v))
    for actual, expected in (
        (connection.drive(w1, None, s1)[0], simple.drive(w, None, s)[0]),
        (connection.feedback(w1, v1, None), simple.feedback(w, v, None)),
        (connection.weight_gradient(s1, v1, None), simple.weight_gradient(s, v, None)),
    ):
        np.testing.assert_allclose(to_host(actual), expected, rtol=1e-12)


def test_a_kernel_is_given_what_its_source_declares():
    kernel = CudaDevice(standin).kernel(
        "update", "update", {"REAL": "float", "SIGMA": "linear", "SIGMA_RANGE": "linear_range", "OMEGA": 1}
    )
    a, out, b = (standin.asarray(np.ones(3, dtype)) for dtype in (np.float32, np.float32, np.float64))
    none = (None, None, a, None, None, None)  # feedback, nudge, three addends, the old state
    kernel(3, *none, out, None)
    for wrong in ((*none, b, None), (*none, 1, None), (*none, out), (*none, a, None)):  # the last writes what it reads
        with pytest.raises((AssertionError, ValueError)):
            kernel(3, *wrong)


def test_auto_on_a_gpu():
    layer, below = ConvLayer(256, (3, 3), padding=1, pool="max"), (16, 16, 128)
    assert fastest(layer, below, CudaDevice(standin)) == "winograd-4x4"
    assert fastest(layer, below, CudaDevice(standin).with_tf32()) == "direct"
