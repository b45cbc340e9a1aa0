"""The step of a network: the equations of the dynamics.

    F^n(s) = d_{n-1}(s^{n-1}) + f_n(s^{n+1})         drive from below, feedback from above
    s^n   <- m^n sigma(F^n(s) - beta dl/ds^n)        m is dropout's mask, or 1

F is dPhi/ds if a Phi exists. The network is prepared with its weights and its input; ``eqnp.prepared`` computes the
parts in place. Only the last state is nudged: dl/ds^n = 0 for the others.
"""

from __future__ import annotations

from collections.abc import Sequence

from eqnp.backends.backend import Array
from eqnp.connections.contract import Winner
from eqnp.networks import States
from eqnp.prepared import Beta, Moves, PreparedNetwork

ALL_THE_WAY = Moves()


def vector_field(
    network: PreparedNetwork, states: States, beta: Beta = 0.0, target: Array | None = None
) -> list[Array]:
    """Return F - beta dl/ds, each (N, ...), for ``states`` s^1 .. s^L. Buffers: valid until the next call.

    ``target`` (N, K) is needed if beta is not 0.
    """
    drives, winners = network.drives(states)
    u = fields(network, states, drives, network.feedback_winners(states, winners))
    if (nudge := network.nudge(states, beta, target)) is not None:
        u[-1] -= nudge
    return u


def fields(network: PreparedNetwork, states: States, drives: States, places: Sequence[Winner]) -> list[Array]:
    """Return F, each (N, ...), from the ``drives`` of the states and the winners of the feedback, ``places``."""
    above = (*places[1:], None)
    return [network.field(n, states, d, above[n]) for n, d in enumerate(drives)]


def step(
    network: PreparedNetwork,
    states: States,
    beta: Beta = 0.0,
    target: Array | None = None,
    moves: Moves = ALL_THE_WAY,
) -> list[Array]:
    """Return m sigma(F - beta dl/ds), each (N, ...): all layers at once, from the old ``states``.

    ``target`` is (N, K), beta a number or one per sample (N, 1).
    """
    drives, winners = network.drives(states)
    above = (*network.feedback_winners(states, winners)[1:], None)
    nudge = network.nudge(states, beta, target)
    return [network.move(n, states, d, above[n], nudge, moves) for n, d in enumerate(drives)]


def sweep(
    network: PreparedNetwork,
    winners: list[Winner],
    states: States,
    beta: Beta = 0.0,
    target: Array | None = None,
    moves: Moves = ALL_THE_WAY,
) -> list[Array]:
    """Return the states after one even/odd sweep: s^2, s^4, ... from their neighbours, then s^1, s^3, ....

    ``winners`` hold those of every connection at ``states``, as ``PreparedNetwork.drives`` gives them, and are updated.
    A connection's drive is computed once per sweep, when the layer above it moves; the winners that it finds serve the
    feedback until the layer below it moves. So a sweep costs what a synchronous step does.
    """
    new, nudge = list(states), network.nudge(states, beta, target)
    for first in (1, 0):
        for n in range(first, len(new), 2):
            d, winners[n] = network.drive(n, new)
            above = network.feedback_winner(n + 1, new, winners)
            new[n] = network.move(n, new, d, above, nudge, moves)
    return new
