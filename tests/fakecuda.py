"""What eqnp asks CuPy for beside arrays, on a CPU: kernels compiled as C++, cuBLAS's product by NumPy, a memory pool.

The calls are CuPy's, and stricter: a kernel takes what its source declares and nothing else. ``standin`` has them under
CuPy's names.
"""

from __future__ import annotations

import ctypes
import hashlib
import re
import shutil
import subprocess
import tempfile
import threading
import time
import weakref
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from benchmarks.tf32 import to_tf32

FUSED = ("-march=native", "-ffp-contract=fast")  # a multiplication with an addition, as NVRTC does it
COMPILER = shutil.which("g++") or shutil.which("clang++") or shutil.which("c++")

# What CUDA has and C++ has not.
PROLOGUE = """
#include <cmath>
#include <cstddef>
using namespace std;
#define __global__
#define __device__
#define __forceinline__ inline
static struct { unsigned x; } blockIdx, threadIdx, blockDim, gridDim;
"""

# A grid of a kernel: its threads one after the other, in this order or backwards.
LAUNCHER = """
extern "C" void grid_of_{name}(unsigned blocks, unsigned threads, int backwards, {declared})
{{
  gridDim.x = blocks, blockDim.x = threads;
  for (unsigned k = 0; k < blocks * threads; k++) {{
    unsigned thread = backwards ? blocks * threads - 1 - k : k;
    blockIdx.x = thread / threads, threadIdx.x = thread % threads;
    {name}({names});
  }}
}}
"""

KERNEL = re.compile(r"^KERNEL (\w+)\(([^)]*)\)", re.MULTILINE)
REAL = {"float": np.float32, "double": np.float64}


class RawModule:
    """The kernels of a source. ``backwards``: the last thread of a grid comes first."""

    def __init__(self, *, code, options=(), backwards=False):
        assert options == ("-std=c++17",)
        self.code, self.backwards = code, backwards
        self.declared = {name: [each.strip() for each in text.split(",")] for name, text in KERNEL.findall(code)}
        self.real = next((REAL[name] for name in re.findall(r"^#define REAL (\w+)$", code, re.MULTILINE)), None)

    def get_function(self, name):
        """Return a function to be called with grid, block and a tuple of arguments."""
        if name == "nothing":  # which is compiled to see whether that can be done
            return None
        function, declared = getattr(_library(self.code), f"grid_of_{name}"), self.declared[name]

        def launch(grid, block, arguments):
            (blocks,), (threads,) = grid, block
            assert 0 < threads <= 1024 and blocks > 0
            taken = [self._taken(a, what) for a, what in zip(arguments, declared, strict=True)]
            self._require_apart(arguments, declared)
            function(*map(ctypes.c_uint32, (blocks, threads, self.backwards)), *taken)

        return launch

    @staticmethod
    def _require_apart(arguments, declared):
        """What a kernel writes overlaps nothing else that it reads or writes: threads run in any order."""
        arrays = [(a._host, what) for a, what in zip(arguments, declared, strict=True) if hasattr(a, "_host")]
        for n, (out, what) in enumerate(arrays):
            if not what.startswith("const"):
                for k, (other, _) in enumerate(arrays):
                    assert k == n or not np.may_share_memory(out, other), f"{what} overlaps {arrays[k][1]}"

    def _taken(self, argument, declared):
        if "*" not in declared:
            assert declared.startswith("index_t ") and type(argument) is np.uint32, declared
            return ctypes.c_uint32(int(argument))
        if isinstance(argument, np.generic):
            assert type(argument) is np.uintp and argument == 0, declared
            return ctypes.c_void_p(0)
        expected = np.uint8 if "place_t" in declared else self.real
        assert argument.dtype == expected, f"{declared} is given {argument.dtype}"
        assert argument.device == current_device(), "an array of another GPU"
        return ctypes.c_void_p(argument.data.ptr)


@cache
def _library(code):
    """Compile a source as C++, once for all tests of a machine's session."""
    text = PROLOGUE + code
    for name, declared in KERNEL.findall(code):
        names = ", ".join(each.split()[-1].strip("*") for each in declared.split(","))
        text += LAUNCHER.format(name=name, declared=declared, names=names)
    key = hashlib.sha256(f"{FUSED}{text}".encode()).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"eqnp-kernels-{key}"
    folder.mkdir(exist_ok=True)
    source, library = folder / "kernel.cpp", folder / "kernel.so"
    if not library.exists():
        source.write_text(text)
        made = folder / "made.so"
        command = [
            COMPILER,
            "-std=c++17",
            "-O1",
            *FUSED,
            "-Wall",
            "-Wno-unused",
            "-Wno-unknown-pragmas",
            "-shared",
            "-fPIC",
        ]
        subprocess.run([*command, "-o", made, source], check=True)
        made.rename(library)
    return ctypes.CDLL(str(library))


