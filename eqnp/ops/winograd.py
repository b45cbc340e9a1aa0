"""A 3x3 convolution with stride 1 and the 2x2 pooling after it as one: Winograd's F(2x2, 3x3), and its adjoint.

Letters: N samples, (H, W) input size, C input and K output channels, D padding, (P, Q) pooling windows, T = N P Q.

One output tile of F(2x2, 3x3) is just one pooling window, and it needs 16 multiplications where the direct form needs
36 (Lavin and Gray 2016, arXiv:1509.09308):

    Y = A^T [ (G w G^T) (B^T d B) ] A         d a 4x4 patch of the input, w a 3x3 kernel, Y the 2x2 outputs

for every pair of channels, with products elementwise and sums over C: 16 matrix products (T, C) . (C, K). The adjoint
in d runs the same three stages backwards, so the two are adjoint to rounding, which EP needs of its two directions. An
odd last row or column of the convolution belongs to no window and is not computed at all.
"""

from __future__ import annotations

from eqnp.backend import Array, array_module
from eqnp.ops.pooling import max_of_four
from eqnp.workspace import Workspace

Size = tuple[int, int]


def transform_weights(w: Array) -> Array:
    """Return G w G^T: (3, 3, C, K) -> (16, C, K). G = [1 0 0; 1/2 1/2 1/2; 1/2 -1/2 1/2; 0 0 1]."""
    xp = array_module(w)
    half = _kernel_rows(xp, w)  # (4, 3, C, K)
    full = _kernel_rows(xp, half.swapaxes(0, 1))  # (4, 4, C, K), columns first
    return xp.ascontiguousarray(full.swapaxes(0, 1)).reshape(16, *w.shape[2:])


def _kernel_rows(xp: Array, w: Array) -> Array:
    """Return G w along the first axis: (3, ...) -> (4, ...)."""
    outer, inner = (w[0] + w[2]) * 0.5, w[1] * 0.5
    return xp.stack([w[0], outer + inner, outer - inner, w[2]])


