"""A convolution with stride 1 and the 2x2 pooling after it, by Winograd's F(m x m, r x r), and the adjoint.

Letters: N samples, (H, W) input size, C input and K output channels, D padding, r kernel size, m outputs of a tile
along each axis, t = m + r - 1 inputs of a tile along each axis, (P, Q) number of tiles, T = Q N P.

A tile of m x m outputs needs t^2 multiplications; the direct form needs m^2 r^2 (Winograd 1980; Lavin and Gray 2016,
arXiv:1509.09308). Along one axis, with t inputs d, r weights w, and . the elementwise product,

    y = A^T [ (G w) . (B^T d) ].

An image is transformed along one axis and then along the other. R contains one copy of B^T for every row of tiles, in
the columns of the inputs of that row; S does the same for the columns of tiles. Overlap and padding are contained in
these two matrices, so no input is copied:

    V   = R x S^T       inputs of all tiles: (H, W) -> (P t, t Q), for each of the C channels
    M^i = V^i U^i       for each of the t^2 entries i of a tile: (T, C) . (C, K),    U = (G x G) w, Kronecker product
    Y   = A^T M A       the outputs; the rows of A^T are ordered by place in the pooling window, then by window

A maximum is therefore taken over four arrays with long contiguous runs. An average is contained in A. The adjoint in d
performs the same stages in reverse order, each with the transposed matrix, so drive and feedback are adjoint up to
rounding, as EP requires. Outputs that belong to no window or lie outside the image are computed and not used.

The layouts are chosen so that each stage is one call of ``matmul``: V is (t, t, Q, N, P, C), M is (t, t, Q, N, P, K).
With many tiles, R and S are mostly zeros; for images wider than about 50 places, other forms are faster.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from eqnp.backends.backend import Array, array_module
from eqnp.backends.products import Products
from eqnp.backends.workspace import Workspace
from eqnp.ops.pooling import max_of_windows
from eqnp.ops.ties import Ties, prepare_ties, tie_margin
from eqnp.ops.tiles import Tiling


class Transform(NamedTuple):
    """A matrix and its transpose, both contiguous, because products with a view are slower."""

    there: Array
    back: Array


class Kernel(NamedTuple):
    """Transformed weights, and the transforms of inputs and outputs along one axis, in one dtype on one device."""

    channels: tuple[int, int]  # C, K
    u: Array  # (t^2, C, K), in the form that ``products`` takes
    u_back: Array  # (t^2, K, C), in the form that ``products`` takes
    rows: Transform  # R (P t, H)
    cols: Transform  # S (t Q, W)
    outputs: Transform  # A^T (outputs, t)
    products: Products  # multiplies by u and u_back
    ties: Ties | None  # which outputs of a window count as equal; None without a maximum


def transform_weights(w: Array, tiling: Tiling, products: Products | None = None) -> Kernel:
    """Return U = (G x G) w for w (r, r, C, K), and the transforms of inputs and outputs, in the dtype of w."""
    t, (c, k) = tiling.t, w.shape[2:]
    u = array_module(w).matmul(weight_transform(tiling, w), w.reshape(tiling.r**2, c * k)).reshape(t * t, c, k)
    ties = prepare_ties(w, *tiling.reach, points=t) if tiling.pool == "max" else None
    products = products or Products()
    return Kernel(
        (c, k),
        products.prepare(u),
        products.prepare(u.swapaxes(1, 2)),
        *tile_transforms(tiling, w),
        products,
        ties,
    )


def tile_transforms(tiling: Tiling, like: Array) -> tuple[Transform, Transform, Transform]:
    """Return R (P t, H), S (t Q, W) and A^T (outputs, t) with the module and dtype of ``like``."""
    a, _, b = tiling.transforms
    (h, w), (p, q), t = tiling.size, tiling.counts, tiling.t
    rows = _laid(b, tiling, p, h)  # (P, t, H)
    cols = _laid(b, tiling, q, w).swapaxes(0, 1)  # (t, Q, W)
    return (
        as_transform(rows.reshape(p * t, h), like),
        as_transform(cols.reshape(t * q, w), like),
        as_transform(pooled(a, tiling.pool), like),
    )


def weight_transform(tiling: Tiling, like: Array) -> Array:
    """Return G x G, the transform of the weights of a tile: (t^2, taps^2), with the module and dtype of ``like``."""
    _, g, _ = tiling.transforms
    return array_module(like).asarray(np.kron(g, g), dtype=like.dtype)


def pooled(a: np.ndarray, pool: str) -> np.ndarray:
    """Return A^T (m, t) with its rows in the order of the pooling: an average takes the mean of two rows.

    For a maximum, the rows are ordered by place in the window, then by window.
    """
    if pool == "none":
        return a
    windows = a.reshape(-1, 2, a.shape[1])
    return windows.mean(axis=1) if pool == "average" else windows.swapaxes(0, 1).reshape(a.shape)


def _laid(b: np.ndarray, tiling: Tiling, count: int, size: int) -> np.ndarray:
    """Return B^T (t, t) at the inputs of each of ``count`` tiles along an axis: (count, t, size), without padding."""
    m, t, padding = tiling.m, tiling.t, tiling.padding
    laid = np.zeros((count, t, max((count - 1) * m + t, padding + size)))
    for tile in range(count):
        laid[tile, :, tile * m : tile * m + t] = b
    return laid[:, :, padding : padding + size]


def as_transform(matrix: np.ndarray, like: Array) -> Transform:
    """Return a matrix (n, k) and its transpose (k, n) with the module and dtype of ``like``."""
    xp = array_module(like)
    there, back = (xp.asarray(np.ascontiguousarray(x), dtype=like.dtype) for x in (matrix, matrix.T))
    return Transform(there, back)


def winograd_outputs(x: Array, kernel: Kernel, tiling: Tiling, space: Workspace | None = None) -> Array:
    """Return Y, ``w * x`` before a maximum, or after an average: (N, H, W, C) -> (outputs, outputs, Q, N, P, K).

    The result lies in the workspace and is valid until the next call with it. Adjoint: ``winograd_inputs``.
    """
    space = space or Workspace()
    (p, q), n = tiling.counts, len(x)
    v = transform_inputs(x, kernel.rows, kernel.cols, tiling, space)
    m = space.take("even stages", (*v.shape[:2], kernel.channels[1]), x)
    kernel.products.matmul(v, kernel.u, out=m)
    return transform_products(m, kernel.outputs, (q, n, p), space)


def transform_inputs(
    x: Array,
    rows: Transform,
    cols: Transform,
    tiling: Tiling,
    space: Workspace,
    stages: tuple[str, str] = ("even stages", "odd stages"),
) -> Array:
    """Return V = R x S^T: (N, H, W, C) -> (t^2, Q N P, C). It lies in the second of two buffers, ``stages``."""
    xp, (n, h, w, c), (p, q), t = array_module(x), x.shape, tiling.counts, tiling.t
    r = space.take(stages[0], (n, p * t, w * c), x)
    xp.matmul(rows.there, x.reshape(n, h, w * c), out=r)
    v = space.take(stages[1], (t, t * q, n * p, c), x)
    xp.matmul(cols.there, r.reshape(n * p, t, w, c), out=v.transpose(2, 0, 1, 3))
    return v.reshape(t * t, q * n * p, c)


def winograd_weight_products(
    x: Array, y: Array, transforms: tuple[Transform, Transform, Transform], tiling: Tiling, space: Workspace
) -> Array:
    """Return dU^i = (V^i)^T M^i for the entries i of a tile: (N, H, W, C), Y of its outputs -> (t^2, C, K).

    ``transforms`` are those of ``tile_transforms``. dU of a batch is the sum of that of its parts.
    """
    rows, cols, outputs = transforms
    m = spread_outputs(y, outputs, space)  # in the buffer "even stages"
    v = transform_inputs(x, rows, cols, tiling, space, ("odd stages", "inputs of tiles"))
    return array_module(x).matmul(v.swapaxes(1, 2), m)


def winograd_weight_gradient(products: Array, tiling: Tiling) -> Array:
    """Return dw = (G x G)^T dU, the adjoint of ``winograd_outputs`` in w: (t^2, C, K) -> (r, r, C, K)."""
    c, k = products.shape[1:]
    g = weight_transform(tiling, products)
    return array_module(products).matmul(g.T, products.reshape(-1, c * k)).reshape(tiling.r, tiling.r, c, k)


def transform_products(m: Array, transform: Transform, tiles: tuple[int, int, int], space: Workspace) -> Array:
    """Return Y = A^T M A: (t^2, Q N P, K) -> (outputs, outputs, Q, N, P, K); tiles are (Q, N, P).

    M lies in the buffer "even stages", and so does Y: M is overwritten. Adjoint: ``spread_outputs``.
    """
    xp, (outputs, t), (q, n, p), k = array_module(m), transform.there.shape, tiles, m.shape[-1]
    run = n * p * k
    z = space.take("odd stages", (outputs, t * q, run), m)
    xp.matmul(transform.there, m.reshape(t, t * q, run).swapaxes(0, 1), out=z.swapaxes(0, 1))
    y = space.take("even stages", (outputs, outputs, q, run), m)
    xp.matmul(transform.there, z.reshape(outputs, t, q, run).swapaxes(1, 2), out=y.swapaxes(1, 2))
    return y.reshape(outputs, outputs, q, n, p, k)


def spread_outputs(y: Array, transform: Transform, space: Workspace) -> Array:
    """Return the adjoint of ``transform_products``, in the buffer "even stages": -> (t^2, Q N P, K)."""
    xp, (outputs, t), (q, n, p, k) = array_module(y), transform.there.shape, y.shape[2:]
    run = n * p * k
    z = space.take("odd stages", (outputs, t, q, run), y)
    xp.matmul(transform.back, y.reshape(outputs, outputs, q, run).swapaxes(1, 2), out=z.swapaxes(1, 2))
    m = space.take("even stages", (t, t * q, run), y)
    xp.matmul(transform.back, z.reshape(outputs, t * q, run).swapaxes(0, 1), out=m.swapaxes(0, 1))
    return m.reshape(t * t, q * n * p, k)


def winograd_inputs(y: Array, kernel: Kernel, tiling: Tiling, space: Workspace | None = None) -> Array:
    """Return the adjoint of ``winograd_outputs``: (outputs, outputs, Q, N, P, K) -> (N, H, W, C).

    The result lies in the workspace and is valid until the next call with it.
    """
    xp, space = array_module(y), space or Workspace()
    c, (h, w), (q, n, p) = kernel.channels[0], tiling.size, y.shape[2:5]
    t, tiles = tiling.t, q * n * p
    m = spread_outputs(y, kernel.outputs, space)
    v = space.take("odd stages", (t * t, tiles, c), y)
    kernel.products.matmul(m, kernel.u_back, out=v)
    r = space.take("even stages", (n * p, t, w, c), y)
    xp.matmul(kernel.cols.back, v.reshape(t, t * q, n * p, c).transpose(2, 0, 1, 3), out=r)
    x = space.take("odd stages", (n, h, w * c), y)
    xp.matmul(kernel.rows.back, r.reshape(n, p * t, w * c), out=x)
    return x.reshape(n, h, w, c)


def winograd_max_pool(y: Array, reached: Array, kernel: Kernel, space: Workspace | None = None) -> tuple[Array, Array]:
    """Return the maximum of every window of Y and the first place that has it, both (side, side, Q, N, P, K).

    y is (2 side, 2 side, Q, N, P, K). Values that differ only by rounding tie (``eqnp.ops.ties``): ``reached``
    (N, P, Q) is the norm of the inputs of every tile. Y is overwritten.
    """
    space = space or Workspace()
    assert kernel.ties is not None  # made with the weights if the pooling is a maximum
    margin = tie_margin(reached.transpose(2, 0, 1), kernel.ties.spread, space)  # (Q, N, P, K)
    return max_of_windows(_by_place(y), space, margin)


def winograd_pick(y: Array, winner: Array) -> Array:
    """Return Y at the winner of every window: (2 side, 2 side, Q, N, P, K), (side, side, Q, N, P, K) -> the latter.

    Adjoint: ``winograd_unpool``.
    """
    places = _by_place(y)
    return sum(places[divmod(place, 2)] * (winner == place) for place in range(4))


def winograd_unpool(v: Array, winner: Array, space: Workspace | None = None) -> Array:
    """Return Y, every value at the winner of its window and zero elsewhere. The adjoint of ``winograd_pick``.

    v and winner are (side, side, Q, N, P, K), Y is (2 side, 2 side, Q, N, P, K).
    """
    xp, space = array_module(v), space or Workspace()
    places = xp.arange(4, dtype=xp.uint8).reshape(2, 2, *[1] * v.ndim)
    wins = xp.equal(winner, places, out=space.take("wins", (2, 2, *v.shape), v, dtype=bool))
    y = space.take("even stages", (2 * len(v), 2 * len(v), *v.shape[2:]), v)
    xp.multiply(v, wins, out=_by_place(y))
    return y


def _by_place(y: Array) -> Array:
    """Return a view with the place in the window first: (2 side, 2 side, ...) -> (2, 2, side, side, ...)."""
    side = len(y) // 2
    return y.reshape(2, side, 2, side, *y.shape[2:]).transpose(0, 2, 1, 3, *range(4, y.ndim + 2))
