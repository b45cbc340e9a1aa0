"""Relaxation: the free and the nudged phases, and the residual, which measures convergence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from eqnp.backends.backend import Array, array_module
from eqnp.backends.blocks import blocks
from eqnp.connections.contract import Winner
from eqnp.holomorphic import ComplexNetwork
from eqnp.inputs import require_beta, require_count, require_pace
from eqnp.networks import States
from eqnp.ops.pairs import from_pair, is_complex, to_pair
from eqnp.prepared import Beta, Moves, PreparedNetwork
from eqnp.step import Memory, Order, step, sweep

Way = tuple[str, float]  # schedule and omega
# Schedules and omegas that measurements compare, by name.
WAYS: dict[str, Way] = {
    "synchronous": ("synchronous", 1.0),
    "even-odd": ("even-odd", 1.0),
    "over-relaxed": ("even-odd", 1.6),
}
Observer = Callable[[int, States], None]


@dataclass(frozen=True)
class Phase:
    """How a phase runs: its steps, when it may stop early, and how a step moves the states.

    The phase ends after ``steps`` steps, or earlier once the residual is at most ``tolerance`` (0: never earlier). The
    residual is checked every ``every`` steps: to read a number from a GPU is to wait for it.

    ``schedule`` says in which order a step moves the layers:

        synchronous   all at once
        even-odd      every second layer, then the others
        up-down       one after the other: in a free phase from the input up, in a nudged phase from the output down

    All have the same steady states and cost the same per step. Even-odd sweeps settle in fewer steps than synchronous
    ones. One sweep up carries the input through all layers to the output, as the forward pass of backpropagation does;
    one sweep down carries a nudge of the output to all layers, as its backward pass does. ``omega``
    (``eqnp.ops.moves``) scales how far a state moves; somewhat above 1 the network usually settles in fewer steps
    still. A network with max-pooling has several steady states, and each schedule may settle to another one.

    Raises:
        ValueError: a setting is out of its range.
    """

    steps: int
    tolerance: float = 0.0
    schedule: str = "synchronous"
    omega: float = 1.0
    every: int = 1

    def __post_init__(self) -> None:
        require_pace(self.steps, self.tolerance, self.schedule, self.every, self.omega)


@dataclass(frozen=True)
class Phases:
    """The phases of an estimate: ``T1`` free steps, ``T2`` steps of each nudged phase, the rest as in ``Phase``.

    Raises:
        ValueError: a setting is out of its range.
    """

    T1: int = 20
    T2: int = 8
    tolerance: float = 0.0
    schedule: str = "synchronous"
    omega: float = 1.0
    every: int = 1

    def __post_init__(self) -> None:
        require_count("T1", self.T1, 1)
        require_count("T2", self.T2, 1, why=": without nudged steps every gradient is zero")
        require_pace(self.T1, self.tolerance, self.schedule, self.every, self.omega)

    @property
    def free(self) -> Phase:
        """The free phase."""
        return Phase(self.T1, self.tolerance, self.schedule, self.omega, self.every)

    @property
    def nudged(self) -> Phase:
        """Each nudged phase."""
        return Phase(self.T2, self.tolerance, self.schedule, self.omega, self.every)

    @property
    def way(self) -> Way:
        """Schedule and omega."""
        return self.schedule, self.omega


@dataclass(frozen=True)
class Relaxation:
    """The end of a phase: the states, each (N, ...), the residual of the last step, and the number of steps taken."""

    states: list[Array]
    residual: float
    steps: int


def residual(new: States, old: States) -> float:
    """Return max |new - old| over all units and samples, NaN if any state is NaN. Each state is (N, ...)."""
    xp = array_module(new[0])
    pairs = list(zip(new, old, strict=True))
    return float(xp.stack([abs(a[k] - b[k]).max() for a, b in pairs for k in blocks(a, 3 * a[:1].nbytes)]).max())


def relax(
    network: PreparedNetwork,
    states: States | None,
    phase: Phase | int,
    beta: Beta = 0.0,
    target: Array | None = None,
    observe: Observer | None = None,
    *,
    unchanged: bool = False,
) -> Relaxation:
    """Repeat s <- sigma(dPhi/ds - beta dl/ds) from ``states`` s^1 .. s^L, each (N, ...), which are not changed.

    ``states`` None starts from zeros, and its first sweep costs less: a state that is zero sends no feedback.
    ``unchanged`` says that a phase of this network ended in ``states``, and that none of their arrays has changed
    since. Drives of its last sweep may then be used again.

    ``phase`` says how; a number of steps stands for ``Phase(steps)``. A free phase has no ``target``; a nudged phase
    starts from the free steady state and has a target (N, K) and a beta, a number or one per sample (N, 1).
    ``observe(t, states)`` is called after step t = 1, 2, ...; it must copy what it keeps.

    With a complex beta the states that are returned and observed are complex. The residual is then the largest move of
    a real or an imaginary part.

    Raises:
        ValueError: states, target or beta do not fit the network, or the number of steps is negative.
        ConfigurationError: beta is complex and the network is not holomorphic.
    """
    if not isinstance(phase, Phase):
        phase = Phase(phase)
    require_beta(beta, target, len(network.x))
    at_rest = states is None
    states = network.zero_states() if states is None else states
    if is_complex(beta) and not isinstance(network, ComplexNetwork):
        return _relax_complex(network, states, phase, beta, target, observe)
    network.require_states(states)
    if target is not None:
        network.require_target(target)
    old: States = states
    buffers = [_like(states), _like(states)]  # a step reads one and writes the other: memory does not grow with steps
    unchecked = [Moves(phase.omega, buffer) for buffer in buffers]
    if phase.schedule == "synchronous":
        move_all: Callable[..., list[Array]] = partial(step, network)
    else:
        order = sweep_order(network.colours, phase.schedule, target is not None)
        move_all = partial(sweep, network, order, _memory(network, None if at_rest else states, order, unchanged))
    del states  # if the caller keeps no reference, the second step frees them
    size, t = float("inf"), 0
    for t in range(1, phase.steps + 1):
        is_checked = t == phase.steps or (phase.tolerance > 0 and t % phase.every == 0)
        sizes: list[Array] = []
        moves = Moves(phase.omega, buffers[t % 2], sizes) if is_checked else unchecked[t % 2]
        old = new = move_all(old, beta, target, moves)
        if is_checked:
            size = float(array_module(sizes[0]).stack(sizes).max())
        if observe is not None:
            observe(t, new)
        if size <= phase.tolerance:
            break
    if phase.schedule != "up-down":  # with it, nudged phases begin with drives of the free one
        for link in network.links:
            link.forget()  # the states of the last but one step would stay in memory
    return Relaxation(list(old) if t else [s.copy() for s in old], size, t)


def _relax_complex(
    prepared: PreparedNetwork,
    states: States,
    phase: Phase,
    beta: Beta,
    target: Array | None,
    observe: Observer | None,
) -> Relaxation:
    """Relax with a complex ``beta`` from real or complex states, each (N, ...), to complex ones."""
    network = ComplexNetwork(prepared)
    seen = observe and (lambda t, pairs: observe(t, [from_pair(pair) for pair in pairs]))
    return complex_relaxation(relax(network, [to_pair(s) for s in states], phase, beta, target, seen))


def complex_relaxation(of_pairs: Relaxation) -> Relaxation:
    """Return a relaxation of a ``ComplexNetwork`` with complex states (N, ...) for its pairs (2 N, ...)."""
    return Relaxation([from_pair(pair) for pair in of_pairs.states], of_pairs.residual, of_pairs.steps)


def _memory(network: PreparedNetwork, states: States | None, order: Order, unchanged: bool) -> Memory:
    """Return what the first sweep of a phase from ``states``, or from zeros, has to know."""
    winners: list[Winner] = [None] * len(network.network.edges)
    if states is None:
        return Memory(winners, set(range(len(network.network.activations))))
    for e in network.network.first_winners(order):
        winners[e] = network.winner(e, states)
    return Memory(winners, unchanged=unchanged)


def sweep_order(colours: Order, schedule: str, is_nudged: bool) -> Order:
    """Return the states in sets that move at once, in the order in which a sweep of a free or nudged phase does.

    ``colours`` are the network's own, the order of even-odd sweeps.
    """
    if schedule == "even-odd":
        return colours
    up = sorted((n,) for layers in colours for n in layers)
    return up[::-1] if is_nudged else up


def _like(states: States) -> list[Array]:
    return [array_module(s).empty_like(s) for s in states]
