"""A batch cut into shards, one thread each, and their gradients summed.

Samples never meet during a relaxation, so a batch may be cut anywhere. The cut is a function of the number of threads
and the sum runs in the order of the shards, so a result does not depend on which thread was first. The same cut would
serve several devices or hosts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from threading import Event
from typing import Protocol, TypeVar

import numpy as np
from threadpoolctl import threadpool_info, threadpool_limits

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
    """Cut ``samples`` into one shard a thread, equal to within one sample; ``blocks`` cuts them for the cache."""
    return equal_parts(samples, max(1, min(samples, threads)))


def serial_map(function: Callable[[S], T], shards: Sequence[S]) -> list[T]:
    """Map over shards in this thread, one after the other."""
    return [function(shard) for shard in shards]


@contextmanager
def thread_map(threads: int, tell: Callable[[str], None] = lambda message: None) -> Iterator[Map]:
    """Give a map over shards that uses ``threads`` threads, with one BLAS thread each; results come in order.

    One BLAS thread a shard is faster, and safe: OpenBLAS before 0.3.33 can mix up concurrent multi-threaded products.
    If the system does not let so many threads start, fewer do the same work, and ``tell`` is told.
    """
    if threads <= 1:
        with _blas_within_cores():
            _multiply_once()
            yield serial_map
        return
    with threadpool_limits(1, user_api="blas"), started_pool(threads, _multiply_once) as (pool, started):
        if started < threads:
            tell(f"only {max(1, started)} of {threads} threads can be started: slower, with the same results")

        def run(function: Callable[[S], T], shards: Sequence[S]) -> list[T]:
            if started > 1 and len(shards) > 1:
                return _map_in(pool, function, shards)
            return serial_map(function, shards)  # a single shard stays in this thread, which has chosen the GPU

        yield run


def _map_in(pool: ThreadPoolExecutor, function: Callable[[S], T], shards: Sequence[S]) -> list[T]:
    """Map in the pool. If a shard fails, the others have ended too, and hold no memory, before its error is raised."""
    futures = [pool.submit(function, shard) for shard in shards]
    try:
        wait(futures)
    except BaseException:  # a signal
        for future in futures:
            future.cancel()
        raise
    # An error must leave the list before it is raised: its traceback knows the list, and would keep itself.
    return [futures.pop(0).result() for _ in shards]


@contextmanager
def started_pool(threads: int, first: Callable[[], None] = lambda: None) -> Iterator[tuple[ThreadPoolExecutor, int]]:
    """Give a pool all of whose threads run, ``threads`` or as many as can be started, and their number.

    Each calls ``first``, as far as possible all at once.
    """
    while True:
        with ThreadPoolExecutor(max(1, threads)) as pool:
            started = _start(pool, threads, first)
            if started == threads:
                yield pool, started
                return
        threads = started


def _start(pool: ThreadPoolExecutor, threads: int, first: Callable[[], None]) -> int:
    """Start the pool's threads at once, since later on there may be no memory for one; return how many did."""
    gate, started = Event(), 0

    def begin() -> None:
        gate.wait()  # none is idle, so that each is another thread
        first()

    try:
        for started in range(threads):  # noqa: B007  counts those before
            pool.submit(begin)
        return threads
    except RuntimeError:  # can't start new thread
        return started
    finally:
        gate.set()


def _multiply_once() -> None:
    """Let BLAS take the memory that it keeps for products: OpenBLAS ends the process if there is none for it later."""
    a = np.ones((512, 512), np.float32)  # large enough that threads that begin together multiply at the same time
    for _ in range(3):
        a @ a


@contextmanager
def _blas_within_cores() -> Iterator[None]:
    """Let BLAS use no more threads than cores may be used: it does not know of control groups."""
    most = available_cores()
    if any(library["num_threads"] > most for library in threadpool_info() if library["user_api"] == "blas"):
        with threadpool_limits(most, user_api="blas"):
            yield
    else:
        yield


def add_gradients(gradients: Sequence[dict[str, Array]]) -> dict[str, Array]:
    """Return the sum of the shards' gradients, in the order given. The first one's arrays hold the result."""
    total = gradients[0]
    for gradient in gradients[1:]:
        for name, g in gradient.items():
            total[name] += g
    return total
