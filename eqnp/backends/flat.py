"""Named arrays as one flat buffer, and trees of numbers, texts and arrays as bytes: what processes exchange."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from eqnp.backends.backend import Array

_ARRAY = "\0array"  # in place of an array in a tree: its dtype and shape


class Layout:
    """Where each of some named arrays of one dtype is in a flat array of ``size`` entries."""

    def __init__(self, like: Mapping[str, Array]) -> None:
        self.shapes = {name: a.shape for name, a in like.items()}
        (self.dtype,) = {np.dtype(a.dtype) for a in like.values()}
        self.size = sum(map(math.prod, self.shapes.values()))

    def write(self, arrays: Mapping[str, Array], flat: Array) -> None:
        """Copy the arrays to ``flat`` (size,), of the same backend."""
        for name, part in self.read(flat).items():
            part[...] = arrays[name]

    def read(self, flat: Array) -> dict[str, Array]:
        """Return the arrays in ``flat`` (size,), by name, as views."""
        views, first = {}, 0
        for name, shape in self.shapes.items():
            last = first + math.prod(shape)
            views[name] = flat[first:last].reshape(shape)
            first = last
        return views


def padded(size: int) -> int:
    """Return ``size`` bytes rounded up, so that what follows is aligned for every dtype."""
    return -(-size // 8) * 8


def to_bytes(tree: Any) -> bytes:
    """Return nested dictionaries of texts, numbers and host arrays as bytes, without loss."""
    arrays: list[np.ndarray] = []
    text = json.dumps(_without_arrays(tree, arrays)).encode()
    return b"".join([len(text).to_bytes(8, "little"), text, *(a.tobytes() for a in arrays)])


def from_bytes(content: bytes) -> Any:
    """Return the tree of which ``to_bytes`` made ``content``."""
    first = 8 + int.from_bytes(content[:8], "little")

    def restored(node: Any) -> Any:
        nonlocal first
        if not isinstance(node, dict):
            return node
        if _ARRAY not in node:
            return {name: restored(value) for name, value in node.items()}
        dtype, shape = np.dtype(node[_ARRAY][0]), tuple(node[_ARRAY][1])
        array = np.frombuffer(content, dtype, math.prod(shape), first).reshape(shape).copy()
        first += array.nbytes
        return array

    return restored(json.loads(content[8:first]))


def _without_arrays(node: Any, arrays: list[np.ndarray]) -> Any:
    """Return a tree as JSON has it; its arrays are appended to ``arrays``."""
    if isinstance(node, Mapping):
        return {name: _without_arrays(value, arrays) for name, value in node.items()}
    if isinstance(node, np.generic):
        return node.item()
    if not isinstance(node, np.ndarray):
        return node
    arrays.append(node)
    return {_ARRAY: [node.dtype.str, node.shape]}
