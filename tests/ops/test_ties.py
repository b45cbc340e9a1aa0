"""Equal outputs of a pooling window tie for the first place, in every form, dtype and BLAS; true gaps are seen."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import ties
from conftest import GPU, make_backend
from places import TESTS
from threadpoolctl import threadpool_info
from tolerances import ORACLE, relative_error

from eqnp.architecture import Architecture
from eqnp.backends.device import CudaDevice
from eqnp.backends.mkl import MklProducts
from eqnp.backends.products import SlabProducts
from eqnp.connections.layers import ConvLayer, DenseLayer
from eqnp.dynamics import Phases
from eqnp.estimators import estimate
from eqnp.losses import one_hot
from eqnp.networks import SymmetricNetwork
from eqnp.ops import running_sums
from eqnp.stencils import symmetric

FORMS = ("direct", "winograd-2x2", "winograd-4x4")
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])
# Kernels of OpenBLAS that differ in how they add up rows; each is refused where the CPU lacks its instructions.
CORE_TYPES = ("Haswell", "Sandybridge", "Nehalem", "SkylakeX")


@DTYPES
@pytest.mark.parametrize("form", FORMS)
def test_exact_ties_choose_the_first_place(form, dtype):
    ties.check_exact_ties(dtype, form)


@DTYPES
@pytest.mark.parametrize("form", FORMS[1:])
def test_exact_ties_by_slabs(form, dtype):
    ties.check_exact_ties(dtype, form, means=SlabProducts(), layers=ties.LAYERS[:1])


@DTYPES
@pytest.mark.parametrize("form", FORMS[1:])
def test_exact_ties_by_mkl(form, dtype):
    pytest.importorskip("mkl", reason="oneMKL is not installed")
    ties.check_exact_ties(dtype, form, means=MklProducts())


@DTYPES
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("place", ["kernels", GPU[0]])
def test_exact_ties_and_true_gaps_by_kernels(form, dtype, place):
    backend = make_backend(place)
    means = backend.xp.asarray, CudaDevice(backend.xp)
    ties.check_exact_ties(dtype, form, *means, ties.LAYERS[1:3] if place == "kernels" else ties.LAYERS)
    ties.check_true_gaps(dtype, form, *means)


@DTYPES
@pytest.mark.parametrize("form", FORMS)
def test_true_gaps_are_never_overridden(form, dtype):
    ties.check_true_gaps(dtype, form)


@pytest.mark.skipif(
    not any(b["internal_api"] == "openblas" for b in threadpool_info()), reason="NumPy's BLAS is not OpenBLAS"
)
@pytest.mark.parametrize("core", CORE_TYPES)
def test_exact_ties_on_other_cpus(core):
    flags = Path("/proc/cpuinfo").read_text() if os.path.exists("/proc/cpuinfo") else ""
    if (core == "SkylakeX" and "avx512f" not in flags) or (core == "Haswell" and "avx2" not in flags):
        pytest.skip(f"this CPU cannot run OpenBLAS's kernels for {core}")
    path = os.pathsep.join([str(TESTS), *sys.path])
    environment = os.environ | {"OPENBLAS_CORETYPE": core, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"}
    result = subprocess.run([sys.executable, TESTS / "ties.py"], env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


# ---- what ties do to a network

LAYERS = {
    "stride 1": (ConvLayer(8, (3, 3), padding=1, pool="max"), ConvLayer(16, (3, 3), padding=1, pool="max")),
    "stride 2": (ConvLayer(8, (3, 3), stride=2, padding=1, pool="max"), ConvLayer(16, (3, 3), padding=1, pool="max")),
}


def gradient(name, form="auto", dtype=np.float64, shards=(slice(0, 6),)):
    """Return free states and gradient of images with flat regions by a net as it is drawn."""
    architecture = Architecture((28, 28, 1), (*LAYERS[name], DenseLayer(10)), loss="cross_entropy_readout")
    parameters = architecture.initial_parameters(np.random.default_rng(0), 1.5, dtype)
    generator = np.random.default_rng(1)
    x = np.zeros((6, 28, 28, 1), dtype)
    x[:, 8:20, 9:19] = generator.random((6, 12, 10, 1))
    x[:, 4:6, 4:24] = 1
    target = one_hot(np.arange(6), 10, dtype)
    network, states, total = SymmetricNetwork(architecture, form), [], 0.0
    for shard in shards:
        result = estimate(network, parameters, x[shard], target[shard], symmetric(0.5), Phases(25, 10))
        states.append(np.concatenate([s.reshape(len(s), -1) for s in result.free.states], axis=1))
        total = total + np.concatenate([g.ravel() for g in result.gradient.values()])
    return np.concatenate(states), total


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", LAYERS)
def test_forms_settle_in_the_same_states(name, form):
    for found, expected in zip(gradient(name, form), gradient(name, "direct"), strict=True):
        assert relative_error(found, expected) <= ORACLE[np.float64]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", LAYERS)
def test_a_batch_may_be_cut_anywhere(name, form, dtype):
    cut = (slice(0, 1), slice(1, 4), slice(4, 6))
    for found, expected in zip(gradient(name, form, dtype, cut), gradient(name, form, dtype), strict=True):
        assert relative_error(found, expected) <= 10 * ORACLE[dtype]


@DTYPES
@pytest.mark.parametrize(
    "shape", [(3, 3, 1, 4), (3, 2, 6, 5), (1, 1, 7, 3), (3, 3, 68, 2), (2, 3, 96, 3), (5, 5, 67, 1)]
)
def test_running_sums_are_those_of_the_formula(shape, dtype):
    w = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    w[..., 0] = 0  # a channel without weights
    np.testing.assert_allclose(running_sums(w), [_running_sums(w[..., k]) for k in range(shape[3])], rtol=ORACLE[dtype])


def _running_sums(w: np.ndarray) -> float:
    """Return r(w) of one output channel (KH, KW, C), sum by sum."""
    w = w.astype(np.float64)
    orders = [[w.ravel()[first::lanes] for first in range(lanes)] for lanes in (1, 2, 4) if w.shape[2] % lanes == 0]
    in_memory = max(sum(np.mean(np.cumsum(part) ** 2) for part in order) for order in orders)
    return float(np.sqrt(in_memory + sum(np.mean(np.cumsum(tap) ** 2) for tap in w.reshape(-1, w.shape[2]))))
