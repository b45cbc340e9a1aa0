"""Named buffers that are allocated once and used again, so that the steps of a phase allocate nothing."""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import Any

from eqnp.backends.backend import Array, array_module


class Workspace:
    """Buffers by name. An array from ``take`` is uninitialised: it holds the values of its last use.

    A workspace belongs to one thread and one prepared network. A function of ``eqnp.ops`` that is called without a
    workspace allocates new arrays.
    """

    def __init__(self, scratch: Workspace | None = None) -> None:
        self._scratch = scratch
        self._buffers: dict[Hashable, Array] = {}
        self._views: dict[tuple[Hashable, tuple[int, ...]], Array] = {}

    @property
    def scratch(self) -> Workspace:
        """The workspace for arrays that are needed for one block of samples only; a network's workspaces share it."""
        return self._scratch or self  # not stored: a cycle of references would keep the buffers in memory

    def take(self, name: Hashable, shape: tuple[int, ...], like: Array, dtype: Any = None) -> Array:
        """Return an uninitialised array of ``shape`` with the module of ``like``, and its dtype unless one is given.

        All arrays of a name share one buffer of the largest size, so blocks of different sizes do not allocate.
        """
        dtype = like.dtype if dtype is None else dtype
        view = self._views.get((name, shape))
        if view is not None and view.dtype == dtype:
            return view
        size, buffer = math.prod(shape), self._buffers.get(name)
        if buffer is None or buffer.size < size or buffer.dtype != dtype:
            buffer = self._buffers[name] = array_module(like).empty(size, dtype=dtype)
            self._views = {key: view for key, view in self._views.items() if key[0] != name}  # of the smaller buffer
        view = self._views[name, shape] = buffer[:size].reshape(shape)
        return view

    def take_zeros(self, name: Hashable, shape: tuple[int, ...], like: Array) -> Array:
        """Return an array of ``shape`` that was zero when it was allocated.

        The caller must not write where zeros are needed, such as the border of a padded image. Each shape has its own
        buffer, because the border of one shape lies in the interior of another.
        """
        key = (name, shape, like.dtype)
        buffer = self._buffers.get(key)
        if buffer is None:
            buffer = self._buffers[key] = array_module(like).zeros(shape, dtype=like.dtype)
        return buffer