def windows(size: Size, padding: int) -> Size:
    """Return (P, Q) for an input of ``size`` (H, W)."""
    p, q = ((n + 2 * padding - 2) // 2 for n in size)
    return p, q


def winograd_max_pool(x: Array, u: Array, padding: int = 0, space: Workspace | None = None) -> tuple[Array, Array]:
    """Return the maximum of every window of ``w * x`` and its place: (N, H, W, C), (16, C, K) -> both (N, P, Q, K)."""
    space = space or Workspace()
    return max_of_four(*_outputs(x, u, padding, space), space)


def winograd_pick(x: Array, u: Array, winner: Array, padding: int = 0, space: Workspace | None = None) -> Array:
    """Return ``w * x`` at every window's ``winner``: (N, H, W, C) -> (N, P, Q, K). Adjoint: ``winograd_unpool``."""
    outputs = _outputs(x, u, padding, space or Workspace())
    return sum(y * (winner == place) for place, y in enumerate(outputs))


def winograd_unpool(
    v: Array, winner: Array, u: Array, size: Size, padding: int = 0, space: Workspace | None = None
) -> Array:
    """Return ``w~ * P^{-1}(v)``: (N, P, Q, K) -> (N, H, W, C), the adjoint of ``winograd_pick``.

    The array returned is a view into the workspace: valid until it is used for this again.
    """
    xp, space = array_module(v), space or Workspace()
    n, p, q, k = v.shape
    c = u.shape[1]
    g = space.take("unpooled tiles", (2, 2, n, p, q, k), v)
    for place in range(4):
        xp.multiply(v, winner == place, out=g[place // 2, place % 2])
    # M = A g A^T, first along the rows of a tile, then along its columns
    s = space.take("half outputs", (4, 2, n, p, q, k), v)
    s[0] = g[0]
    xp.add(g[0], g[1], out=s[1])
    xp.subtract(g[0], g[1], out=s[2])
    xp.negative(g[1], out=s[3])
    m = space.take("products", (4, 4, n, p, q, k), v)
    m[:, 0] = s[:, 0]
    xp.add(s[:, 0], s[:, 1], out=m[:, 1])
    xp.subtract(s[:, 0], s[:, 1], out=m[:, 2])
    xp.negative(s[:, 1], out=m[:, 3])
    t = space.take("tiles", (4, 4, n, p, q, c), v)
    # 16 times (T, K) . (K, C)
    xp.matmul(m.reshape(16, -1, k), u.swapaxes(1, 2), out=t.reshape(16, -1, c))
    return _gather_tiles(t, size, padding, space)


def _outputs(x: Array, u: Array, padding: int, space: Workspace) -> list[Array]:
    """Return ``w * x`` at the four places of every window, in row-major order: each (N, P, Q, K)."""
    xp = array_module(x)
    t = _tiles(x, padding, space)
    n, p, q, c = t.shape[2:]
    k = u.shape[2]
    m = space.take("products", (4, 4, n, p, q, k), x)
    # 16 times (T, C) . (C, K)
    xp.matmul(t.reshape(16, -1, c), u, out=m.reshape(16, -1, k))
    # Y = A^T M A with A^T = [1 1 1 0; 0 1 -1 -1], first along the rows of a tile, then along its columns
    s = space.take("half outputs", (2, 4, n, p, q, k), x)
    xp.add(m[0], m[1], out=s[0])
    s[0] += m[2]
    xp.subtract(m[1], m[2], out=s[1])
    s[1] -= m[3]
    y = space.take("outputs", (2, 2, n, p, q, k), x)
    xp.add(s[:, 0], s[:, 1], out=y[:, 0])
    y[:, 0] += s[:, 2]
    xp.subtract(s[:, 1], s[:, 2], out=y[:, 1])
    y[:, 1] -= s[:, 3]
    return [y[0, 0], y[0, 1], y[1, 0], y[1, 1]]


def _tiles(x: Array, padding: int, space: Workspace) -> Array:
    """Return B^T d B of every 4x4 patch d: (N, H, W, C) -> (4, 4, N, P, Q, C). Adjoint: ``_gather_tiles``.

    B^T = [1 0 -1 0; 0 1 1 0; 0 -1 1 0; 0 1 0 -1]; patches start at every second row and column.
    """
    xp = array_module(x)
    n, h, w, c = x.shape
    p, q = windows((h, w), padding)
    if padding:
        padded = space.take_zeros("padded tiles", (n, h + 2 * padding, w + 2 * padding, c), x)
        padded[:, padding : padding + h, padding : padding + w] = x
        x = padded
    r = space.take("half tiles", (4, n, p, x.shape[2], c), x)
    d = [x[:, i : i + 2 * p - 1 : 2] for i in range(4)]
    xp.subtract(d[0], d[2], out=r[0])
    xp.add(d[1], d[2], out=r[1])
    xp.subtract(d[2], d[1], out=r[2])
    xp.subtract(d[1], d[3], out=r[3])
    t = space.take("tiles", (4, 4, n, p, q, c), x)
    d = [r[:, :, :, j : j + 2 * q - 1 : 2] for j in range(4)]
    xp.subtract(d[0], d[2], out=t[:, 0])
    xp.add(d[1], d[2], out=t[:, 1])
    xp.subtract(d[2], d[1], out=t[:, 2])
    xp.subtract(d[1], d[3], out=t[:, 3])
    return t


def _gather_tiles(t: Array, size: Size, padding: int, space: Workspace) -> Array:
    """Return the adjoint of ``_tiles``: (4, 4, N, P, Q, C) -> (N, H, W, C)."""
    n, p, q, c = t.shape[2:]
    (h, w), height, width = size, size[0] + 2 * padding, size[1] + 2 * padding
    r = space.take("half tiles", (4, n, p, width, c), t)
    r.fill(0)
    _add_four([t[:, j] for j in range(4)], [r[:, :, :, j : j + 2 * q - 1 : 2] for j in range(4)], space)
    x = space.take("gathered tiles", (n, height, width, c), t)
    x.fill(0)
    _add_four([r[i] for i in range(4)], [x[:, i : i + 2 * p - 1 : 2] for i in range(4)], space)
    return x[:, padding : padding + h, padding : padding + w]


def _add_four(v: list[Array], d: list[Array], space: Workspace) -> None:
    """Add B v to the four interleaved slices ``d`` of an array, which overlap: d[0] with d[2], d[1] with d[3]."""
    xp = array_module(v[0])
    d[0] += v[0]
    d[3] -= v[3]
    both = space.take(("both", v[0].shape), v[0].shape, v[0])
    xp.subtract(v[1], v[2], out=both)
    both += v[3]
    d[1] += both
    xp.add(v[1], v[2], out=both)
    both -= v[0]
    d[2] += both
