"""Intel oneMKL for the stacked products of the Winograd forms, an optional package: ``pip install "eqnp-ep[mkl]"``.

oneMKL computes a stack in one call, and is faster than OpenBLAS for small batches and large weights.
"""

from __future__ import annotations

import ctypes
from ctypes.util import find_library
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any

import numpy as np

from eqnp.backends.backend import Array
from eqnp.backends.products import Products
from eqnp.errors import BackendError

ROW_MAJOR, PLAIN, TRANSPOSED = 101, 111, 112  # constants of CBLAS
SEQUENTIAL = 1  # one thread: each shard already has its own
REPRODUCIBLE = 2  # MKL_CBWR_AUTO: bitwise the same result for every alignment of the arrays


class MklProducts(Products):
    """Products by oneMKL, computed in the calling thread.

    Raises:
        BackendError: oneMKL is not installed or cannot be loaded.
    """

    def __init__(self) -> None:
        path = _find()
        if path is None:
            raise BackendError('oneMKL is not installed: `pip install mkl`, or set training.products = "auto"')
        try:
            library = ctypes.CDLL(path)
            library.MKL_Set_Threading_Layer(SEQUENTIAL)
            library.MKL_CBWR_Set(REPRODUCIBLE)
            self._gemm = {
                np.dtype(dtype): _declare(getattr(library, name), real)
                for dtype, name, real in (
                    (np.float32, "cblas_sgemm_batch_strided", ctypes.c_float),
                    (np.float64, "cblas_dgemm_batch_strided", ctypes.c_double),
                )
            }
        except (OSError, AttributeError) as error:
            raise BackendError(f'oneMKL cannot be used ({error}): set training.products = "numpy"') from None

    def matmul(self, a: Array, u: Array, out: Array) -> Array:
        """Write the products to ``out`` and return it: (B, M, C), (B, C, K) -> (B, M, K).

        In each matrix of a and u, one of the two axes is contiguous; in ``out`` it is the last axis.
        """
        (count, m, k), c = out.shape, a.shape[-1]
        (how_a, *matrix_a), (how_u, *matrix_u), (_, *matrix) = _layout(a), _layout(u), _layout(out)
        self._gemm[out.dtype](ROW_MAJOR, how_a, how_u, m, k, c, 1.0, *matrix_a, *matrix_u, 0.0, *matrix, count)
        return out


def _find() -> str | None:
    """Return the library's path in the package ``mkl``, else its name on the system, else None."""
    try:
        here = [file for file in files("mkl") or () if Path(file).name.startswith(("libmkl_rt.", "mkl_rt."))]
    except PackageNotFoundError:
        here = []
    return str(here[0].locate()) if here else find_library("mkl_rt")


def _declare(gemm: Any, real: type[Any]) -> Any:
    """Return the function with the types of its arguments."""
    integer = ctypes.c_int
    matrix = [ctypes.c_void_p, integer, integer]  # address, stride of a row, stride of a matrix
    gemm.argtypes = [*[integer] * 6, real, *matrix, *matrix, real, *matrix, integer]
    gemm.restype = None
    return gemm


def _layout(a: Array) -> tuple[int, int, int, int]:
    """Return how CBLAS reads a stack (B, M, K): plain or transposed, address, and the strides of a row and a matrix."""
    size, (_, rows, columns), (stack, row, column) = a.itemsize, a.shape, a.strides
    if column == size:
        how, leading = PLAIN, max(row // size, columns)  # with a single row, NumPy's stride is arbitrary
    else:
        how, leading = TRANSPOSED, max(column // size, rows)
    return how, a.ctypes.data, leading, stack // size
