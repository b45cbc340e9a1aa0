"""What multiplies for Winograd's forms: the same numbers from all, and a clear word where oneMKL is missing."""

from __future__ import annotations

import ctypes.util
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from commands import assert_fails, train_small
from conftest import make_backend

from eqnp.backends import mkl
from eqnp.backends.backend import get_backend
from eqnp.backends.products import Products, SlabProducts
from eqnp.connections.forms import connect
from eqnp.connections.layers import ConvLayer
from eqnp.dynamics import relax
from eqnp.errors import BackendError, ConfigurationError
from eqnp.prepared import PreparedNetwork
from eqnp.runs import experiment
from eqnp.runs.configfile import load
from eqnp.runs.experiment import make_learner
from eqnp.training import initial_state

RNG = np.random.default_rng(0)
SHAPES = [(16, 5, 7, 3), (36, 64, 32, 48), (4, 1, 9, 1), (4, 3, 1, 2), (2, 1, 1, 1), (3, 2, 300, 40)]
SLABS = [
    (2, 130, 128, 128),
    (3, 64, 100, 96),
    (2, 9, 256, 64),
    (2, 260, 64, 64),
    (2, 0, 8, 64),
    (2, 65, 512, 64),
    (2, 37, 512, 128),
    (1, 20, 2000, 64),
]


def oneapi():
    try:
        return mkl.MklProducts()
    except BackendError as error:
        pytest.skip(str(error))


MAKE = {"numpy": Products, "slabs": SlabProducts, "mkl": oneapi}


@pytest.fixture(params=MAKE)
def products(request):
    return MAKE[request.param]()


class Counted(SlabProducts):
    """Counts what it is asked for."""

    prepared = multiplied = 0

    def prepare(self, u):
        self.prepared += 1
        return super().prepare(u)

    def matmul(self, a, u, out):
        self.multiplied += 1
        return super().matmul(a, u, out)


def numbers(*shape, dtype=np.float64):
    return RNG.standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES + SLABS, ids=str)
def test_products_are_numpys(products, shape, dtype):
    count, m, c, k = shape
    a, u = numbers(count, m, c, dtype=dtype), numbers(count, c, k, dtype=dtype)
    transposed = np.ascontiguousarray(u.swapaxes(1, 2)).swapaxes(1, 2)
    for right in (u, transposed):
        out = np.full((count, m, k), np.nan, dtype)
        assert products.matmul(a, products.prepare(right), out=out) is out
        np.testing.assert_allclose(out, np.matmul(a, u), rtol=0, atol=c * 8 * np.finfo(dtype).eps)


