"""The conv-pool connection: P(w * s) + b, where P is the 2x2 maximum, the 2x2 average or the identity.

This is the plain form: it convolves, then pools. ``merged`` computes convolution and average as one convolution with a
larger stride, ``winograd`` needs fewer multiplications. All forms give the same results up to rounding.

Letters: N samples, (H, W) input size, C channels, (KH, KW) kernel, (P', Q') size before and (P, Q) after the pooling, K
output channels. s is (N, H, W, C), v (N, P, Q, K), w (KH, KW, C, K), b (K,).

The bias is the same at all four places of a window, so it can be added after the pooling and never changes a winner.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from eqnp import ops
from eqnp.backends.backend import Array, array_module
from eqnp.backends.blocks import blocks, part_of
from eqnp.backends.workspace import Workspace
from eqnp.connections.contract import Connection, Prepared, Winner
from eqnp.connections.layers import ConvLayer, Shape

ROWS = 96  # in a product, at least, if the batch has them: every product reads all its weights


class Direct(NamedTuple):
    """Weights in the form that the direct form takes."""

    w: Array  # (KH, KW, C, K)
    ties: ops.Ties | None  # which outputs of a window count as equal; None without a maximum


class ConvPoolConnection(Connection):
    """P(w * s) + b by columns, then pooling. Methods with a leading underscore compute one block of samples."""

    def __init__(self, below: Shape, layer: ConvLayer) -> None:
        super().__init__(below)
        self.layer = layer
        self.kernel, self.stride, self.padding, self.pool = layer.kernel, layer.stride, layer.padding, layer.pool
        self.size = (below[0], below[1])
        self.conv_size = ops.output_size(self.size, self.kernel, self.stride, self.padding)
        scale = 1 if self.pool == "none" else 2
        self.above = (self.conv_size[0] // scale, self.conv_size[1] // scale, layer.channels)

    def prepare(self, w: Array) -> Prepared:
        """Return the weights w (KH, KW, C, K) together with what the margins of ties need."""
        return Direct(w, ops.prepare_ties(w, *self.reach) if self.pool == "max" else None)

    @property
    def reach(self) -> tuple[ops.Axis, ops.Axis]:
        """Which inputs enter each pooling window, along both axes."""
        sizes, step, padding = zip(self.size, self.above[:2], self.kernel, strict=True), self.stride, self.padding
        rows, columns = (ops.Axis(size, count, 2 * step, k + step, padding) for size, count, k in sizes)
        return rows, columns

    def drive(
        self, w: Prepared, b: Array | None, s: Array, space: Workspace | None = None, norms: Array | None = None
    ) -> tuple[Array, Winner]:
        """Return P(w * s) + b: (N, H, W, C) -> (N, P, Q, K), and its winners, or None without max-pooling."""
        return self._drive_all(w, b, s, space or Workspace(), norms)

    def winners(self, w: Prepared, s: Array, space: Workspace | None = None, norms: Array | None = None) -> Winner:
        """Return the winners of w * s: (N, H, W, C) -> (N, P, Q, K), or None without max-pooling."""
        if self.pool != "max":
            return None
        return self._drive_all(w, None, s, space or Workspace(), norms)[1]

    def norms(self, w: Prepared, s: Array, space: Workspace) -> Array | None:
        """Return |x| of the inputs of every window or tile (N, windows), or None without max-pooling."""
        if self.pool != "max":
            return None
        out = space.take("norms", self._shape_of_norms(len(s)), s)
        for block in self._blocks(s):
            part_of(out, block)[...] = self._norms(w, part_of(s, block), space.scratch)
        return out

    def feedback(self, w: Prepared, v: Array, winner: Winner, space: Workspace | None = None) -> Array:
        """Return w~ * P^{-1}(v): (N, P, Q, K) -> (N, H, W, C)."""
        space = space or Workspace()
        out = space.take("feedback", (len(v), *self.below), v)
        for block, part in self.feedback_blocks(w, v, winner, space):
            part_of(out, block)[...] = part
        return out

    def feedback_blocks(self, w: Prepared, v: Array, winner: Winner, space: Workspace) -> Iterator[tuple[slice, Array]]:
        """Yield (block, w~ * P^{-1}(v) of these samples): (N, P, Q, K) -> (B, H, W, C) for blocks of B samples."""
        for block in self._blocks(v):
            yield block, self._feedback(w, part_of(v, block), part_of(winner, block), space.scratch)

    def drive_at_winners(self, w: Prepared, s: Array, winner: Winner, space: Workspace | None = None) -> Array:
        """Return P(w * s) with the maximum at given winners (N, P, Q, K): (N, H, W, C) -> (N, P, Q, K)."""
        space = space or Workspace()
        out = space.take("drive at winners", (len(s), *self.above), s)
        for block in self._blocks(s):
            here = part_of(s, block), part_of(winner, block)
            self._drive_at_winners(w, *here, space.scratch, part_of(out, block))
        return out

    def weight_gradient(self, s: Array, v: Array, winner: Winner, space: Workspace | None = None) -> Array:
        """Return P^{-1}(v) correlated with s: (N, H, W, C), (N, P, Q, K) -> (KH, KW, C, K)."""
        space = (space or Workspace()).scratch
        least = -(-ROWS // (self.conv_size[0] * self.conv_size[1]))
        cut = blocks(s, self._columns_per_sample() * s.dtype.itemsize, least)
        parts = [(part_of(s, block), part_of(v, block), part_of(winner, block)) for block in cut]
        dw = self._weight_gradient(*parts[0], space)
        for part in parts[1:]:
            dw += self._weight_gradient(*part, space)
        return dw

    def bias_gradient(self, v: Array) -> Array:
        """Return the sum of v over samples and places: (N, P, Q, K) -> (K,)."""
        return v.sum(axis=(0, 1, 2))

    # ---- one block

    def _shape_of_norms(self, samples: int) -> tuple[int, ...]:
        rows, columns = self.reach
        return samples, rows.count, columns.count

    def _norms(self, w: Prepared, s: Array, space: Workspace) -> Array:
        return ops.reach(s, w.ties)

    def _drive(
        self,
        w: Prepared,
        b: Array | None,
        s: Array,
        space: Workspace,
        out: Array,
        winner: Winner,
        norms: Array | None,
    ) -> None:
        """Write P(w * s) + b to ``out`` and the winners to ``winner``; ``norms`` are needed for a maximum."""
        u = ops.conv2d(s, w.w, self.stride, self.padding, space)
        if self.pool == "max":
            assert winner is not None  # a maximum has winners
            margin = ops.tie_margin(norms, w.ties.spread, space)
            u, winner[...] = ops.max_pool(u, space, margin)
        elif self.pool == "average":
            u = ops.average_pool(u, space)
        out[...] = u if b is None else array_module(u).add(u, b, out=u)

    def _feedback(self, w: Prepared, v: Array, winner: Winner, space: Workspace) -> Array:
        g = self._unpool(v, winner, space)
        return ops.conv2d_transpose(g, w.w, self.size, self.stride, self.padding, space)

    def _drive_at_winners(self, w: Prepared, s: Array, winner: Winner, space: Workspace, out: Array) -> None:
        if self.pool == "max":
            out[...] = ops.pick_winners(ops.conv2d(s, w.w, self.stride, self.padding, space), winner)
        else:
            self._drive(w, None, s, space, out, winner, None)

    def _weight_gradient(self, s: Array, v: Array, winner: Winner, space: Workspace) -> Array:
        g = self._unpool(v, winner, space)
        return ops.conv2d_weight_gradient(s, g, self.kernel, self.stride, self.padding, space)

    def _unpool(self, v: Array, winner: Winner, space: Workspace) -> Array:
        """Return P^{-1}(v): (N, P, Q, K) -> (N, P', Q', K), the size before pooling."""
        if self.pool == "max":
            return ops.max_unpool(v, winner, self.conv_size, space)
        return ops.average_unpool(v, self.conv_size, space) if self.pool == "average" else v

    # ---- all blocks

    def _numbers_per_sample(self) -> int:
        """Return how many numbers per sample must fit into the cache."""
        return self._columns_per_sample()

    def _rows_per_sample(self) -> int:
        """Return the rows of a sample in the product with the weights."""
        return self.conv_size[0] * self.conv_size[1]

    def _columns_per_sample(self) -> int:
        """Return the size of a sample's columns and of their product with w."""
        (p, q), k = self.conv_size, self.layer.channels
        return p * q * (self.kernel[0] * self.kernel[1] * self.below[2] + k)

    def _blocks(self, s: Array) -> Sequence[slice]:
        return blocks(s, self._numbers_per_sample() * s.dtype.itemsize, -(-ROWS // self._rows_per_sample()))

    def _drive_all(
        self, w: Prepared, b: Array | None, s: Array, space: Workspace, norms: Array | None
    ) -> tuple[Array, Winner]:
        shape, is_maximum = (len(s), *self.above), self.pool == "max"
        out = space.take("drive", shape, s)
        winner = space.take("winners", shape, s, dtype=array_module(s).uint8) if is_maximum else None
        for block in self._blocks(s):
            here, part = part_of(s, block), part_of(norms, block)
            if is_maximum and part is None:
                part = self._norms(w, here, space.scratch)
            self._drive(w, b, here, space.scratch, part_of(out, block), part_of(winner, block), part)
        return out, winner
