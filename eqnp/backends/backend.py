"""The one door to CuPy: which backend, an array's own module, copies to and from the host.

There is no global state. CuPy is imported when it is asked for by name and never before; the functions of ``eqnp.ops``
find the module of the arrays they are given and so run on either backend.
"""

from __future__ import annotations

import importlib
import sys
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np

from eqnp.backends import limits
from eqnp.backends.device import CudaDevice, Device
from eqnp.errors import BackendError

Array: TypeAlias = Any  # numpy.ndarray or cupy.ndarray; annotations must not import CuPy

NAMES = ("numpy", "cupy", "auto")
INSTALL = 'pip install "cupy-cuda12x[ctk]"'


def array_module(array: Array) -> ModuleType:
    """Return the module that ``array`` belongs to: ``numpy``, ``cupy`` or a stand-in with the same functions."""
    if isinstance(array, (np.ndarray, np.generic)):
        return np
    return sys.modules[type(array).__module__.partition(".")[0]]


@dataclass(frozen=True)
class Backend:
    """A named array module and the two copies between it and the host."""

    name: str
    xp: ModuleType
    device: Device | None = None  # what runs eqnp's own kernels

    def asarray(self, host: np.ndarray, dtype: Any = None) -> Array:
        """Copy a host array to the backend (no copy when it is already there in ``dtype``)."""
        return self.xp.asarray(host, dtype=dtype)

    def to_host(self, array: Array) -> np.ndarray:
        """Copy an array of this backend to a NumPy array."""
        return to_host(array)

    def synchronize(self) -> None:
        """Wait until the device has done what it was asked for; a clock may be read after it."""
        if self.name == "cupy":
            self.xp.cuda.get_current_stream().synchronize()

    def available_memory(self) -> int | None:
        """Return the bytes that arrays can still take, or None where the system does not say."""
        if self.name != "cupy":
            limit = limits.memory()
            return limit and limit.value
        pool = self.xp.get_default_memory_pool()
        free = int(self.xp.cuda.runtime.memGetInfo()[0] + pool.free_bytes())
        return min(free, int(pool.get_limit() - pool.used_bytes())) if pool.get_limit() else free

    def peak_of(self, work: Callable[[], object]) -> int:
        """Return the most bytes of arrays that ``work()`` holds at once."""
        if self.name != "cupy":
            tracemalloc.start()  # NumPy reports its arrays to it
            try:
                work()
                return tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
        # A pool of its own: another one has gaps, which work would fill unseen.
        others, pool = self.xp.get_default_memory_pool(), self.xp.cuda.MemoryPool()
        others.free_all_blocks()
        if others.get_limit():
            pool.set_limit(size=max(1, others.get_limit() - others.used_bytes()))
        with self.xp.cuda.using_allocator(pool.malloc):
            work()
        return int(pool.total_bytes())


def to_host(array: Array) -> np.ndarray:
    """Copy an array of any backend to a NumPy array; the only place where the device is read back whole."""
    on_host = isinstance(array, (np.ndarray, np.generic))
    host: np.ndarray = array if on_host else array.get()
    return host


def get_backend(
    name: str = "numpy",
    device: int = 0,
    memory_gb: float = 0.0,
    report: Callable[[str], None] = lambda line: None,
) -> Backend:
    """Return the backend called ``name``: ``numpy``, ``cupy``, or ``auto`` (CuPy if a GPU answers, else NumPy).

    CuPy then uses GPU number ``device`` and at most ``memory_gb`` GB of it (0: all). ``report`` is given a line that
    says what ``auto`` took and why.

    Raises:
        BackendError: the name is unknown, CuPy is not installed, no GPU answers it, or there is none of that number.
    """
    if name == "numpy":
        return Backend("numpy", np)
    if name == "cupy":
        return _cupy_backend(device, memory_gb)
    if name == "auto":
        try:
            backend = _cupy_backend(device, memory_gb)
        except BackendError as error:
            reason = str(error).removeprefix("backend cupy: ").partition("; ")[0]
            report(f"backend auto: numpy ({reason})")
            return Backend("numpy", np)
        report(f"backend auto: cupy (GPU {device} is available)")
        return backend
    raise BackendError(f"unknown backend {name!r}: choose one of {', '.join(NAMES)}")


def _cupy_backend(device: int, memory_gb: float) -> Backend:
    cupy = import_cupy()
    count = cupy.cuda.runtime.getDeviceCount()
    if not 0 <= device < count:
        raise BackendError(f"--device {device}: this machine has {count} GPU(s), numbered from 0")
    cupy.cuda.Device(device).use()
    if memory_gb > 0:
        cupy.get_default_memory_pool().set_limit(size=int(memory_gb * 1e9))
    try:
        made = CudaDevice(cupy)
        made.try_out()
    except Exception as error:  # CuPy loads cuBLAS and looks for CUDA's headers when they are first asked for
        raise BackendError(
            f"backend cupy: CuPy {cupy.__version__} cannot compute on the GPU ({_first_line(error)}); if a part of "
            f"CUDA is missing, install CuPy with it, for example `{INSTALL}`, or use --backend numpy"
        ) from None
    return Backend("cupy", cupy, made)


def import_cupy() -> ModuleType:
    """Import CuPy and make sure that a GPU answers, so that a missing one is reported here and not in a kernel.

    Raises:
        BackendError: CuPy is not installed, or no GPU answers it.
    """
    cupy = _cupy_itself()
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:  # CuPy raises its own CUDARuntimeError, which cannot be named without importing it
        raise BackendError(
            f"backend cupy: CuPy {cupy.__version__} is installed but no GPU answers ({_first_line(error)}); "
            "use --backend numpy"
        ) from None
    if count == 0:
        raise BackendError(
            f"backend cupy: CuPy {cupy.__version__} is installed but it sees no GPU; use --backend numpy"
        )
    return cupy


def _cupy_itself() -> ModuleType:
    """Import CuPy, whole.

    Raises:
        BackendError: it is not installed, or what is there is damaged or a part of it.
    """
    try:
        cupy = importlib.import_module("cupy")
    except ImportError as error:
        raise BackendError(
            f"backend cupy: CuPy cannot be imported ({_first_line(error)}); install it for your CUDA version, "
            f"for example `{INSTALL}`, or use --backend numpy"
        ) from None
    except Exception as error:  # whatever the code of a damaged installation raises
        raise BackendError(
            f"backend cupy: CuPy is not installed properly ({type(error).__name__}: {_first_line(error)}); "
            f"reinstall it, for example `{INSTALL}`, or use --backend numpy"
        ) from None
    if not hasattr(cupy, "__version__") or not hasattr(cupy, "cuda"):  # a folder without code is a package to Python
        places = getattr(cupy, "__path__", None) or [getattr(cupy, "__file__", "cupy")]
        where = ", ".join(dict.fromkeys(map(str, places)))
        raise BackendError(
            f"backend cupy: CuPy is not installed properly: {where} is left of an earlier installation; "
            "remove it or reinstall CuPy, or use --backend numpy"
        )
    return cupy


def _first_line(error: Exception) -> str:
    """Return the line of an error that says most: what CuPy calls the original error, else the first with a word."""
    lines = [line.strip() for line in str(error).splitlines() if any(map(str.isalnum, line))]
    original = [lines[n + 1] for n, line in enumerate(lines[:-1]) if line.lower().startswith("original error")]
    return (original or lines or [type(error).__name__])[0]
