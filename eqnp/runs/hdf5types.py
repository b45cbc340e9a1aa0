"""The parts of ``eqnp.runs.plainhdf5`` that know no file: reading bytes in order, shapes, and types of numbers."""

from __future__ import annotations

import struct

import numpy as np


class Cursor:
    """Reads bytes from the first to the last; reading beyond the end is a ``ValueError``."""

    def __init__(self, data: memoryview) -> None:
        self.rest = data

    @property
    def left(self) -> int:
        """The number of bytes that are left."""
        return len(self.rest)

    def part(self, length: int) -> Cursor:
        """Return the next ``length`` bytes as a cursor of their own."""
        if length > len(self.rest):
            raise ValueError("a part of it ends too early")
        part, self.rest = self.rest[:length], self.rest[length:]
        return Cursor(part)

    def uint(self, length: int) -> int:
        """Return the next unsigned number of ``length`` bytes."""
        return int.from_bytes(self.part(length).rest, "little")

    def skip(self, length: int) -> None:
        """Pass over bytes that have no meaning here."""
        self.part(length)

    def drop(self, length: int) -> None:
        """Forget the last bytes."""
        self.rest = self.rest[: len(self.rest) - length]

    def peek(self) -> int:
        """Return the next byte, which stays; 0 at the end."""
        return self.rest[0] if len(self.rest) else 0

    def expect(self, start: bytes, what: str) -> None:
        """Pass over ``start``, with which ``what`` has to begin."""
        if self.part(len(start)).rest != start:
            raise ValueError(f"{what} is unusual")


def shape_of(space: Cursor) -> tuple[int, ...]:
    """Return the shape in a dataspace message."""
    version, rank, flags = space.uint(1), space.uint(1), space.uint(1)
    space.skip(5)
    if version != 1 or rank > 32 or flags > 1:
        raise ValueError("the shape of a dataset is unusual")
    shape = tuple(space.uint(8) for _ in range(rank))
    if flags and shape != tuple(space.uint(8) for _ in range(rank)):  # the largest shape: it could grow
        raise ValueError("the shape of a dataset is unusual")
    return shape


def dtype_of(kind: Cursor) -> np.dtype:
    """Return the NumPy dtype of a datatype message."""
    found = _DTYPES.get(bytes(kind.rest[:144]))
    if found is None or kind.left > 144:
        raise ValueError("a type of data that eqnp never writes")
    return found


def is_text(kind: Cursor) -> bool:
    """Return whether a datatype message means text in UTF-8 of any length."""
    return kind.rest == _TEXT


def _padded(message: bytes) -> bytes:
    return message.ljust(-(-len(message) // 8) * 8, b"\0")


def _integer(dtype: np.dtype) -> bytes:
    order = 1 if dtype.str.startswith(">") else 0
    signed = 8 if dtype.kind == "i" else 0
    return struct.pack("<BBHIHH", 0x10, order | signed, 0, dtype.itemsize, 0, 8 * dtype.itemsize)


def _float(dtype: np.dtype) -> bytes:
    """Return IEEE 754 as HDF5 describes it: where sign, exponent and mantissa are, and the bias of the exponent."""
    order, bits = 0x20 | dtype.str.startswith(">"), 8 * dtype.itemsize
    info = np.finfo(dtype)
    fields = (0, bits, info.nmant, info.nexp, 0, info.nmant, 2 ** (info.nexp - 1) - 1)
    return struct.pack("<BBHIHHBBBBI", 0x11, order, bits - 1, dtype.itemsize, *fields)


def _complex(dtype: np.dtype) -> bytes:
    part = np.dtype(f"{dtype.str[0]}f{dtype.itemsize // 2}")
    members = [
        name.ljust(8, b"\0") + struct.pack("<I", place).ljust(32, b"\0") + _float(part)
        for name, place in ((b"r", 0), (b"i", part.itemsize))
    ]
    return struct.pack("<BHBI", 0x16, 2, 0, dtype.itemsize) + b"".join(members)


def _bool(dtype: np.dtype) -> bytes:
    return struct.pack("<BHBI", 0x18, 2, 0, 1) + _integer(np.dtype("i1")) + b"FALSE\0\0\0TRUE\0\0\0\0\0\1"


_ENCODERS = {"i": _integer, "u": _integer, "f": _float, "c": _complex, "b": _bool}
_KINDS = ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16")
_NAMES = ("?", *(f"{order}{kind}" for order in "<>" for kind in _KINDS))
_DTYPES = {_padded(_ENCODERS[np.dtype(name).kind](np.dtype(name))): np.dtype(name) for name in _NAMES}
_TEXT = _padded(struct.pack("<BBBBI", 0x19, 1, 1, 0, 16) + struct.pack("<BBHIHH", 0x10, 0, 0, 1, 0, 8))
STORED = frozenset(_DTYPES.values())
"""The dtypes of arrays in files."""
