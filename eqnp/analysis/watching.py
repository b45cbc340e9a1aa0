"""Measures a free phase step by step: how far the samples still move, and how active each layer is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from eqnp.analysis.diagnostics import sample_moves
from eqnp.backends.backend import Array, to_host
from eqnp.dynamics import relax
from eqnp.learner import Learner
from eqnp.networks import States
from eqnp.prepared import PreparedNetwork


def layer_names(learner: Learner) -> list[str]:
    """Return a name for each layer of states: ``s1: conv 16, 5x5``."""
    architecture = learner.network.architecture
    layers = architecture.layers[: len(architecture.state_shapes)]
    return [f"s{n}: {layer}" for n, layer in enumerate(layers, start=1)]


def watch_free_phase(learner: Learner, parameters: Mapping[str, Array], x: np.ndarray) -> dict[str, Any]:
    """Run the free phase on x (N, ...) from zero states.

    Returns ``steps`` (T + 1,), from 0; ``activity``: the mean of |s| over units and samples, (T + 1,) by the layer's
    name; ``median`` and ``largest`` (T,): of the samples' moves, max |s_t - s_{t-1}| over units.
    """
    prepared = PreparedNetwork(learner.network, parameters, learner.backend.asarray(x))
    before: list[Array] = [s.copy() for s in prepared.zero_states()]
    activity = [[0.0] for _ in before]
    moves: list[np.ndarray] = []

    def observe(t: int, states: States) -> None:
        nonlocal before
        moves.append(sample_moves(states, before))
        before = [s.copy() for s in states]
        for series, s in zip(activity, states, strict=True):
            series.append(float(to_host(abs(s).mean())))

    relax(prepared, before, learner.phases.free, observe=observe)
    return {
        "steps": np.arange(len(moves) + 1),
        "activity": {name: np.array(a) for name, a in zip(layer_names(learner), activity, strict=True)},
        "median": np.median(moves, axis=1),
        "largest": np.max(moves, axis=1),
    }
