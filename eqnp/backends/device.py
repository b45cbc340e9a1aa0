"""A GPU under CuPy: compiles and launches eqnp's CUDA kernels and multiplies matrices by cuBLAS.

A device is passed as an argument to the code that computes with it, so tests can run the same sources on a CPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Protocol, TypeAlias

import numpy as np

from eqnp.errors import ConfigurationError

Array: TypeAlias = Any  # a cupy.ndarray, or an array of a test's stand-in
Macros = Mapping[str, str | float]
THREADS = 256  # per block
BLOCKS = 4096  # per grid at most; with more outputs, each thread computes several


class Kernel(Protocol):
    """Computes ``count`` outputs. Arguments are device arrays, integers, or None for an array that is not given."""

    def __call__(self, count: int, *arguments: Array | int | None) -> None:
        """Launch the kernel."""


class Device(Protocol):
    """What the connections of ``eqnp.connections.cuda`` and ``cuda_winograd`` need."""

    exact: bool
    """Whether products have the full precision of their dtype; with TF32 they do not."""

    @property
    def strict(self) -> Device:
        """The same device with products of full precision."""

    def kernel(self, source: str, name: str, macros: Macros) -> Kernel:
        """Return the kernel ``name`` of a source ("columns", ...), compiled once for each set of macros."""

    def threads(self, count: int) -> int:
        """Return the number of threads for ``count`` outputs; each thread writes one entry of ``moved``."""

    def with_tf32(self) -> Device:
        """Return the same device with float32 products in TF32."""

    def multiply(self, a: Array, b: Array, out: Array, transpose_a: bool = False, transpose_b: bool = False) -> Array:
        """Write op(a) . op(b) to ``out`` and return it; op transposes a factor if its argument is true.

        op(a) is (M, K), op(b) is (K, N) and out is (M, N), or all have the same axis B in front. ``out`` is contiguous.
        """


def source_text(source: str, macros: Macros) -> str:
    """Return the text to compile: the macros, ``common.cu`` and the source ("columns", ...)."""
    defines = "".join(f"#define {name} {value}\n" for name, value in macros.items())
    return "\n".join([defines, _read("common"), _read(source)])


@cache
def _read(source: str) -> str:
    return (files("eqnp.backends.cuda") / f"{source}.cu").read_text()


class CudaDevice:
    """CuPy's current device.

    Given a ``strict`` device, it is that one with TF32: float32 products use tensor cores, which keep 11 bits of each
    factor.
    """

    def __init__(self, cupy: Any, strict: CudaDevice | None = None) -> None:
        tf32 = strict is not None
        self._cupy, self._strict = cupy, strict
        self._compiled: dict[Any, Any] = {}
        self._cublas, self._handle = cupy.cuda.cublas, cupy.cuda.device.get_cublas_handle
        self.exact = not tf32
        runtime, cublas = cupy.cuda.runtime, self._cublas
        single = cublas.CUBLAS_COMPUTE_32F_FAST_TF32 if tf32 else cublas.CUBLAS_COMPUTE_32F
        # By dtype: cuBLAS's names of the dtype and the precision, and the addresses of alpha = 1 and beta = 0.
        self._scalars = {np.dtype(dtype): np.array([1, 0], dtype) for dtype in (np.float32, np.float64)}
        self._types = {
            dtype: (cuda_type, compute, self._scalars[dtype].ctypes.data, self._scalars[dtype][1:].ctypes.data)
            for dtype, cuda_type, compute in (
                (np.dtype(np.float32), runtime.CUDA_R_32F, single),
                (np.dtype(np.float64), runtime.CUDA_R_64F, cublas.CUBLAS_COMPUTE_64F),
            )
        }

    def with_tf32(self) -> CudaDevice:
        """Return the same device with float32 products in TF32."""
        return CudaDevice(self._cupy, strict=self)

    @property
    def strict(self) -> CudaDevice:
        """The device without TF32."""
        return self._strict or self

    def try_out(self) -> None:
        """Compile a kernel and load cuBLAS, so that a missing CUDA library is found before a run begins."""
        self._module('extern "C" __global__ void nothing() {}').get_function("nothing")
        self._handle()

    def threads(self, count: int) -> int:
        """Return the number of threads for ``count`` outputs."""
        return THREADS * min(BLOCKS, -(-count // THREADS))

    def kernel(self, source: str, name: str, macros: Macros) -> Kernel:
        """Return a kernel of a source. CuPy caches compiled sources on disk, so each is compiled once per machine."""
        key = (source, tuple(macros.items()))
        if key not in self._compiled:
            self._compiled[key] = self._module(source_text(source, macros))
        function = self._compiled[key].get_function(name)

        def launch(count: int, *arguments: Array | int | None) -> None:
            if count:
                grid = (self.threads(count) // THREADS,)
                function(grid, (THREADS,), launch_arguments(count, arguments))

        return launch

    def _module(self, text: str) -> Any:
        return self._cupy.RawModule(code=text, options=("-std=c++17",))

    def multiply(self, a: Array, b: Array, out: Array, transpose_a: bool = False, transpose_b: bool = False) -> Array:
        """Write op(a) . op(b) to ``out`` by cuBLAS and return it; shapes as in ``Device.multiply``."""
        cuda_type, compute, one, zero = self._types[out.dtype]
        a, b = (each if each.flags.c_contiguous else self._cupy.ascontiguousarray(each) for each in (a, b))
        n, m, k = out.shape[-1], out.shape[-2], a.shape[-2 if transpose_a else -1]
        # cuBLAS is column-major: it reads our row-major arrays as their transposes, and out^T = op(b)^T op(a)^T.
        right = (b.data.ptr, cuda_type, b.shape[-1])
        left = (a.data.ptr, cuda_type, a.shape[-1])
        result = (out.data.ptr, cuda_type, n)
        operations = [self._cublas.CUBLAS_OP_T if t else self._cublas.CUBLAS_OP_N for t in (transpose_b, transpose_a)]
        first, how = (self._handle(), *operations, n, m, k), (compute, self._cublas.CUBLAS_GEMM_DEFAULT)
        if out.ndim == 2:  # a call of its own, which may cut a long sum over k into parts
            self._cublas.gemmEx(*first, one, *right, *left, zero, *result, *how)
        else:
            sides = (one, *right, k * n, *left, m * k, zero, *result, m * n)
            self._cublas.gemmStridedBatchedEx(*first, *sides, len(out), *how)
        return out


NULL = np.uintp(0)


def launch_arguments(count: int, arguments: tuple[Array | int | None, ...]) -> tuple[Any, ...]:
    """Return a kernel's arguments, ``count`` last: integers as 32-bit numbers and None as a null pointer.

    Raises:
        ConfigurationError: ``count`` is 2^31 or more.
        ValueError: an array is not contiguous.
    """
    if count >= 2**31:
        raise ConfigurationError(
            f"a layer has {count} values for this batch, but a CUDA kernel can compute fewer than 2^31; lower "
            "training.batch_size or --samples"
        )
    return tuple(map(_argument, (*arguments, count)))


def _argument(a: Array | int | None) -> Any:
    if a is None:
        return NULL
    if isinstance(a, int):
        return np.uint32(a)
    if not a.flags.c_contiguous:
        raise ValueError(f"a kernel takes contiguous arrays, not one of shape {a.shape} with strides {a.strides}")
    return a
