"""A convolution with stride 1 and the 2x2 pooling after it as one, by Winograd's F(m x m, r x r), and its adjoint.

Letters: N samples, (H, W) input size, C input and K output channels, D padding, r kernel size, m outputs of a tile
along each axis, t = m + r - 1 the inputs that they need, (P, Q) tiles, T = Q N P.

A tile of m x m outputs needs t^2 multiplications where the direct form needs m^2 r^2 (Winograd 1980; Lavin and Gray
2016, arXiv:1509.09308). Along one axis, with d the t inputs, w the r weights and . the product entry by entry,

    y = A^T [ (G w) . (B^T d) ].

A picture is transformed along one axis and then along the other. R holds B^T once for every row of tiles, laid where
that row begins; S does so for the columns of tiles. Overlap and padding are in these two matrices, nothing is copied:

    V   = R x S^T       inputs of all tiles: (H, W) -> (P t, t Q), with a C at every place
    M^i = V^i U^i       for each of the t^2 entries i of a tile: (T, C) . (C, K),    U = (G x G) w    (x: Kronecker's)
    Y   = A^T M A       the outputs, A^T's rows ordered: place in the pooling window, window

so a maximum is taken over four arrays of long runs, and an average is taken by A itself. The adjoint in d runs the same
stages backwards, each product by its transpose, so the two are adjoint to rounding, which EP needs of its two
directions. Outputs that belong to no window or lie outside are computed with the others and left out.

The layouts make each stage one call of products that lie ready in memory: V is (t, t, Q, N, P, C), M the same with K.
R and S are mostly zeros where there are many tiles; on pictures wider than some 50 places other forms are faster.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import NamedTuple

import numpy as np

from eqnp.backends.backend import Array, array_module
from eqnp.backends.products import Products
from eqnp.backends.workspace import Workspace
from eqnp.ops.conv import output_size
from eqnp.ops.pooling import max_of_windows
from eqnp.ops.ties import Axis, Ties, prepare_ties, tie_margin

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
    def outputs(self) -> int:
        """Values that the transform of outputs leaves along each axis: a maximum has not chosen yet."""
        return self.m if self.pool == "max" else self.side

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

    @property
    def reach(self) -> tuple[Axis, Axis]:
        """Which inputs enter each tile, along both axes."""
        axes = zip(self.size, self.counts, strict=True)
        rows, columns = (Axis(size, count, self.m, self.t, self.padding) for size, count in axes)
        return rows, columns

    @cached_property
    def count(self) -> int:
        """P Q: the tiles of a sample."""
        return self.counts[0] * self.counts[1]


class Transform(NamedTuple):
    """A matrix and its transpose, each an array of its own: products read them faster than views."""

    there: Array
    back: Array


class Kernel(NamedTuple):
    """Transformed weights, and the transforms of inputs and outputs along one axis, in one dtype on one device."""

    channels: tuple[int, int]  # C, K
    u: Array  # (t^2, C, K), as products take it
    u_back: Array  # (t^2, K, C), likewise
    rows: Transform  # R (P t, H)
    cols: Transform  # S (t Q, W)
    outputs: Transform  # A^T (outputs, t)
    products: Products  # what multiplies by them
    ties: Ties | None  # which outputs of a window count as equal; None without a maximum


# Where the polynomials are evaluated, besides infinity. Pairs a, -a and their inverses keep the transforms small: with
# them F(4x4, 3x3) rounds half as much as with 0, 1, -1, 2, -2.
POINTS: dict[int, tuple[Fraction, ...]] = {
    4: (Fraction(0), Fraction(1), Fraction(-1)),
    6: (Fraction(0), *(s * Fraction(*f) for f in ((2, 3), (3, 2)) for s in (1, -1))),
    8: (Fraction(0), *(s * Fraction(*f) for f in ((1, 1), (2, 1), (1, 2)) for s in (1, -1))),
}


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
    xp, t = array_module(w), tiling.t
    a, g, b = toom_cook(tiling.m, tiling.r)
    if tiling.pool != "none":
        # an average takes the mean of a window's outputs; a maximum has them ordered: place in the window, window
        windows = a.reshape(-1, 2, t)
        a = windows.mean(axis=1) if tiling.pool == "average" else windows.swapaxes(0, 1).reshape(a.shape)
    (h, wide), (p, q) = tiling.size, tiling.counts
    rows = _laid(b, tiling, p, h)  # (P, t, H)
    cols = _laid(b, tiling, q, wide).swapaxes(0, 1)  # (t, Q, W)
    c, k = w.shape[2:]
    g = xp.asarray(np.kron(g, g), dtype=w.dtype)
    u = xp.matmul(g, w.reshape(tiling.r**2, c * k)).reshape(t * t, c, k)
    ties = prepare_ties(w, *tiling.reach) if tiling.pool == "max" else None
    products = products or Products()
    return Kernel(
        (c, k),
        products.prepare(u),
        products.prepare(u.swapaxes(1, 2)),
        _transform(rows.reshape(p * t, h), w),
        _transform(cols.reshape(t * q, wide), w),
        _transform(a, w),
        products,
        ties,
    )


def _laid(b: np.ndarray, tiling: Tiling, count: int, size: int) -> np.ndarray:
    """Return B^T (t, t) laid over an axis where each of ``count`` tiles begins: (count, t, size), without padding."""
    m, t, padding = tiling.m, tiling.t, tiling.padding
    laid = np.zeros((count, t, max((count - 1) * m + t, padding + size)))
    for tile in range(count):
        laid[tile, :, tile * m : tile * m + t] = b
    return laid[:, :, padding : padding + size]


def _transform(matrix: np.ndarray, like: Array) -> Transform:
    xp = array_module(like)
    there, back = (xp.asarray(np.ascontiguousarray(x), dtype=like.dtype) for x in (matrix, matrix.T))
    return Transform(there, back)


def winograd_outputs(x: Array, kernel: Kernel, tiling: Tiling, space: Workspace | None = None) -> Array:
    """Return Y: ``w * x`` where the pooling has not chosen yet. (N, H, W, C) -> (outputs, outputs, Q, N, P, K).

    The array returned is in the workspace: valid until it is used for this again. Adjoint: ``winograd_inputs``.
    """
    xp, space = array_module(x), space or Workspace()
    (c, k), (p, q), (n, h, w) = kernel.channels, tiling.counts, x.shape[:3]
    t, outputs, tiles, run = tiling.t, tiling.outputs, q * n * p, n * p * k
    r = space.take("even stages", (n, p * t, w * c), x)
    xp.matmul(kernel.rows.there, x.reshape(n, h, w * c), out=r)
    v = space.take("odd stages", (t, t * q, n * p, c), x)
    xp.matmul(kernel.cols.there, r.reshape(n * p, t, w, c), out=v.transpose(2, 0, 1, 3))
    m = space.take("even stages", (t * t, tiles, k), x)
    kernel.products.matmul(v.reshape(t * t, tiles, c), kernel.u, out=m)
    z = space.take("odd stages", (outputs, t * q, run), x)
    xp.matmul(kernel.outputs.there, m.reshape(t, t * q, run).swapaxes(0, 1), out=z.swapaxes(0, 1))
    y = space.take("even stages", (outputs, outputs, q, run), x)
    xp.matmul(kernel.outputs.there, z.reshape(outputs, t, q, run).swapaxes(1, 2), out=y.swapaxes(1, 2))
    return y.reshape(outputs, outputs, q, n, p, k)


def winograd_inputs(y: Array, kernel: Kernel, tiling: Tiling, space: Workspace | None = None) -> Array:
    """Return the adjoint of ``winograd_outputs``: (outputs, outputs, Q, N, P, K) -> (N, H, W, C).

    The array returned is in the workspace: valid until it is used for this again.
    """
    xp, space = array_module(y), space or Workspace()
    (c, k), (h, w), (q, n, p) = kernel.channels, tiling.size, y.shape[2:5]
    t, outputs, tiles, run = tiling.t, tiling.outputs, q * n * p, n * p * k
    z = space.take("odd stages", (outputs, t, q, run), y)
    xp.matmul(kernel.outputs.back, y.reshape(outputs, outputs, q, run).swapaxes(1, 2), out=z.swapaxes(1, 2))
    m = space.take("even stages", (t, t * q, run), y)
    xp.matmul(kernel.outputs.back, z.reshape(outputs, t * q, run).swapaxes(0, 1), out=m.swapaxes(0, 1))
    v = space.take("odd stages", (t * t, tiles, c), y)
    kernel.products.matmul(m.reshape(t * t, tiles, k), kernel.u_back, out=v)
    r = space.take("even stages", (n * p, t, w, c), y)
    xp.matmul(kernel.cols.back, v.reshape(t, t * q, n * p, c).transpose(2, 0, 1, 3), out=r)
    x = space.take("odd stages", (n, h, w * c), y)
    xp.matmul(kernel.rows.back, r.reshape(n, p * t, w * c), out=x)
    return x.reshape(n, h, w, c)


def winograd_max_pool(y: Array, reached: Array, kernel: Kernel, space: Workspace | None = None) -> tuple[Array, Array]:
    """Return the maximum over the places of Y and which one has it first: both (side, side, Q, N, P, K).

    Values that differ by rounding alone tie: ``reached`` (N, P, Q) is the norm of every tile's inputs
    (``eqnp.ops.ties``). Y is written over.
    """
    space = space or Workspace()
    assert kernel.ties is not None  # made with the weights if the pooling is a maximum
    margin = tie_margin(reached.transpose(2, 0, 1), kernel.ties.spread, space)  # (Q, N, P, K)
    return max_of_windows(_by_place(y), space, margin)


def winograd_pick(y: Array, winner: Array) -> Array:
    """Return Y at the ``winner`` of every window, both in tiles. Adjoint: ``winograd_unpool``."""
    places = _by_place(y)
    return sum(places[divmod(place, 2)] * (winner == place) for place in range(4))


def winograd_unpool(v: Array, winner: Array, space: Workspace | None = None) -> Array:
    """Return Y with every value at the place of its winner and zero elsewhere, both in tiles."""
    xp, space = array_module(v), space or Workspace()
    places = xp.arange(4, dtype=xp.uint8).reshape(2, 2, *[1] * v.ndim)
    wins = xp.equal(winner, places, out=space.take("wins", (2, 2, *v.shape), v, dtype=bool))
    y = space.take("even stages", (2 * len(v), 2 * len(v), *v.shape[2:]), v)
    xp.multiply(v, wins, out=_by_place(y))
    return y


def _by_place(y: Array) -> Array:
    """Return a view of Y: (2 side, 2 side, Q, N, P, K) -> (2, 2, side, side, Q, N, P, K), place in the window first."""
    side = len(y) // 2
    return y.reshape(2, side, 2, side, *y.shape[2:]).transpose(0, 2, 1, 3, *range(4, y.ndim + 2))


def to_tiles(v: Array, tiling: Tiling, name: str, space: Workspace) -> Array:
    """Return a state (N, H, W, K) as tiles (side, side, Q, N, P, K), zero where a tile leaves the state."""
    (p, q), (n, h, w, k), side = tiling.counts, v.shape, tiling.side
    if (h, w) != (p * side, q * side):
        whole = space.take_zeros((name, h, w), (n, p * side, q * side, k), v)
        whole[:, :h, :w] = v
        v = whole
    tiles = space.take((name, v.shape), (side, side, q, n, p, k), v)
    tiles[...] = v.reshape(n, p, side, q, side, k).transpose(2, 4, 3, 0, 1, 5)
    return tiles


def from_tiles(tiles: Array, out: Array) -> None:
    """Write tiles (side, side, Q, N, P, K) to a state ``out`` (N, H, W, K)."""
    (side, _, q, n, p, k), (h, w) = tiles.shape, out.shape[1:3]
    rows = tiles.transpose(3, 4, 0, 2, 1, 5)  # (N, P, side, Q, side, K)
    if (h, w) != (p * side, q * side):
        out[...] = rows.reshape(n, p * side, q * side, k)[:, :h, :w]  # a copy
    else:
        out.reshape(rows.shape)[...] = rows
