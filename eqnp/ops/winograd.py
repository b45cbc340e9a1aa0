"""A convolution with stride 1 and the 2x2 pooling after it as one, by Winograd's F(m x m, r x r), and its adjoint.

Letters: N samples, (H, W) input size, C input and K output channels, D padding, r kernel size, m outputs of a tile
along each axis, t = m + r - 1 the inputs that they need, (P, Q) tiles, T = N P Q.

A tile of m x m outputs needs t^2 multiplications where the direct form needs m^2 r^2 (Winograd 1980; Lavin and Gray
2016, arXiv:1509.09308). Along one axis, with d the t inputs, w the r weights and . the product entry by entry,

    y = A^T [ (G w) . (B^T d) ]

Over two axes and all channels, each stage is a matrix product over whatever it does not mix:

    D_j  (t^2, C)       gathered: the t x t inputs of tile j, of T
    V_j = (B^T x B^T) D_j                            x is Kronecker's product
    M^i = V^i U^i       for each of t^2 entries i: (T, C) . (C, K),    U = (G x G) w
    Y   = (A^T x A^T) M (places side^2, T K)         its rows ordered: place in the pooling window, window

so a maximum is taken over four contiguous arrays, and an average is taken by A itself. The adjoint in d runs the same
stages backwards, each product by its transpose, so the two are adjoint to rounding, which EP needs of its two
directions. Outputs that belong to no window or lie outside are computed with the others and left out.

Up to D tiles come first, (T, t^2, C): inputs are copied in long runs. V and M have entries first, (t^2, T, C) and
(t^2, T, K), which large products want. The transforms are small products, one for each tile, that stay in the cache.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import product
from typing import NamedTuple

import numpy as np

from eqnp.backend import Array, array_module
from eqnp.ops.conv import output_size
from eqnp.ops.pooling import max_of_windows
from eqnp.products import Products
from eqnp.workspace import Workspace

Size = tuple[int, int]


@dataclass(frozen=True)
class Tiling:
    """F(m x m, r x r) and the pooling after it, ``max``, ``average`` or ``none``, laid over an input of a size."""

    m: int
    r: int
    pool: str
    size: Size
    """(H, W) of the input."""
    padding: int = 0

    @cached_property
    def t(self) -> int:
        """Inputs of a tile along each axis."""
        return self.m + self.r - 1

    @cached_property
    def side(self) -> int:
        """Values that a tile leaves after pooling, along each axis."""
        return self.m if self.pool == "none" else self.m // 2

    @cached_property
    def places(self) -> int:
        """Values among which a maximum chooses."""
        return 4 if self.pool == "max" else 1

    @cached_property
    def above(self) -> Size:
        """Size of the state above, after the pooling."""
        h, w = output_size(self.size, (self.r, self.r), 1, self.padding)
        return (h, w) if self.pool == "none" else (h // 2, w // 2)

    @cached_property
    def counts(self) -> Size:
        """(P, Q): how many tiles cover the state above."""
        p, q = (-(-n // self.side) for n in self.above)
        return p, q

    @cached_property
    def count(self) -> int:
        """P Q: the tiles of a sample."""
        return self.counts[0] * self.counts[1]

    @cached_property
    def covered(self) -> Size:
        """Size of the padded input that the tiles read."""
        h, w = (count * self.m + self.r - 1 for count in self.counts)
        return h, w


class Kernel(NamedTuple):
    """Transformed weights, and the transforms of inputs and outputs, in one dtype on one device."""

    channels: tuple[int, int]  # C, K
    u: Array  # (t^2, C, K), as products take it
    u_back: Array  # (t^2, K, C), likewise
    a: Array  # (places side^2, t^2)
    b: Array  # (t^2, t^2)
    products: Products  # what multiplies by them
    # By how much a later place of a window must be larger to win: one number for each k, (P, Q, K) because numbers that
    # are repeated in long runs are subtracted faster.
    margin: Array | None


PAGE = 4096  # bytes of a page; a cache finds its places by addresses within one
APART = 32  # numbers by which entries are moved apart

# Where the polynomials are evaluated, besides infinity. Pairs a, -a and their inverses keep the transforms small: with
# them F(4x4, 3x3) rounds half as much as with 0, 1, -1, 2, -2.
POINTS: dict[int, tuple[Fraction, ...]] = {
    4: (Fraction(0), Fraction(1), Fraction(-1)),
    6: (Fraction(0), *(s * Fraction(*f) for f in ((2, 3), (3, 2)) for s in (1, -1))),
    8: (Fraction(0), *(s * Fraction(*f) for f in ((1, 1), (2, 1), (1, 2)) for s in (1, -1))),
}

# Roundings by which equal outputs of a tile may differ. A free phase passes through states that are the same at all
# places, where windows tie; the direct form computes equal numbers there and the first place wins, in every dtype.
# Left to rounding, ties would lead the network to another of its steady states.
ROUNDINGS = {4: 4, 6: 8, 8: 32}


def toom_cook(m: int, r: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return A^T (m, t), G (t, r) and B^T (t, t), t = m + r - 1, with which y = A^T [(G w) . (B^T d)] in one dimension.

    A product of polynomials is the product of their values at t points; the filter is the transpose of that in d. With
    E_n the values of 1, x, .. x^{n-1} at the points (at infinity: the last coefficient): A^T = E_m^T, G = E_r and
    B^T = (E_t^{-1})^T. (Toom 1963; Cook 1966; Blahut 2010, Fast Algorithms for Signal Processing, chapter 5.)
    """
    t = m + r - 1

    def values(n: int) -> list[list[Fraction]]:
        return [[p**j for j in range(n)] for p in POINTS[t]] + [[Fraction(int(j == n - 1)) for j in range(n)]]

    def numbers(rows: list[list[Fraction]]) -> np.ndarray:
        return np.array([[float(x) for x in row] for row in rows])

    return numbers(values(m)).T, numbers(values(r)), numbers(_inverse(values(t))).T


