"""The step of a network: the equations of the dynamics.

    F^n(s) = sum of d_e(s^i) over edges e = (i -> n)       drives from below; in a chain one, from s^{n-1}
           + sum of f_e(s^j) over edges e = (n -> j)       feedbacks from above; in a chain one, from s^{n+1}
    s^n   <- m^n sigma(F^n(s) - beta dl/ds^n)              m is dropout's mask, or 1

F is dPhi/ds if a Phi exists. The network is prepared with its weights and its input; ``eqnp.prepared`` computes the
parts in place. Only the last state is nudged: dl/ds^n = 0 for the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from eqnp.backends.backend import Array
from eqnp.connections.contract import Winner
from eqnp.networks import States
from eqnp.prepared import Beta, Moves, PreparedNetwork

ALL_THE_WAY = Moves()
T = TypeVar("T")


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
    """Return F, each (N, ...), from the ``drives`` along all edges and the winners of the feedback, ``places``."""
    return [network.field(n, states, drives, places) for n in range(len(states))]


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
    places = network.feedback_winners(states, winners)
    nudge, graph = network.nudge(states, beta, target), network.network
    return [
        network.move(n, states, _of(drives, graph.into[n]), _of(places, graph.out_of[n]), nudge, moves)
        for n in range(len(states))
    ]


def sweep(
    network: PreparedNetwork,
    winners: list[Winner],
    states: States,
    beta: Beta = 0.0,
    target: Array | None = None,
    moves: Moves = ALL_THE_WAY,
) -> list[Array]:
    """Return the states after one sweep: colour by colour, each from the newest states of the layers joined to it.

    The layers of one colour are not joined, so all of them move at once. In a chain, s^2, s^4, ... move first, then
    s^1, s^3, .... ``winners`` hold those of every edge at ``states``, as ``PreparedNetwork.drives`` gives them, and are
    updated. The drive along an edge is computed once per sweep, when the layer above it moves; the winners that it
    finds serve the feedback until the layer below it moves. So a sweep costs what a synchronous step does.
    """
    new, nudge, graph = list(states), network.nudge(states, beta, target), network.network
    for colour in network.colours:
        for n in colour:
            drives = []
            for e in graph.into[n]:
                d, winners[e] = network.drive(e, new)
                drives.append(d)
            places = [network.feedback_winner(e, new, winners) for e in graph.out_of[n]]
            new[n] = network.move(n, new, drives, places, nudge, moves)
    return new


def _of(each: Sequence[T], edges: Sequence[int]) -> list[T]:
    return [each[e] for e in edges]
