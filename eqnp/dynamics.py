"""Relaxation: the free and the nudged phase, with the residual that tells how settled a network is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from eqnp.backends.backend import Array, array_module
from eqnp.backends.blocks import blocks
from eqnp.inputs import require_beta, require_pace
from eqnp.networks import States
from eqnp.prepared import Beta, PreparedNetwork

Way = tuple[str, float]  # schedule and omega
# The ways to settle that measurements compare, by name.
WAYS: dict[str, Way] = {
    "synchronous": ("synchronous", 1.0),
    "even-odd": ("even-odd", 1.0),
    "over-relaxed": ("even-odd", 1.6),
}
Observer = Callable[[int, States], None]


@dataclass(frozen=True)
class Relaxation:
    """Where a phase ended: the states, the residual of its last step, and the number of steps taken."""

    states: list[Array]
    residual: float
    steps: int


def residual(new: States, old: States) -> float:
    """Return max |new - old| over all units and samples (not a number if any state is not)."""
    xp = array_module(new[0])
    pairs = list(zip(new, old, strict=True))
    return float(xp.stack([abs(a[k] - b[k]).max() for a, b in pairs for k in blocks(a, 3 * a[:1].nbytes)]).max())


def relax(
    network: PreparedNetwork,
    states: States,
    steps: int,
    beta: Beta = 0.0,
    target: Array | None = None,
    tolerance: float = 0.0,
    observe: Observer | None = None,
    schedule: str = "synchronous",
    every: int = 1,
    omega: float = 1.0,
) -> Relaxation:
    """Repeat s <- sigma(dPhi/ds - beta dl/ds) from ``states``, which stay as they are.

    ``schedule`` is ``synchronous`` (all layers at once) or ``even-odd`` (every second layer, then the others). Both
    have the same steady states and cost the same a step; the second settles in fewer. Moves ``omega`` times as long
    (``eqnp.ops.moves``), somewhat above 1, as a rule make it settle in fewer still. Where a network with max-pooling
    has several steady states, each may settle to another one.

    A free phase has no ``target``; a nudged phase starts from the free steady state and has a target (N, K) and a beta.
    It ends after ``steps`` steps, or earlier once the residual is at most ``tolerance`` (0: never earlier), which is
    looked at after ``every`` so many steps: to read a number from a GPU is to wait for it.
    ``observe(t, states)`` is called after step t = 1, 2, ...; it must copy what it keeps.

    Raises:
        ValueError: states, target or beta do not fit the network, or a setting is out of its range.
    """
    require_pace(steps, tolerance, schedule, every, omega)
    require_beta(beta, target, len(network.x))
    network.require_states(states)
    if target is not None:
        network.require_target(target)
    old: States = states
    buffers = [_like(states), _like(states)]  # a step reads one and writes the other: memory does not grow with steps
    step = network.step if schedule == "synchronous" else _sweeps(network, states)
    del states  # where nobody else holds them, the first step frees them
    size, t = float("inf"), 0
    for t in range(1, steps + 1):
        moves: list[Array] | None = [] if t == steps or (tolerance > 0 and t % every == 0) else None
        old = new = step(old, beta, target, out=buffers[t % 2], moves=moves, omega=omega)
        if moves is not None:
            size = float(array_module(moves[0]).stack(moves).max())
        if observe is not None:
            observe(t, new)
        if size <= tolerance:
            break
    return Relaxation(list(old) if t else [s.copy() for s in old], size, t)


def _sweeps(network: PreparedNetwork, states: States) -> Callable[..., list[Array]]:
    """Return a step by even/odd sweeps, which carries the winners from one to the next."""
    _, winners = network.drives(states)

    return partial(network.sweep, winners)


def _like(states: States) -> list[Array]:
    return [array_module(s).empty_like(s) for s in states]
