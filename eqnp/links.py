"""A link: one connection with its weights fixed and its buffers, so that its maps allocate nothing.

The link of an edge couples a state s below, (N, ...), with a state v above, (N, ...). Its maps are those of
``eqnp.connections.contract`` with the weights put in: the forward weights carry a state up, the feedback's weights
carry one down.
"""

from __future__ import annotations

from collections.abc import Iterator

from eqnp.backends.backend import Array, array_module
from eqnp.backends.workspace import Workspace
from eqnp.connections.contract import Addends, Connection, Prepared, Winner
from eqnp.ops.moves import Move


class Link:
    """A connection with prepared weights ``up``, ``bias`` (None if another edge has it) and ``down``.

    ``down`` is None if the edge starts at the input, to which nothing is fed back. Weights may be weaker than their
    arrays say: a map with ``up`` is multiplied by ``up_factor``, one with ``down`` by ``down_factor``. Arrays that a
    map returns are buffers: valid until the same map is called again. ``scratch`` is what all links of a network share.
    With ``own_winners`` the norms of a drive are kept for the ``feedback_winners`` of the same state.
    """

    def __init__(
        self,
        connection: Connection,
        up: Prepared,
        bias: Array | None,
        down: Prepared,
        scratch: Workspace,
        own_winners: bool = False,
        up_factor: float = 1.0,
        down_factor: float = 1.0,
    ) -> None:
        self.connection, self.up, self.bias, self.down = connection, up, bias, down
        self.up_factor, self.down_factor = up_factor, down_factor
        self.space, self._own_space = Workspace(scratch), Workspace(scratch)
        self._own_winners = own_winners
        self._known: tuple[Array, Array | None] | None = None  # the s of the last drive, and its norms
        self._last: tuple[Array, tuple[Array, Winner]] | None = None  # the s of the last drive, and the drive

    # ---- what a step computes

    def drive(self, s: Array, unchanged: bool = False) -> tuple[Array, Winner]:
        """Return d(s), of the shape of v, and the winners that it found. The weights up are never weakened here.

        ``unchanged``: if the last drive was that of this very array, s has not changed since, and the drive is known.
        """
        if unchanged and self._last is not None and self._last[0] is s:
            return self._last[1]
        found = self.connection.drive(self.up, self.bias, s, self.space, self._norms(s))
        self._last = s, found
        return found

    def forget(self) -> None:
        """Forget the last drive, whose buffers another map overwrites, or whose state shall not stay in memory."""
        self._last = None

    def winners(self, s: Array) -> Winner:
        """Return the winners of d(s), or None, without computing more than they need."""
        self.forget()
        return self.connection.winners(self.up, s, self.space, self._norms(s))

    def feedback_winners(self, s: Array) -> Winner:
        """Return the winners that the feedback's own weights choose at s."""
        known, self._known = self._known, None
        norms = known[1] if known is not None and known[0] is s else None
        return self.connection.winners(self.down, s, self._own_space, norms)

    def feedback(self, v: Array, winner: Winner) -> Array:
        """Return f(v), of the shape of s."""
        return self.connection.feedback(self.down, self._weakened(v, self.down_factor), winner, self.space)

    def feedback_blocks(self, v: Array, winner: Winner) -> Iterator[tuple[slice, Array]]:
        """Yield (block, f(v) of these samples), of the shape of s, for a state v above."""
        return self.connection.feedback_blocks(self.down, self._weakened(v, self.down_factor), winner, self.space)

    def move_below(self, v: Array, winner: Winner, others: Addends, move: Move) -> Array | None:
        """Move s to f(v) plus the arrays ``others``; return how far it went, if that is measured."""
        return self.connection.update(self.down, self._weakened(v, self.down_factor), winner, others, move, self.space)

    def move_above(self, drives: Addends, nudge: Array | None, move: Move) -> Array | None:
        """Move v, which gets no feedback, to its ``drives`` less ``nudge``; return how far it went, if measured."""
        return self.connection.update_last(drives, nudge, move, self.space)

    # ---- its derivatives

    def drive_at(self, s: Array, winner: Winner) -> Array:
        """Return (dd/ds) s, of the shape of v: the drive at given winners, without bias."""
        self.forget()
        return _scaled(self.connection.drive_at_winners(self.up, s, winner, self.space), self.up_factor)

    def drive_vjp(self, delta: Array, winner: Winner) -> Array:
        """Return (dd/ds)^T delta, of the shape of s: feedback through the forward weights. Adjoint: ``drive_at``."""
        return self.connection.feedback(self.up, self._weakened(delta, self.up_factor), winner, self.space)

    def feedback_vjp(self, delta: Array, winner: Winner) -> Array:
        """Return (df/dv)^T delta, of the shape of v: a drive by the feedback's weights. Adjoint: ``feedback``."""
        self.forget()
        return _scaled(self.connection.drive_at_winners(self.down, delta, winner, self.space), self.down_factor)

    def weight_gradient(self, s: Array, v: Array, winner: Winner) -> Array:
        """Return the derivative of v . d(s), s below and v above, by the weight, summed over samples."""
        return self.connection.weight_gradient(s, v, winner, self.space)

    def feedback_weight_gradient(self, s: Array, v: Array, winner: Winner) -> Array:
        """Return the derivative of s . f(v), s below and v above, by the feedback's weight, summed over samples."""
        return _scaled(self.connection.weight_gradient(s, v, winner, self.space), self.down_factor)

    def bias_gradient(self, v: Array) -> Array:
        """Return the derivative of v . d(s) by the bias, summed over samples."""
        return self.connection.bias_gradient(v)

    # ---- inside

    def _weakened(self, v: Array, factor: float) -> Array:
        """Return v times a factor, which makes every map that is linear in v as much weaker; a buffer."""
        if factor == 1:
            return v
        return array_module(v).multiply(v, factor, out=self.space.take("weakened", v.shape, v))

    def _norms(self, s: Array) -> Array | None:
        """Return the norms of s and keep them, if the feedback's winners will need them too."""
        if not self._own_winners:
            return None
        norms = self.connection.norms(self.up, s, self.space)
        self._known = s, norms
        return norms


def _scaled(a: Array, factor: float) -> Array:
    """Return a times a factor, in place."""
    if factor != 1:
        a *= factor
    return a
