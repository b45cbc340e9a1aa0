"""A batch cut into shards, one thread each, and their gradients summed.

Samples never meet during a relaxation, so a batch may be cut anywhere. The cut is a function of the number of threads
and the sum runs in the order of the shards, so a result does not depend on which thread was first. The same cut would
serve several devices or hosts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from threadpoolctl import threadpool_limits

from eqnp.backend import Array
from eqnp.blocks import equal_parts

T = TypeVar("T")
Map = Callable[[Callable[[slice], T], Sequence[slice]], list[T]]


def cut(samples: int, threads: int) -> list[slice]:
    """Cut ``samples`` into one shard a thread, equal to within one sample; ``eqnp.blocks`` cuts them for the cache."""
    return equal_parts(samples, max(1, min(samples, threads)))


def serial_map(function: Callable[[slice], T], shards: Sequence[slice]) -> list[T]:
    """Map over shards in this thread, one after the other."""
    return [function(shard) for shard in shards]


@contextmanager
def thread_map(threads: int) -> Iterator[Map]:
    """Give a map over shards that uses ``threads`` threads, with one BLAS thread each; results come in order.

    One BLAS thread a shard is faster, and safe: OpenBLAS before 0.3.33 can mix up concurrent multi-threaded products.
    """
    if threads == 1:
        yield serial_map
        return
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(threads) as pool:
        # One shard stays in this thread, which is the one that has chosen a GPU.
        yield lambda function, shards: list((pool.map if len(shards) > 1 else serial_map)(function, shards))


def add_gradients(gradients: Sequence[dict[str, Array]]) -> dict[str, Array]:
    """Return the sum of the shards' gradients, in the order given. The first one's arrays hold the result."""
    total = gradients[0]
    for gradient in gradients[1:]:
        for name, g in gradient.items():
            total[name] += g
    return total
