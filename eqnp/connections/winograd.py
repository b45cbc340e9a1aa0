"""The conv-pool connection by Winograd transforms, for square kernels: with stride 1, and with a stride."""

from __future__ import annotations

from typing import Any

from eqnp import ops
from eqnp.backends.backend import Array, array_module
from eqnp.backends.blocks import blocks, part_of
from eqnp.backends.products import Products
from eqnp.backends.workspace import Workspace
from eqnp.connections.contract import Prepared, Winner
from eqnp.connections.conv_pool import ConvPoolConnection
from eqnp.connections.layers import ConvLayer, Shape

CHANNELS = 32  # for the weight gradient by tiles, at least, below and above
PAIRS_FOR_A_TILE = 64  # of channels below and above: with fewer its transforms cost more than they save (measured)
TILES = 256  # of a block of the weight gradient, at least


class WinogradConnection(ConvPoolConnection):
    """The same maps by Winograd's F(m x m, r x r), for square kernels with stride 1; see ``eqnp.ops.winograd``.

    ``products`` computes the large products; by default the arrays' module does.
    """

    def __init__(self, below: Shape, layer: ConvLayer, m: int, products: Products | None = None, **more: Any) -> None:
        super().__init__(below, layer, **more)
        self.products = products
        self.tiling = ops.Tiling(m, layer.kernel[0], layer.pool, self.size, self.padding, self.stride)
        c, k = below[2], layer.channels
        self.by_tiles = self.stride == 1 and min(c, k) >= CHANNELS and c * k >= PAIRS_FOR_A_TILE * self.tiling.count
        """Whether the weight gradient is computed by tiles, too."""

    @property
    def reach(self) -> tuple[ops.Axis, ops.Axis]:
        """Which inputs enter each tile, along both axes: all of them contribute to the rounding of each output."""
        return self.tiling.reach

    def prepare(self, w: Array) -> Prepared:
        """Return the transformed weights of w (r, r, C, K)."""
        return ops.transform_weights(w, self.tiling, self.products)

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
        y = self._outputs(w, s, space)
        if norms is not None:  # the pooling is a maximum
            best, found = ops.winograd_max_pool(y, norms, w, space)
            ops.from_tiles(found, winner)
        else:
            best = y
        ops.from_tiles(best, out)
        if b is not None:
            out += b

    def _feedback(self, w: Prepared, v: Array, winner: Winner, space: Workspace) -> Array:
        return self._inputs(w, self._unpool_tiles(v, winner, space), space)

    def weight_gradient(self, s: Array, v: Array, winner: Winner, space: Workspace | None = None) -> Array:
        """Return P^{-1}(v) correlated with s, by tiles: (N, H, W, C), (N, P, Q, K) -> (r, r, C, K)."""
        if not self.by_tiles:
            return super().weight_gradient(s, v, winner, space)
        space = (space or Workspace()).scratch
        transforms = ops.tile_transforms(self.tiling, s)
        least = -(-TILES // self.tiling.count)  # to read and write the sum of a block costs as much as some tiles
        total: Array | None = None
        for block in blocks(s, self._numbers_per_sample() * s.dtype.itemsize, least):
            y = self._unpool_tiles(part_of(v, block), part_of(winner, block), space)
            part = ops.winograd_weight_products(part_of(s, block), y, transforms, self.tiling, space)
            total = part if total is None else array_module(s).add(total, part, out=total)
        assert total is not None
        return ops.winograd_weight_gradient(total, self.tiling)

    def _unpool_tiles(self, v: Array, winner: Winner, space: Workspace) -> Array:
        """Return P^{-1}(v) as tiles: (N, P, Q, K) -> (outputs, outputs, Q, N, P, K)."""
        y = ops.to_tiles(v, self.tiling, "values", space)
        return ops.winograd_unpool(y, self._winners_of_tiles(winner, space), space) if self.pool == "max" else y

    def _drive_at_winners(self, w: Prepared, s: Array, winner: Winner, space: Workspace, out: Array) -> None:
        y = self._outputs(w, s, space)
        picked = ops.winograd_pick(y, self._winners_of_tiles(winner, space)) if self.pool == "max" else y
        ops.from_tiles(picked, out)

    def _winners_of_tiles(self, winner: Array, space: Workspace) -> Array:
        return ops.to_tiles(winner, self.tiling, "winners of tiles", space)

    def _numbers_per_sample(self) -> int:
        """Return how many numbers per sample must fit into the cache: twice those of one of the t^2 products."""
        return 2 * self.tiling.count * (self.stride**2 * self.below[2] + self.layer.channels)

    def _rows_per_sample(self) -> int:
        return self.tiling.count

    def _outputs(self, w: Prepared, s: Array, space: Workspace) -> Array:
        return ops.winograd_outputs(s, w, self.tiling, space)

    def _inputs(self, w: Prepared, y: Array, space: Workspace) -> Array:
        return ops.winograd_inputs(y, w, self.tiling, space)


class StridedConnection(WinogradConnection):
    """The same maps for kernels with a stride, without a maximum; see ``eqnp.ops.strided``."""

    def prepare(self, w: Array) -> Prepared:
        """Return the transformed weights of w (r, r, C, K)."""
        return ops.transform_strided_weights(w, self.tiling, self.products)

    def _outputs(self, w: Prepared, s: Array, space: Workspace) -> Array:
        return ops.strided_outputs(s, w, self.tiling, space)

    def _inputs(self, w: Prepared, y: Array, space: Workspace) -> Array:
        return ops.strided_inputs(y, w, self.tiling, space)
