"""How long an update takes and how much memory it needs, from a second of measurement.

A small part of an update is measured first, then larger parts while there is time: fewer samples, fewer steps. The
last measurement is scaled to the whole update by FLOPs (``eqnp.analysis.costs``).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from statistics import median
from typing import NamedTuple

import numpy as np

from eqnp.analysis.costs import Costs
from eqnp.backends.sharding import Map
from eqnp.learner import Learner
from eqnp.training import State, train_batch

Make = Callable[[int], tuple[np.ndarray, np.ndarray]]  # inputs (N, ...) and labels (N,) of a batch of N samples
SECONDS = 1.5
MEMORY_FLOPS = 2e10  # of an update whose memory is measured: a few seconds at most
MOST_RUNS = 20


class Part(NamedTuple):
    """A part of an update: samples of its batch, and steps of its phases."""

    samples: int
    T1: int
    T2: int


def time_of_update(learner: Learner, state: State, batch: Make, samples: int, run: Map) -> tuple[float, bool]:
    """Return the seconds of an update on ``samples``, its batch included, and whether a whole update was measured."""
    whole = Part(samples, learner.phases.T1, learner.phases.T2)
    begun, seconds, last = time.perf_counter(), 0.0, whole
    for part in _parts(whole):
        expected = seconds * _flops(learner, part) / _flops(learner, last)
        if seconds and time.perf_counter() - begun + expected > SECONDS:
            return seconds * _flops(learner, whole) / _flops(learner, last), False
        seconds, last = _measure(_with(learner, part), state, batch, part.samples, run), part
    times = [seconds]
    while len(times) < MOST_RUNS and time.perf_counter() - begun + seconds < SECONDS:
        times.append(_measure(learner, state, batch, samples, run))
    return median(times[1:] or times), True  # the first was the warm-up, if there are others


def memory_of_update(learner: Learner, state: State, batch: Make, samples: int, run: Map) -> int:
    """Return the peak memory of the arrays of an update on ``samples``, in bytes; buffers do not grow with steps.

    BPTT keeps the states of many steps, so its steps are not shortened.
    """
    phases = learner.phases
    part = Part(1, 1, 1) if learner.bptt is None else Part(1, phases.T2, phases.T2)
    short = _with(learner, part)
    most = int(min(samples, max(2, MEMORY_FLOPS // _flops(learner, part))))

    def peak(count: int) -> int:
        return learner.backend.peak_of(lambda: _measure(short, state, batch, count, run))

    if most == samples:
        return peak(samples)
    few = max(1, most // 2)
    low, high = peak(few), peak(most)
    return int(high + (samples - most) * max(0.0, (high - low) / (most - few)))


def _parts(whole: Part) -> list[Part]:
    """Return parts of an update, each larger than the one before; the last is the whole."""
    n, T1, T2 = whole
    few, quarter, short = max(1, n // 16), max(1, n // 4), (max(1, T1 // 4), max(1, T2 // 4))
    parts = [Part(few, 1, 1), Part(quarter, *short), Part(n, *short), whole]
    return list(dict.fromkeys(parts))


def _with(learner: Learner, part: Part) -> Learner:
    """Return the learner with the phases of a part."""
    bptt = learner.bptt
    T1, segment = part.T1, 0
    if bptt is not None:
        T1, segment = max(part.T1, part.T2), min(bptt.segment, part.T2)
        bptt = replace(bptt, segment=segment)
    return replace(learner, phases=replace(learner.phases, T1=T1, T2=part.T2), bptt=bptt)


def _flops(learner: Learner, part: Part) -> float:
    return part.samples * Costs(_with(learner, part)).gradient


def _measure(learner: Learner, state: State, batch: Make, samples: int, run: Map) -> float:
    began = time.perf_counter()
    train_batch(learner, state, *batch(samples), run)
    learner.backend.synchronize()
    return time.perf_counter() - began
