"""A convolution with stride 1 and the 2x2 pooling after it as one, by Winograd's F(m x m, r x r), and its adjoint.

Letters: N samples, (H, W) input size, C input and K output channels, D padding, r kernel size, m outputs of a tile
along each axis, t = m + r - 1 the inputs that they need, (P, Q) tiles, T = N P Q.

A tile of m x m outputs needs t^2 multiplications where the direct form needs m^2 r^2 (Winograd 1980; Lavin and Gray
2016, arXiv:1509.09308). Along one axis, with d the t inputs, w the r weights and . the product entry by entry,

    y = A^T [ (G w) . (B^T d) ]

Over two axes, all channels and all tiles, with every transform as *one* matrix product over whatever it does not mix:

    D  (t^2, T C)        gathered    every tile's t x t inputs
    V  = (B^T x B^T) D   (t^2, t^2)  x is Kronecker's product
    M_i = V_i U_i        t^2 times   (T, C) . (C, K),    U = (G x G) w
    Y  = (A^T x A^T) M   (m^2, t^2)  its rows ordered: place in the pooling window, window

so a maximum is taken over four contiguous arrays, and an average is taken by A itself. The adjoint in d runs the same
stages backwards, each product by its transpose, so the two are adjoint to rounding, which EP needs of its two
directions. Outputs that belong to no window or lie outside are computed with the others and left out.

Samples stand behind the tiles, (P, Q, N), and inputs are sorted by *phases*, their rows and columns by the remainders
by m: (m, m, places, places, N, C). Then many entries of all tiles are copied at once, in long runs.
"""

from __future__ import annotations

from collections.abc import Iterator
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
    u_back: Array  # (t^2, K, C), contiguous: products with it are faster than with a transposed view
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
# Left to rounding, ties would lead the network to another of its steady states. With 4 points nothing is rounded apart.
ROUNDINGS = {4: 0, 6: 8, 8: 32}


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
    if tile.pool == "max" and ROUNDINGS[t]:
        margin = ROUNDINGS[t] * float(np.finfo(w.dtype).eps) * xp.sqrt((w * w).sum(axis=(0, 1, 2)))
    return Kernel(u, xp.ascontiguousarray(u.swapaxes(1, 2)), a, b, margin)


def winograd_outputs(
    x: Array, kernel: Kernel, tile: Tile, out_size: Size, padding: int = 0, space: Workspace | None = None
) -> Array:
    """Return Y: ``w * x`` where the pooling has not chosen yet. (N, H, W, C) -> (places, side, side, P, Q, N, K).

    ``out_size`` is (H, W) of the state above, after pooling. Adjoint: ``winograd_inputs``.
    """
    xp, space = array_module(x), space or Workspace()
    t, (c, k) = tile.t, kernel.u.shape[1:]
    counts = tile_counts(tile, out_size)
    d = _gather(x, tile, counts, padding, space)
    v = space.take("odd stages", d.shape, x)
    xp.matmul(kernel.b, d.reshape(t * t, -1), out=v.reshape(t * t, -1))
    m = space.take("even stages", (t * t, counts[0] * counts[1] * len(x), k), x)
    xp.matmul(v.reshape(t * t, -1, c), kernel.u, out=m)
    y = space.take("odd stages", (tile.places, tile.side, tile.side, *counts, len(x), k), x)
    xp.matmul(kernel.a, m.reshape(t * t, -1), out=y.reshape(len(kernel.a), -1))
    return y


def winograd_inputs(
    y: Array, kernel: Kernel, tile: Tile, size: Size, padding: int = 0, space: Workspace | None = None
) -> Array:
    """Return the adjoint of ``winograd_outputs``: (places, side, side, P, Q, N, K) -> (N, H, W, C), ``size`` (H, W).

    The array returned is in the workspace: valid until it is used for this again.
    """
    xp, space = array_module(y), space or Workspace()
    t, (c, k) = tile.t, kernel.u.shape[1:]
    p, q, n = y.shape[3:6]
    m = space.take("even stages", (t * t, p * q * n, k), y)
    xp.matmul(kernel.a.T, y.reshape(len(kernel.a), -1), out=m.reshape(t * t, -1))
    v = space.take("odd stages", (t * t, p * q * n, c), y)
    xp.matmul(m, kernel.u_back, out=v)
    d = space.take("even stages", (t, t, p, q, n, c), y)
    xp.matmul(kernel.b.T, v.reshape(t * t, -1), out=d.reshape(t * t, -1))
    return _scatter(d, tile, size, padding, space)


