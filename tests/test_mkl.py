"""oneMKL for Winograd's products: the same numbers, and a clear word where it is missing."""

from __future__ import annotations

import ctypes.util
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from commands import assert_fails, train_small
from conftest import make_backend

from eqnp import mkl
from eqnp.architecture import ConvLayer
from eqnp.backend import get_backend
from eqnp.configfile import load
from eqnp.dynamics import relax
from eqnp.errors import BackendError, ConfigurationError
from eqnp.experiment import make_learner
from eqnp.forms import connect
from eqnp.prepared import PreparedNetwork
from eqnp.training import initial_state

RNG = np.random.default_rng(0)
SHAPES = [(16, 5, 7, 3), (36, 64, 32, 48), (4, 1, 9, 1), (4, 3, 1, 2), (2, 1, 1, 1), (3, 2, 300, 40)]


@pytest.fixture
def products():
    try:
        return mkl.MklProducts()
    except BackendError as error:
        pytest.skip(str(error))


class Counted(mkl.MklProducts):
    """NumPy's products under oneMKL's name, counted."""

    def __init__(self):
        self.calls = 0

    def matmul(self, a, b, out):
        self.calls += 1
        return np.matmul(a, b, out=out)


def numbers(*shape, dtype=np.float64):
    return RNG.standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_products_are_numpys(products, shape, dtype):
    count, m, k, n = shape
    a, b = numbers(count, m, k, dtype=dtype), numbers(count, k, n, dtype=dtype)
    a_back, b_back = (np.ascontiguousarray(x.swapaxes(1, 2)).swapaxes(1, 2) for x in (a, b))
    for left in (a, a_back):
        for right in (b, b_back):
            out = np.full((count, m, n), np.nan, dtype)
            assert products.matmul(left, right, out=out) is out
            np.testing.assert_allclose(out, np.matmul(a, b), rtol=0, atol=k * 8 * np.finfo(dtype).eps)


def test_products_do_not_depend_on_where_arrays_lie(products):
    a, b = numbers(3, 21, 37, dtype=np.float32), numbers(3, 37, 19, dtype=np.float32)
    expected = products.matmul(a, b, out=np.empty((3, 21, 19), np.float32))
    for shift in range(1, 16):
        moved = np.empty(a.size + 16, np.float32)[shift : shift + a.size].reshape(a.shape)
        moved[...] = a
        np.testing.assert_array_equal(products.matmul(moved, b, out=np.empty_like(expected)), expected)


def test_products_of_several_threads_do_not_meet(products):
    cases = [(numbers(16, 40, 60), numbers(16, 60, 30)) for _ in range(4)]

    def repeated(case):
        return [products.matmul(*case, out=np.empty((16, 40, 30))) for _ in range(50)]

    with ThreadPoolExecutor(4) as pool:
        for (a, b), results in zip(cases, pool.map(repeated, cases), strict=True):
            for result in results:
                np.testing.assert_allclose(result, np.matmul(a, b), atol=1e-12)


@pytest.mark.parametrize("form", ["winograd-2x2", "winograd-4x4"])
@pytest.mark.parametrize("name", ["counted", "mkl"])
def test_winograd_multiplies_by_what_it_is_given(request, form, name):
    given = Counted() if name == "counted" else request.getfixturevalue("products")
    layer, below = ConvLayer(6, (3, 3), 1, 1, "max"), (8, 7, 4)
    s, w, b = numbers(3, *below), numbers(3, 3, 4, 6), numbers(6)
    own, plain = connect(layer, below, form, given), connect(layer, below, form)
    (d, winner), (expected, places) = own.drive(own.prepare(w), b, s), plain.drive(plain.prepare(w), b, s)
    np.testing.assert_allclose(d, expected, atol=1e-12)
    np.testing.assert_array_equal(winner, places)
    back, expected = own.feedback(own.prepare(w), d, winner), plain.feedback(plain.prepare(w), d, winner)
    np.testing.assert_allclose(back, expected, atol=1e-11)
    assert name == "mkl" or given.calls == 2


def learner(products="auto", *more):
    config = load("mnist-cnn", [f"training.products={products}", "training.dtype=float64", "training.threads=1", *more])
    return make_learner(config, (28, 28, 1), 10, get_backend("numpy"))


def test_a_network_settles_to_the_same_states(products):
    x, states = numbers(4, 28, 28, 1), {}
    for name in ("numpy", "mkl"):
        own = learner(name)
        network = PreparedNetwork(own.network, initial_state(own, 1.0, "float64").parameters, x)
        states[name] = relax(network, network.zero_states(), 10).states
    for s, expected in zip(states["mkl"], states["numpy"], strict=True):
        np.testing.assert_allclose(s, expected, atol=1e-11)


def test_auto_does_without_what_is_not_installed(monkeypatch):
    monkeypatch.setattr(mkl, "_find", lambda: None)
    kernel = learner("auto").network.connections[1].prepare(numbers(5, 5, 32, 64))
    assert kernel.matmul is np.matmul
    with pytest.raises(BackendError, match="oneMKL is not installed: `pip install mkl`"):
        learner("mkl")


def test_what_cannot_be_loaded_is_said(monkeypatch, tmp_path):
    broken = tmp_path / "libmkl_rt.so"
    broken.write_bytes(b"no library")
    monkeypatch.setattr(mkl, "_find", lambda: str(broken))
    with pytest.raises(BackendError, match="oneMKL cannot be used"):
        learner("mkl")
    learner("auto")


def test_another_library_is_not_taken_for_it(monkeypatch):
    monkeypatch.setattr(mkl, "_find", lambda: ctypes.util.find_library("m"))
    with pytest.raises(BackendError, match="oneMKL"):
        mkl.MklProducts()


def test_mkl_belongs_to_the_cpu():
    config = load("digits", ["training.products=mkl"])
    with pytest.raises(ConfigurationError, match=r"training\.products: mkl belongs to --backend numpy"):
        make_learner(config, (28, 28, 1), 10, make_backend("standin"))


def test_the_command_line_says_that_it_is_missing(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(mkl, "_find", lambda: None)
    result = train_small(capsys, tmp_path / "run", "--set", "training.products=mkl")
    assert_fails(result, 4, "pip install mkl")
    assert not (tmp_path / "run").exists()
