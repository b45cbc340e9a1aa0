"""The dense connection: s w + b.

Letters: N samples, D input units, K output units; w is (D, K), b is (K,).
"""

from __future__ import annotations

from eqnp import ops
from eqnp.backends.backend import Array
from eqnp.backends.workspace import Workspace
from eqnp.connections.contract import Connection, Prepared, Winner
from eqnp.connections.layers import Shape


class DenseConnection(Connection):
    """s w + b. A state of shape (N, H, W, C), below or above, is flattened to (N, H W C)."""

    def __init__(self, below: Shape, above: Shape) -> None:
        super().__init__(below)
        self.above = above  # shape of v without the sample axis

    def drive(
        self, w: Prepared, b: Array | None, s: Array, space: Workspace | None = None, norms: Array | None = None
    ) -> tuple[Array, Winner]:
        """Return s w + b: (N, ...) -> (N, K), or the shape of the state above, and None for the winners."""
        out = self.drive_at_winners(w, s, None, space)
        if b is not None:
            out += b
        return out, None

    def feedback(self, w: Prepared, v: Array, winner: Winner, space: Workspace | None = None) -> Array:
        """Return v w^T in the shape of the state below: (N, ...) -> (N, ...)."""
        out = (space or Workspace()).take("fed back", (v.shape[0], w.shape[0]), v)
        return ops.dense_transpose(ops.flatten(v), w, out=out).reshape(v.shape[0], *self.below)

    def weight_gradient(self, s: Array, v: Array, winner: Winner, space: Workspace | None = None) -> Array:
        """Return s^T v, summed over samples: (N, ...), (N, K) -> (D, K)."""
        return ops.dense_weight_gradient(ops.flatten(s), ops.flatten(v))

    def bias_gradient(self, v: Array) -> Array:
        """Return the sum of v over samples: (N, ...) -> (K,)."""
        return ops.flatten(v).sum(axis=0)

    def drive_at_winners(self, w: Prepared, s: Array, winner: Winner, space: Workspace | None = None) -> Array:
        """Return s w: (N, ...) -> (N, K), or the shape of the state above."""
        out = (space or Workspace()).take("driven", (s.shape[0], w.shape[1]), s)
        return ops.dense(ops.flatten(s), w, out=out).reshape(len(s), *self.above)
