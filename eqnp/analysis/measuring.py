"""Time and memory of steps, batches and other functions, measured interleaved.

Machines are shared and noisy. So compare functions that ran interleaved in one process, by medians, with the spread.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from statistics import median

import numpy as np

from eqnp.backends.backend import Array, Backend
from eqnp.backends.sharding import Map
from eqnp.backends.system import system_text
from eqnp.backends.world import Alone
from eqnp.dynamics import WAYS, Phase, relax
from eqnp.errors import memory_errors
from eqnp.learner import Learner
from eqnp.networks import States
from eqnp.prepared import PreparedNetwork, PreparedWeights
from eqnp.training import Share, State, train_batch


def interleave(
    work: Mapping[str, Callable[[], object]],
    runs: int,
    warm_up: int = 1,
    seconds: float = float("inf"),
    progress: Callable[[str, int], None] = lambda name, done: None,
    over: Callable[[bool], bool] = lambda late: late,
    rest: float = 0.0,
) -> dict[str, list[float]]:
    """Return the seconds of every run of every function, interleaved. The first ``warm_up`` rounds are not counted.

    A round runs each function once. No round begins after ``seconds``, but one is always counted.
    ``progress(name, done)`` is called before each run. ``over(late)`` decides whether it ends, if several processes
    measure together. ``rest`` seconds pass before each run: threads of another library may spin for a while after
    their work, and take a core from what runs next.
    """
    times: dict[str, list[float]] = {name: [] for name in work}
    start = time.perf_counter()
    for turn in range(warm_up + runs):
        if turn > warm_up and over(time.perf_counter() - start > seconds):
            break
        for name, function in work.items():
            progress(name, turn)
            time.sleep(rest)
            began = time.perf_counter()
            function()
            times[name].append(time.perf_counter() - began)
    return {name: each[warm_up:] for name, each in times.items()}


def ratio(slow: list[float], fast: list[float]) -> str:
    """Return the ratio of the medians and, in brackets, the smallest and largest ratio within one round."""
    each = [a / b for a, b in zip(slow, fast, strict=True)]
    return f"{median(slow) / median(fast):.2f} ({min(each):.2f}, {max(each):.2f})"


def free_phases(
    learner: Learner, parameters: Mapping[str, Array], x: Array, steps: int, run: Map, share: Share | None = None
) -> dict[str, Callable[[], object]]:
    """Return, by name, functions that take ``steps`` free steps on x (N, ...) from where each last ended.

    There is one for each of ``WAYS``, and for the learner's own way if that is another.

    The batch is cut into the learner's shards, as in training. Kernels are prepared once, as for a batch. ``share``
    says that x is a part of the batch, of which other processes have the rest; a function ends when all have ended.
    """
    share = share or Share(Alone(), len(x))
    weights = PreparedWeights(learner.network, parameters)
    networks = [PreparedNetwork(learner.network, weights, x[shard]) for shard in share.shards(learner)[0]]

    def repeated(phase: Phase) -> Callable[[], object]:
        states = [network.zero_states() for network in networks]

        def further(k: int) -> States:
            return relax(networks[k], states[k], phase).states

        def step() -> None:
            states[:] = [list(each) for each in run(further, range(len(states)))]
            learner.backend.synchronize()
            share.world.sync()

        return step

    schedule, omega = own = learner.phases.way
    ways = WAYS if own in WAYS.values() else WAYS | {schedule + (f", {omega:g}" if omega != 1 else ""): own}
    return {name: repeated(Phase(steps, 0.0, *way)) for name, way in ways.items()}


def batch_that_fits(learner: Learner, state: State, x: np.ndarray, labels: np.ndarray, run: Map) -> int:
    """Return a batch size below len(x) that fits in memory. An update on a tenth more samples was tried and fitted.

    The memory of an update is assumed to be a + b N for N samples; a and b are measured on a few samples. If the
    estimated size does not fit (memory is fragmented, or other processes use it), smaller sizes are tried.
    ``x`` is (N, ...), ``labels`` (N,), both on the host.

    Raises:
        MemoryError: not even an update on one sample fits in memory.
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
    """Return the number of samples that should fit, by the peak memory of updates on a few samples."""

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
    """Return the peak memory of this process in MB, or the size of CuPy's pool; None if it is not known."""
    if backend.name == "cupy":
        return float(backend.xp.get_default_memory_pool().total_bytes() / 2**20)
    for line in system_text("proc/self/status").splitlines():
        if line.startswith("VmHWM:"):  # not getrusage there: its maximum is inherited from the parent process
            return int(line.split()[1]) / 1024
    try:
        import resource
    except ImportError:  # Windows
        return None
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size / (2**20 if sys.platform == "darwin" else 2**10)
