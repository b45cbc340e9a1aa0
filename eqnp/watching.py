"""What is measured of the last batch of an epoch: sizes of the gradient and the update, and units at a bound.

By layer here is by the prefix of parameter names: ``forward.0`` has a weight and a bias, ``backward.1`` a weight.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from eqnp.backends.backend import Array, to_host
from eqnp.dropout import Masks
from eqnp.networks import Network, States


def squared_norm(a: Array) -> float:
    """Return the sum of the squares of all entries."""
    return float(to_host((a * a).sum()))


def norms(arrays: Mapping[str, Array]) -> dict[str, float]:
    """Return the Euclidean norm of the arrays of every layer together, by prefix of their names."""
    squares: dict[str, float] = {}
    for name, a in arrays.items():
        prefix = name.rpartition(".")[0]
        squares[prefix] = squares.get(prefix, 0.0) + squared_norm(a)
    return {prefix: math.sqrt(square) for prefix, square in squares.items()}


def relative_updates(new: Mapping[str, Array], old: Mapping[str, Array]) -> dict[str, float]:
    """Return |new - old| / |old| by layer; 0 where |old| is 0."""
    moved, sizes = norms({name: new[name] - old[name] for name in new}), norms(old)
    return {prefix: moved[prefix] / sizes[prefix] if sizes[prefix] else 0.0 for prefix in moved}


Counts = list[tuple[int, int] | None]  # of every state: units at a bound, and units; None where sigma has no bound


def units_at_bounds(network: Network, states: States, masks: Masks | None) -> Counts:
    """Return how many units of each state are at a bound of their activation, and how many there are.

    ``states`` are s^1 .. s^L, each (N, ...). Units that dropout masks are left out; those that it keeps have the bounds
    that it scales. A unit of ``relu`` at 0 is at its only bound.
    """
    architecture = network.architecture
    counts: Counts = []
    for n, (s, sigma) in enumerate(zip(states, network.activations, strict=True)):
        if not sigma.has_bound:
            counts.append(None)
            continue
        mask = masks and masks[n]
        scaled = mask is not None and architecture.dropout_scaling == "states"
        scale = s.dtype.type(1) / architecture.keep[n] if scaled else 1  # as dropout computes it, in the same dtype
        at: Array = (s <= sigma.low * scale) | (s >= sigma.high * scale)
        units = math.prod(s.shape)
        if mask is not None:
            kept: Array = mask != 0
            at, units = at & kept, int(to_host(kept.sum()))
        counts.append((int(to_host(at.sum())), units))
    return counts


NUMBERS = 2  # for each state


def numbers(counts: Counts) -> list[float]:
    """Return counts as numbers, ``NUMBERS`` for each state; -1 where sigma has no bound."""
    return [float(number) for each in counts for number in (each or (-1, -1))]


def counts_of(row: Sequence[float]) -> Counts:
    """Return the counts of which ``numbers`` made ``row``."""
    pairs = [(int(row[k]), int(row[k + 1])) for k in range(0, len(row), NUMBERS)]
    return [None if units < 0 else (at, units) for at, units in pairs]


def shares_at_bounds(shards: Sequence[Counts]) -> dict[str, float]:
    """Return the share of units at a bound in percent, ``s1``, ``s2``, ..., over all shards of a batch."""
    shares: dict[str, float] = {}
    for n, counts in enumerate(zip(*shards, strict=True), start=1):
        known = [each for each in counts if each is not None]
        if known:
            shares[f"s{n}"] = 100.0 * sum(at for at, _ in known) / max(sum(units for _, units in known), 1)
    return shares


def dead_state(network: Network, gradient: Mapping[str, float], shards: Sequence[Counts]) -> str:
    """Return the highest state all of whose units are at a bound, ``s1``, ..., if only the outputs still learn.

    That is: the ``gradient``, its norms by layer, is exactly 0 for every edge but those into the outputs. Else "".
    """
    if learns_below(network, gradient):
        return ""
    return next((name for name, share in reversed(shares_at_bounds(shards).items()) if share == 100), "")


def learns_below(network: Network, gradient: Mapping[str, float]) -> bool:
    """Return whether a ``gradient``, its norms by layer, changes more than the outputs; true if there is no more."""
    outputs = len(network.activations) + (1 if network.architecture.readout else 0)
    below = [edge.name for edge in network.edges if edge.upper < outputs]
    return not below or any(gradient[name] for name in below)


def columns(gradient: Mapping[str, float], updates: Mapping[str, float], shards: Sequence[Counts]) -> dict[str, float]:
    """Return the columns of metrics.csv for norms of the ``gradient``, relative ``updates`` and counts of shards."""
    return {
        **{f"gradient_norm_{name}": value for name, value in gradient.items()},
        **{f"relative_update_{name}": value for name, value in updates.items()},
        **{f"at_bound_percent_{name}": value for name, value in shares_at_bounds(shards).items()},
    }
