"""What multiplies the stacks of matrices of Winograd's forms: many small products by weights that stand still.

NumPy gives each matrix of a stack to its BLAS. OpenBLAS copies both factors into panels before it multiplies, which a
product of a few dozen rows hardly repays; on CPUs with AVX-512 it has kernels that leave that out for products of at
most 10^6 multiplications. ``SlabProducts`` cuts the large ones for them.
"""

from __future__ import annotations

import numpy as np
from threadpoolctl import threadpool_info

from eqnp.backends.backend import Array, array_module

AVX512 = ("SkylakeX", "Cooperlake", "SapphireRapids")  # as OpenBLAS calls them
SLAB = 8192  # numbers: 32 KB in float32, which stay in the first-level cache while rows pass by
COLUMNS = (64, 32)  # of a slab
MOST = 10**6  # multiplications of a product, for OpenBLAS to take it for a small one
ROWS = 64  # that meet one of several slabs at once, at most
FEW_ROWS = 8  # as few are worth while
FEW_ENTRIES = 16  # of F(2x2, 3x3), which is for layers of a few places, and those have the largest weights


class Products:
    """Products of stacks by the arrays' own module."""

    def prepare(self, u: Array) -> Array:
        """Return the right factors (B, C, K) as ``matmul`` takes them."""
        # A copy makes products faster; but the largest weights, which few tiles meet, are kept once for both ways.
        return u if len(u) == FEW_ENTRIES else array_module(u).ascontiguousarray(u)

    def matmul(self, a: Array, u: Array, out: Array) -> Array:
        """Write the products to ``out`` and return it: (B, M, C), (B, C, K) -> (B, M, K)."""
        return array_module(a).matmul(a, u, out=out)


class SlabProducts(Products):
    """Products by NumPy, the right factors cut into slabs of columns (B, K / s, C, s)."""

    def prepare(self, u: Array) -> Array:
        """Return the slabs, or the factors as they are where there are none of these widths."""
        b, c, k = u.shape
        s = _width(b, c, k)
        return np.ascontiguousarray(u.reshape(b, c, k // s, s).transpose(0, 2, 1, 3)) if s else super().prepare(u)

    def matmul(self, a: Array, u: Array, out: Array) -> Array:
        """Write the products to ``out`` and return it, each of a few rows and one slab."""
        if u.ndim == 3:
            return super().matmul(a, u, out)
        (b, m, c), (_, slabs, _, s) = a.shape, u.shape
        most = MOST // (c * s)
        if slabs > 1:
            most = min(ROWS, 2 ** (most.bit_length() - 1))  # which cuts the rows of most blocks without a rest
        whole = m - m % most
        for rows, height in ((slice(0, whole), most), (slice(whole, m), m - whole)):
            if rows.stop > rows.start:
                left = a[:, rows].reshape(b, -1, 1, height, c)
                to = out[:, rows].reshape(b, -1, height, slabs, s).swapaxes(2, 3)
                np.matmul(left, u[:, None], out=to)
        return out


def _width(b: int, c: int, k: int) -> int:
    """Return the columns of a slab: the most that fit the cache, else the most; 0 where no slab is worth while."""
    widths = [s for s in COLUMNS if k % s == 0 and FEW_ROWS * c * s <= MOST]
    larger = widths[0] if widths and b != FEW_ENTRIES else 0
    return next((s for s in widths if c * s <= SLAB), larger)


def best_numpy_products() -> str:
    """Return how NumPy multiplies fastest here: "slabs" if its BLAS is OpenBLAS on a CPU with AVX-512, else "numpy"."""
    fits = (b["internal_api"] == "openblas" and b.get("architecture") in AVX512 for b in threadpool_info())
    return "slabs" if any(fits) else "numpy"
