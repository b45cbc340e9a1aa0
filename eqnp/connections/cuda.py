"""The connections by eqnp's own CUDA kernels: the maps of ``dense``, ``conv_pool`` and ``merged``, in fewer passes.

Each map computes the whole batch, since there is one block on a GPU. Nothing is copied to the host, and after the first
step nothing is allocated. Letters as in ``conv_pool``.
"""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

from eqnp import ops
from eqnp.backends.backend import Array, array_module
from eqnp.backends.device import Device
from eqnp.backends.workspace import Workspace
from eqnp.connections.contract import Prepared, Winner
from eqnp.connections.conv_pool import ConvPoolConnection
from eqnp.connections.dense import DenseConnection
from eqnp.connections.kernels import Kernels, StateUpdate, Three, UpdateByKernel
from eqnp.connections.layers import ConvLayer, Shape
from eqnp.connections.merged import MergedConnection

LANES = 8  # threads that share the channels of a place in a sum


class Weights(NamedTuple):
    """Weights in the form that the kernels take."""

    w: Array  # (KH, KW, C, K); for a Winograd form transformed, (t^2, C, K)
    spread: Array | None  # (K,): how they spread rounding errors, for the margins of ties; None without a maximum


class CudaDense(UpdateByKernel, DenseConnection):
    """s w + b, with the update of the state below in one pass. TF32 is for convolutions only."""

    def __init__(self, below: Shape, above: Shape, device: Device) -> None:
        super().__init__(below, above)
        self.device = device

    def feedback(self, w: Prepared, v: Array, winner: Winner, space: Workspace | None = None) -> Array:
        """Return v w^T in the shape of the state below: (N, ...) -> (N, ...)."""
        out = (space or Workspace()).take("fed back", (len(v), len(w)), v)
        return self.device.strict.multiply(ops.flatten(v), w, out, transpose_b=True).reshape(len(v), *self.below)

    def weight_gradient(self, s: Array, v: Array, winner: Winner, space: Workspace | None = None) -> Array:
        """Return s^T v, summed over samples: (N, ...), (N, K) -> (D, K)."""
        s, v = ops.flatten(s), ops.flatten(v)
        out = array_module(s).empty((s.shape[1], v.shape[1]), dtype=s.dtype)
        return self.device.strict.multiply(s, v, out, transpose_a=True)

    def drive_at_winners(self, w: Prepared, s: Array, winner: Winner, space: Workspace | None = None) -> Array:
        """Return s w: (N, ...) -> (N, K), or the shape of the state above."""
        out = (space or Workspace()).take("driven", (len(s), w.shape[1]), s)
        return self.device.strict.multiply(ops.flatten(s), w, out).reshape(len(s), *self.above)

    def _state_update(self, w: Prepared, v: Array, winner: Winner, others: Three, space: Workspace) -> StateUpdate:
        """Return the update with u = v w^T plus ``others``."""
        return self._update, "update", (self.feedback(w, v, winner, space), None, *others), ()


class CudaConvPool(UpdateByKernel, ConvPoolConnection):
    """P(w * s) + b by columns and one matrix product."""

    points = 0  # of a Winograd transform

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
        return Kernels(self.device, "pooling", {"P": p, "Q": q, "K": self.layer.channels, "LANES": self._lanes})

    @cached_property
    def _ties(self) -> Kernels:
        (h, w, c), (kh, kw), (rows, columns) = self.below, self.kernel, self.reach
        sizes: dict[str, float | str] = {"H": h, "W": w, "C": c, "LANES": self._lanes, "P": rows.count}
        sizes |= {"Q": columns.count, "STEP": rows.step, "SPAN_H": rows.span, "SPAN_W": columns.span, "D": rows.padding}
        multiple = ops.multiple_of_eps(kh * kw * c, self.points)
        return Kernels(self.device, "ties", sizes | {"TAPS": kh * kw, "K": self.layer.channels, "MULTIPLE": multiple})

    @property
    def _lanes(self) -> int:
        return min(self.below[2], LANES)

    def prepare(self, w: Array) -> Prepared:
        """Return the weights w (KH, KW, C, K) together with what the margins of ties need."""
        return Weights(w, self._spread(w))

    def _spread(self, w: Array) -> Array | None:
        """Return ``spread`` of ``ops.Ties`` for weights w (KH, KW, C, K): (K,), or None without a maximum."""
        if self.pool != "max":
            return None
        spread = array_module(w).empty(w.shape[3], dtype=w.dtype)
        self._ties.get("spreads", w.dtype)(w.shape[3], w, spread)
        return spread

    def _shape_of_norms(self, samples: int) -> tuple[int, ...]:
        return *super()._shape_of_norms(samples), self._lanes

    def _norms(self, w: Prepared, s: Array, space: Workspace) -> Array:
        """Return |x|^2 of the inputs of every window or tile, by lane: (N, H, W, C) -> (N, P, Q, lanes)."""
        partial = space.take("squares", (*s.shape[:3], self._lanes), s)
        self._ties.get("squares", s.dtype)(partial.size, s, partial)
        reached = space.take("reached", self._shape_of_norms(len(s)), s)
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
            self._pooling.get("max_pool", s.dtype)(winner.size, u, b, norms, w.spread, out, winner)
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
