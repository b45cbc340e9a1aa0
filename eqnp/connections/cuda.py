"""The connections by eqnp's own CUDA kernels: the maps of ``dense``, ``conv_pool`` and ``merged``, in fewer passes.

Each map computes the whole batch, since there is one block on a GPU. Nothing is copied to the host, and after the first
step nothing is allocated. Letters as in ``conv_pool``.
"""

from __future__ import annotations

from functools import cached_property

from eqnp.backends.backend import Array, array_module
from eqnp.backends.device import Device
from eqnp.backends.workspace import Workspace
from eqnp.connections.contract import Prepared, Winner
from eqnp.connections.conv_pool import ConvPoolConnection
from eqnp.connections.dense import DenseConnection
from eqnp.connections.kernels import Kernels, StateUpdate, Three, UpdateByKernel
from eqnp.connections.layers import ConvLayer, Shape
from eqnp.connections.merged import MergedConnection

LANES = 32  # threads that share the channels of a place in a sum


class CudaDense(UpdateByKernel, DenseConnection):
    """s w + b, with the update of the state below in one pass."""

    def __init__(self, below: Shape, above: Shape, device: Device) -> None:
        super().__init__(below, above)
        self.device = device

    def _state_update(self, w: Prepared, v: Array, winner: Winner, others: Three, space: Workspace) -> StateUpdate:
        """Return the update with u = v w^T plus ``others``."""
        return self._update, "update", (self.feedback(w, v, winner, space), None, *others), ()


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

    def _norms(self, w: Prepared, s: Array, space: Workspace) -> Array:
        """Return the norm |x| of the inputs of every window or tile, as ``ops.reach``: (N, H, W, C) -> (N, P, Q)."""
        (n, h, w, c), (rows, columns) = s.shape, self.reach
        partial = space.take("squares", (n, h, w, min(c, LANES)), s)
        self._ties.get("squares", s.dtype)(partial.size, s, partial)
        reached = space.take("reached", (n, rows.count, columns.count), s)
        self._ties.get("reach", s.dtype)(reached.size, partial, reached)
        return reached

    def _state_update(self, w: Prepared, v: Array, winner: Winner, others: Three, space: Workspace) -> StateUpdate:
        """Return the update with u = w~ * P^{-1}(v) plus ``others``, which gathers the columns."""
        col = self._columns_of_feedback(w, v, winner, space.scratch)
        return self._columns, "gather_and_update", (col, *others), ()

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
        u = self._convolved(w, s, space)
        if self.pool == "max":
            assert winner is not None  # a maximum has winners
            self._pooling.get("max_pool", s.dtype)(winner.size, u, b, norms, w.ties.spread, out, winner)
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
            self._drive(w, None, s, space, out, winner, None)

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
