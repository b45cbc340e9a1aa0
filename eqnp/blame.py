"""Where a free phase went wrong: the first layer and step with a state that is NaN or infinite."""

from __future__ import annotations

import math
from collections.abc import Mapping

from eqnp.backends.backend import Array
from eqnp.dynamics import Phase, relax
from eqnp.networks import States
from eqnp.prepared import PreparedNetwork


class _FoundError(Exception):
    """Ends the phase: what was found, in words."""


def origin(parameters: Mapping[str, Array], prepared: PreparedNetwork, phase: Phase) -> str:
    """Return which parameter is not finite, or else which layer has the first such state, and when.

    The free phase of ``prepared``, with its input x (N, ...), is repeated. "" if all is finite then.
    """
    for name, p in parameters.items():
        if what := _fault(p):
            return f"{name} is {what}"
    try:
        relax(prepared, prepared.zero_states(), phase, observe=_observe)
    except _FoundError as found:
        return str(found)
    return ""


def _observe(step: int, states: States) -> None:
    for n, s in enumerate(states):
        if what := _fault(s):
            raise _FoundError(f"layer {n + 1} of {len(states)} is {what} first, in step {step} of the free phase")


def _fault(a: Array) -> str:
    largest = float(abs(a).max())
    return "" if math.isfinite(largest) else "NaN" if math.isnan(largest) else "infinite"
