"""The conv-pool connection by Winograd transforms in eqnp's own CUDA kernels; compare ``winograd``."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from eqnp import ops
from eqnp.backends.backend import Array
from eqnp.backends.device import Device
from eqnp.backends.products import Products
from eqnp.backends.workspace import Workspace
from eqnp.connections.contract import Winner
from eqnp.connections.cuda import CudaConvPool
from eqnp.connections.kernels import Kernels, StateUpdate, Three
from eqnp.connections.layers import ConvLayer, Shape
from eqnp.connections.winograd import WinogradConnection


class Uncopied(Products):
    """Weights without copies: cuBLAS multiplies by a transposed matrix at no extra cost."""

    def prepare(self, u: Array) -> Array:
        """Return u (B, C, K) itself."""
        return u


class CudaWinograd(WinogradConnection, CudaConvPool):
    """The same maps by Winograd's F(m x m, r x r), with transforms in registers and pooling before outputs are written.

    (P, Q) is the number of tiles, and t = m + r - 1, as in ``eqnp.ops.winograd``.
    """

    def __init__(self, below: Shape, layer: ConvLayer, m: int, device: Device) -> None:
        super().__init__(below, layer, m, Uncopied(), device=device)
        self.by_tiles = False  # not measured on a GPU

    @cached_property
    def _winograd(self) -> Kernels:
        g = self.tiling
        a, _, b = g.transforms
        p, q = g.counts
        h, w, c = self.below
        sizes: dict[str, int | str] = {"H": h, "W": w, "C": c, "K": self.layer.channels, "D": self.padding}
        sizes |= {"P": p, "Q": q, "T": g.t, "M": g.m, "SIDE": g.side}
        sizes |= {"OH": self.above[0], "OW": self.above[1], "POOL": self.pool.upper()}
        matrices = {"AT": a, "A": a.T, "BT": b, "B": b.T}
        return Kernels(self.device, "winograd", sizes | {name: _initialiser(each) for name, each in matrices.items()})

    def _state_update(self, w: ops.Kernel, v: Array, winner: Winner, others: Three, space: Workspace) -> StateUpdate:
        """Return the update with u = w~ * P^{-1}(v) plus ``others``, which gathers the tiles."""
        tiles = self._tiles_of_feedback(w, v, winner, space.scratch)
        return self._winograd, "gather_tiles_and_update", (tiles, *others), (tiles[0].size,)

    def _drive(
        self,
        w: ops.Kernel,
        b: Array | None,
        s: Array,
        space: Workspace,
        out: Array,
        winner: Winner,
        norms: Array | None,
    ) -> None:
        m = self._products(w, s, space)
        spread = None if w.ties is None else w.ties.spread
        self._winograd.get("pool_outputs", s.dtype)(m[0].size, m, b, norms, spread, out, winner)

    def _feedback(self, w: ops.Kernel, v: Array, winner: Winner, space: Workspace) -> Array:
        tiles = self._tiles_of_feedback(w, v, winner, space)
        out = space.take("gathered", (len(v), *self.below), v)
        self._winograd.get("gather_tiles", v.dtype)(out.size, tiles, out, tiles[0].size)
        return out

    def _drive_at_winners(self, w: ops.Kernel, s: Array, winner: Winner, space: Workspace, out: Array) -> None:
        m = self._products(w, s, space)
        if self.pool == "max":
            self._winograd.get("pick_outputs", s.dtype)(m[0].size, m, winner, out)
        else:
            self._winograd.get("pool_outputs", s.dtype)(m[0].size, m, None, None, None, out, None)

    def _products(self, w: ops.Kernel, s: Array, space: Workspace) -> Array:
        """Return the products M = V U: (N, H, W, C) -> (t^2, N P Q, K)."""
        t2, c, k = w.u.shape
        tiles = len(s) * self.tiling.count
        v = space.take("even stages", (t2, tiles, c), s)
        self._winograd.get("transform_inputs", s.dtype)(tiles * c, s, v)
        return self.device.multiply(v, w.u, space.take("odd stages", (t2, tiles, k), s))

    def _tiles_of_feedback(self, w: ops.Kernel, v: Array, winner: Winner, space: Workspace) -> Array:
        """Return w~ * P^{-1}(v) in every tile, before the tiles are gathered: state above -> (t^2, N P Q, C)."""
        t2, c, k = w.u.shape
        tiles = len(v) * self.tiling.count
        m = space.take("odd stages", (t2, tiles, k), v)
        self._winograd.get("spread_values", v.dtype)(tiles * k, v, winner, m)
        d = self.device.multiply(m, w.u, space.take("even stages", (t2, tiles, c), v), transpose_b=True)
        self._winograd.get("transform_back", v.dtype)(tiles * c, d)
        return d


def _initialiser(matrix: np.ndarray) -> str:
    """Return a matrix as an initialiser in C."""
    return "{" + ", ".join("{" + ", ".join(map(repr, row.tolist())) + "}" for row in matrix) + "}"
