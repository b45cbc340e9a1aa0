"""A strict reader of the HDF5 that ``eqnp.runs.checkpoint.save`` writes, in pure Python.

libhdf5 trusts its files: one changed byte can make it crash or never return, and a file can make it read other files.
So it never opens a file to read. This reader knows the layout that eqnp writes through h5py, refuses everything else
(other messages, links, types, filters, chunks, data outside the file), and does a bounded amount of work: it reads
every byte at most once, and at most ``MOST_STEPS`` messages, links and texts.

Words of the format: an object (group or dataset) is an object header, a list of messages in one or more chunks. A group
has one link message per member, in its header or, if there are many, in a fractal heap. Text lies in global heaps.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from eqnp.runs.hdf5objects import ATTRIBUTE, ATTRIBUTE_INFO, UNDEFINED, Messages, Objects
from eqnp.runs.hdf5types import Cursor, dtype_of, is_text, shape_of

MOST_LEVELS = 32  # of groups in groups
MOST_NAME = 1000  # bytes of a name
MOST_NAMES = 450_000  # bytes of all names in a group, with about 22 for each: some 10,000 members

_SPACE, _LINK_INFO, _TYPE, _FILL, _LINK, _LAYOUT, _GROUP_INFO = 1, 2, 3, 5, 6, 8, 10
_OF_GROUPS = {_LINK_INFO, _LINK, _GROUP_INFO, ATTRIBUTE, ATTRIBUTE_INFO}
_OF_DATASETS = {_SPACE, _TYPE, _FILL, _LAYOUT, ATTRIBUTE}
_ONCE = {_LINK_INFO, _SPACE, _TYPE, _LAYOUT}
_SCALARS = {"bool": np.dtype("?"), "int": np.dtype("<i8"), "float": np.dtype("<f8")}


class PlainFile(Objects):
    """An HDF5 file in memory, without its user block: ``kind``, and ``content`` as nested dictionaries.

    Raises:
        ValueError: the file is not as eqnp writes it. So do all methods.
    """

    def __init__(self, data: memoryview) -> None:
        super().__init__(data)
        self._root = self.messages(self.root_address())
        attributes = self.attributes(self._root)
        if set(attributes) != {"kind", "eqnp"}:
            raise ValueError("its root lacks the attributes kind and eqnp, or has others")
        self.kind = attributes["kind"]

    def content(self) -> dict[str, Any]:
        """Return the tree of groups, once; leaves are Python values, and arrays that are views of the file's bytes."""
        return self._group(self._root, MOST_LEVELS)

    def _group(self, messages: Messages, levels: int) -> dict[str, Any]:
        if not levels:
            raise ValueError("its groups are nested too deeply")
        _require_kinds(messages, _OF_GROUPS)
        info = next(body for kind, body in messages if kind == _LINK_INFO)
        links = [_link(body) for kind, body in messages if kind == _LINK]
        info.expect(b"\0\x03", "a group")  # the order of its members is recorded
        info.skip(8)
        heap = info.uint(8)
        if heap != UNDEFINED:
            links += self._heap(heap)
        links.sort()
        result = {}
        for _, name, address in links:
            if name in result or name in ("", ".") or "/" in name or "\0" in name:
                raise ValueError("a name is unusual")
            result[name] = self._item(self.messages(address), levels - 1)
        return result

    def _item(self, messages: Messages, levels: int) -> Any:
        if any(kind == _LAYOUT for kind, _ in messages):
            return self._dataset(messages)
        if self.attributes(messages):
            raise ValueError("a group has attributes")
        return self._group(messages, levels)

    def _heap(self, address: int) -> Iterator[tuple[int, str, int]]:
        """Yield the links in a fractal heap. eqnp only adds links, so each block is filled from its beginning."""
        head = self.take(address, 146)
        head.expect(b"FRHP\0" + b"\x07\0" + b"\0\0", "a heap")  # length of an ID; no filters
        checked = head.uint(1) & 2
        head.skip(4 + 7 * 8)
        managed, huge, tiny = head.uint(8), (head.uint(8), head.uint(8)), (head.uint(8), head.uint(8))
        width, start, largest, bits = head.uint(2), head.uint(8), head.uint(8), head.uint(2)
        head.skip(2)
        block, rows = head.uint(8), head.uint(2)
        if any(huge + tiny) or not (0 < width <= 64 and 512 <= start <= largest <= 2**20 and bits <= 64):
            raise ValueError("a heap is unusual")
        place = 13 + -(-bits // 8)  # of the first child or link in a block: after sign, version, header, offset
        blocks = [(block, start)]
        if rows:
            sizes = [size for row in range(min(rows, 64)) for size in [start << max(row - 1, 0)] * width]
            root = self.take(block, place + 8 * len(sizes))
            root.expect(b"FHIB\0", "a heap")
            root.skip(place - 5)
            blocks = [(root.uint(8), size) for size in sizes]
        for block, size in blocks:
            if block != UNDEFINED and size > largest:  # of further lists of blocks
                raise ValueError("a group has more members than eqnp writes")
            if block != UNDEFINED and managed:
                part = self.take(block, size)
                part.expect(b"FHDB\0", "a heap")
                part.skip(place - 5 + (4 if checked else 0))
                while managed and part.peek() == 1:
                    self.step()
                    yield _link(part)
                    managed -= 1
        if managed:
            raise ValueError("a heap lacks members")

    def _dataset(self, messages: Messages) -> Any:
        _require_kinds(messages, _OF_DATASETS)
        parts = dict(messages)
        attributes, shape = self.attributes(messages), shape_of(parts[_SPACE])
        python = attributes.pop("python", None)
        if attributes:
            raise ValueError("a dataset has unknown attributes")
        data, text = self._stored(parts[_LAYOUT]), is_text(parts[_TYPE])
        dtype = np.dtype("V16") if text else dtype_of(parts[_TYPE])
        if data.left != math.prod(shape) * dtype.itemsize:
            raise ValueError("the size of a dataset is not that of its shape and type")
        if text:
            if shape != ():
                raise ValueError("an array of text")
            return _as_python(python, self.text(data))
        array = np.frombuffer(data.rest, dtype).reshape(shape)
        if dtype.kind == "b" and array.view(np.uint8).max(initial=0) > 1:
            raise ValueError("a truth value is neither true nor false")
        return array if python is None else _as_python(python, array)

    def _stored(self, layout: Cursor) -> Cursor:
        """Return the bytes of a dataset, which lie in one piece in this file."""
        layout.expect(b"\x03\x01", "the layout of a dataset (chunks, filters, or data elsewhere)")
        address, size = layout.uint(8), layout.uint(8)
        return self.take(0 if address == UNDEFINED and not size else address, size)


def _require_kinds(messages: Messages, known: set[int]) -> None:
    """Check that all messages are known, and that none lacks or is there twice that should be there once."""
    kinds = [kind for kind, _ in messages]
    if unknown := set(kinds) - known:
        raise ValueError(f"an object has message {min(unknown)}, which eqnp never writes")
    if any(kinds.count(kind) != 1 for kind in known & _ONCE):
        raise ValueError("an object lacks a message, or has it twice")


def _link(body: Cursor) -> tuple[int, str, int]:
    """Return creation order, name and address of a link in its group."""
    version, flags = body.uint(1), body.uint(1)
    if version != 1 or not flags & 4 or flags & 0xE0:
        raise ValueError("a link is unusual")
    kind = body.uint(1) if flags & 8 else 0
    order = body.uint(8)
    if flags & 16:
        body.skip(1)  # ASCII or UTF-8
    size = 1 << (flags & 3)
    name = str(body.part(body.uint(size)).rest, "utf-8")
    if kind:
        raise ValueError(f"{name} is a link")
    return order, name, body.uint(8)


def _as_python(python: str | None, value: Any) -> Any:
    """Return a dataset as the Python value that its attribute says it is."""
    if isinstance(value, str):
        if python == "int":
            return int(value)
        if python == "str":
            return value
    elif python == "str" and value.dtype == np.uint8 and value.ndim == 1:
        return value.tobytes().decode("utf-8", "surrogatepass")
    elif python in _SCALARS and value.ndim == 0 and value.dtype == _SCALARS[python]:
        return value.item()
    raise ValueError("a value has not the type that it claims")
