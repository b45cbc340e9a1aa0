"""Connections: the four maps that couple two layers, each one line of mathematics.

Phi = sum over connections of  s^{n+1} . d(s^n),  with the drive d(s) = P(w * s + b) or w s + b. In what follows s is
the state below, v the state above, both with the sample axis first, and ``winner`` the place that each pooling window
chose.

| map | dense | conv-pool |
|---|---|---|
| ``drive``, dPhi/dv | s w + b | P(w * s) + b |
| ``feedback``, dPhi/ds | v w^T | w~ * P^{-1}(v) |
| ``weight_gradient``, dPhi/dw and dPhi/db | s^T v, sum of v | P^{-1}(v) correlated with s, sum of v |
| ``drive_at_winners`` | s w | pick(w * s) at given winners |

Weights stand still during a relaxation: ``prepare`` brings them once into the form that the maps take as ``w``.
``dense`` and ``conv_pool`` are the two kinds of connection.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

from eqnp import ops
from eqnp.backends.backend import Array, array_module
from eqnp.backends.workspace import Workspace
from eqnp.connections.layers import Shape
from eqnp.ops.moves import Move

Winner = Array | None  # uint8 of the shape of the state above; None where nothing is chosen
Prepared = Any  # weights as a connection's maps take them: an array, or what its form makes of one


class Connection(ABC):
    """What couples the states of two neighbouring layers. It holds shapes only; weights are arguments.

    Arrays returned by a map that was given a workspace live in it, until the same map is called with it again.
    """

    def __init__(self, below: Shape) -> None:
        self.below = below  # shape of s without the sample axis

    def prepare(self, w: Array) -> Prepared:
        """Return the weights in the form that the maps take."""
        return w

    @abstractmethod
    def drive(self, w: Prepared, b: Array, s: Array, space: Workspace | None = None) -> tuple[Array, Winner]:
        """Return dPhi/dv and the winners that it found. VJP in s: ``feedback``; in w, b: ``weight_gradient``."""

    @abstractmethod
    def feedback(self, w: Prepared, v: Array, winner: Winner, space: Workspace | None = None) -> Array:
        """Return dPhi/ds, the adjoint in s of ``drive_at_winners``. VJP in v: ``drive_at_winners``."""

    def feedback_blocks(self, w: Prepared, v: Array, winner: Winner, space: Workspace) -> Iterator[tuple[slice, Array]]:
        """Yield (block, dPhi/ds of these samples), block by block, so that it can be used while it is in the cache.

        The arrays are scratch: whoever takes one may write to it.
        """
        yield slice(None), self.feedback(w, v, winner, space)

    def update(
        self,
        w: Prepared,
        v: Array,
        winner: Winner,
        d: Array,
        move: Move,
        space: Workspace,
    ) -> Array | None:
        """Move the state below to its drive ``d`` plus dPhi/ds; return how far it went, if that is measured."""
        moves = []
        for block, u in self.feedback_blocks(w, v, winner, space):
            u += d[block]
            moves.append(move.take(u, block))
        return array_module(d).stack(moves).max() if move.measured else None

    def update_last(self, d: Array, nudge: Array | None, move: Move, space: Workspace) -> Array | None:
        """Move the state above, which no layer follows, to its drive ``d`` less ``nudge``."""
        return move.take(d if nudge is None else array_module(d).subtract(d, nudge, out=move.out))

    @abstractmethod
    def weight_gradient(
        self, s: Array, v: Array, winner: Winner, space: Workspace | None = None
    ) -> tuple[Array, Array]:
        """Return dPhi/dw and dPhi/db, summed over samples."""

    @abstractmethod
    def drive_at_winners(self, w: Prepared, s: Array, winner: Winner, space: Workspace | None = None) -> Array:
        """Return the drive without bias when every window takes its value at ``winner``; linear in s."""

    def winners(self, w: Prepared, s: Array, space: Workspace | None = None) -> Winner:
        """Return the places that the windows of w * s choose, which a bias does not move; None where none are."""
        return None


def inner_product(v: Array, u: Array) -> Array:
    """Return v . u per sample: (N, ...), (N, ...) -> (N,)."""
    return array_module(v).einsum("nd,nd->n", ops.flatten(v), ops.flatten(u))
