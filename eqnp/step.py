"""The step of a network: the equations of the dynamics.

    F^n(s) = sum of d_e(s^i) over edges e = (i -> n)       drives from below; in a chain one, from s^{n-1}
           + sum of f_e(s^j) over edges e = (n -> j)       feedbacks from above; in a chain one, from s^{n+1}
    s^n   <- m^n sigma(F^n(s) - beta dl/ds^n)              m is dropout's mask, or 1

The first edge into a layer adds its bias. If a Phi exists, F^n is (dPhi/ds^n) / c_n; without weak feedback c_n is 1.
The network is prepared with its weights and its input; ``eqnp.prepared`` computes the parts in place. Only the last
state is nudged: dl/ds^n = 0 for the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from eqnp.backends.backend import Array
from eqnp.connections.contract import Winner
from eqnp.networks import States
from eqnp.prepared import Beta, Moves, PreparedNetwork

ALL_THE_WAY = Moves()
Order = Sequence[Sequence[int]]  # sets of states that no edge joins, all states together


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
        network.move(n, states, [drives[e] for e in into], {e: places[e] for e in out_of}, nudge, moves)
        for n, (into, out_of) in enumerate(zip(graph.into, graph.out_of, strict=True))
    ]


@dataclass
class Memory:
    """What one sweep tells the next.

    ``winners`` are those of every edge at the states, as far as they are needed. The states ``at_rest`` are zero and
    have not moved yet. ``unchanged``: the sweep begins from states from which drives may be known (``Link.drive``).
    """

    winners: list[Winner]
    at_rest: set[int] = field(default_factory=set)
    unchanged: bool = False


def sweep(
    network: PreparedNetwork,
    order: Order,
    memory: Memory,
    states: States,
    beta: Beta = 0.0,
    target: Array | None = None,
    moves: Moves = ALL_THE_WAY,
) -> list[Array]:
    """Return the states after one sweep: set by set of ``order``, each from the newest states of the layers around it.

    The layers of one set are not joined, so all of them move at once. The drive along an edge is computed once per
    sweep, when the layer above it moves; the winners that it finds serve the feedback until the layer below it moves.
    So a sweep costs what a synchronous step does, or less: a state at rest sends no feedback, and a drive that is known
    is not computed again. ``memory`` is updated.
    """
    new, nudge, graph = list(states), network.nudge(states, beta, target), network.network
    for layers in order:
        for n in layers:
            drives = []
            for e in graph.into[n]:
                d, memory.winners[e] = network.drive(e, new, memory.unchanged)
                drives.append(d)
            heard = [e for e in graph.out_of[n] if graph.edges[e].upper - 1 not in memory.at_rest]
            places = {e: network.feedback_winner(e, new, memory.winners) for e in heard}
            new[n] = network.move(n, new, drives, places, nudge, moves)
            memory.at_rest.discard(n)
    memory.unchanged = False
    return new
