"""The choice between NumPy and CuPy, the module of an array, and copies to and from the host.

This is the only module that imports CuPy, and it does so only when CuPy is chosen. There is no global state: the
functions of ``eqnp.ops`` use the module of the arrays that they are given, so they run on both backends.
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
    """Return the module of ``array``, of any shape: ``numpy``, ``cupy`` or a stand-in with the same functions."""
    if isinstance(array, (np.ndarray, np.generic)):
        return np
    return sys.modules[type(array).__module__.partition(".")[0]]


@dataclass(frozen=True)
class Backend:
    """An array module with copies to and from the host, and what is known about its memory."""

    name: str
    xp: ModuleType
    device: Device | None = None  # runs eqnp's own kernels
    options: tuple[str, ...] = ()  # of a command, which choose this backend there

    def asarray(self, host: np.ndarray, dtype: Any = None) -> Array:
        """Copy a host array of any shape to the backend. Without a copy if it is already there in ``dtype``."""
        return self.xp.asarray(host, dtype=dtype)

    def to_host(self, array: Array) -> np.ndarray:
        """Copy an array of this backend, of any shape, to a NumPy array."""
        return to_host(array)

    def synchronize(self) -> None:
        """Wait until the device has finished all work, for example before a clock is read."""
        if self.name == "cupy":
            self.xp.cuda.get_current_stream().synchronize()

    def workers(self, threads: int) -> int:
        """Return how many of ``threads`` compute: all on a CPU, one on a GPU, which only one thread has chosen."""
        return threads if self.name == "numpy" else 1

    def available_memory(self) -> int | None:
        """Return how many bytes are still available for arrays, or None if the system does not report it."""
        if self.name != "cupy":
            limit = limits.memory()
            return limit and limit.value
        pool = self.xp.get_default_memory_pool()
        free = int(self.xp.cuda.runtime.memGetInfo()[0] + pool.free_bytes())
        return min(free, int(pool.get_limit() - pool.used_bytes())) if pool.get_limit() else free

    def peak_of(self, work: Callable[[], object]) -> int:
        """Return the peak memory of arrays during ``work()``, in bytes."""
        if self.name != "cupy":
            tracemalloc.start()  # NumPy reports its allocations to tracemalloc
            try:
                work()
                return tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
        # A new pool: the default one may hold free memory, and what work takes from that would not be counted.
        others, pool = self.xp.get_default_memory_pool(), self.xp.cuda.MemoryPool()
        others.free_all_blocks()
        if others.get_limit():
            pool.set_limit(size=max(1, others.get_limit() - others.used_bytes()))
        with self.xp.cuda.using_allocator(pool.malloc):
            work()
        return int(pool.total_bytes())


def to_host(array: Array) -> np.ndarray:
    """Copy an array of any backend and shape to a NumPy array. Only this function copies whole arrays to the host."""
    on_host = isinstance(array, (np.ndarray, np.generic))
    host: np.ndarray = array if on_host else array.get()
    return host


def get_backend(
    name: str = "numpy",
    device: int = 0,
    memory_gb: float = 0.0,
    report: Callable[[str], None] = lambda line: None,
) -> Backend:
    """Return the backend ``name``: ``numpy``, ``cupy``, or ``auto`` (CuPy if a GPU is available, otherwise NumPy).

    CuPy uses GPU number ``device`` and at most ``memory_gb`` GB (10^9 bytes) of its memory; 0 means all of it. For
    ``auto``, ``report`` is called with a line that says which backend was chosen and why.

    Raises:
        BackendError: the name is unknown, CuPy is not installed, no GPU is available, or no GPU has that number.
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
    except Exception as error:  # CuPy loads cuBLAS and finds CUDA's headers only at their first use
        raise BackendError(
            f"backend cupy: CuPy {cupy.__version__} cannot compute on the GPU ({_first_line(error)}); if a part of "
            f"CUDA is missing, install CuPy together with CUDA, for example `{INSTALL}`, or use --backend numpy"
        ) from None
    return Backend("cupy", cupy, made, choosing("cupy", device, memory_gb))


def choosing(name: str, device: int | None = None, memory_gb: float = 0.0) -> tuple[str, ...]:
    """Return the options of a command that choose a backend, as words; none for NumPy, the default."""
    if name == "numpy":
        return ()
    words: list[Any] = ["--backend", name]
    words += ["--device", device] if device else []
    words += ["--device-memory", f"{memory_gb:g}"] if memory_gb else []
    return tuple(map(str, words))


def count_gpus() -> int:
    """Return the number of GPUs that CuPy finds, at least 1.

    Raises:
        BackendError: CuPy is not installed, or no GPU is available.
    """
    return int(import_cupy().cuda.runtime.getDeviceCount())


def import_cupy() -> ModuleType:
    """Import CuPy and check that a GPU is available, so that a missing GPU is reported here and not in a kernel.

    Raises:
        BackendError: CuPy is not installed, or no GPU is available.
    """
    cupy = _import_whole_cupy()
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:  # CuPy's CUDARuntimeError; its name is only known after an import
        raise BackendError(
            f"backend cupy: CuPy {cupy.__version__} is installed but no GPU is available ({_first_line(error)}); "
            "use --backend numpy"
        ) from None
    if count == 0:
        raise BackendError(f"backend cupy: CuPy {cupy.__version__} is installed but finds no GPU; use --backend numpy")
    return cupy


def _import_whole_cupy() -> ModuleType:
    """Import CuPy and check that the installation is complete.

    Raises:
        BackendError: CuPy is not installed, damaged or incomplete.
    """
    try:
        cupy = importlib.import_module("cupy")
    except ImportError as error:
        raise BackendError(
            f"backend cupy: CuPy cannot be imported ({_first_line(error)}); install it for your CUDA version, "
            f"for example `{INSTALL}`, or use --backend numpy"
        ) from None
    except Exception as error:  # a damaged installation may raise anything
        raise BackendError(
            f"backend cupy: CuPy is not installed properly ({type(error).__name__}: {_first_line(error)}); "
            f"reinstall it, for example `{INSTALL}`, or use --backend numpy"
        ) from None
    if not hasattr(cupy, "__version__") or not hasattr(cupy, "cuda"):  # an empty folder is a package, too
        places = getattr(cupy, "__path__", None) or [getattr(cupy, "__file__", "cupy")]
        where = ", ".join(dict.fromkeys(map(str, places)))
        raise BackendError(
            f"backend cupy: CuPy is not installed properly: {where} is a remnant of an earlier installation; "
            "remove it or reinstall CuPy, or use --backend numpy"
        )
    return cupy


def _first_line(error: Exception) -> str:
    """Return the most helpful line of an error: CuPy's "Original error" if given, else the first line with a word."""
    lines = [line.strip() for line in str(error).splitlines() if any(map(str.isalnum, line))]
    original = [lines[n + 1] for n, line in enumerate(lines[:-1]) if line.lower().startswith("original error")]
    return (original or lines or [type(error).__name__])[0]
