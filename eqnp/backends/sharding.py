"""A batch cut into shards, one per thread, and the sum of their gradients.

The samples of a batch do not interact during a relaxation, so a batch may be cut anywhere. The cut depends only on the
number of threads, or is set, and the gradients are added in the order of the shards, so the result does not depend on
which thread finishes first. ``eqnp.backends.world`` shares the shards out among several processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from threading import Event
from typing import Protocol, TypeVar

import numpy as np
from threadpoolctl import threadpool_info, threadpool_limits

from eqnp.backends.allocator import keep_freed_memory
from eqnp.backends.backend import Array
from eqnp.backends.blocks import equal_parts
from eqnp.backends.limits import available_cores

S = TypeVar("S")
T = TypeVar("T")


class Map(Protocol):
    """Calls a function with every shard and returns the results in the order of the shards."""

    def __call__(self, function: Callable[[S], T], shards: Sequence[S], /) -> list[T]:
        """Return ``[function(shard) for shard in shards]``."""


def cut(samples: int, threads: int) -> list[slice]:
    """Cut ``samples`` into one shard per thread, whose sizes differ by at most one sample."""
    return equal_parts(samples, max(1, min(samples, threads)))


def serial_map(function: Callable[[S], T], shards: Sequence[S]) -> list[T]:
    """Map over shards one after the other in this thread."""
    return [function(shard) for shard in shards]


@contextmanager
def thread_map(threads: int, tell: Callable[[str], None] = lambda message: None, fixed: bool = False) -> Iterator[Map]:
    """Give a map over shards that uses ``threads`` threads with one BLAS thread each; results come in order.

    One BLAS thread per shard is faster, and safe: OpenBLAS before 0.3.33 can mix up concurrent multi-threaded products.
    If the system cannot start so many threads, fewer threads do the same work, and ``tell`` gets a message. A single
    thread leaves all cores to BLAS, unless the cut of a batch is ``fixed``: then its bits are those of any number of
    threads.
    """
    keep_freed_memory()
    if threads <= 1:
        with threadpool_limits(1, user_api="blas") if fixed else _blas_within_cores():
            _multiply_once()
            yield serial_map
        return
    with threadpool_limits(1, user_api="blas"), started_pool(threads, _multiply_once) as (pool, started):
        if started < threads:
            tell(f"only {max(1, started)} of {threads} threads can be started; slower, but with the same results")

        def run(function: Callable[[S], T], shards: Sequence[S]) -> list[T]:
            if started > 1 and len(shards) > 1:
                return _map_in(pool, function, shards)
            return serial_map(function, shards)

        yield run


def _map_in(pool: ThreadPoolExecutor, function: Callable[[S], T], shards: Sequence[S]) -> list[T]:
    """Map in the pool. If a shard fails, all others end and free their memory before the error is raised."""
    futures = [pool.submit(function, shard) for shard in shards]
    try:
        wait(futures)
    except BaseException:  # a signal
        for future in futures:
            future.cancel()
        raise
    # A failed future must leave the list before its error is raised: the traceback refers to the list, and the cycle
    # would keep the arrays in memory.
    return [futures.pop(0).result() for _ in shards]


@contextmanager
def started_pool(threads: int, first: Callable[[], None] = lambda: None) -> Iterator[tuple[ThreadPoolExecutor, int]]:
    """Give a pool of ``threads`` running threads, or as many as can be started, and their number.

    Each thread calls ``first``, all at the same time as far as possible.
    """
    while True:
        with ThreadPoolExecutor(max(1, threads)) as pool:
            started = _start(pool, threads, first)
            if started == threads:
                yield pool, started
                return
        threads = started


def _start(pool: ThreadPoolExecutor, threads: int, first: Callable[[], None]) -> int:
    """Start all threads of the pool now, since memory may be short later; return how many started."""
    gate, started = Event(), 0

    def begin() -> None:
        gate.wait()  # while all wait, none is idle and the pool starts a new thread for each
        first()

    try:
        for started in range(threads):  # noqa: B007  used below: the number of threads before a failure
            pool.submit(begin)
        return threads
    except RuntimeError:  # can't start new thread
        return started
    finally:
        gate.set()


def _multiply_once() -> None:
    """Let BLAS allocate its buffers for products now: OpenBLAS ends the process if that fails later."""
    a = np.ones((512, 512), np.float32)  # large enough for all threads to multiply at the same time
    for _ in range(3):
        a @ a


@contextmanager
def _blas_within_cores() -> Iterator[None]:
    """Limit the threads of BLAS to the available cores: BLAS does not know about control groups."""
    most = available_cores()
    if any(library["num_threads"] > most for library in threadpool_info() if library["user_api"] == "blas"):
        with threadpool_limits(most, user_api="blas"):
            yield
    else:
        yield


def add_gradients(gradients: Sequence[dict[str, Array]]) -> dict[str, Array]:
    """Return the sum of the gradients of all shards, added in the order given.

    A gradient has one array for each parameter, of the shape of the parameter. The first gradient is overwritten.
    """
    total = gradients[0]
    for gradient in gradients[1:]:
        for name, g in gradient.items():
            total[name] += g
    return total