def test_slabs_fit_the_cache_where_they_can():
    widths = {(128, 256): 64, (256, 96): 32, (64, 40): None, (512, 512): 64, (512, 96): 32, (8, 32): 32, (2000, 64): 32}
    widths |= {(4000, 64): None}
    for (c, k), s in widths.items():
        prepared = SlabProducts().prepare(numbers(3, c, k))
        assert prepared.shape == ((3, c, k) if s is None else (3, k // s, c, s))
        assert prepared.flags.c_contiguous
    large, small = numbers(16, 512, 512), numbers(16, 64, 64)
    assert SlabProducts().prepare(large) is large  # a copy is 4 % of a step of the paper's net, and of its memory 5
    assert SlabProducts().prepare(small).ndim == 4


def test_products_do_not_depend_on_where_arrays_lie(products):
    a, u = numbers(3, 21, 37, dtype=np.float32), products.prepare(numbers(3, 37, 64, dtype=np.float32))
    expected = products.matmul(a, u, out=np.empty((3, 21, 64), np.float32))
    for shift in range(1, 16):
        moved = np.empty(a.size + 16, np.float32)[shift : shift + a.size].reshape(a.shape)
        moved[...] = a
        np.testing.assert_array_equal(products.matmul(moved, u, out=np.empty_like(expected)), expected)


def test_products_of_several_threads_do_not_meet(products):
    cases = [(numbers(16, 40, 60), products.prepare(numbers(16, 60, 64))) for _ in range(4)]

    def repeated(case):
        return [products.matmul(*case, out=np.empty((16, 40, 64))) for _ in range(50)]

    with ThreadPoolExecutor(4) as pool:
        for case, results in zip(cases, pool.map(repeated, cases), strict=True):
            expected = products.matmul(*case, out=np.empty((16, 40, 64)))
            for result in results:
                np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("form", ["winograd-2x2", "winograd-4x4"])
@pytest.mark.parametrize("name", ["counted", "mkl"])
def test_winograd_multiplies_by_what_it_is_given(form, name):
    given = Counted() if name == "counted" else oneapi()
    layer, below = ConvLayer(64, (3, 3), 1, 1, "max"), (8, 7, 32)
    s, w, b = numbers(3, *below), numbers(3, 3, 32, 64), numbers(64)
    own, plain = connect(layer, below, form, given), connect(layer, below, form)
    u, simple = own.prepare(w), plain.prepare(w)
    (d, winner), (expected, places) = own.drive(u, b, s), plain.drive(simple, b, s)
    np.testing.assert_allclose(d, expected, atol=1e-11)
    np.testing.assert_array_equal(winner, places)
    back, expected = own.feedback(u, d, winner), plain.feedback(simple, d, winner)
    np.testing.assert_allclose(back, expected, atol=1e-10)
    assert name == "mkl" or (given.prepared, given.multiplied) == (2, 2)


def learner(products="auto", *more):
    config = load("mnist-cnn", [f"training.products={products}", "training.dtype=float64", "training.threads=1", *more])
    return make_learner(config, (28, 28, 1), 10, get_backend("numpy"))


@pytest.mark.parametrize("name", ["slabs", "mkl"])
def test_a_network_settles_to_the_same_states(name):
    x, states = numbers(4, 28, 28, 1), {}
    MAKE[name]()
    for each in ("numpy", name):
        own = learner(each)
        network = PreparedNetwork(own.network, initial_state(own, 1.0, "float64").parameters, x)
        states[each] = relax(network, network.zero_states(), 10).states
    for s, expected in zip(states[name], states["numpy"], strict=True):
        np.testing.assert_allclose(s, expected, atol=1e-11)


def multiplier(own):
    return type(own.network.connections[1].prepare(numbers(5, 5, 32, 64)).products)


@pytest.mark.parametrize(("best", "expected"), [("slabs", SlabProducts), ("numpy", Products)])
def test_auto_does_without_what_is_not_there(monkeypatch, best, expected):
    monkeypatch.setattr(mkl, "_find", lambda: None)
    monkeypatch.setattr(experiment, "processor", lambda: "Intel")
    monkeypatch.setattr(experiment, "best_numpy_products", lambda: best)
    assert multiplier(learner("auto")) is expected
    assert multiplier(learner("numpy")) is Products
    assert multiplier(learner("slabs")) is SlabProducts
    with pytest.raises(BackendError, match="oneMKL is not installed: `pip install mkl`"):
        learner("mkl")


@pytest.mark.parametrize(("processor", "expected"), [("Intel(R) Xeon(R)", Counted), ("AMD EPYC", SlabProducts)])
def test_auto_takes_onemkl_where_it_is_fast(monkeypatch, processor, expected):
    monkeypatch.setattr(experiment, "MklProducts", Counted)
    monkeypatch.setattr(experiment, "processor", lambda: processor)
    monkeypatch.setattr(experiment, "best_numpy_products", lambda: "slabs")
    assert multiplier(learner("auto")) is expected
    assert multiplier(learner("mkl")) is Counted


def test_what_cannot_be_loaded_is_said(monkeypatch, tmp_path):
    broken = tmp_path / "libmkl_rt.so"
    broken.write_bytes(b"no library")
    monkeypatch.setattr(mkl, "_find", lambda: str(broken))
    monkeypatch.setattr(experiment, "processor", lambda: "Intel")
    with pytest.raises(BackendError, match="oneMKL cannot be used"):
        learner("mkl")
    learner("auto")


def test_another_library_is_not_taken_for_it(monkeypatch):
    monkeypatch.setattr(mkl, "_find", lambda: ctypes.util.find_library("m"))
    with pytest.raises(BackendError, match="oneMKL"):
        mkl.MklProducts()


@pytest.mark.parametrize("name", ["mkl", "slabs"])
def test_products_belong_to_the_cpu(name):
    config = load("digits", [f"training.products={name}"])
    with pytest.raises(ConfigurationError, match=rf"training\.products: {name} needs --backend numpy"):
        make_learner(config, (28, 28, 1), 10, make_backend("standin"))


def test_the_command_line_says_that_it_is_missing(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(mkl, "_find", lambda: None)
    result = train_small(capsys, tmp_path / "run", "--set", "training.products=mkl")
    assert_fails(result, 4, "pip install mkl")
    assert not (tmp_path / "run").exists()
