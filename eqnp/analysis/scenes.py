"""Records how samples settle, small enough for a page: chosen units of each layer as bytes, and curves.

The states of the free phase are stored as 8 bits between the lowest and the highest state of a layer. In a nudged phase
the *change* from the free state is stored, as 8 bits on a scale of its own, since it is small. Along time the bytes are
differences, and runs of zeros are two bytes: a settled network takes little room.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from eqnp.analysis.diagnostics import sample_moves
from eqnp.analysis.energy import energy
from eqnp.analysis.watching import layer_names
from eqnp.backends.backend import Array, to_host
from eqnp.contrasts import nudged_network
from eqnp.dynamics import Phase, relax
from eqnp.inputs import Shape
from eqnp.learner import Learner
from eqnp.losses import CrossEntropy, one_hot, softmax
from eqnp.networks import States
from eqnp.prepared import PreparedNetwork

SIDE = 32  # pixels of a map at most; a larger one is averaged over squares
UNITS = 4096  # of a layer that are kept at most
MAPS = 16  # of a convolution that are shown at most
FRAMES = {"free": 60, "plus": 30, "minus": 30}  # of a phase that are kept at most


@dataclass(frozen=True)
class View:
    """Which units of a layer are shown: maps of ``height`` x ``width``, each averaged over ``square`` x ``square``."""

    name: str
    shape: Shape
    height: int
    width: int
    square: int
    channels: np.ndarray  # (M,) which maps; of a dense layer: which units

    def take(self, s: np.ndarray) -> np.ndarray:
        """Return the shown units of the states of a layer: (N, ...) -> (N, M, height, width)."""
        if len(self.shape) == 1:
            units: np.ndarray = s[:, self.channels].reshape(len(s), -1, 1, 1)
            return units
        f, (h, w) = self.square, (self.height, self.width)
        maps = s[:, : h * f, : w * f, self.channels]
        averaged: np.ndarray = maps.reshape(len(s), h, f, w, f, -1).mean(axis=(2, 4))  # (N, h, w, M)
        return averaged.transpose(0, 3, 1, 2)


@dataclass
class Record:
    """One phase of N samples at F kept steps: curves (F, N), scores (F, N, K), units of each layer (F, N, M, h, w)."""

    beta: float
    steps: list[int]
    energy: list[np.ndarray] | None
    loss: list[np.ndarray]
    residual: list[np.ndarray]
    scores: list[np.ndarray]
    units: list[list[np.ndarray]]


def record_scenes(
    learner: Learner, parameters: Mapping[str, Array], x: np.ndarray, labels: np.ndarray
) -> tuple[list[View], dict[str, Record]]:
    """Return the views of the layers and a record of the phases ``free``, ``plus`` and ``minus``.

    x is (N, ...), as the network takes it, ``labels`` (N,). The nudged phases are those of the learner's contrast,
    from the end of the free phase.
    """
    network, backend = learner.network, learner.backend
    xs = backend.asarray(x)
    target = one_hot(backend.asarray(labels), network.architecture.classes, xs.dtype)
    prepared = PreparedNetwork(network, parameters, xs)
    free_end = relax(prepared, prepared.zero_states(), learner.phases.free).states
    views = [_view(name, to_host(s)) for name, s in zip(layer_names(learner), free_end, strict=True)]
    recorder = _Recorder(learner, prepared, target, views)
    records = {"free": recorder.phase("free", prepared, prepared.zero_states(), learner.phases.free, 0.0)}
    nudged, start = nudged_network(learner.contrast, prepared, free_end)
    for name, beta in (("plus", learner.beta), ("minus", -learner.beta)):
        records[name] = recorder.phase(name, nudged, start, learner.phases.nudged, beta)
    return views, records


class _Recorder:
    def __init__(self, learner: Learner, prepared: PreparedNetwork, target: Array, views: Sequence[View]) -> None:
        self.network = learner.network
        self.prepared = prepared
        self.target = target
        self.views = views

    def phase(self, name: str, network: PreparedNetwork, start: States, phase: Phase, beta: float) -> Record:
        """Run a phase of ``network`` from ``start`` and return what happens in it."""
        kept = set(chosen_steps(phase.steps, FRAMES[name]))
        record = Record(beta, [], [], [], [], [], [[] for _ in self.views])
        before = [s.copy() for s in start]
        self._keep(record, 0, start, np.full(len(self.prepared.x), np.nan))

        def observe(t: int, states: States) -> None:
            nonlocal before
            moves = sample_moves(states, before)
            before = [s.copy() for s in states]
            if t in kept:
                self._keep(record, t, states, moves)

        last = relax(network, start, phase, beta, self.target if beta else None, observe)
        if record.steps[-1] != last.steps:  # it ended early, by its tolerance
            self._keep(record, last.steps, last.states, np.full(len(self.prepared.x), last.residual))
        return record

    def _keep(self, record: Record, t: int, states: States, moves: np.ndarray) -> None:
        parameters, network = self.prepared.parameters, self.network
        record.steps.append(t)
        found = energy(network, parameters, self.prepared.x, states)
        if found is None:
            record.energy = None
        elif record.energy is not None:
            record.energy.append(to_host(found))
        outputs = network.outputs(parameters, states)
        record.loss.append(to_host(network.loss.value(outputs, self.target)))
        record.residual.append(moves)
        record.scores.append(to_host(softmax(outputs) if isinstance(network.loss, CrossEntropy) else outputs.copy()))
        for series, view, s in zip(record.units, self.views, states, strict=True):
            series.append(view.take(to_host(s)))


def chosen_steps(steps: int, most: int) -> list[int]:
    """Return at most ``most`` of the steps 1 .. ``steps``: all, or the first ones all and the later ones sparser."""
    if steps <= most:
        return list(range(1, steps + 1))
    early = most // 2
    later = np.geomspace(early + 1, steps, most - early)
    return sorted({*range(1, early + 1), *(round(t) for t in later)})


def _view(name: str, s: np.ndarray) -> View:
    """Return the view of a layer: its most active maps or units at the end of the free phase, s (N, ...)."""
    activity = abs(s).reshape(-1, s.shape[-1]).mean(axis=0)  # by channel, or by unit
    if s.ndim == 2:
        most, height, width, square = 256, 1, 1, 1
    else:
        square = math.ceil(max(s.shape[1:3]) / SIDE)
        height, width = (max(1, n // square) for n in s.shape[1:3])
        square = min(square, *s.shape[1:3])
        most = max(1, min(MAPS, UNITS // (height * width)))
    channels = np.sort(np.argsort(-activity, kind="stable")[:most])
    return View(name, s.shape[1:], height, width, square, channels)


# ---- as text for a page


def scene(
    views: Sequence[View], records: Mapping[str, Record], n: int, ranges: Sequence[tuple[float, float]]
) -> dict[str, Any]:
    """Return sample ``n`` as numbers and texts for JSON; ``ranges`` are the lowest and highest state of each layer."""
    phases: dict[str, Any] = {}
    free_end = [series[-1][n] for series in records["free"].units]
    for name, record in records.items():
        layers: list[dict[str, Any]] = []
        for k, series in enumerate(record.units):
            frames = np.stack([frame[n].ravel() for frame in series])  # (F, units)
            if name == "free":
                low, high = ranges[k]
                layers.append({"data": packed(quantised(frames, low, high))})
            else:
                change = frames - free_end[k].ravel()
                scale = float(abs(change).max())
                layers.append({"data": packed(quantised(change, -(scale or 1.0), scale or 1.0)), "scale": scale})
        phases[name] = {
            "beta": record.beta,
            "steps": record.steps,
            "energy": None if record.energy is None else _rounded([each[n] for each in record.energy]),
            "loss": _rounded([each[n] for each in record.loss]),
            "residual": _rounded([each[n] for each in record.residual]),
            "scores": [_rounded(each[n]) for each in record.scores],
            "layers": layers,
        }
    return phases


def state_ranges(records: Mapping[str, Record]) -> list[tuple[float, float]]:
    """Return the lowest and the highest shown state of each layer, 0 included, over all samples of the free phase."""
    ranges = []
    for series in records["free"].units:
        low, high = (float(of([of(frame) for frame in series])) for of in (np.nanmin, np.nanmax))
        ranges.append((min(low, 0.0), high if high > 0 else float(low == 0)))
    return ranges


def quantised(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return values as uint8: 0 at ``low``, 255 at ``high``; what is not finite is at ``low``."""
    shares = np.nan_to_num((values - low) / (high - low), nan=0.0)
    return np.rint(255 * np.clip(shares, 0, 1)).astype(np.uint8)


