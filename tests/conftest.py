"""One test body for all backends: NumPy, a strict stand-in for CuPy, and CuPy when a GPU answers (marked ``gpu``).

On the stand-in and on CuPy the simple form and the kernels are two tiers.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import replace

import datafiles
import fakecuda
import pytest
import standin

from eqnp.api import plotting
from eqnp.backends.backend import Backend, choosing, get_backend
from eqnp.backends.device import CudaDevice
from eqnp.errors import BackendError

sys.modules.setdefault("standin", standin)

with suppress(ImportError):  # the property tests skip themselves without it
    from hypothesis import HealthCheck, settings

    # The same few examples every time, so that a failure is one for everybody.
    settings.register_profile(
        "eqnp", derandomize=True, max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
    settings.register_profile("long", settings.get_profile("eqnp"), derandomize=False, max_examples=2000)
    settings.load_profile("eqnp")  # more: --hypothesis-profile=long


NUMBERS = ("analysis", "backends", "connections", "maths", "ops")  # rooms of tests that measure no coverage


@pytest.fixture(autouse=True, scope="module")
def coverage_of_files(request):
    """Under .ci/run, coverage measures the tests of files and commands; elsewhere it would only take time."""
    measuring = sys.modules.get("coverage") and sys.modules["coverage"].Coverage.current()
    if not measuring or request.path.parent.name not in NUMBERS:
        yield
        return
    measuring.stop()
    yield
    measuring.start()


DRAW_CURVES = plotting.write_curves


@pytest.fixture(autouse=True, scope="session")
def no_curves():
    """``eqnp train`` draws no curves: a figure takes longer than the run of a test."""
    plotting.write_curves = lambda path: None
    yield
    plotting.write_curves = DRAW_CURVES


@pytest.fixture
def curves_are_drawn(monkeypatch):
    """``eqnp train`` draws curves, as it does for users."""
    monkeypatch.setattr(plotting, "write_curves", DRAW_CURVES)


def make_backend(name):
    """Return the backend that a test's parameter names; "kernels" are eqnp's own on the stand-in's arrays."""
    if name == "standin":
        return Backend("cupy", standin, options=choosing("cupy"))
    if name == "kernels":
        if fakecuda.COMPILER is None:
            pytest.skip("no C++ compiler")
        return Backend("cupy", standin, CudaDevice(standin), choosing("cupy"))
    try:
        backend = get_backend("cupy" if name == "cupy-simple" else name)
    except BackendError as error:
        pytest.skip(str(error))
    return replace(backend, device=None) if name == "cupy-simple" else backend


GPU = [pytest.param(name, marks=pytest.mark.gpu) for name in ("cupy", "cupy-simple")]


@pytest.fixture(params=["numpy", "standin", GPU[1]])
def backend(request):
    """Where arrays live."""
    return make_backend(request.param)


@pytest.fixture(params=["numpy", "standin", "kernels", *GPU])
def tier(request):
    """Where arrays live, and what computes on them."""
    return make_backend(request.param)


@pytest.fixture
def standin_for_cupy(monkeypatch):
    """The stand-in in CuPy's place, with two GPUs; returns the backend that ``--backend cupy`` then finds."""
    kernels = make_backend("kernels")
    monkeypatch.setitem(sys.modules, "cupy", standin)
    yield kernels
    standin.get_default_memory_pool().set_limit(size=0)
    standin.cuda.Device(0).use()


@pytest.fixture(params=["standin", GPU[0]])
def cupy(request):
    """The backend that ``--backend cupy`` finds: on the stand-in, and on CuPy where a GPU answers."""
    if request.param == "standin":
        yield request.getfixturevalue("standin_for_cupy")
        return
    backend = make_backend("cupy")
    yield backend
    backend.xp.get_default_memory_pool().set_limit(size=0)


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """No dataset of this machine is found."""
    for name in ("HOME", "XDG_DATA_HOME", "EQNP_DATA"):
        monkeypatch.setenv(name, str(tmp_path / name) if name != "EQNP_DATA" else "")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


@pytest.fixture
def small_files(monkeypatch):
    """Files of a few images pass for the published datasets."""
    datafiles.accept_small(monkeypatch)
