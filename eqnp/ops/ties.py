"""Which outputs of a pooling window count as equal: the margin by which a later place must be larger to win.

A free phase often has equal states at neighbouring places: it starts from zeros, and images have flat regions. All
outputs of a window are then equal in exact arithmetic, and the first place wins. Computed outputs may differ by
rounding, because BLAS adds the terms of identical rows in different orders, and a fast transform has another order at
every place of a tile. If rounding decided ties, two ways to compute the same layer could lead to different steady
states. So one rule holds for all forms, dtypes and backends:

    a later place wins only if its output is larger by more than     margin = MULTIPLE eps |x| r(w)

With this rule, windows that tie in exact arithmetic choose the first place. A value that is larger than the others by
more than two margins always wins; two, because a window is decided in two comparisons.

|x| is the Euclidean norm of all inputs that enter the outputs of the window (for the Winograd forms, of its tile). r(w)
measures how large the running sums of the weights become, because every addition is rounded relative to the sum so far:

    r_k^2 = sum of w_ijck^2  +  mean over c of (sum over i, j of |w_ij1k + ... + w_ijck|)^2

With mixed signs, running sums stay near |w|; with weights of one sign, they grow to the sum of |w|. If all inputs are
equal, |x| r(w) is at least the root mean square of the running sums times the square root of their number. Independent
rounding errors add up to this size, apart from a factor below one. MULTIPLE covers this factor and large deviations:
exact ties differed by at most 1.7 eps |x| r(w), for weights of random, equal, alternating and blockwise sign, for
saturated, flat, sparse and uneven states, and on five core types of OpenBLAS (tests/ops/test_ties.py).

Letters: N samples, (H, W) input size, C input and K output channels, (P, Q) number of windows or tiles.
"""

from __future__ import annotations

from dataclasses import dataclass
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


@dataclass(frozen=True)
class Axis:
    """Which inputs along one axis enter each window: ``span`` of them, from position i ``step`` - ``padding`` on."""

    size: int  # inputs
    count: int  # windows, i = 0 .. count - 1
    step: int
    span: int
    padding: int  # D

    def matrix(self) -> np.ndarray:
        """Return the matrix (count, size) that is 1 where an input enters a window, else 0."""
        first = np.arange(self.count)[:, None] * self.step - self.padding
        place = np.arange(self.size)
        return ((place >= first) & (place < first + self.span)).astype(np.float64)


class Ties(NamedTuple):
    """The arrays from which the margins of a layer are computed, in one dtype on one device."""

    spread: Array  # (K,): MULTIPLE eps r(w)
    rows: Array  # (P, H): 1 where a row enters a window, else 0
    columns: Array  # (W, Q): 1 where a column enters a window, else 0


def prepare_ties(w: Array, rows: Axis, columns: Axis) -> Ties:
    """Return ``Ties`` for weights w (KH, KW, C, K) and windows along both axes, in the dtype of w."""
    xp = array_module(w)
    return Ties(
        tie_spread(w), *(xp.asarray(each, dtype=w.dtype) for each in (rows.matrix(), columns.matrix().T.copy()))
    )


def reach(x: Array, ties: Ties) -> Array:
    """Return the norm |x| of the inputs of every window: (N, H, W, C) -> (N, P, Q)."""
    xp, (n, h, w, c) = array_module(x), x.shape
    flat = x.reshape(-1, c)
    squares = xp.einsum("nd,nd->n", flat, flat)  # without an array of squares, which would not fit into the cache
    across = xp.matmul(squares.reshape(n * h, w), ties.columns)  # (N H, W) . (W, Q)
    out = xp.matmul(ties.rows, across.reshape(n, h, -1))  # (P, H) . (N, H, Q)
    return xp.sqrt(out, out=out)


def tie_margin(reached: Array, spread: Array, space: Workspace) -> Array:
    """Return the margin of every window and channel: norms |x| (...), spread (K,) -> (..., K)."""
    out = space.take("margin", (*reached.shape, len(spread)), spread)
    return array_module(spread).multiply(reached[..., None], spread, out=out)
