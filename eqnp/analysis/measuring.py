"""Time and memory of the work of a run: steps of a phase, batches, and functions that take turns.

Machines are shared and noisy: compare what ran in turn in one process, by medians, with the spread.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median

import numpy as np

from eqnp.backends.backend import Array, Backend
from eqnp.backends.sharding import Map
from eqnp.dynamics import WAYS, Phase, relax
from eqnp.errors import memory_errors
from eqnp.learner import Learner
from eqnp.networks import States
from eqnp.prepared import PreparedNetwork, PreparedWeights
from eqnp.training import State, train_batch


def interleave(
    work: Mapping[str, Callable[[], object]],
    runs: int,
    warm_up: int = 1,
    seconds: float = float("inf"),
    progress: Callable[[str, int], None] = lambda name, done: None,
) -> dict[str, list[float]]:
    """Return the seconds of every run of every function, run in turn; ``warm_up`` turns are not counted.

    No turn begins after ``seconds``, but one is always counted.
    """
    times: dict[str, list[float]] = {name: [] for name in work}
    start = time.perf_counter()
    for turn in range(warm_up + runs):
        if turn > warm_up and time.perf_counter() - start > seconds:
            break
        for name, function in work.items():
            progress(name, turn)
            began = time.perf_counter()
            function()
            times[name].append(time.perf_counter() - began)
    return {name: each[warm_up:] for name, each in times.items()}


def ratio(slow: list[float], fast: list[float]) -> str:
    """Return the ratio of medians, and the least and the most of two runs that follow each other."""
    each = [a / b for a, b in zip(slow, fast, strict=True)]
    return f"{median(slow) / median(fast):.2f} ({min(each):.2f}, {max(each):.2f})"


def free_phases(
    learner: Learner, parameters: Mapping[str, Array], x: Array, steps: int, run: Map
) -> dict[str, Callable[[], object]]:
    """Return, for every one of ``WAYS``, a function that takes ``steps`` free steps from where it last ended.

    The batch is cut into the learner's shards, as in training; kernels are prepared once, as for a batch.
    """
    weights = PreparedWeights(learner.network, parameters)
    networks = [PreparedNetwork(learner.network, weights, x[shard]) for shard in learner.shards(len(x))]

    def repeated(phase: Phase) -> Callable[[], object]:
        states = [network.zero_states() for network in networks]

        def further(k: int) -> States:
            return relax(networks[k], states[k], phase).states

        def step() -> None:
            states[:] = run(further, range(len(states)))
            learner.backend.synchronize()

        return step

    return {name: repeated(Phase(steps, 0.0, *way)) for name, way in WAYS.items()}


def batch_that_fits(learner: Learner, state: State, x: np.ndarray, labels: np.ndarray, run: Map) -> int:
    """Return how many samples an update has memory for, below len(x) anyway; a tenth more were just tried.

    The memory of an update is a constant and so much for every sample, as updates on a few samples tell. Where that is
    too much all the same, because memory is in pieces or others take it, fewer are tried.

    Raises:
        MemoryError: there is no memory for an update on one sample.
    """
    fits = min(len(x) * 3 // 4, _estimate(learner, state, x, labels, run))
    while fits > 1:
        try:
            with memory_errors():
                train_batch(learner, state, x[:fits], labels[:fits], run)
        except MemoryError:
            fits = fits * 3 // 4
        else:
            return max(1, fits * 9 // 10)
    train_batch(learner, state, x[:1], labels[:1], run)
    return 1


def _estimate(learner: Learner, state: State, x: np.ndarray, labels: np.ndarray, run: Map) -> int:
    """Return for how many samples the memory should be enough, by what updates on a few samples take."""

    def peak(samples: int) -> int:
        return learner.backend.peak_of(lambda: train_batch(learner, state, x[:samples], labels[:samples], run))

    few, more = sizes = (max(1, len(x) // 16), max(2, len(x) // 8))
    try:
        with memory_errors():
            low, high = map(peak, sizes)
    except MemoryError:
        return few
    available = learner.backend.available_memory() or 0
    each = max(1, (high - low) // (more - few))
    return max(few, int(few + (0.95 * available - low) / each))


def peak_memory(backend: Backend) -> float | None:
    """Return the most memory in MB that this process held so far, or what CuPy's pool holds; None if not known."""
    if backend.name == "cupy":
        return backend.xp.get_default_memory_pool().total_bytes() / 2**20
    status = Path("/proc/self/status")
    if status.exists():
        # Not getrusage there: its maximum is inherited from the process that started this one.
        lines = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(next(lines).split()[1]) / 1024
    try:
        import resource
    except ImportError:  # Windows
        return None
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size / (2**20 if sys.platform == "darwin" else 2**10)
