"""Convolution (cross-correlation, as everywhere in the field) as one matrix product, and its two adjoints.

Letters: N samples, (H, W) input size, C input channels, (KH, KW) kernel, (P, Q) output size, K output channels.
Arrays are channels-last: x (N, H, W, C), w (KH, KW, C, K), y (N, P, Q, K).

    y[n, p, q, k] = sum over i, j, c of  x[n, p S + i - D, q S + j - D, c] w[i, j, c, k]

with stride S and zero padding D. Every patch of the input that meets the kernel becomes one row of the matrix of
*columns* (N P Q, KH KW C). The convolution is the product columns . w. Its adjoint in x computes y . w^T and adds each
row back to the patch that it came from.
"""

from __future__ import annotations

from collections.abc import Iterator

from eqnp.backends.backend import Array, array_module
from eqnp.backends.workspace import Workspace

Size = tuple[int, int]


def output_size(size: Size, kernel: Size, stride: int, padding: int) -> Size:
    """Return (P, Q) for an input of ``size`` (H, W): P = floor((H + 2 D - KH) / S) + 1, and Q likewise."""
    p, q = ((n + 2 * padding - k) // stride + 1 for n, k in zip(size, kernel, strict=True))
    return p, q


def _taps(kernel: Size, stride: int, out_size: Size) -> Iterator[tuple[int, int, tuple[slice, slice, slice]]]:
    """Yield (i, j, where): the index of the entries of the padded input that kernel entry (i, j) multiplies."""
    (kh, kw), (p, q) = kernel, out_size
    for i in range(kh):
        for j in range(kw):
            rows = slice(i, i + (p - 1) * stride + 1, stride)
            cols = slice(j, j + (q - 1) * stride + 1, stride)
            yield i, j, (slice(None), rows, cols)


def _interior(padding: int, size: Size) -> tuple[slice, slice, slice]:
    """Return the index of the unpadded input of ``size`` (H, W) in the padded one."""
    return slice(None), slice(padding, padding + size[0]), slice(padding, padding + size[1])


def columns(x: Array, kernel: Size, stride: int = 1, padding: int = 0, space: Workspace | None = None) -> Array:
    """Return a copy of every patch of x: (N, H, W, C) -> (N, P, Q, KH, KW, C). Adjoint: ``gather_columns``."""
    space = space or Workspace()
    n, h, w, c = x.shape
    out_size = output_size((h, w), kernel, stride, padding)
    if padding:
        padded = space.take_zeros(("padded", padding), (n, h + 2 * padding, w + 2 * padding, c), x)
        padded[_interior(padding, (h, w))] = x
        x = padded
    else:
        x = array_module(x).ascontiguousarray(x)
    out = space.take("columns", (n, *out_size, *kernel, c), x)
    out[...] = _patches(x, kernel, stride, out_size)
    return out


def _patches(x: Array, kernel: Size, stride: int, out_size: Size) -> Array:
    """Return all patches of a contiguous padded input as a view to read: (N, H, W, C) -> (N, P, Q, KH, KW, C)."""
    xp = array_module(x)
    sn, sh, sw, sc = x.strides
    shape = (x.shape[0], *out_size, *kernel, x.shape[3])
    return xp.lib.stride_tricks.as_strided(x, shape, (sn, stride * sh, stride * sw, sh, sw, sc))


def gather_columns(col: Array, size: Size, stride: int = 1, padding: int = 0, space: Workspace | None = None) -> Array:
    """Add every patch back to its place: (N, P, Q, KH, KW, C) -> (N, H, W, C). The adjoint of ``columns``.

    The result is a view into a buffer of the workspace, valid until the next call with this workspace.
    """
    space = space or Workspace()
    n, p, q, kh, kw, c = col.shape
    h, w = size
    padded = space.take("gathered", (n, h + 2 * padding, w + 2 * padding, c), col)
    padded.fill(0)
    for i, j, where in _taps((kh, kw), stride, (p, q)):
        padded[where] += col[:, :, :, i, j, :]
    return padded[_interior(padding, size)]


def conv2d(x: Array, w: Array, stride: int = 1, padding: int = 0, space: Workspace | None = None) -> Array:
    """Return ``w * x``: (N, H, W, C), (KH, KW, C, K) -> (N, P, Q, K).

    Adjoint in x: ``conv2d_transpose``; in w: ``conv2d_weight_gradient``.
    """
    space = space or Workspace()
    kh, kw, c, k = w.shape
    col = columns(x, (kh, kw), stride, padding, space)
    n, p, q = col.shape[:3]
    out = space.take("convolved", (n, p, q, k), x)
    # (N P Q, KH KW C) . (KH KW C, K)
    array_module(x).matmul(col.reshape(n * p * q, kh * kw * c), w.reshape(kh * kw * c, k), out=out.reshape(-1, k))
    return out


def conv2d_transpose(
    g: Array, w: Array, size: Size, stride: int = 1, padding: int = 0, space: Workspace | None = None
) -> Array:
    """Return ``w~ * g``, the adjoint of ``conv2d`` in x: (N, P, Q, K), (KH, KW, C, K) -> (N, H, W, C).

    ``size`` is (H, W). It must be given because, with a stride, inputs of several sizes have the same output size.
    """
    space = space or Workspace()
    kh, kw, c, k = w.shape
    n, p, q = g.shape[:3]
    col = space.take("columns", (n, p, q, kh, kw, c), g)
    # (N P Q, K) . (K, KH KW C)
    flat = col.reshape(n * p * q, kh * kw * c)
    array_module(g).matmul(g.reshape(n * p * q, k), w.reshape(kh * kw * c, k).T, out=flat)
    return gather_columns(col, size, stride, padding, space)


def conv2d_weight_gradient(
    x: Array, g: Array, kernel: Size, stride: int = 1, padding: int = 0, space: Workspace | None = None
) -> Array:
    """Return the adjoint of ``conv2d`` in w: (N, H, W, C), (N, P, Q, K) -> (KH, KW, C, K), summed over samples."""
    col = columns(x, kernel, stride, padding, space)
    n, p, q, kh, kw, c = col.shape
    k = g.shape[-1]
    # (KH KW C, N P Q) . (N P Q, K)
    product = array_module(x).matmul(col.reshape(n * p * q, kh * kw * c).T, g.reshape(n * p * q, k))
    return product.reshape(kh, kw, c, k)
