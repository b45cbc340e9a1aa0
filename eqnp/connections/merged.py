"""The conv-pool connection with an average: convolution and pooling as one convolution with twice the stride."""

from __future__ import annotations

from typing import Any

from eqnp.backends.backend import Array, array_module
from eqnp.backends.workspace import Workspace
from eqnp.connections.contract import Prepared, Winner
from eqnp.connections.conv_pool import ConvPoolConnection
from eqnp.connections.layers import ConvLayer, Shape


class MergedConnection(ConvPoolConnection):
    """A convolution and the average after it as one convolution with twice the stride and fewer multiplications.

        mean over (a, b) in {0, 1}^2 of  (w * s)[2 p + a, 2 q + b]  =  (w' * s)[p, q]
        w'[i, j] = 1/4 sum over a, b of  w[i - a S, j - b S]

    S is the stride. w is (KH, KW, C, K), w' is (KH + S, KW + S, C, K) and has stride 2 S.
    """

    def __init__(self, below: Shape, layer: ConvLayer, **more: Any) -> None:
        super().__init__(below, layer, **more)
        self._shift = layer.stride
        self.kernel = (layer.kernel[0] + layer.stride, layer.kernel[1] + layer.stride)
        self.stride, self.pool, self.conv_size = 2 * layer.stride, "none", self.above[:2]

    def prepare(self, w: Array) -> Prepared:
        """Return w': (KH, KW, C, K) -> (KH + S, KW + S, C, K)."""
        merged = array_module(w).zeros((*self.kernel, *w.shape[2:]), dtype=w.dtype)
        for where in self._shifts():
            merged[where] += 0.25 * w
        return super().prepare(merged)

    def _weight_gradient(self, s: Array, v: Array, winner: Winner, space: Workspace) -> Array:
        merged = super()._weight_gradient(s, v, winner, space)
        return 0.25 * sum(merged[where] for where in self._shifts())

    def _shifts(self) -> list[tuple[slice, slice]]:
        """Return the index of w in w', shifted by (a S, b S), for the four values of (a, b)."""
        (kh, kw), shift = self.layer.kernel, self._shift
        starts = [(a * shift, b * shift) for a in (0, 1) for b in (0, 1)]
        return [(slice(i, i + kh), slice(j, j + kw)) for i, j in starts]
