"""How long an update takes and how much memory it needs, from a second of measurement.

Updates with few samples and few steps are measured first. They say how long a whole update takes: a fixed time, a time
for every sample, and one for every FLOP of a sample (``eqnp.analysis.costs``). If there is time for a whole update, it
is measured instead.
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
SHORT = ((1, 1), (4, 3))  # T1 and T2 of two short updates; their difference is the time of steps
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
    begun = time.perf_counter()

    def seconds_of(part: Part) -> float:
        return _measure(_with(learner, part), state, batch, part.samples, run)

    expected = _expected(learner, whole, seconds_of)
    if time.perf_counter() - begun + expected > SECONDS:
        return expected, False
    seconds_of(whole)  # the warm-up
    times = [seconds_of(whole)]
    while len(times) < MOST_RUNS and time.perf_counter() - begun + times[-1] < SECONDS:
        times.append(seconds_of(whole))
    return median(times), True


def _expected(learner: Learner, whole: Part, seconds_of: Callable[[Part], float]) -> float:
    """Return the seconds of the ``whole`` update by those of three small ones: fixed + N (each + rate FLOPs).

    FLOPs are per sample. With fewer than a few samples there is nothing smaller to measure than short phases.
    """
    few = max(1, whole.samples // 16)
    more = min(whole.samples, 4 * few)
    parts = (Part(few, *SHORT[0]), Part(few, *SHORT[1]), Part(more, *SHORT[0]))
    for part in parts:
        seconds_of(part)  # the warm-up
    t1, t2, t3 = (min(seconds_of(part) for _ in range(2)) for part in parts)
    f1, f2, f = (_flops(learner, part) / part.samples for part in (*parts[:2], whole))
    rate = max(0.0, t2 - t1) / (few * (f2 - f1)) if f2 > f1 else 0.0  # the steps of a single layer cost nothing
    sample = max(0.0, t3 - t1) / (more - few) if more > few else t1 / few
    fixed = max(0.0, t1 - few * sample)
    return fixed + whole.samples * (sample + rate * (f - f1))


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
