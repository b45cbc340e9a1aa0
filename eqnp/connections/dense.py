"""The dense connection: s w + b.

Letters: N samples, D input units, K output units; w is (D, K), b is (K,).
"""

from __future__ import annotations

from eqnp import ops
from eqnp.backends.backend import Array
from eqnp.backends.workspace import Workspace
from eqnp.connections.contract import Connection, Prepared, Winner


class DenseConnection(Connection):
    """s w + b. A state below of shape (N, H, W, C) is flattened to (N, H W C)."""

    def drive(self, w: Prepared, b: Array, s: Array, space: Workspace | None = None) -> tuple[Array, Winner]:
        """Return s w + b: (N, ...) -> (N, K), and None for the winners."""
        out = self.drive_at_winners(w, s, None, space)
        out += b
        return out, None

    def feedback(self, w: Prepared, v: Array, winner: Winner, space: Workspace | None = None) -> Array:
        """Return v w^T in the shape of the state below: (N, K) -> (N, ...)."""
        out = (space or Workspace()).take("fed back", (v.shape[0], w.shape[0]), v)
        return ops.dense_transpose(v, w, out=out).reshape(v.shape[0], *self.below)

    def weight_gradient(
        self, s: Array, v: Array, winner: Winner, space: Workspace | None = None
    ) -> tuple[Array, Array]:
        """Return s^T v and the sum of v over samples: (N, ...), (N, K) -> (D, K), (K,)."""
        return ops.dense_weight_gradient(ops.flatten(s), v), v.sum(axis=0)

    def drive_at_winners(self, w: Prepared, s: Array, winner: Winner, space: Workspace | None = None) -> Array:
        """Return s w: (N, ...) -> (N, K)."""
        out = (space or Workspace()).take("driven", (s.shape[0], w.shape[1]), s)
        return ops.dense(ops.flatten(s), w, out=out)