def packed(frames: np.ndarray) -> str:
    """Return frames (F, P) uint8 as base64: differences along time modulo 256, and n zeros in a row as 0, n."""
    differences = np.diff(frames, axis=0, prepend=np.zeros_like(frames[:1])).ravel()
    return base64.b64encode(zero_runs(differences)).decode()


def zero_runs(data: np.ndarray) -> bytes:
    """Return bytes (P,) uint8 with every run of zeros written as 0 and its length, 255 at most."""
    places = np.flatnonzero(data)
    gaps = np.diff(places, prepend=-1, append=len(data)) - 1  # zeros before each nonzero byte, and after the last
    pairs = -(-gaps // 255)
    sizes = 2 * pairs + 1
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    out = np.zeros(int(sizes.sum()) - 1, np.uint8)  # no byte follows the last zeros
    out[(starts + 2 * pairs)[:-1]] = data[places]
    full = gaps // 255
    rest = gaps % 255
    for k in np.flatnonzero(full):
        out[starts[k] + 1 : starts[k] + 2 * full[k] : 2] = 255
    some = np.flatnonzero(rest)
    out[starts[some] + 2 * full[some] + 1] = rest[some]
    return out.tobytes()


def _rounded(values: Any) -> list[float | None]:
    """Return numbers with six digits; None for what is not finite, which JSON does not have."""
    return [float(f"{v:.6g}") if math.isfinite(v) else None for v in np.asarray(values, float)]
