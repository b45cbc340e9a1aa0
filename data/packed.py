"""Compressed files of strangers: gzip and npz, unpacked up to a limit that is known before.

A gzip file of a megabyte may unpack to a gigabyte, and the sizes that its headers state may be wrong. No pickles.
"""

from __future__ import annotations

import io
import math
import warnings
import zipfile
import zlib
from collections.abc import Iterable

import numpy as np
from numpy.lib import format as npy

CHUNK = 1 << 14
MOST_PARTS = 10_000  # gzip files that follow each other in one file
MOST_MEMBERS = 1000  # of an archive
_GZIP = 16 + zlib.MAX_WBITS  # makes zlib read the header of gzip


class DamagedError(Exception):
    """The bytes are not what they should be, or would unpack to more than the limit: why, in a few words."""


def gunzip(data: bytes, most: int) -> bytes:
    """Return the unpacked content of a gzip file, at most ``most`` bytes.

    Raises:
        DamagedError: it is damaged, truncated, or unpacks to more.
    """
    pieces, room, place, parts, unpacker = [], most, 0, 0, None
    while place < len(data):
        if unpacker is None:
            parts, unpacker = parts + 1, zlib.decompressobj(_GZIP)
            if parts > MOST_PARTS:
                raise DamagedError(f"it has more than {MOST_PARTS} parts")
        chunk = data[place : place + CHUNK]
        piece = _unpacked(unpacker, chunk, room + 1)
        place += len(chunk) - len(unpacker.unused_data) - len(unpacker.unconsumed_tail)
        room -= len(piece)
        if room < 0:
            raise DamagedError(f"it unpacks to more than {most} bytes")
        pieces.append(piece)
        if unpacker.eof:
            unpacker = None
            place += _zeros(data, place)
    if unpacker is not None or not parts:
        raise DamagedError("it ends early")
    return b"".join(pieces)


def begin_of_gzip(data: bytes, count: int) -> bytes:
    """Return the first ``count`` unpacked bytes of a gzip file that begins with ``data``; none if it is damaged."""
    try:
        return _unpacked(zlib.decompressobj(_GZIP), data, count)
    except DamagedError:
        return b""


def _unpacked(unpacker: zlib._Decompress, chunk: bytes, most: int) -> bytes:
    try:
        return unpacker.decompress(chunk, most)
    except zlib.error as error:
        raise DamagedError(str(error)) from None


def _zeros(data: bytes, place: int) -> int:
    """Return how many bytes from ``place`` are zero, with which some programs fill up a gzip file."""
    if data[place : place + 1] != b"\0":
        return 0
    return len(data) - place - len(data[place:].lstrip(b"\0"))


def read_npz(data: bytes, names: Iterable[str], most: int) -> list[np.ndarray]:
    """Return the arrays called ``names`` in a .npz file, together at most ``most`` bytes; none holds objects.

    Raises:
        DamagedError: not such a file, an array is missing, or they are larger.
    """
    if data.count(b"PK\x01\x02") > MOST_MEMBERS:  # of its directory; each costs half a kilobyte when it is opened
        raise DamagedError(f"it has more than {MOST_MEMBERS} members")
    arrays = []
    try:
        with warnings.catch_warnings(action="ignore"), zipfile.ZipFile(io.BytesIO(data)) as archive:
            for name in names:
                array = _read_npy(archive, f"{name}.npy", most)
                most -= array.nbytes
                arrays.append(array)
    except (DamagedError, MemoryError):
        raise
    except Exception as error:  # zipfile and NumPy raise anything on damaged bytes
        raise DamagedError(f"{type(error).__name__}: {error}") from None
    return arrays


def _read_npy(archive: zipfile.ZipFile, name: str, most: int) -> np.ndarray:
    """Return one array. Its header is read before the memory for its values is taken."""
    try:
        member = archive.getinfo(name)
    except KeyError:
        raise DamagedError(f"it has no {name}") from None
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # others cannot be unpacked in pieces
        raise DamagedError(f"{name} is compressed in a way that NumPy does not write")
    with archive.open(member) as file:
        read_header = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(npy.read_magic(file))
        if read_header is None:
            raise DamagedError(f"{name} is of an unknown version")
        shape, in_columns, dtype = read_header(file)
        if dtype.hasobject:
            raise DamagedError(f"{name} holds objects, which are pickles")
        size = math.prod(shape) * dtype.itemsize
        if size > most:
            raise DamagedError(f"{name} is larger than expected: {dtype} {shape}"[:120])
        if file.tell() + size != member.file_size or len(values := file.read(size)) != size or file.read(1):
            raise DamagedError(f"{name} does not have the size of its shape")
    array = np.frombuffer(values, dtype) if size else np.empty(0, dtype)
    return array.reshape(shape, order="F" if in_columns else "C")
