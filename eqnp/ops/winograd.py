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

Up to V tiles come first, (N, P, Q, t, t, C): a tile's transform is a product of small matrices that stay in the cache,
and inputs are copied in long runs. From M on entries come first, (t^2, N P Q, K).
"""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from typing import NamedTuple

import numpy as np

from eqnp.backend import Array, array_module
from eqnp.ops.pooling import max_of_four
from eqnp.workspace import Workspace

Size = tuple[int, int]


class Tile(NamedTuple):
    """F(m x m, r x r) with the pooling that follows: ``max``, ``average`` or ``none``."""

    m: int
    r: int
    pool: str

    @property
    def t(self) -> int:
        """Inputs of a tile along each axis."""
        return self.m + self.r - 1

    @property
    def side(self) -> int:
        """Values that a tile leaves after pooling, along each axis."""
        return self.m if self.pool == "none" else self.m // 2

    @property
    def places(self) -> int:
        """Values among which a maximum chooses."""
        return 4 if self.pool == "max" else 1


class Kernel(NamedTuple):
    """Transformed weights, and the transforms of inputs and outputs, in one dtype on one device."""

    u: Array  # (t^2, C, K)
    u_back: Array | None  # (t^2, K, C)
    a: Array  # (places side^2, t^2)
    b: Array  # (t^2, t^2)
    margin: Array | None  # (K,) by how much a later place of a window must be larger to win


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


def transform_weights(w: Array, tile: Tile) -> Kernel:
    """Return U = (G x G) w of (r, r, C, K), and the transforms of inputs and outputs, in the dtype of w."""
    xp, t, m = array_module(w), tile.t, tile.m
    a, g, b = toom_cook(m, tile.r)
    outputs = np.kron(a, a)
    if tile.pool != "none":  # (row of windows, row in the window, column of windows, column in it) -> place, window
        outputs = outputs.reshape(m // 2, 2, m // 2, 2, t * t).transpose(1, 3, 0, 2, 4).reshape(4, -1, t * t)
        outputs = outputs.mean(axis=0) if tile.pool == "average" else outputs.reshape(-1, t * t)
    a, b, g = (xp.asarray(np.ascontiguousarray(x), dtype=w.dtype) for x in (outputs, np.kron(b, b), np.kron(g, g)))
    c, k = w.shape[2:]
    u = xp.matmul(g, w.reshape(tile.r**2, c * k)).reshape(t * t, c, k)
    margin = None
    if tile.pool == "max":
        margin = ROUNDINGS[t] * float(np.finfo(w.dtype).eps) * xp.sqrt((w * w).sum(axis=(0, 1, 2)))
    u_back = u.swapaxes(1, 2)
    # A copy makes products faster; but the largest weights, which few tiles meet, are sooner read from one place.
    return Kernel(u, u_back if t == 4 else xp.ascontiguousarray(u_back), a, b, margin)


def winograd_outputs(
    x: Array, kernel: Kernel, tile: Tile, out_size: Size, padding: int = 0, space: Workspace | None = None
) -> Array:
    """Return Y: ``w * x`` where the pooling has not chosen yet. (N, H, W, C) -> (places, side, side, N, P, Q, K).

    ``out_size`` is (H, W) of the state above, after pooling. Adjoint: ``winograd_inputs``.
    """
    xp, space = array_module(x), space or Workspace()
    t2, c, k = kernel.u.shape
    counts = tile_counts(tile, out_size)
    tiles = len(x) * counts[0] * counts[1]
    d = _gather(x, tile, counts, padding, space)
    v = xp.matmul(kernel.b, d.reshape(tiles, t2, c), out=space.take("odd stages", (tiles, t2, c), x))
    m = space.take("even stages", (t2, tiles, k), x)
    xp.matmul(v.transpose(1, 0, 2), kernel.u, out=m)
    y = space.take("odd stages", (tile.places, tile.side, tile.side, len(x), *counts, k), x)
    xp.matmul(kernel.a, m.reshape(t2, -1), out=y.reshape(len(kernel.a), -1))
    return y


def winograd_inputs(
    y: Array, kernel: Kernel, tile: Tile, size: Size, padding: int = 0, space: Workspace | None = None
) -> Array:
    """Return the adjoint of ``winograd_outputs``: (places, side, side, N, P, Q, K) -> (N, H, W, C), ``size`` (H, W).

    The array returned is in the workspace: valid until it is used for this again.
    """
    xp, space = array_module(y), space or Workspace()
    t2, c, k = kernel.u.shape
    n, p, q = y.shape[3:6]
    tiles = n * p * q
    m = space.take("even stages", (t2, tiles, k), y)
    xp.matmul(kernel.a.T, y.reshape(len(kernel.a), -1), out=m.reshape(t2, -1))
    v = space.take("odd stages", (tiles, t2, c), y)
    xp.matmul(m, kernel.u_back, out=v.transpose(1, 0, 2))
    d = space.take("even stages", (n, p, q, tile.t, tile.t, c), y)
    xp.matmul(kernel.b.T, v, out=d.reshape(tiles, t2, c))
    return _scatter(d, tile, size, padding, space)


def winograd_max_pool(y: Array, kernel: Kernel, space: Workspace | None = None) -> tuple[Array, Array]:
    """Return the maximum over the places of Y and which one has it first: both (side, side, N, P, Q, K).

    Values that differ by rounding alone tie (``ROUNDINGS``). Y is written over.
    """
    return max_of_four(y[0], y[1], y[2], y[3], space or Workspace(), kernel.margin)


def winograd_pick(y: Array, winner: Array) -> Array:
    """Return Y at the ``winner`` of every window, both in tiles. Adjoint: ``winograd_unpool``."""
    return sum(y[place] * (winner == place) for place in range(4))


def winograd_unpool(v: Array, winner: Array, space: Workspace | None = None) -> Array:
    """Return Y with every value at the place of its winner and zero elsewhere, both in tiles."""
    xp, space = array_module(v), space or Workspace()
    y = space.take("odd stages", (4, *v.shape), v)
    for place in range(4):
        xp.multiply(v, winner == place, out=y[place])
    return y


def tile_counts(tile: Tile, out_size: Size) -> Size:
    """Return (P, Q): how many tiles cover a state above of ``out_size``."""
    p, q = (-(-n // tile.side) for n in out_size)
    return p, q


def to_tiles(v: Array, tile: Tile, name: str, space: Workspace) -> Array:
    """Return a state (N, H, W, K) as tiles (side, side, N, P, Q, K), zero where a tile leaves the state."""
    (p, q), (n, h, w, k), side = tile_counts(tile, v.shape[1:3]), v.shape, tile.side
    if (h, w) != (p * side, q * side):
        whole = space.take_zeros((name, h, w), (n, p * side, q * side, k), v)
        whole[:, :h, :w] = v
        v = whole
    tiles = space.take((name, v.shape), (side, side, n, p, q, k), v)
    tiles[...] = v.reshape(n, p, side, q, side, k).transpose(2, 4, 0, 1, 3, 5)
    return tiles


def from_tiles(tiles: Array, tile: Tile, out: Array, b: Array | None = None) -> None:
    """Write tiles (side, side, N, P, Q, K) to a state ``out`` (N, H, W, K), with a bias (K,) added if one is given."""
    (side, _, n, p, q, k), (h, w) = tiles.shape, out.shape[1:3]
    rows = tiles.transpose(2, 3, 0, 4, 1, 5)  # (N, P, side, Q, side, K)
    if (h, w) != (p * side, q * side):
        rows = rows.reshape(n, p * side, q * side, k)[:, :h, :w]  # a copy
    else:
        out = out.reshape(rows.shape)
    if b is None:
        out[...] = rows
    else:
        array_module(tiles).add(rows, b, out=out)


def _gather(x: Array, tile: Tile, counts: Size, padding: int, space: Workspace) -> Array:
    """Return the inputs of every tile: (N, H, W, C) -> (N, P, Q, t, t, C). Adjoint: ``_scatter``."""
    n, h, w, c = x.shape
    need = _covered(tile, counts)
    if padding or (h, w) != need:
        padded = space.take_zeros(("padded", padding, h, w), (n, *need, c), x)
        rows, cols = (min(length, m - padding) for length, m in zip((h, w), need, strict=True))
        padded[:, padding : padding + rows, padding : padding + cols] = x[:, :rows, :cols]
        x = padded
    d = space.take("even stages", (n, *counts, tile.t, tile.t, c), x)
    d[...] = _entries(x, tile.m, counts, (tile.t, tile.t)).transpose(0, 1, 3, 2, 4, 5)
    return d


def _scatter(d: Array, tile: Tile, size: Size, padding: int, space: Workspace) -> Array:
    """Return the sum of all tiles' inputs where they came from: (N, P, Q, t, t, C) -> (N, H, W, C)."""
    n, p, q, t, _, c = d.shape
    m, need = tile.m, _covered(tile, (p, q))
    padded = space.take("odd stages", (n, *need, c), d)
    padded[:, p * m :] = 0
    padded[:, : p * m, q * m :] = 0
    # Entries that lie m apart in a tile meet in its neighbours: cut into parts of m, each part of all tiles is apart.
    for i, j in product(range(0, t, m), repeat=2):
        part = d[:, :, :, i : i + m, j : j + m].transpose(0, 1, 3, 2, 4, 5)  # (N, P, a, Q, b, C)
        where = _entries(padded[:, i:, j:], m, (p, q), part.shape[2:5:2])
        if i == j == 0:
            where[...] = part
        else:
            where += part
    (h, w), (rows, cols) = size, (padding + length for length in size)
    if rows <= need[0] and cols <= need[1]:
        return padded[:, padding:rows, padding:cols]
    x = space.take_zeros(
        ("scattered", padding, need), (n, h, w, c), d
    )  # what no tile covers is never written: it stays zero
    inside = padded[:, padding:rows, padding:cols]
    x[:, : inside.shape[1], : inside.shape[2]] = inside
    return x


def _covered(tile: Tile, counts: Size) -> Size:
    """Return the size of the padded input that the tiles cover."""
    h, w = (count * tile.m + tile.t - tile.m for count in counts)
    return h, w


def _entries(x: Array, m: int, counts: Size, entries: Size) -> Array:
    """Return a view of the first (a, b) ``entries`` of every tile of x, m apart: (N, H, W, C) -> (N, P, a, Q, b, C)."""
    sn, sh, sw, sc = x.strides
    (p, q), (a, b) = counts, entries
    view = array_module(x).lib.stride_tricks.as_strided
    return view(x, (len(x), p, a, q, b, x.shape[3]), (sn, m * sh, sh, m * sw, sw, sc))