class Cublas:
    """cuBLAS's column-major product of matrices on the host. ``compute`` is the precision of the last one."""

    CUBLAS_OP_N, CUBLAS_OP_T, CUBLAS_GEMM_DEFAULT = 0, 1, -1
    CUBLAS_COMPUTE_32F, CUBLAS_COMPUTE_32F_FAST_TF32, CUBLAS_COMPUTE_64F = 68, 77, 70

    def gemmEx(
        self, handle, ta, tb, m, n, k, alpha, a, a_type, lda, b, b_type, ldb, beta, c, c_type, ldc, compute, algorithm,
    ):  # fmt: skip
        left, right, result = (a, a_type, lda, 0), (b, b_type, ldb, 0), (c, c_type, ldc, 0)
        how = (1, compute, algorithm)
        self.gemmStridedBatchedEx(handle, ta, tb, m, n, k, alpha, *left, *right, beta, *result, *how)

    def gemmStridedBatchedEx(
        self, handle, ta, tb, m, n, k, alpha, a, a_type, lda, stride_a, b, b_type, ldb, stride_b, beta, c, c_type, ldc,
        stride_c, batch, compute, algorithm,
    ):  # fmt: skip
        dtype = {runtime.CUDA_R_32F: np.float32, runtime.CUDA_R_64F: np.float64}[c_type]
        assert (a_type, b_type) == (c_type, c_type)
        assert compute in {np.float32: (68, 77), np.float64: (70,)}[dtype]
        assert (_memory(alpha, 1, dtype)[0], _memory(beta, 1, dtype)[0], handle, algorithm) == (1, 0, HANDLE, -1)
        self.compute = compute
        given = to_tf32 if compute == self.CUBLAS_COMPUTE_32F_FAST_TF32 else np.asarray
        for i in range(batch):
            # A column-major (rows, columns) matrix with leading dimension ld is a row-major (columns, ld) one.
            left = _matrix(a, i * stride_a, *((m, k) if ta else (k, m)), lda, dtype)
            right = _matrix(b, i * stride_b, *((k, n) if tb else (n, k)), ldb, dtype)
            left, right = given(left), given(right)
            out = _matrix(c, i * stride_c, n, m, ldc, dtype)
            np.matmul(right.T if tb else right, left.T if ta else left, out=out)


def _memory(pointer, count, dtype):
    number = {np.float32: ctypes.c_float, np.float64: ctypes.c_double}[dtype]
    return np.ctypeslib.as_array((number * count).from_address(pointer))


def _matrix(pointer, offset, rows, columns, leading, dtype):
    first = pointer + offset * np.dtype(dtype).itemsize
    return _memory(first, rows * leading, dtype).reshape(rows, leading)[:, :columns]


class MemoryPool:
    """Counts the bytes of the stand-in's arrays, and refuses those beyond its limit."""

    def __init__(self):
        self._used = self._total = self._limit = 0
        self._known = set()

    def hold(self, host):
        """Count the memory of a host array, which may be a view, until nobody holds it."""
        while isinstance(host.base, np.ndarray):
            host = host.base
        if id(host) in self._known:
            return
        if self._limit and self._used + host.nbytes > self._limit:
            raise MemoryError(f"Out of memory allocating {host.nbytes:,} bytes (limit set to: {self._limit:,} bytes).")
        self._known.add(id(host))
        self._used += host.nbytes
        self._total = max(self._total, self._used)
        weakref.finalize(host, self._release, id(host), host.nbytes).atexit = False

    def _release(self, key, size):
        self._known.discard(key)
        self._used -= size

    def malloc(self):
        """Stands for the pool where an allocator is asked for."""

    def used_bytes(self):
        return self._used

    def total_bytes(self):
        return self._total

    def free_bytes(self):
        return self._total - self._used

    def free_all_blocks(self):
        self._total = self._used

    def get_limit(self):
        return self._limit

    def set_limit(self, *, size):
        self._limit = size


POOLS = [MemoryPool()]  # CuPy's own, and what is in use instead: the last one holds new arrays