def winograd_max_pool(y: Array, kernel: Kernel, space: Workspace | None = None) -> tuple[Array, Array]:
    """Return the maximum over the places of Y and which one has it first: both (side, side, P, Q, N, K).

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
    """Return a state (N, H, W, K) as tiles (side, side, P, Q, N, K), zero where a tile leaves the state."""
    counts = tile_counts(tile, v.shape[1:3])
    tiles = space.take_zeros((name, v.shape), (tile.side, tile.side, *counts, len(v), v.shape[3]), v)
    for where, part in _phases(v, tile.side):
        tiles[where] = part
    return tiles


def from_tiles(tiles: Array, tile: Tile, out: Array, b: Array | None = None) -> None:
    """Write tiles (side, side, P, Q, N, K) to a state ``out`` (N, H, W, K), with a bias (K,) added if one is given."""
    xp = array_module(tiles)
    for where, part in _phases(out, tile.side):
        if b is None:
            part[...] = tiles[where]
        else:
            xp.add(tiles[where], b, out=part)


def _gather(x: Array, tile: Tile, counts: Size, padding: int, space: Workspace) -> Array:
    """Return the inputs of every tile: (N, H, W, C) -> (t, t, P, Q, N, C). Adjoint: ``_scatter``."""
    n, h, w, c = x.shape
    places = _places((h, w), tile, counts, padding)
    phases = space.take_zeros(("phases", x.shape, padding), (tile.m, tile.m, *places, n, c), x)
    for where, part in _phases(x, tile.m, _before(tile, padding)):
        phases[where] = part
    d = space.take("even stages", (tile.t, tile.t, *counts, n, c), x)
    for entries, where in _entries(tile, counts, padding):
        d[entries] = phases[where]
    return d


def _scatter(d: Array, tile: Tile, size: Size, padding: int, space: Workspace) -> Array:
    """Return the sum of all tiles' inputs where they came from: (t, t, P, Q, N, C) -> (N, H, W, C)."""
    _, _, p, q, n, c = d.shape
    phases = space.take("odd stages", (tile.m, tile.m, *_places(size, tile, (p, q), padding), n, c), d)
    runs = sorted(_entries(tile, (p, q), padding), key=lambda run: -phases[run[1]].size)
    entries, where = runs[0]  # the largest is written, the rest is added
    _clear_around(phases, where)
    phases[where] = d[entries]
    for entries, where in runs[1:]:
        phases[where] += d[entries]
    x = space.take("scattered", (n, *size, c), d)
    for where, part in _phases(x, tile.m, _before(tile, padding)):
        part[...] = phases[where]
    return x


def _clear_around(phases: Array, where: tuple[slice, ...]) -> None:
    """Put zeros everywhere but at ``where``."""
    for axis, part in enumerate(where):
        before = (slice(None),) * axis
        phases[(*before, slice(part.start or 0))] = 0
        phases[(*before, slice(part.stop, None))] = 0


def _phases(x: Array, m: int, before: int = 0) -> Iterator[tuple[tuple[slice, ...], Array]]:
    """Yield (where, part): views that make up x (N, H, W, C), each as (m', m', P, Q, N, C), and where by phases it is.

    Row h of x is at phase h mod m, place ``before`` + h // m; columns likewise. There are several parts only where
    (H, W) are no multiples of m.
    """
    n, height, width, c = x.shape
    for (h, p, a), (w, q, b) in product(_cut(height, m), _cut(width, m)):
        part = x[:, h : h + p * a, w : w + q * b].reshape(n, p, a, q, b, c).transpose(2, 4, 1, 3, 0, 5)
        rows, cols = before + h // m, before + w // m
        yield (slice(a), slice(b), slice(rows, rows + p), slice(cols, cols + q)), part


def _cut(length: int, m: int) -> list[tuple[int, int, int]]:
    """Return (start, places, phases) of the whole multiples of m in a length, and of the rest."""
    whole, rest = divmod(length, m)
    return [(start, p, a) for start, p, a in ((0, whole, m), (whole * m, 1, rest)) if p and a]


def _entries(tile: Tile, counts: Size, padding: int) -> Iterator[tuple[tuple[slice, ...], tuple[slice, ...]]]:
    """Yield (entries, where): the entries of all tiles that are in the phases as they are, and where.

    Entry i of tile p is row p m + i - D of the input, that is phase (i - D) mod m, place p + (i - D) // m.
    """
    m, (p, q) = tile.m, counts
    runs = []
    for k in range(-padding // m, (tile.t - 1 - padding) // m + 1):
        first, last = max(0, k * m + padding), min(tile.t, (k + 1) * m + padding)
        start = first - padding - k * m
        runs.append((slice(first, last), slice(start, start + last - first), _before(tile, padding) + k))
    for (i, a, row), (j, b, col) in product(runs, repeat=2):
        yield (i, j), (a, b, slice(row, row + p), slice(col, col + q))


def _before(tile: Tile, padding: int) -> int:
    """Return how many places stand before the input, for its padding."""
    return -(-padding // tile.m)


def _places(size: Size, tile: Tile, counts: Size, padding: int) -> Size:
    """Return how many places a phase has, so that all entries of all tiles and all of the input have one."""
    last = (tile.t - 1 - padding) // tile.m
    p, q = (max(count + last, -(-n // tile.m)) + _before(tile, padding) for n, count in zip(size, counts, strict=True))
    return p, q
