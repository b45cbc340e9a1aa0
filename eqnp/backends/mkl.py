"""Intel's oneMKL for the stacked products of Winograd's forms, where it is installed: ``pip install "eqnp-ep[mkl]"``.

It takes a stack in one call, and loses less than OpenBLAS where few samples meet large weights.
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

ROW_MAJOR, PLAIN, TRANSPOSED = 101, 111, 112  # of CBLAS
SEQUENTIAL = 1  # a shard has one thread
REPRODUCIBLE = 2  # MKL_CBWR_AUTO: the same bits wherever in memory the arrays lie


class MklProducts(Products):
    """Products by oneMKL, each in the thread that asks for it.

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
        """Write the products to ``out`` and return it. One axis of a matrix is contiguous, that of a row in ``out``."""
        (count, m, k), c = out.shape, a.shape[-1]
        (how_a, *matrix_a), (how_u, *matrix_u), (_, *matrix) = _layout(a), _layout(u), _layout(out)
        self._gemm[out.dtype](ROW_MAJOR, how_a, how_u, m, k, c, 1.0, *matrix_a, *matrix_u, 0.0, *matrix, count)
        return out


def _find() -> str | None:
    """Return the path or name of the library: that of the package ``mkl``, else what the system knows."""
    try:
        here = [file for file in files("mkl") or () if Path(file).name.startswith(("libmkl_rt.", "mkl_rt."))]
    except PackageNotFoundError:
        here = []
    return str(here[0].locate()) if here else find_library("mkl_rt")


def _declare(gemm: Any, real: type[Any]) -> Any:
    integer = ctypes.c_int
    matrix = [ctypes.c_void_p, integer, integer]  # its address, and the numbers to the next row and the next matrix
    gemm.argtypes = [*[integer] * 6, real, *matrix, *matrix, real, *matrix, integer]
    gemm.restype = None
    return gemm


def _layout(a: Array) -> tuple[int, int, int, int]:
    """Return how CBLAS reads a stack: its matrices plain or transposed, their address and the two strides."""
    size, (_, rows, columns), (stack, row, column) = a.itemsize, a.shape, a.strides
    if column == size:
        how, leading = PLAIN, max(row // size, columns)  # the stride of a single row may be any number
    else:
        how, leading = TRANSPOSED, max(column // size, rows)
    return how, a.ctypes.data, leading, stack // size