def _inverse(rows: list[list[Fraction]]) -> list[list[Fraction]]:
    """Return the exact inverse, by Gauss and Jordan: fractions leave no rounding to the transforms."""
    n = len(rows)
    both = [[*row, *(Fraction(int(i == j)) for j in range(n))] for i, row in enumerate(rows)]
    for c in range(n):
        pivot = next(i for i in range(c, n) if both[i][c])
        both[c], both[pivot] = both[pivot], both[c]
        both[c] = [x / both[c][c] for x in both[c]]
        for i in range(n):
            if i != c:
                both[i] = [x - both[i][c] * y for x, y in zip(both[i], both[c], strict=True)]
    return [row[n:] for row in both]


def transform_weights(w: Array, tiling: Tiling, products: Products | None = None) -> Kernel:
    """Return U = (G x G) w of (r, r, C, K), and the transforms of inputs and outputs, in the dtype of w."""
    xp, t, m = array_module(w), tiling.t, tiling.m
    a, g, b = toom_cook(m, tiling.r)
    outputs = np.kron(a, a)
    if tiling.pool != "none":  # (row of windows, row in the window, column of windows, column in it) -> place, window
        outputs = outputs.reshape(m // 2, 2, m // 2, 2, t * t).transpose(1, 3, 0, 2, 4).reshape(4, -1, t * t)
        outputs = outputs.mean(axis=0) if tiling.pool == "average" else outputs.reshape(-1, t * t)
    a, b, g = (xp.asarray(np.ascontiguousarray(x), dtype=w.dtype) for x in (outputs, np.kron(b, b), np.kron(g, g)))
    c, k = w.shape[2:]
    u = xp.matmul(g, w.reshape(tiling.r**2, c * k)).reshape(t * t, c, k)
    margin = None
    if tiling.pool == "max":
        margin = xp.zeros((*tiling.counts, k), dtype=w.dtype)
        margin += ROUNDINGS[t] * float(np.finfo(w.dtype).eps) * xp.sqrt((w * w).sum(axis=(0, 1, 2)))
    products = products or Products()
    return Kernel((c, k), products.prepare(u), products.prepare(u.swapaxes(1, 2)), a, b, products, margin)


def winograd_outputs(x: Array, kernel: Kernel, tiling: Tiling, space: Workspace | None = None) -> Array:
    """Return Y: ``w * x`` where the pooling has not chosen yet. (N, H, W, C) -> (places, side, side, N, P, Q, K).

    Adjoint: ``winograd_inputs``.
    """
    xp, space = array_module(x), space or Workspace()
    (c, k), t2, tiles = kernel.channels, tiling.t**2, len(x) * tiling.count
    d = _gather(x, tiling, space)
    v = _take_entries_first(space, "odd stages", (t2, tiles, c), x)
    xp.matmul(kernel.b, d.reshape(tiles, t2, c), out=_tiles_first(v))
    m = kernel.products.matmul(v, kernel.u, out=_take_entries_first(space, "even stages", (t2, tiles, k), x))
    y = space.take("odd stages", (tiling.places, tiling.side, tiling.side, len(x), *tiling.counts, k), x)
    xp.matmul(kernel.a, _tiles_first(m), out=_tiles_first(y.reshape(-1, tiles, k)))
    return y


def winograd_inputs(y: Array, kernel: Kernel, tiling: Tiling, space: Workspace | None = None) -> Array:
    """Return the adjoint of ``winograd_outputs``: (places, side, side, N, P, Q, K) -> (N, H, W, C).

    The array returned is in the workspace: valid until it is used for this again.
    """
    xp, space = array_module(y), space or Workspace()
    (c, k), t2, n = kernel.channels, tiling.t**2, y.shape[3]
    tiles = n * tiling.count
    m = _take_entries_first(space, "even stages", (t2, tiles, k), y)
    xp.matmul(kernel.a.T, _tiles_first(y.reshape(-1, tiles, k)), out=_tiles_first(m))
    v = kernel.products.matmul(m, kernel.u_back, out=_take_entries_first(space, "odd stages", (t2, tiles, c), y))
    d = space.take("even stages", (n, *tiling.counts, tiling.t, tiling.t, c), y)
    xp.matmul(kernel.b.T, _tiles_first(v), out=d.reshape(tiles, t2, c))
    return _scatter(d, tiling, space)


def winograd_max_pool(y: Array, kernel: Kernel, space: Workspace | None = None) -> tuple[Array, Array]:
    """Return the maximum over the places of Y and which one has it first: both (side, side, N, P, Q, K).

    Values that differ by rounding alone tie (``ROUNDINGS``). Y is written over.
    """
    return max_of_windows(y.reshape(2, 2, *y.shape[1:]), space or Workspace(), kernel.margin)


def winograd_pick(y: Array, winner: Array) -> Array:
    """Return Y at the ``winner`` of every window, both in tiles. Adjoint: ``winograd_unpool``."""
    return sum(y[place] * (winner == place) for place in range(4))


def winograd_unpool(v: Array, winner: Array, space: Workspace | None = None) -> Array:
    """Return Y with every value at the place of its winner and zero elsewhere, both in tiles."""
    xp, space = array_module(v), space or Workspace()
    shape = (4, *v.shape)
    places = xp.arange(4, dtype=xp.uint8).reshape(4, *[1] * v.ndim)
    wins = xp.equal(winner, places, out=space.take("wins", shape, v, dtype=bool))
    return xp.multiply(v, wins, out=space.take("odd stages", shape, v))


def to_tiles(v: Array, tiling: Tiling, name: str, space: Workspace) -> Array:
    """Return a state (N, H, W, K) as tiles (side, side, N, P, Q, K), zero where a tile leaves the state."""
    (p, q), (n, h, w, k), side = tiling.counts, v.shape, tiling.side
    if (h, w) != (p * side, q * side):
        whole = space.take_zeros((name, h, w), (n, p * side, q * side, k), v)
        whole[:, :h, :w] = v
        v = whole
    tiles = space.take((name, v.shape), (side, side, n, p, q, k), v)
    tiles[...] = v.reshape(n, p, side, q, side, k).transpose(2, 4, 0, 1, 3, 5)
    return tiles


def from_tiles(tiles: Array, out: Array) -> None:
    """Write tiles (side, side, N, P, Q, K) to a state ``out`` (N, H, W, K)."""
    (side, _, n, p, q, k), (h, w) = tiles.shape, out.shape[1:3]
    rows = tiles.transpose(2, 3, 0, 4, 1, 5)  # (N, P, side, Q, side, K)
    if (h, w) != (p * side, q * side):
        out[...] = rows.reshape(n, p * side, q * side, k)[:, :h, :w]  # a copy
    else:
        out.reshape(rows.shape)[...] = rows


def _take_entries_first(space: Workspace, name: str, shape: tuple[int, int, int], like: Array) -> Array:
    """Return a buffer (t^2, T, channels) whose entries do not lie whole pages apart.

    A tile's transform walks over all of them, and what lies pages apart competes for the same few places of a cache.
    """
    t2, tiles, channels = shape
    numbers = tiles * channels
    if numbers * like.dtype.itemsize % PAGE:
        return space.take(name, shape, like)
    return space.take(name, (t2, numbers + APART), like)[:, :numbers].reshape(shape)


def _tiles_first(a: Array) -> Array:
    return a.transpose(1, 0, 2)


def _gather(x: Array, tiling: Tiling, space: Workspace) -> Array:
    """Return the inputs of every tile: (N, H, W, C) -> (N, P, Q, t, t, C). Adjoint: ``_scatter``."""
    xp, (n, h, w, c) = array_module(x), x.shape
    need, padding, m, t = tiling.covered, tiling.padding, tiling.m, tiling.t
    if padding or (h, w) != need:
        padded = space.take_zeros(("padded", padding, h, w), (n, *need, c), x)
        rows, cols = min(h, need[0] - padding), min(w, need[1] - padding)
        padded[:, padding : padding + rows, padding : padding + cols] = x[:, :rows, :cols]
        x = padded
    d = space.take("even stages", (n, *tiling.counts, t, t, c), x)
    sn, sh, sw, sc = x.strides
    d[...] = xp.lib.stride_tricks.as_strided(x, d.shape, (sn, m * sh, m * sw, sh, sw, sc))
    return d


def _scatter(d: Array, tiling: Tiling, space: Workspace) -> Array:
    """Return the sum of all tiles' inputs where they came from: (N, P, Q, t, t, C) -> (N, H, W, C)."""
    n, p, q, t, _, c = d.shape
    m, padding, more = tiling.m, tiling.padding, -(-t // tiling.m) - 1
    padded = space.take("odd stages", (n, (p + more) * m, (q + more) * m, c), d)
    padded[:, p * m :] = 0
    padded[:, : p * m, q * m :] = 0
    # Entries that lie m apart in a tile meet in its neighbours: cut into parts of m, each part of all tiles is apart.
    for i, j in product(range(0, t, m), repeat=2):
        part = d[:, :, :, i : i + m, j : j + m].transpose(0, 1, 3, 2, 4, 5)  # (N, P, a, Q, b, C)
        where = padded[:, i : i + p * m, j : j + q * m].reshape(n, p, m, q, m, c)[:, :, : t - i, :, : t - j]
        if i == j == 0:
            where[...] = part
        else:
            where += part
    (h, w), inside = tiling.size, padded[:, padding:, padding:]
    if h <= inside.shape[1] and w <= inside.shape[2]:
        return inside[:, :h, :w]
    x = space.take_zeros(("scattered", padding, inside.shape), (n, h, w, c), d)  # what no tile covers stays zero
    x[:, : inside.shape[1], : inside.shape[2]] = inside[:, :h, :w]
    return x
