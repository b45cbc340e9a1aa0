"""Which outputs of a pooling window count as equal: the margin by which a later place must be larger to win.

A free phase often has equal states at neighbouring places: it starts from zeros, and images have flat regions. All
outputs of a window are then equal in exact arithmetic, and the first place wins. Computed outputs may differ by
rounding, because BLAS adds the terms of identical rows in different orders, and a fast transform has another order at
every place of a tile. If rounding decided ties, two ways to compute the same layer could lead to different steady
states. So one rule holds for all forms, dtypes and backends:

    a later place wins only if its output is larger by more than     margin = multiple eps |x| r(w)

With this rule, windows that tie in exact arithmetic choose the first place. A value that is larger than the others by
more than two margins always wins; two, because a window is decided in two comparisons.

|x| is the Euclidean norm of all inputs that enter the outputs of the window (for the Winograd forms, of its tile). r(w)
measures how large the running sums of the weights become, because every addition is rounded relative to the sum so far:

    r_k^2 = mean over all running sums of their square, in the order of memory (i, j, c)
          + sum over i, j of the mean over c of (w_ij1k + ... + w_ijck)^2

The first term is that of a product that adds up columns, the second that of the sums over channels in Winograd's forms.
BLAS may add every second or fourth weight into a sum of its own; the first term is the largest of these orders. With
mixed signs, r is near |w|. With weights of one sign, it grows with the sum of |w|.

If all inputs are equal, |x| r(w) is the root mean square of the running sums times the square root of their number:
the size to which independent rounding errors add up, apart from a factor below one. The multiple covers this factor,
large deviations and, for Winograd's forms, what the transforms add. Exact ties were seen to differ by at most the
number in brackets, for weights of random, equal, alternating and blockwise sign, for saturated, flat, sparse and uneven
states, 1 to 256 channels (kernels of OpenBLAS for Haswell; tests/ops/test_ties.py tries four kinds of kernels). Over
many terms errors average out, and BLAS cuts long sums into blocks:

    terms KH KW C   direct       4 points   6 points      8 points
    below 500       2.5 (1.7)    1 (0)      2.5 (1.5)     6 (3.8)
    from 500 on     1 (0.6)      1 (0)      1.25 (0.7)    2 (0.9)

Letters: N samples, (H, W) input size, C input and K output channels, (P, Q) number of windows or tiles.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from eqnp.backends.backend import Array, array_module
from eqnp.backends.workspace import Workspace

# By the points t of a Winograd transform (0: the direct form): for few terms, for many.
MULTIPLES = {0: (2.5, 1.0), 4: (1.0, 1.0), 6: (2.5, 1.25), 8: (6.0, 2.0)}
MANY = 500  # terms KH KW C of an output
LANES = (1, 2, 4)  # sums into which BLAS may add neighbouring weights
PIECE = 32  # rows of weights whose running sums are one product, at most


def running_sums(w: Array) -> Array:
    """Return r(w) for every output channel: (KH, KW, C, K) -> (K,).

    Rows of w are cut into pieces. Running sums within all pieces are one matrix product, which is several times as fast
    as ``cumsum``; then each piece gets the sum of all before it.
    """
    xp, (c, k) = array_module(w), w.shape[2:]
    w = w.reshape(-1, k)
    sums = abs(w)
    largest = sums.max(axis=0)
    w = w / xp.where(largest > 0, largest, 1).astype(w.dtype)  # so that no square overflows
    lanes = [n for n in LANES if c % n == 0]
    rows = _rows_of_a_piece(c, lanes[-1])
    pieces, sums = w.reshape(-1, rows, k), sums.reshape(-1, rows, k)  # ``sums`` is overwritten
    squares, over_channels = [], 0
    for n in lanes:
        xp.matmul(xp.asarray(_lower_triangle(rows, n), dtype=w.dtype), pieces, out=sums)
        if n == 1:
            _carry_on(sums.reshape(-1, c // rows, rows, 1, k))
            over_channels = _sum_of_squares(sums) / c
            _carry_on(sums.reshape(1, -1, c, 1, k))
        else:
            _carry_on(sums.reshape(1, -1, rows // n, n, k))
        squares.append(_sum_of_squares(sums) * (n / len(w)))
    return largest * xp.sqrt(xp.stack(squares).max(axis=0) + over_channels)


def _rows_of_a_piece(c: int, lanes: int) -> int:
    """Return the most rows, up to ``PIECE``, that divide the C rows of a tap and are a multiple of ``lanes``."""
    return lanes * max(n for n in range(1, PIECE // lanes + 1) if c // lanes % n == 0)


@lru_cache(maxsize=64)
def _lower_triangle(rows: int, lanes: int) -> np.ndarray:
    """Return the matrix (rows, rows) whose product with rows of weights is the running sums of every lane."""
    matrix = np.kron(np.tri(rows // lanes), np.eye(lanes))
    matrix.setflags(write=False)  # all callers get the same array
    return matrix


def _carry_on(sums: Array) -> None:
    """Let running sums within pieces go on from one piece to the next, in place: (groups, pieces, rows, lanes, K)."""
    sums[:, 1:] += array_module(sums).cumsum(sums[:, :-1, -1], axis=1)[:, :, None]


def _sum_of_squares(a: Array) -> Array:
    """Return the sum of squares over the first two axes: (A, B, K) -> (K,)."""
    a = a.reshape(-1, a.shape[2])
    return array_module(a).einsum("bk,bk->k", a, a)


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

    spread: Array  # (K,): multiple eps r(w)
    rows: Array  # (P, H): 1 where a row enters a window, else 0
    columns: Array  # (W, Q): 1 where a column enters a window, else 0


def prepare_ties(w: Array, rows: Axis, columns: Axis, points: int = 0) -> Ties:
    """Return ``Ties`` for weights w (KH, KW, C, K) and windows along both axes, in the dtype of w.

    ``points``: those of the Winograd transform that computes the outputs; 0: the direct form.
    """
    xp = array_module(w)
    multiple = multiple_of_eps(math.prod(w.shape[:3]), points)
    spread = running_sums(w) * w.dtype.type(multiple * np.finfo(w.dtype).eps)
    return Ties(spread, *(xp.asarray(each, dtype=w.dtype) for each in (rows.matrix(), columns.matrix().T.copy())))


def multiple_of_eps(terms: int, points: int = 0) -> float:
    """Return the multiple for outputs that are sums of ``terms`` products."""
    few, many = MULTIPLES[points]
    return few if terms < MANY else many


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
