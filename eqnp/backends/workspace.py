"""Named buffers that are made once and used again, so that a loop of many equal steps allocates nothing."""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import Any

from eqnp.backends.backend import Array, array_module


class Workspace:
    """Scratch arrays by name. What ``take`` returns holds whatever the last user of that name left in it.

    A workspace belongs to one thread and one prepared network; functions of ``eqnp.ops`` that are given none make one
    of their own, which is the plain allocating form.
    """

    def __init__(self, scratch: Workspace | None = None) -> None:
        self._scratch = scratch
        self._buffers: dict[Hashable, Array] = {}
        self._views: dict[Hashable, Array] = {}

    @property
    def scratch(self) -> Workspace:
        """For what nobody needs after one block of samples: workspaces of one network share theirs."""
        return self._scratch or self  # a reference to itself would keep the buffers until Python looks for cycles

    def take(self, name: Hashable, shape: tuple[int, ...], like: Array, dtype: Any = None) -> Array:
        """Return an uninitialised array of ``shape`` in the module and dtype of ``like``, in what the name had before.

        So blocks of several sizes share one buffer, the largest one's.
        """
        dtype = like.dtype if dtype is None else dtype
        view = self._views.get(name)
        if view is not None and view.shape == shape and view.dtype == dtype:
            return view
        size, buffer = math.prod(shape), self._buffers.get(name)
        if buffer is None or buffer.size < size or buffer.dtype != dtype:
            buffer = self._buffers[name] = array_module(like).empty(size, dtype=dtype)
        view = self._views[name] = buffer[:size].reshape(shape)
        return view

    def take_zeros(self, name: Hashable, shape: tuple[int, ...], like: Array) -> Array:
        """Return an array that was zero when it was made; its user keeps zero what must be (a padding's border).

        Every shape has its own: a border of one is the inside of another.
        """
        key = (name, shape, like.dtype)
        buffer = self._buffers.get(key)
        if buffer is None:
            buffer = self._buffers[key] = array_module(like).zeros(shape, dtype=like.dtype)
        return buffer
