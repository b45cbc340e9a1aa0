"""The sum of gradients between GPUs by NCCL, one process a GPU, in the order of the shards.

NCCL's own sum adds in an order that depends on the number of GPUs. So the gradients are gathered, and every GPU adds
them from the first to the last.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from eqnp.backends.backend import Array, Backend
from eqnp.backends.flat import Layout


class Devices:
    """The GPUs of all processes. ``key`` is what ``Devices.key`` gave on process 0.

    ``calls`` and ``received`` count exchanges, and the bytes that came in.
    """

    def __init__(self, backend: Backend, size: int, rank: int, key: Mapping[str, Any]) -> None:
        self._xp, self._nccl, self._rank = backend.xp, _nccl(backend), rank
        found = key["key"].tolist()
        self._comm = self._nccl.NcclCommunicator(size, bytes(found) if key["is_bytes"] else tuple(found), rank)
        self.size, self.calls, self.received = size, 0, 0
        self._types = {np.dtype(np.float32): self._nccl.NCCL_FLOAT32, np.dtype(np.float64): self._nccl.NCCL_FLOAT64}

    @staticmethod
    def missing(backend: Backend) -> str:
        """Return why NCCL cannot be used with this backend; "" if it can."""
        if getattr(_nccl(backend), "available", False):
            return ""
        cuda = backend.xp.cuda.runtime.runtimeGetVersion() // 1000
        return f"CuPy finds no NCCL (pip install nvidia-nccl-cu{cuda})"

    @staticmethod
    def place(backend: Backend) -> str:
        """Return which GPU of its host the backend computes on, by its address on the bus."""
        cuda = backend.xp.cuda
        return str(cuda.runtime.deviceGetPCIBusId(cuda.Device().id))

    @staticmethod
    def key(backend: Backend) -> dict[str, Any]:
        """Return what all processes need to find each other."""
        key = _nccl(backend).get_unique_id()  # bytes; a tuple of numbers before CuPy 14
        return {"key": np.array(list(key), np.int64), "is_bytes": isinstance(key, bytes)}

    def sum(
        self,
        own: Sequence[dict[str, Array]],
        layout: Layout,
        terms: Sequence[int],
        wait: Callable[[Callable[[], bool]], None],
    ) -> dict[str, Array]:
        """Return the sum of the gradients of all processes, of which each has ``terms``, added in their order.

        ``wait`` waits until a function returns true. No host memory is involved.
        """
        most, xp = max(terms), self._xp  # every process sends equally many
        everything = xp.empty((self.size, most, layout.size), layout.dtype)
        mine = everything[self._rank]
        for k, gradient in enumerate(own):
            layout.write(gradient, mine[k])
        stream, done = xp.cuda.get_current_stream(), xp.cuda.Event()
        count, kind = most * layout.size, self._types[layout.dtype]
        # After the kernels above, on their stream; NCCL takes the place of its own part in the result as the source.
        self._comm.allGather(mine.data.ptr, everything.data.ptr, count, kind, stream.ptr)
        done.record(stream)
        wait(lambda: bool(done.done))
        self.calls, self.received = self.calls + 1, self.received + (self.size - 1) * count * layout.dtype.itemsize
        order = [(rank, k) for rank, each in enumerate(terms) for k in range(each)]
        total = everything[order[0]].copy()
        for place in order[1:]:
            total += everything[place]
        return layout.read(total)


def _nccl(backend: Backend) -> Any:
    """Return CuPy's module for NCCL, which is no part of ``import cupy``; None if it cannot be imported."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # CuPy warns if the library is missing
        try:
            return importlib.import_module(f"{backend.xp.__name__}.cuda.nccl")
        except ImportError:
            return None
