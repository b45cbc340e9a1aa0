"""Dense and conv-pool connections: the four maps of DESIGN, each one line of mathematics.

Phi = sum over connections of  s^{n+1} . d(s^n),  with the drive d(s) = P(w * s + b) or w s + b. In what follows s is
the state below, v the state above, both with the sample axis first, and ``winner`` the place that each pooling window
chose.

| map | dense | conv-pool |
|---|---|---|
| ``drive``, dPhi/dv | s w + b | P(w * s) + b |
| ``feedback``, dPhi/ds | v w^T | w~ * P^{-1}(v) |
| ``weight_gradient``, dPhi/dw and dPhi/db | s^T v, sum of v | P^{-1}(v) correlated with s, sum of v |
| ``drive_at_winners`` | s w | pick(w * s) at given winners |

A bias moves all four places of a window alike, so it may be added after the pooling and never changes a winner.

Weights stand still during a relaxation: ``prepare`` brings them once into the form that the maps take as ``w``. That is
the weights themselves, but for Winograd's form of a convolution.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from eqnp import ops
from eqnp.architecture import Architecture, ConvLayer, Layer, Shape
from eqnp.backend import Array, array_module
from eqnp.workspace import Workspace

Winner = Array | None  # uint8 of the shape of the state above; None where nothing is chosen


class Connection(ABC):
    """What couples the states of two neighbouring layers. It holds shapes only; weights are arguments.

    Arrays returned by a map that was given a workspace live in it, until the same map is called with it again.
    """

    def __init__(self, below: Shape) -> None:
        self.below = below  # shape of s without the sample axis

    def prepare(self, w: Array) -> Array:
        """Return the weights in the form that the maps take."""
        return w

    @abstractmethod
    def drive(self, w: Array, b: Array, s: Array, space: Workspace | None = None) -> tuple[Array, Winner]:
        """Return dPhi/dv and the winners that it found. VJP in s: ``feedback``; in w, b: ``weight_gradient``."""

    @abstractmethod
    def feedback(self, w: Array, v: Array, winner: Winner, space: Workspace | None = None) -> Array:
        """Return dPhi/ds, the adjoint in s of ``drive_at_winners``. VJP in v: ``drive_at_winners``."""

    @abstractmethod
    def weight_gradient(
        self, s: Array, v: Array, winner: Winner, space: Workspace | None = None
    ) -> tuple[Array, Array]:
        """Return dPhi/dw and dPhi/db, summed over samples."""

    @abstractmethod
    def drive_at_winners(self, w: Array, s: Array, winner: Winner, space: Workspace | None = None) -> Array:
        """Return the drive without bias when every window takes its value at ``winner``; linear in s."""

    def winners(self, w: Array, s: Array, space: Workspace | None = None) -> Winner:
        """Return the places that the windows of w * s choose, which a bias does not move; None where none are."""
        return None


class DenseConnection(Connection):
    """s w + b; a state below of shape (H, W, C) is flattened in that order."""

    def drive(self, w: Array, b: Array, s: Array, space: Workspace | None = None) -> tuple[Array, Winner]:
        """Return s w + b: (N, ...) -> (N, K), and no winners."""
        out = self.drive_at_winners(w, s, None, space)
        out += b
        return out, None

    def feedback(self, w: Array, v: Array, winner: Winner, space: Workspace | None = None) -> Array:
        """Return v w^T in the shape of the state below: (N, K) -> (N, ...)."""
        out = (space or Workspace()).take("fed back", (v.shape[0], w.shape[0]), v)
        return ops.dense_transpose(v, w, out=out).reshape(v.shape[0], *self.below)

    def weight_gradient(
        self, s: Array, v: Array, winner: Winner, space: Workspace | None = None
    ) -> tuple[Array, Array]:
        """Return s^T v (D, K) and the sum of v over samples (K,)."""
        return ops.dense_weight_gradient(ops.flatten(s), v), v.sum(axis=0)

    def drive_at_winners(self, w: Array, s: Array, winner: Winner, space: Workspace | None = None) -> Array:
        """Return s w: (N, ...) -> (N, K)."""
        out = (space or Workspace()).take("driven", (s.shape[0], w.shape[1]), s)
        return ops.dense(ops.flatten(s), w, out=out)


class ConvPoolConnection(Connection):
    """P(w * s + b) with P the 2x2 maximum, the 2x2 average or nothing."""

    def __init__(self, below: Shape, layer: ConvLayer) -> None:
        super().__init__(below)
        self.layer = layer
        self.conv_size = ops.output_size(below[:2], layer.kernel, layer.stride, layer.padding)

    def drive(self, w: Array, b: Array, s: Array, space: Workspace | None = None) -> tuple[Array, Winner]:
        """Return P(w * s) + b: (N, H, W, C) -> (N, P, Q, K), and its winners (None unless P is the maximum)."""
        space = space or Workspace()
        u = ops.conv2d(s, w, self.layer.stride, self.layer.padding, space)
        winner = None
        if self.layer.pool == "max":
            u, winner = ops.max_pool(u, space)
        elif self.layer.pool == "average":
            u = ops.average_pool(u, space)
        u += b
        return u, winner

    def winners(self, w: Array, s: Array, space: Workspace | None = None) -> Winner:
        """Return the winners (N, P, Q, K) of w * s, or None unless P is the maximum."""
        if self.layer.pool != "max":
            return None
        return ops.max_pool(ops.conv2d(s, w, self.layer.stride, self.layer.padding, space), space)[1]

    def feedback(self, w: Array, v: Array, winner: Winner, space: Workspace | None = None) -> Array:
        """Return w~ * P^{-1}(v): (N, P, Q, K) -> (N, H, W, C)."""
        space = space or Workspace()
        g = self._unpool(v, winner, space)
        return ops.conv2d_transpose(g, w, self.below[:2], self.layer.stride, self.layer.padding, space)

    def weight_gradient(
        self, s: Array, v: Array, winner: Winner, space: Workspace | None = None
    ) -> tuple[Array, Array]:
        """Return P^{-1}(v) correlated with s (KH, KW, C, K), and the sum of v over samples and places (K,)."""
        space = space or Workspace()
        g = self._unpool(v, winner, space)
        dw = ops.conv2d_weight_gradient(s, g, self.layer.kernel, self.layer.stride, self.layer.padding, space)
        return dw, v.sum(axis=(0, 1, 2))

    def drive_at_winners(self, w: Array, s: Array, winner: Winner, space: Workspace | None = None) -> Array:
        """Return pick(w * s) at ``winner``: (N, H, W, C) -> (N, P, Q, K)."""
        u = ops.conv2d(s, w, self.layer.stride, self.layer.padding, space)
        if self.layer.pool == "max":
            return ops.pick_winners(u, winner)
        return ops.average_pool(u, space) if self.layer.pool == "average" else u

    def _unpool(self, v: Array, winner: Winner, space: Workspace) -> Array:
        """Return P^{-1}(v): (N, P, Q, K) -> (N, P', Q', K), the size before pooling."""
        if self.layer.pool == "max":
            return ops.max_unpool(v, winner, self.conv_size, space)
        return ops.average_unpool(v, self.conv_size, space) if self.layer.pool == "average" else v


class WinogradConnection(ConvPoolConnection):
    """The same maps for 3x3 kernels, stride 1 and a 2x2 maximum, by Winograd's F(2x2, 3x3); ``eqnp.ops.winograd``."""

    def prepare(self, w: Array) -> Array:
        """Return the transformed weights: (3, 3, C, K) -> (16, C, K)."""
        return ops.transform_weights(w)

    def drive(self, w: Array, b: Array, s: Array, space: Workspace | None = None) -> tuple[Array, Winner]:
        """Return P(w * s) + b: (N, H, W, C) -> (N, P, Q, K), and its winners."""
        p, winner = ops.winograd_max_pool(s, w, self.layer.padding, space)
        p += b
        return p, winner

    def winners(self, w: Array, s: Array, space: Workspace | None = None) -> Winner:
        """Return the winners (N, P, Q, K) of w * s."""
        return ops.winograd_max_pool(s, w, self.layer.padding, space)[1]

    def feedback(self, w: Array, v: Array, winner: Winner, space: Workspace | None = None) -> Array:
        """Return w~ * P^{-1}(v): (N, P, Q, K) -> (N, H, W, C)."""
        return ops.winograd_unpool(v, winner, w, self.below[:2], self.layer.padding, space)

    def drive_at_winners(self, w: Array, s: Array, winner: Winner, space: Workspace | None = None) -> Array:
        """Return pick(w * s) at ``winner``: (N, H, W, C) -> (N, P, Q, K)."""
        return ops.winograd_pick(s, w, winner, self.layer.padding, space)


