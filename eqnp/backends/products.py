"""Products of stacks of matrices, for the Winograd forms: many small products by weights that do not change.

Letters: B matrices in a stack, (M, C) left factors, (C, K) right factors, which are the weights.

NumPy passes each matrix of a stack to BLAS. OpenBLAS copies both factors into panels before it multiplies; for a
few dozen rows this copy takes a large part of the time. On CPUs with AVX-512, OpenBLAS has kernels without this copy
for products of at most 10^6 multiplications. ``SlabProducts`` cuts larger products into parts of that size.
"""

from __future__ import annotations

import numpy as np
from threadpoolctl import threadpool_info

from eqnp.backends.backend import Array, array_module

AVX512 = ("SkylakeX", "Cooperlake", "SapphireRapids")  # OpenBLAS's names of these CPUs
SLAB = 8192  # entries of a slab: 32 KB in float32, which stay in the first-level cache
COLUMNS = (64, 32)  # possible widths of a slab
MOST = 10**6  # multiplications in a product that OpenBLAS treats as small
ROWS = 64  # rows in a product if there are several slabs, at most
FEW_ROWS = 8  # rows in a product, at least; a slab must allow them
FEW_ENTRIES = 16  # matrices in a stack of F(2x2, 3x3), the form for layers of few places and many weights


class Products:
    """Products of stacks by ``matmul`` of the arrays' module."""

    def prepare(self, u: Array) -> Array:
        """Return the right factors (B, C, K) in the form that ``matmul`` takes."""
        # A contiguous copy is faster. The largest weights are not copied: one array serves drive and feedback.
        return u if len(u) == FEW_ENTRIES else array_module(u).ascontiguousarray(u)

    def matmul(self, a: Array, u: Array, out: Array) -> Array:
        """Write the products to ``out`` and return it: (B, M, C), (B, C, K) -> (B, M, K)."""
        return array_module(a).matmul(a, u, out=out)


class SlabProducts(Products):
    """Products by NumPy, with the right factors cut into slabs of s columns: (B, K / s, C, s)."""

    def prepare(self, u: Array) -> Array:
        """Return the right factors (B, C, K) as slabs, or unchanged if no width of a slab fits."""
        b, c, k = u.shape
        s = _width(b, c, k)
        return np.ascontiguousarray(u.reshape(b, c, k // s, s).transpose(0, 2, 1, 3)) if s else super().prepare(u)

    def matmul(self, a: Array, u: Array, out: Array) -> Array:
        """Write the products to ``out`` and return it: (B, M, C), slabs of (B, C, K) -> (B, M, K).

        Each product multiplies a few rows by one slab.
        """
        if u.ndim == 3:
            return super().matmul(a, u, out)
        (b, m, c), (_, slabs, _, s) = a.shape, u.shape
        most = MOST // (c * s)
        if slabs > 1:
            most = min(ROWS, 2 ** (most.bit_length() - 1))  # a power of 2 divides the rows of most blocks
        whole = m - m % most
        for rows, height in ((slice(0, whole), most), (slice(whole, m), m - whole)):
            if rows.stop > rows.start:
                left = a[:, rows].reshape(b, -1, 1, height, c)
                to = out[:, rows].reshape(b, -1, height, slabs, s).swapaxes(2, 3)
                np.matmul(left, u[:, None], out=to)
        return out


def _width(b: int, c: int, k: int) -> int:
    """Return the width of a slab: the largest that fits into the cache, else the largest; 0 if no slab is faster."""
    widths = [s for s in COLUMNS if k % s == 0 and FEW_ROWS * c * s <= MOST]
    larger = widths[0] if widths and b != FEW_ENTRIES else 0
    return next((s for s in widths if c * s <= SLAB), larger)


def best_numpy_products() -> str:
    """Return the fastest products on this CPU: "slabs" with OpenBLAS and AVX-512, else "numpy"."""
    fits = (b["internal_api"] == "openblas" and b.get("architecture") in AVX512 for b in threadpool_info())
    return "slabs" if any(fits) else "numpy"