@contextmanager
def using_allocator(allocator):
    """Let a pool hold new arrays."""
    POOLS.append(allocator.__self__)
    try:
        yield
    finally:
        POOLS.pop()


_THREAD = threading.local()


def current_device():
    """Return the number of the GPU that this thread has chosen; a new thread is on GPU 0."""
    return getattr(_THREAD, "device", 0)


class Device:
    """One of two GPUs."""

    def __init__(self, number=None):
        self.id = current_device() if number is None else number

    def use(self):
        _THREAD.device = self.id


class CUDADriverError(RuntimeError):
    """What CuPy raises where the driver fails, known by its module."""


CUDADriverError.__module__ = "cupy_backends.cuda.api.driver"


class Event:
    """A time, known once the GPU has been waited for."""

    waited = 0.0

    def record(self, stream=None):
        assert stream in (None, STREAM)
        self.at = time.perf_counter()
        self._before = len(STREAM.exchanges)  # what the GPU does before it

    @property
    def done(self):
        """Whether the GPU has come so far. What NCCL brings is in memory only after it was asked."""
        return all(exchange.arrived() for exchange in STREAM.exchanges[: self._before])


def get_elapsed_time(start, end):
    assert end.at <= Event.waited, "the event may not have happened"
    return 1e3 * (end.at - start.at)


def synchronize():
    Event.waited = time.perf_counter()
    while not all(exchange.arrived() for exchange in STREAM.exchanges):
        pass


STREAM = SimpleNamespace(ptr=4711, synchronize=synchronize, exchanges=[])


class _Exchange:
    """Data on their way between GPUs: they are in ``place`` once all processes have sent theirs."""

    def __init__(self, comm, mine, place):
        self._place, self._found, self._request = place, np.empty_like(place), None
        if comm is None:
            self._found[:] = mine
        else:
            self._request = comm.Iallgather(mine.copy(), self._found)

    def arrived(self):
        if self._place is not None and (self._request is None or self._request.Test()):
            self._place[:] = self._found
            self._place = None
        return self._place is None


COMMUNICATORS = []  # all that were made


class NcclCommunicator:
    """NCCL's, one process a GPU; MPI carries the data between processes. ``calls`` holds (count, dtype) of each."""

    def __init__(self, ndev, commId, rank):
        assert commId == get_unique_id() and 0 <= rank < ndev
        self._size, self._rank, self.calls, self._comm = ndev, rank, [], None
        if ndev > 1:
            from mpi4py import MPI

            self._comm = MPI.COMM_WORLD.Dup()
            used = self._comm.allgather(current_device())
            assert len(set(used)) == ndev, "Duplicate GPU detected"
        COMMUNICATORS.append(self)

    def allGather(self, sendbuf, recvbuf, count, datatype, stream):
        assert stream == STREAM.ptr, "after the kernels that fill the buffer, on their stream"
        dtype = {7: np.float32, 8: np.float64}[datatype]
        place = _memory(recvbuf, count * self._size, dtype)
        assert sendbuf == recvbuf + self._rank * count * place.itemsize, "in place"
        self.calls.append((count, dtype))
        if self._comm is not None:
            assert len({*self._comm.allgather((count, datatype))}) == 1, "NCCL hangs if counts differ"
        STREAM.exchanges.append(_Exchange(self._comm, _memory(sendbuf, count, dtype), place))


def get_unique_id():
    return bytes(range(128))


nccl = SimpleNamespace(
    available=True,
    NCCL_FLOAT32=7,
    NCCL_FLOAT64=8,
    NcclCommunicator=NcclCommunicator,
    get_unique_id=get_unique_id,
)

HANDLE = "handle"
runtime = SimpleNamespace(
    CUDA_R_32F=0,
    CUDA_R_64F=1,
    getDeviceCount=lambda: 2,
    runtimeGetVersion=lambda: 13000,
    driverGetVersion=lambda: 13010,
    getDeviceProperties=lambda number: {"name": f"GPU {number}".encode()},
    deviceGetPCIBusId=lambda number: f"0000:{number:02}:00.0",
    memGetInfo=lambda: (4 * 10**9, 8 * 10**9),
)
cuda = SimpleNamespace(
    runtime=runtime,
    cublas=Cublas(),
    device=SimpleNamespace(get_cublas_handle=lambda: HANDLE),
    Device=Device,
    Event=Event,
    get_elapsed_time=get_elapsed_time,
    get_current_stream=lambda: STREAM,
    MemoryPool=MemoryPool,
    using_allocator=using_allocator,
)
