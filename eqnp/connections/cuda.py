"""The connections by eqnp's own CUDA kernels: the same maps as in the other files of this room, in fewer passes.

Each map computes the whole batch, since there is one block on a GPU. Nothing is copied to the host, and after the first
step nothing is allocated. Letters as in ``conv_pool``.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import numpy as np

from eqnp import ops
from eqnp.backends.backend import Array, array_module
from eqnp.backends.device import Device, Kernel
from eqnp.backends.products import Products
from eqnp.backends.workspace import Workspace
from eqnp.connections.contract import Prepared, Winner
from eqnp.connections.conv_pool import ConvPoolConnection
from eqnp.connections.dense import DenseConnection
from eqnp.connections.layers import ConvLayer, Shape
from eqnp.connections.merged import MergedConnection
from eqnp.connections.winograd import WinogradConnection
from eqnp.ops.moves import Move

LANES = 32  # threads that share the channels of a place in a sum


class Kernels:
    """The kernels of one source for one connection, compiled at their first call."""

    def __init__(self, device: Device, source: str, sizes: Mapping[str, int | str]) -> None:
        self.device, self.source, self.sizes = device, source, dict(sizes)
        self._kernels: dict[tuple[str, np.dtype, str, float], Kernel] = {}

    def get(self, name: str, dtype: np.dtype, sigma: str = "linear", omega: float = 1.0) -> Kernel:
        """Return the kernel ``name`` for arrays of ``dtype``; a state update uses ``sigma`` and ``omega``."""
        key = (name, dtype, sigma, omega)
        if key not in self._kernels:
            real = {np.dtype(np.float32): "float", np.dtype(np.float64): "double"}[dtype]
            macros = {
                "REAL": real,
                "SIGMA": sigma,
                "SIGMA_RANGE": f"{sigma}_range",
                "OMEGA": repr(float(omega)),
            } | self.sizes
            self._kernels[key] = self.device.kernel(self.source, name, macros)
        return self._kernels[key]

    def update(
        self,
        name: str,
        move: Move,
        arguments: tuple[Array | None, ...],
        space: Workspace,
        *sizes: int,
    ) -> Array | None:
        """Call a kernel that ends with a state update, with (*arguments, old, out, moved, *sizes).

        Return max |s' - s|, a 0-dimensional array of the device, if the move is measured, else None.
        """
        out, old = move.out, move.old if move.needs_old else None
        moved = space.take("moved", (self.device.threads(out.size),), out) if move.measured else None
        kernel = self.get(name, out.dtype, move.sigma.name, move.omega)
        kernel(out.size, *arguments, old, out, moved, *sizes)
        return None if moved is None else moved.max()


# A state update: the source, the name of the kernel, its first and its last arguments.
StateUpdate = tuple[Kernels, str, tuple[Array | None, ...], tuple[int, ...]]


class UpdateByKernel:
    """Common to all connections on a device: state updates in one pass."""

    device: Device

    @cached_property
    def _update(self) -> Kernels:
        return Kernels(self.device, "update", {})

    def update(
        self,
        w: Prepared,
        v: Array,
        winner: Winner,
        d: Array,
        move: Move,
        space: Workspace,
    ) -> Array | None:
        """Move the state below with u = d + dPhi/ds."""
        kernels, name, arguments, sizes = self._state_update(w, v, winner, d, space)
        return kernels.update(name, move, arguments, space, *sizes)

    def _state_update(self, w: Prepared, v: Array, winner: Winner, d: Array, space: Workspace) -> StateUpdate:
        """Return the kernel that updates the state below with u = d + dPhi/ds, and its arguments."""
        raise NotImplementedError

    def update_last(self, d: Array, nudge: Array | None, move: Move, space: Workspace) -> Array | None:
        """Move the state of the last layer with u = d - nudge."""
        return self._update.update("update", move, (d, None, nudge), space)


class CudaDense(UpdateByKernel, DenseConnection):
    """s w + b, with the update of the state below in one pass."""

    def __init__(self, below: Shape, device: Device) -> None:
        super().__init__(below)
        self.device = device

    def _state_update(self, w: Prepared, v: Array, winner: Winner, d: Array, space: Workspace) -> StateUpdate:
        """Return the update with u = d + v w^T."""
        return self._update, "update", (d, self.feedback(w, v, winner, space), None), ()


class CudaConvPool(UpdateByKernel, ConvPoolConnection):
    """P(w * s) + b by columns and one matrix product."""

    def __init__(self, below: Shape, layer: ConvLayer, device: Device) -> None:
        super().__init__(below, layer)
        self.device = device

    @cached_property
    def _columns(self) -> Kernels:
        (h, w, c), (kh, kw), (p, q) = self.below, self.kernel, self.conv_size
        sizes = {"H": h, "W": w, "C": c, "KH": kh, "KW": kw, "S": self.stride, "D": self.padding, "P": p, "Q": q}
        return Kernels(self.device, "columns", sizes)

    @cached_property
    def _pooling(self) -> Kernels:
        p, q = self.conv_size
        return Kernels(self.device, "pooling", {"P": p, "Q": q, "K": self.layer.channels})

    @cached_property
    def _ties(self) -> Kernels:
        (h, w, c), (rows, columns) = self.below, self.reach
        sizes = {"H": h, "W": w, "C": c, "LANES": min(c, LANES), "P": rows.count, "Q": columns.count}
        spans = {"STEP": rows.step, "SPAN_H": rows.span, "SPAN_W": columns.span, "D": rows.padding}
        return Kernels(self.device, "ties", sizes | spans)

    def _reach(self, s: Array, space: Workspace) -> Array:
        """Return the norm |x| of the inputs of every window or tile, as ``ops.reach``: (N, H, W, C) -> (N, P, Q)."""
        (n, h, w, c), (rows, columns) = s.shape, self.reach
        partial = space.take("squares", (n, h, w, min(c, LANES)), s)
        self._ties.get("squares", s.dtype)(partial.size, s, partial)
        reached = space.take("reached", (n, rows.count, columns.count), s)
        self._ties.get("reach", s.dtype)(reached.size, partial, reached)
        return reached

    def _state_update(self, w: Prepared, v: Array, winner: Winner, d: Array, space: Workspace) -> StateUpdate:
        """Return the update with u = d + w~ * P^{-1}(v), which gathers the columns."""
        col = self._columns_of_feedback(w, v, winner, space.scratch)
        return self._columns, "gather_and_update", (col, d), ()

    def _drive(self, w: Prepared, b: Array | None, s: Array, space: Workspace, out: Array, winner: Winner) -> None:
        u = self._convolved(w, s, space)
        if self.pool == "max":
            assert winner is not None  # a maximum has winners
            self._pooling.get("max_pool", s.dtype)(winner.size, u, b, self._reach(s, space), w.ties.spread, out, winner)
        elif self.pool == "average":
            self._pooling.get("average_pool", s.dtype)(out.size, u, b, out)
        elif b is not None:
            self._pooling.get("add_bias", s.dtype)(out.size, u, b, out)
        else:
            out[...] = u

    def _feedback(self, w: Prepared, v: Array, winner: Winner, space: Workspace) -> Array:
        col = self._columns_of_feedback(w, v, winner, space)
        out = space.take("gathered", (len(v), *self.below), v)
        self._columns.get("gather", v.dtype)(out.size, col, out)
        return out

    def _drive_at_winners(self, w: Prepared, s: Array, winner: Winner, space: Workspace, out: Array) -> None:
        if self.pool == "max":
            self._pooling.get("pick_winners", s.dtype)(out.size, self._convolved(w, s, space), winner, out)
        else:
            self._drive(w, None, s, space, out, winner)

    def _weight_gradient(self, s: Array, v: Array, winner: Winner, space: Workspace) -> Array:
        col, g = self._columns_of(s, space), self._unpool(v, winner, space)
        dw = array_module(s).empty((col.shape[1], g.shape[-1]), dtype=s.dtype)
        self.device.multiply(col, g.reshape(-1, g.shape[-1]), dw, transpose_a=True)
        return dw.reshape(*self.kernel, self.below[2], -1)

    def _unpool(self, v: Array, winner: Winner, space: Workspace) -> Array:
        if self.pool == "none":
            return v
        u = space.take("unpooled", (len(v), *self.conv_size, v.shape[-1]), v)
        if self.pool == "max":
            self._pooling.get("max_unpool", v.dtype)(u.size, v, winner, u)
        else:
            self._pooling.get("average_unpool", v.dtype)(u.size, v, u)
        return u

    def _columns_of(self, s: Array, space: Workspace) -> Array:
        """Return the columns of s: (N, H, W, C) -> (N P' Q', KH KW C)."""
        (p, q), (kh, kw) = self.conv_size, self.kernel
        col = space.take("columns", (len(s) * p * q, kh * kw * self.below[2]), s)
        self._columns.get("columns", s.dtype)(col.size, s, col)
        return col

    def _convolved(self, w: Prepared, s: Array, space: Workspace) -> Array:
        """Return w * s: (N, H, W, C) -> (N, P', Q', K)."""
        k = w.w.shape[-1]
        u = space.take("convolved", (len(s), *self.conv_size, k), s)
        self.device.multiply(self._columns_of(s, space), w.w.reshape(-1, k), u.reshape(-1, k))
        return u

    def _columns_of_feedback(self, w: Prepared, v: Array, winner: Winner, space: Workspace) -> Array:
        """Return the columns of w~ * P^{-1}(v), before they are gathered: (N, P, Q, K) -> (N P' Q', KH KW C)."""
        g = self._unpool(v, winner, space)
        k = w.w.shape[-1]
        g, matrix = g.reshape(-1, k), w.w.reshape(-1, k)
        col = space.take("columns", (len(g), len(matrix)), v)
        return self.device.multiply(g, matrix, col, transpose_b=True)


class CudaMerged(MergedConnection, CudaConvPool):
    """Convolution and average as one convolution, by columns."""


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

    @cached_property
    def _winograd(self) -> Kernels:
        g = self.tiling
        a, _, b = ops.toom_cook(g.m, g.r)
        p, q = g.counts
        h, w, c = self.below
        sizes: dict[str, int | str] = {"H": h, "W": w, "C": c, "K": self.layer.channels, "D": self.padding}
        sizes |= {"P": p, "Q": q, "T": g.t, "M": g.m, "SIDE": g.side}
        sizes |= {"OH": self.above[0], "OW": self.above[1], "POOL": self.pool.upper()}
        matrices = {"AT": a, "A": a.T, "BT": b, "B": b.T}
        return Kernels(self.device, "winograd", sizes | {name: _initialiser(each) for name, each in matrices.items()})

    def _state_update(self, w: ops.Kernel, v: Array, winner: Winner, d: Array, space: Workspace) -> StateUpdate:
        """Return the update with u = d + w~ * P^{-1}(v), which gathers the tiles."""
        tiles = self._tiles_of_feedback(w, v, winner, space.scratch)
        return self._winograd, "gather_tiles_and_update", (tiles, d), (tiles[0].size,)

    def _drive(self, w: ops.Kernel, b: Array | None, s: Array, space: Workspace, out: Array, winner: Winner) -> None:
        m = self._products(w, s, space)
        self._winograd.get("pool_outputs", s.dtype)(m[0].size, m, b, *self._margin_of(w, s, space), out, winner)

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

    def _margin_of(self, w: ops.Kernel, s: Array, space: Workspace) -> tuple[Array | None, Array | None]:
        """Return the factors of the margin, |x| (N, P, Q) and spread (K,), or None, None without a maximum."""
        return (None, None) if w.ties is None else (self._reach(s, space), w.ties.spread)

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
