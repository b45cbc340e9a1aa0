"""The conv-pool connection by Winograd transforms in eqnp's own CUDA kernels; compare ``winograd``."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from eqnp import ops
from eqnp.backends.backend import Array, array_module
from eqnp.backends.device import Device
from eqnp.backends.workspace import Workspace
from eqnp.connections.contract import Prepared, Winner
from eqnp.connections.cuda import CudaConvPool, Weights
from eqnp.connections.kernels import Kernels, StateUpdate, Three
from eqnp.connections.layers import ConvLayer, Shape
from eqnp.connections.winograd import WinogradConnection


class CudaWinograd(WinogradConnection, CudaConvPool):
    """The same maps by Winograd's F(m x m, r x r), with transforms in registers and pooling before outputs are written.

    (P, Q) is the number of tiles, and t = m + r - 1, as in ``eqnp.ops.winograd``.
    """

    def __init__(self, below: Shape, layer: ConvLayer, m: int, device: Device) -> None:
        super().__init__(below, layer, m, device=device)
        self.by_tiles = False  # not measured on a GPU
        self.points = self.tiling.t
        self._weight_transforms: dict[np.dtype, Array] = {}

    def prepare(self, w: Array) -> Prepared:
        """Return U = (G x G) w for w (r, r, C, K), and what the margins of ties need."""
        t, r, (c, k) = self.tiling.t, self.tiling.r, w.shape[2:]
        if w.dtype not in self._weight_transforms:
            self._weight_transforms[w.dtype] = ops.weight_transform(self.tiling, w)
        u = array_module(w).empty((t * t, c * k), dtype=w.dtype)
        self.device.strict.multiply(self._weight_transforms[w.dtype], w.reshape(r * r, c * k), u)
        return Weights(u.reshape(t * t, c, k), self._spread(w))

    @cached_property
    def _winograd(self) -> Kernels:
        g = self.tiling
        a, _, b = g.transforms
        p, q = g.counts
        h, w, c = self.below
        sizes: dict[str, float | str] = {"H": h, "W": w, "C": c, "K": self.layer.channels, "D": self.padding}
        sizes |= {"P": p, "Q": q, "T": g.t, "M": g.m, "SIDE": g.side, "LANES": self._lanes}
        sizes |= {"OH": self.above[0], "OW": self.above[1], "POOL": self.pool.upper()}
        matrices = {"AT": a, "A": a.T, "BT": b, "B": b.T}
        return Kernels(self.device, "winograd", sizes | {name: _initialiser(each) for name, each in matrices.items()})

    def _state_update(self, w: Prepared, v: Array, winner: Winner, others: Three, space: Workspace) -> StateUpdate:
        """Return the update with u = w~ * P^{-1}(v) plus ``others``, which gathers the tiles."""
        tiles = self._tiles_of_feedback(w, v, winner, space.scratch)
        return self._winograd, "gather_tiles_and_update", (tiles, *others), (_per_entry(tiles),)

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
        m = self._products(w, s, space)
        self._winograd.get("pool_outputs", s.dtype)(_per_entry(m), m, b, norms, w.spread, out, winner)

    def _feedback(self, w: Prepared, v: Array, winner: Winner, space: Workspace) -> Array:
        tiles = self._tiles_of_feedback(w, v, winner, space)
        out = space.take("gathered", (len(v), *self.below), v)
        self._winograd.get("gather_tiles", v.dtype)(out.size, tiles, out, _per_entry(tiles))
        return out

    def _drive_at_winners(self, w: Prepared, s: Array, winner: Winner, space: Workspace, out: Array) -> None:
        m = self._products(w, s, space)
        if self.pool == "max":
            self._winograd.get("pick_outputs", s.dtype)(_per_entry(m), m, winner, out)
        else:
            self._winograd.get("pool_outputs", s.dtype)(_per_entry(m), m, None, None, None, out, None)

    def _products(self, w: Prepared, s: Array, space: Workspace) -> Array:
        """Return the products M = V U: (N, H, W, C) -> (t^2, N P Q, K)."""
        t2, c, k = w.w.shape
        tiles = len(s) * self.tiling.count
        v = space.take("even stages", (t2, tiles, c), s)
        self._winograd.get("transform_inputs", s.dtype)(tiles * c, s, v)
        return self.device.multiply(v, w.w, space.take("odd stages", (t2, tiles, k), s))

    def _tiles_of_feedback(self, w: Prepared, v: Array, winner: Winner, space: Workspace) -> Array:
        """Return w~ * P^{-1}(v) in every tile, before the tiles are gathered: state above -> (t^2, N P Q, C)."""
        t2, c, k = w.w.shape
        tiles = len(v) * self.tiling.count
        m = space.take("odd stages", (t2, tiles, k), v)
        self._winograd.get("spread_values", v.dtype)(tiles * k, v, winner, m)
        d = self.device.multiply(m, w.w, space.take("even stages", (t2, tiles, c), v), transpose_b=True)
        self._winograd.get("transform_back", v.dtype)(tiles * c, d)
        return d


def _per_entry(a: Array) -> int:
    """Return how many numbers belong to each of the t^2 entries of tiles (t^2, N P Q, channels)."""
    return int(a.shape[1] * a.shape[2])


def _initialiser(matrix: np.ndarray) -> str:
    """Return a matrix as an initialiser in C."""
    return "{" + ", ".join("{" + ", ".join(map(repr, row.tolist())) + "}" for row in matrix) + "}"