CONVOLUTIONS = ("auto", "direct", "winograd")
WINOGRAD_CHANNELS = 64  # with fewer the transforms cost what the products save (benchmarks/results/winograd.md)


def connect(layer: Layer, below: Shape, convolution: str = "auto") -> Connection:
    """Return the connection from a state of shape ``below`` (no sample axis) to ``layer``.

    ``convolution`` is the form of those that Winograd's suits: ``direct``, ``winograd``, or ``auto`` for the faster.
    """
    if not isinstance(layer, ConvLayer):
        return DenseConnection(below)
    suits = layer.kernel == (3, 3) and layer.stride == 1 and layer.pool == "max"
    wide = min(below[2], layer.channels) >= WINOGRAD_CHANNELS
    if suits and (convolution == "winograd" or (convolution == "auto" and wide)):
        return WinogradConnection(below, layer)
    return ConvPoolConnection(below, layer)


def connect_all(architecture: Architecture, convolution: str = "auto") -> tuple[Connection, ...]:
    """Return the connections between the states, from the input up; the readout is none of them."""
    below = (architecture.input_shape, *architecture.state_shapes)
    layers = architecture.layers[: len(architecture.state_shapes)]
    return tuple(connect(layer, shape, convolution) for layer, shape in zip(layers, below, strict=False))


def inner_product(v: Array, u: Array) -> Array:
    """Return v . u per sample: (N, ...), (N, ...) -> (N,)."""
    return array_module(v).einsum("nd,nd->n", ops.flatten(v), ops.flatten(u))
