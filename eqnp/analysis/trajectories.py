"""Recording: the states of chosen samples at chosen steps of the free phase and the two nudged phases."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from eqnp.backends.backend import Array, to_host
from eqnp.contrasts import nudged_network
from eqnp.dynamics import Phase, Relaxation, relax
from eqnp.inputs import require_labels
from eqnp.learner import Learner
from eqnp.losses import one_hot
from eqnp.networks import States
from eqnp.prepared import PreparedNetwork


def record(
    learner: Learner,
    parameters: Mapping[str, Array],
    x: np.ndarray,
    labels: np.ndarray,
    steps: Collection[int] | None = None,
) -> dict[str, Any]:
    """Return the states of ``x`` (N, ...) in the free phase and in both nudged phases, at all steps or at ``steps``.

    ``labels`` (N,) are integers. The result is nested by name: ``samples`` with ``x``, ``label`` and ``prediction``
    (N,), and ``phases`` with ``free``, ``plus`` and ``minus`` (nudged by beta and -beta), each with ``beta``,
    ``residual``, ``steps`` (T,) and ``s1`` .. ``sL`` (T, N, ...). Step 0 holds the states before the first step.
    """
    network, backend = learner.network, learner.backend
    require_labels(labels, network.architecture.classes)
    xs, ys = backend.asarray(x), backend.asarray(labels)
    target = one_hot(ys, network.architecture.classes, xs.dtype)
    prepared = PreparedNetwork(network, parameters, xs)
    free, content = _record_phase(prepared, prepared.zero_states(), learner.phases.free, 0.0, None, steps)
    phases = {"free": content}
    nudged, start = nudged_network(learner.contrast, prepared, free.states)
    for name, beta in (("plus", learner.beta), ("minus", -learner.beta)):
        _, phases[name] = _record_phase(nudged, start, learner.phases.nudged, beta, target, steps)
    outputs = to_host(network.outputs(parameters, free.states))
    return {"samples": {"x": x, "label": labels, "prediction": outputs.argmax(axis=1)}, "phases": phases}


def _record_phase(
    prepared: PreparedNetwork,
    start: States,
    phase: Phase,
    beta: float,
    target: Array | None,
    steps: Collection[int] | None,
) -> tuple[Relaxation, dict[str, Any]]:
    """Relax from ``start``, and return the relaxation and the recorded states."""
    taken: list[int] = []
    kept: list[list[np.ndarray]] = [[] for _ in start]

    def observe(t: int, states: States) -> None:
        if steps is None or t in steps:
            taken.append(t)
            for series, s in zip(kept, states, strict=True):
                series.append(np.array(to_host(s)))

    observe(0, start)
    ended = relax(prepared, start, phase, beta, target, observe)
    content: dict[str, Any] = {"beta": beta, "residual": ended.residual, "steps": np.array(taken, dtype=np.int64)}
    for layer, (series, s) in enumerate(zip(kept, start, strict=True), start=1):
        content[f"s{layer}"] = np.stack(series) if series else np.empty((0, *s.shape), s.dtype)  # (T, N, ...)
    return ended, content
