"""Blocks: parts of a batch that fit into the cache of a CPU core, so that a step does not wait for memory."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache
from itertools import pairwise

import numpy as np

from eqnp.backends.backend import Array
from eqnp.backends.system import system_text

WHOLE = slice(None)  # the only block of a batch


def equal_parts(samples: int, count: int) -> list[slice]:
    """Cut ``samples`` into ``count`` slices whose sizes differ by at most one sample."""
    edges = [samples * i // count for i in range(count + 1)]
    return [slice(a, b) for a, b in pairwise(edges)]


def blocks(s: Array, bytes_per_sample: int, least: int = 1) -> Sequence[slice]:
    """Cut the samples of s (N, ...) into blocks; each takes at most a third of a core's cache.

    ``bytes_per_sample`` is the memory that one sample needs. A block may be larger if it would have fewer than
    ``least`` samples. On a GPU there is one block, because a GPU is fastest with few and large calls.
    """
    if not isinstance(s, np.ndarray):
        return (WHOLE,)
    return _cut(len(s), max(least, cache_of_a_core() // (3 * max(1, bytes_per_sample))))


@lru_cache(maxsize=256)  # the steps of a phase repeat the same call
def _cut(samples: int, most: int) -> Sequence[slice]:
    count = -(-samples // max(1, most))
    return tuple(equal_parts(samples, count)) if count > 1 else (WHOLE,)


def part_of(a: Array, block: slice) -> Array:
    """Return a block of the samples of an array (N, ...), or of None; the array itself if the block is the whole."""
    return a if a is None or block == WHOLE else a[block]


@cache
def cache_of_a_core() -> int:
    """Return the size of a core's second-level cache in bytes; 1 MiB if the system does not report it."""
    try:
        text = system_text("sys/devices/system/cpu/cpu0/cache/index2/size").strip()  # Linux: "2048K"
        return int(text[:-1]) * {"K": 2**10, "M": 2**20}[text[-1]]
    except (ValueError, KeyError, IndexError):
        return 2**20
