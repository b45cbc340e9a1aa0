"""The tiles of Winograd's F(m x m, r x r): how many cover a layer, which inputs they need, and states cut into tiles.

Letters: N samples, K output channels, (P, Q) number of tiles, D padding, S stride.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from eqnp.backends.backend import Array
from eqnp.backends.workspace import Workspace
from eqnp.ops.conv import Size, output_size
from eqnp.ops.ties import Axis
from eqnp.ops.toom_cook import toom_cook


@dataclass(frozen=True)
class Tiling:
    """The tiles on an input of ``size`` (H, W), with the pooling after it: of F(m x m, taps x taps)."""

    m: int
    r: int
    pool: str
    """``max``, ``average`` or ``none``."""
    size: Size
    padding: int = 0
    stride: int = 1

    @cached_property
    def taps(self) -> int:
        """Weights along each axis that meet every S-th input: r with stride 1; see ``eqnp.ops.strided``."""
        return -(-self.r // self.stride)

    @cached_property
    def t(self) -> int:
        """Inputs of a tile along each axis: m + taps - 1."""
        return self.m + self.taps - 1

    @cached_property
    def transforms(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """A^T (m, t), G (t, taps) and B^T (t, t), along each axis."""
        return toom_cook(self.m, self.taps)

    @cached_property
    def full(self) -> int:
        """How many of the S components along an axis have all ``taps`` weights; see ``eqnp.ops.strided``."""
        return self.r - self.stride * (self.taps - 1)

    @cached_property
    def entries(self) -> int:
        """Multiplications of a tile for each input and output channel: t^2 with stride 1; see ``eqnp.ops.strided``."""
        inner = self.t if self.full == self.stride else self.t - 1
        along = [self.stride] * inner + [self.full] * (self.t - inner)
        return sum((columns - 1) * self.stride + rows for rows in along for columns in along)

    @cached_property
    def side(self) -> int:
        """Values of a tile after the pooling, along each axis."""
        return self.m if self.pool == "none" else self.m // 2

    @cached_property
    def outputs(self) -> int:
        """Values of a tile after the transform of outputs, along each axis: before a maximum, after an average."""
        return self.m if self.pool == "max" else self.side

    @cached_property
    def above(self) -> Size:
        """Size of the state above, which is after the pooling."""
        h, w = output_size(self.size, (self.r, self.r), self.stride, self.padding)
        return (h, w) if self.pool == "none" else (h // 2, w // 2)

    @cached_property
    def counts(self) -> Size:
        """(P, Q), the number of tiles that cover the state above."""
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
        """P Q, the number of tiles of a sample."""
        return self.counts[0] * self.counts[1]


def to_tiles(v: Array, tiling: Tiling, name: str, space: Workspace) -> Array:
    """Return a state (N, H, W, K) as tiles (side, side, Q, N, P, K), zero where a tile exceeds the state.

    ``name`` is that of the buffer in the workspace.
    """
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
