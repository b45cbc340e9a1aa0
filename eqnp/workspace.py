"""Named buffers that are made once and used again, so that a loop of many equal steps allocates nothing."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from eqnp.backend import Array, array_module


class Workspace:
    """Scratch arrays by name. What ``take`` returns holds whatever the last user of that name left in it.

    A workspace belongs to one thread and one prepared network; functions of ``eqnp.ops`` that are given none make one
    of their own, which is the plain allocating form.
    """

    def __init__(self) -> None:
        self._buffers: dict[Hashable, Array] = {}

    def take(self, name: Hashable, shape: tuple[int, ...], like: Array, dtype: Any = None) -> Array:
        """Return an uninitialised array of ``shape`` in the module and dtype of ``like``."""
        return self._reuse(name, shape, like, dtype, "empty")

    def take_zeros(self, name: Hashable, shape: tuple[int, ...], like: Array) -> Array:
        """Return an array that was zero when it was made; its user keeps zero what must be (a padding's border)."""
        return self._reuse(name, shape, like, None, "zeros")

    def _reuse(self, name: Hashable, shape: tuple[int, ...], like: Array, dtype: Any, make: str) -> Array:
        dtype = like.dtype if dtype is None else dtype
        buffer = self._buffers.get(name)
        if buffer is None or buffer.shape != shape or buffer.dtype != dtype:
            buffer = getattr(array_module(like), make)(shape, dtype=dtype)
            self._buffers[name] = buffer
        return buffer
