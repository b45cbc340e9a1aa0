"""The IDX format of MNIST and Fashion-MNIST, plain or compressed by gzip.

An IDX file is: two zero bytes, a type byte (8: uint8), the number of dimensions, each size as a big-endian 32-bit
integer, then the values. The first bytes, not the name, tell whether it is compressed.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Protocol

import numpy as np

from eqnp.data.packed import DamagedError, gunzip
from eqnp.errors import DataError
from eqnp.runs.storage import read_bounded, read_error

UINT8 = 8
LARGEST = 1 << 30  # bytes of a dataset file whose size is not known, and of what it unpacks to
GZIP = b"\x1f\x8b"  # first bytes of a gzip file
_NOT_DATA = {
    b"<!doctype": "a web page, not data (from a server or a log-in page instead of the file)",
    b"<html": "a web page, not data (from a server or a log-in page instead of the file)",
    b"<?xml": "XML, not data (probably the error message of a server)",
    b"version https://git-lfs": "a Git LFS pointer, not the file itself (run `git lfs pull` in its repository)",
}  # first bytes of files that are saved by mistake instead of a dataset


class Readable(Protocol):
    """A path, or a file in a package."""

    def read_bytes(self) -> bytes:
        """Return the whole file."""


def read_idx(path: Readable, most: int = LARGEST) -> np.ndarray:
    """Return the uint8 array in an IDX file, in the shape of its header: images (N, H, W), labels (N,).

    Raises:
        DataError: missing, not IDX, shorter or longer than its header says, or larger than ``most`` bytes.
    """
    data = read_file(path, most)
    if data[:2] == GZIP:
        try:
            data = gunzip(data, most)
        except DamagedError as error:
            raise DataError(f"{path}: damaged or truncated gzip ({error})") from None
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] != UINT8 or not 1 <= data[3] <= 4:
        raise DataError(f"{path}: not an IDX file of bytes")
    start = 4 + 4 * data[3]
    if len(data) < start:
        raise DataError(f"{path}: truncated: its header is cut short")
    shape = struct.unpack(f">{data[3]}I", data[4:start])
    expected = math.prod(shape)
    if len(data) - start != expected:
        what = "truncated" if len(data) - start < expected else "too long"
        raise DataError(f"{path}: {what}: {len(data) - start} bytes where its header says {expected}")
    if not expected:
        raise DataError(f"{path}: its header gives the shape {shape}, which holds no values")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def read_file(path: Readable, most: int = LARGEST) -> bytes:
    """Return the bytes of a file, which are at most ``most``.

    Raises:
        DataError: it cannot be read, is not a regular file, is larger, or is a web page instead of data.
        DiskError: the system cannot read it.
    """
    try:
        data = read_bounded(path, most) if isinstance(path, Path) else path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file") from None
    except OSError as error:
        raise read_error(str(path), error) or DataError(f"{path}: cannot be read ({error.strerror})") from None
    reject_other(path, data[:80])
    return data


def reject_other(path: Readable | Path, begin: bytes) -> None:
    """Check that a file that begins so is not a web page, XML or a Git LFS pointer instead of data.

    Raises:
        DataError: it is.
    """
    begin = begin.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    for sign, what in _NOT_DATA.items():
        if begin.startswith(sign):
            raise DataError(f"{path}: is {what}")
