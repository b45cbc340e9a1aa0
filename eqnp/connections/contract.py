"""Connections: the four maps that couple two layers, each one line of mathematics.

Phi = sum over connections of  v . d(s),  with the drive d(s) = P(w * s + b) or s w + b. A layer has one bias: on all
connections into it but one, b is None. In this room, s is the state below and v the state above the connection, both
(N, ...) with N samples; ``winner`` is the place of the maximum in each pooling window.

| map | dense | conv-pool |
|---|---|---|
| ``drive``, dPhi/dv | s w + b | P(w * s) + b |
| ``feedback``, dPhi/ds | v w^T | w~ * P^{-1}(v) |
| ``weight_gradient``, dPhi/dw | s^T v | P^{-1}(v) correlated with s |
| ``bias_gradient``, dPhi/db | sum of v | sum of v |
| ``drive_at_winners`` | s w | pick(w * s) at given winners |

Weights do not change during a relaxation. ``prepare`` brings them once into the form that the maps take as ``w``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

from eqnp import ops
from eqnp.backends.backend import Array, array_module
from eqnp.backends.blocks import part_of
from eqnp.backends.workspace import Workspace
from eqnp.connections.layers import Shape
from eqnp.ops.moves import Move

Winner = Array | None  # uint8, shape of v; None without max-pooling
Addends = Sequence[Array]  # one or more arrays of the shape of a state, whose sum moves it
Prepared = Any  # weights in the form that a connection's maps take: the array w, or an object made from it


class Connection(ABC):
    """What couples the states of two layers. It holds shapes only; weights are arguments.

    If a map is called with a workspace, its result lies in the workspace and is valid until the next call of the map
    with it.
    """

    def __init__(self, below: Shape) -> None:
        self.below = below  # shape of s without the sample axis

    def prepare(self, w: Array) -> Prepared:
        """Return the weights w, (D, K) or (KH, KW, C, K), in the form that the maps take."""
        return w

    @abstractmethod
    def drive(
        self, w: Prepared, b: Array | None, s: Array, space: Workspace | None = None, norms: Array | None = None
    ) -> tuple[Array, Winner]:
        """Return dPhi/dv and its winners, both of the shape of v. ``norms`` of s, if known, are not computed again.

        VJP in s: ``feedback``; in w: ``weight_gradient``; in b: ``bias_gradient``.
        """

    @abstractmethod
    def feedback(self, w: Prepared, v: Array, winner: Winner, space: Workspace | None = None) -> Array:
        """Return dPhi/ds, of the shape of s. VJP in v, and adjoint in s: ``drive_at_winners``."""

    def feedback_blocks(self, w: Prepared, v: Array, winner: Winner, space: Workspace) -> Iterator[tuple[slice, Array]]:
        """Yield (block, dPhi/ds of these samples) for all blocks, so that each can be used while it is in the cache.

        The caller may overwrite the arrays.
        """
        yield slice(None), self.feedback(w, v, winner, space)

    def update(
        self,
        w: Prepared,
        v: Array,
        winner: Winner,
        others: Addends,
        move: Move,
        space: Workspace,
    ) -> Array | None:
        """Move the state below with u = dPhi/ds plus ``others``, its drives and the feedback of other connections.

        Return max |s' - s| if the move is measured, else None.
        """
        moves = []
        for block, u in self.feedback_blocks(w, v, winner, space):
            for other in others:
                u += part_of(other, block)
            moves.append(move.take(u, block))
        return array_module(others[0]).stack(moves).max() if move.measured else None

    def update_last(self, drives: Addends, nudge: Array | None, move: Move, space: Workspace) -> Array | None:
        """Move a state that gets no feedback: u = its ``drives`` - nudge. Return as ``update`` does."""
        u, xp = drives[0], array_module(drives[0])
        for other in drives[1:]:
            u = xp.add(u, other, out=move.out)
        return move.take(u if nudge is None else xp.subtract(u, nudge, out=move.out))

    @abstractmethod
    def weight_gradient(self, s: Array, v: Array, winner: Winner, space: Workspace | None = None) -> Array:
        """Return dPhi/dw, of the shape of w, summed over samples."""

    @abstractmethod
    def bias_gradient(self, v: Array) -> Array:
        """Return dPhi/db, of the shape of b, summed over samples."""

    @abstractmethod
    def drive_at_winners(self, w: Prepared, s: Array, winner: Winner, space: Workspace | None = None) -> Array:
        """Return the drive without bias at given winners, of the shape of v; this map is linear in s."""

    def winners(self, w: Prepared, s: Array, space: Workspace | None = None, norms: Array | None = None) -> Winner:
        """Return the winners of w * s, which do not depend on the bias; None without max-pooling."""
        return None

    def norms(self, w: Prepared, s: Array, space: Workspace) -> Array | None:
        """Return what the margins of ties need of s, for any weights (``ops.reach``); None without a maximum."""
        return None


def inner_product(v: Array, u: Array) -> Array:
    """Return the scalar product v . u of every sample: (N, ...), (N, ...) -> (N,)."""
    return array_module(v).einsum("nd,nd->n", ops.flatten(v), ops.flatten(u))
