"""Which outputs of a pooling window count as equal: the margin by which a later place must be larger to win.

A free phase passes through states that are the same at many places (it starts from zeros, images have flat regions).
There, all outputs of a window are equal in exact arithmetic and the first place wins. Computed outputs may differ by
rounding: a BLAS adds up identical rows in different orders, and a fast transform does so for every place of a tile.
Left to rounding, ties would lead the network to another of its steady states. So one rule holds for all forms, dtypes
and backends:

    a later place wins only if its output is larger by more than     margin = MULTIPLE eps |x| r(w)

With it, windows that tie in exact arithmetic choose the first place, and a true gap above two margins is never
overridden (two, since a window is decided in two comparisons).

|x| is the Euclidean norm of all inputs that enter the window's outputs (for Winograd's forms, those of its tile). r(w)
measures how large the running sums of the weights become, since every addition is rounded relative to the sum so far:

    r_k^2 = sum of w_ijck^2  +  mean over c of (sum over i, j of |w_ij1k + ... + w_ijck|)^2

Where signs are mixed, running sums stay near |w|; with weights of one sign they grow to the sum of |w|. For inputs that
are all equal, |x| r(w) is at least the root mean square of the running sums times the square root of their number:
to which rounding errors that are independent of each other add up, apart from a factor below one. MULTIPLE covers this
factor and large deviations: exact ties differed by at most 1.7 eps |x| r(w), over weights of random, equal, alternating
and blockwise sign, saturated, flat, sparse and uneven states, and five core types of OpenBLAS (tests/test_ties.py).

Letters: N samples, (H, W) input size, C input and K output channels, (P, Q) windows, or tiles.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from eqnp.backends.backend import Array, array_module
from eqnp.backends.workspace import Workspace

MULTIPLE = 4


def tie_spread(w: Array) -> Array:
    """Return MULTIPLE eps r(w) for every output channel: (KH, KW, C, K) -> (K,)."""
    xp = array_module(w)
    largest = abs(w).max(axis=(0, 1, 2))
    w = w / xp.where(largest > 0, largest, 1).astype(w.dtype)  # so that no square overflows
    running = abs(xp.cumsum(w, axis=2)).sum(axis=(0, 1))  # (C, K)
    r = largest * xp.sqrt((w * w).sum(axis=(0, 1, 2)) + (running * running).mean(axis=0))
    return r * w.dtype.type(MULTIPLE * np.finfo(w.dtype).eps)


class Axis(NamedTuple):
    """Which inputs along one axis enter each of ``count`` windows: ``span`` of them, the first at i ``step`` - D."""

    size: int
    count: int
    step: int
    span: int
    padding: int

    def matrix(self) -> np.ndarray:
        """Return ones where an input enters a window: (count, size)."""
        first = np.arange(self.count)[:, None] * self.step - self.padding
        place = np.arange(self.size)
        return ((place >= first) & (place < first + self.span)).astype(np.float64)


class Ties(NamedTuple):
    """What the margins of a layer need, in one dtype on one device."""

    spread: Array  # MULTIPLE eps r(w) (K,)
    rows: Array  # ones where a row enters a window (P, H)
    columns: Array  # likewise, transposed (W, Q)


def prepare_ties(w: Array, rows: Axis, columns: Axis) -> Ties:
    """Return what the margins need of weights (KH, KW, C, K) and of the windows along both axes."""
    xp = array_module(w)
    return Ties(
        tie_spread(w), *(xp.asarray(each, dtype=w.dtype) for each in (rows.matrix(), columns.matrix().T.copy()))
    )


def reach(x: Array, ties: Ties) -> Array:
    """Return |x| over the inputs of every window: (N, H, W, C) -> (N, P, Q)."""
    xp, (n, h, w, c) = array_module(x), x.shape
    flat = x.reshape(-1, c)
    squares = xp.einsum("nd,nd->n", flat, flat)  # without an array of squares, which would leave the cache
    across = xp.matmul(squares.reshape(n * h, w), ties.columns)  # (N H, W) . (W, Q)
    out = xp.matmul(ties.rows, across.reshape(n, h, -1))  # (P, H) . (N, H, Q)
    return xp.sqrt(out, out=out)


def tie_margin(reached: Array, spread: Array, space: Workspace) -> Array:
    """Return the margin of every window and channel: |x| (...), (K,) -> (..., K)."""
    out = space.take("margin", (*reached.shape, len(spread)), spread)
    return array_module(spread).multiply(reached[..., None], spread, out=out)
