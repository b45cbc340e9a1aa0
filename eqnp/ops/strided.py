"""A convolution with a stride by Winograd's F(m x m, r x r), as a sum of convolutions without one, and the adjoint.

Letters as in ``eqnp.ops.winograd``; S stride, and along one axis a = 0, 1, .. and f = 0 .. S - 1. Weight S a + f meets
the inputs S (p + a) + f - D only, so

    y[p] = sum over f of  sum over a of  x_f[p + a] w_f[a],     x_f[q] = x[S q + f - D],   w_f[a] = w[S a + f].

Each term is a convolution with stride 1 of every S-th input with every S-th weight, a *component* (the polyphase
decomposition; Vaidyanathan 1993, Multirate Systems and Filter Banks, chapter 4). In two dimensions there are S^2 of
them, (f, g). They share their outputs, so they are added before the outputs are transformed. That is one product over
the channels of all components, for each of the t^2 entries i of a tile:

    M^i = sum over (f, g) of  V_fg^i U_fg^i

Along an axis, the first ``full`` components have ``taps`` weights and the others one fewer. With the missing weight as
zero, their last entry, at the point infinity, is zero: it is left out. A kernel of 3 x 3 with stride 2 and m = 4 needs
85 multiplications a tile and channel instead of 144. (81 are not zero; four are computed, because the channels of a
product must lie side by side.)

Pooling by a maximum is not offered: nets with a stride have none.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from eqnp.backends.backend import Array, array_module
from eqnp.backends.products import Products
from eqnp.backends.workspace import Workspace
from eqnp.ops.tiles import Tiling
from eqnp.ops.winograd import Transform, as_transform, pooled, spread_outputs, transform_products, weight_transform


class Part(NamedTuple):
    """Some entries of a tile whose components are the same, and the transformed weights at them."""

    row: int
    columns: slice
    channels: slice  # of the S^2 C channels of all components, ordered (g, f, C)
    u: Array  # (entries, channels, K), in the form that ``products`` takes
    u_back: Array  # (entries, K, channels), in the form that ``products`` takes


class Component(NamedTuple):
    """The transform of the inputs of one component along an axis."""

    inputs: slice  # which inputs of the axis: every S-th
    points: int  # t, or t - 1 without the point infinity
    matrix: Transform


class StridedKernel(NamedTuple):
    """Transformed weights, and the transforms of inputs and outputs along one axis, in one dtype on one device."""

    channels: tuple[int, int]  # C, K
    parts: list[Part]
    rows: list[Component]  # R_f (P points, inputs)
    cols: list[Component]  # S_g (points Q, inputs)
    outputs: Transform  # A^T (outputs, t)
    products: Products


def transform_strided_weights(w: Array, tiling: Tiling, products: Products | None = None) -> StridedKernel:
    """Return U of w (r, r, C, K) for all components, and the transforms of inputs and outputs, in the dtype of w."""
    a, _, b = tiling.transforms
    products = products or Products()
    u = _all_components(w, tiling)
    parts = []
    for row, columns, channels in _parts(tiling, w.shape[2]):
        each = u[row, columns, channels]
        parts.append(Part(row, columns, channels, products.prepare(each), products.prepare(each.swapaxes(1, 2))))
    return StridedKernel(
        (w.shape[2], w.shape[3]),
        parts,
        [_component(b, tiling, 0, f, w) for f in range(tiling.stride)],
        [_component(b, tiling, 1, g, w) for g in range(tiling.stride)],
        as_transform(pooled(a, tiling.pool), w),
        products,
    )


def _all_components(w: Array, tiling: Tiling) -> Array:
    """Return (G x G) w_fg of all components: (r, r, C, K) -> (t, t, S^2 C, K), channels in the order (g, f, C)."""
    xp, (c, k), s, taps = array_module(w), w.shape[2:], tiling.stride, tiling.taps
    whole = xp.zeros((s * taps, s * taps, c, k), dtype=w.dtype)
    whole[: tiling.r, : tiling.r] = w
    apart = whole.reshape(taps, s, taps, s, c, k).transpose(0, 2, 3, 1, 4, 5).reshape(taps**2, -1)
    return xp.matmul(weight_transform(tiling, w), apart).reshape(tiling.t, tiling.t, s * s * c, k)


def _parts(tiling: Tiling, c: int) -> Iterator[tuple[int, slice, slice]]:
    """Yield (row, columns, channels): entries of a tile, and the components that are not zero there."""
    t, s, full = tiling.t, tiling.stride, tiling.full
    sides = [(slice(0, t), s)] if full == s else [(slice(0, t - 1), s), (slice(t - 1, t), full)]
    for row in range(t):
        across = full if row == t - 1 else s
        for columns, along in sides:
            yield row, columns, slice(0, ((along - 1) * s + across) * c)


def _component(b: np.ndarray, tiling: Tiling, axis: int, f: int, like: Array) -> Component:
    """Return the transform of component ``f`` along an axis: B^T at its inputs in each tile."""
    size, count, s, t, padding = tiling.size[axis], tiling.counts[axis], tiling.stride, tiling.t, tiling.padding
    points = t if f < tiling.full else t - 1
    first = (f - padding) % s
    laid = np.zeros((count, points, max(s * ((count - 1) * tiling.m + t), padding + size)))
    for tile in range(count):
        start = s * tile * tiling.m + f
        laid[tile, :, start : start + s * t : s] = b[:points]
    laid = laid[:, :, padding + first : padding + size : s]
    laid = laid if axis == 0 else laid.swapaxes(0, 1)
    return Component(slice(first, None, s), points, as_transform(laid.reshape(count * points, -1), like))


def strided_outputs(x: Array, kernel: StridedKernel, tiling: Tiling, space: Workspace | None = None) -> Array:
    """Return Y, ``w * x`` or its averages: (N, H, W, C) -> (outputs, outputs, Q, N, P, K).

    The result lies in the workspace and is valid until the next call with it. Adjoint: ``strided_inputs``.
    """
    xp, space = array_module(x), space or Workspace()
    (c, k), (p, q), (n, h, w), t, s = kernel.channels, tiling.counts, x.shape[:3], tiling.t, tiling.stride
    v = space.take("odd stages", (t, t * q, n * p, s, s, c), x)
    for f, row in enumerate(kernel.rows):
        r = space.take("even stages", (n, p * row.points, w * c), x)
        xp.matmul(row.matrix.there, x.reshape(n, h, w * c)[:, row.inputs], out=r)
        lines = r.reshape(n * p, row.points, w, c)
        for g, col in enumerate(kernel.cols):
            out = v[: row.points, : col.points * q, :, g, f].transpose(2, 0, 1, 3)
            xp.matmul(col.matrix.there, lines[:, :, col.inputs], out=out)
    v[t - 1, :, :, :, tiling.full :] = 0  # products read these four of 85, with weights that are zero
    v = v.reshape(t, t, q * n * p, s * s * c)
    m = space.take("even stages", (t, t, q * n * p, k), x)
    for part in kernel.parts:
        kernel.products.matmul(v[part.row, part.columns, :, part.channels], part.u, m[part.row, part.columns])
    return transform_products(m.reshape(t * t, -1, k), kernel.outputs, (q, n, p), space)


def strided_inputs(y: Array, kernel: StridedKernel, tiling: Tiling, space: Workspace | None = None) -> Array:
    """Return the adjoint of ``strided_outputs``: (outputs, outputs, Q, N, P, K) -> (N, H, W, C).

    The result lies in the workspace and is valid until the next call with it.
    """
    xp, space = array_module(y), space or Workspace()
    (c, k), (h, w), (q, n, p), t, s = kernel.channels, tiling.size, y.shape[2:5], tiling.t, tiling.stride
    m = spread_outputs(y, kernel.outputs, space).reshape(t, t, q * n * p, k)
    v = space.take("odd stages", (t, t, q * n * p, s * s * c), y)
    for part in kernel.parts:
        to = v[part.row, part.columns, :, part.channels]
        kernel.products.matmul(m[part.row, part.columns], part.u_back, to)
    v = v.reshape(t, t * q, n * p, s, s, c)
    x = space.take("strided inputs", (n, h, w * c), y)
    for f, row in enumerate(kernel.rows):
        r = space.take("even stages", (n * p, row.points, w, c), y)
        for g, col in enumerate(kernel.cols):
            back = v[: row.points, : col.points * q, :, g, f].transpose(2, 0, 1, 3)
            xp.matmul(col.matrix.back, back, out=r[:, :, col.inputs])
        xp.matmul(row.matrix.back, r.reshape(n, p * row.points, w * c), out=x[:, row.inputs])
    return x.reshape(n, h, w, c)
