"""Compressed files of strangers: gzip, unpacked up to a limit that is known before.

A gzip file of a megabyte may unpack to a gigabyte, and the sizes that its headers state may be wrong.
"""

from __future__ import annotations

import zlib

CHUNK = 1 << 14
MOST_PARTS = 10_000  # gzip files that follow each other in one file
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
