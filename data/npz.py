"""Arrays in a .npz file, read without pickle. Sizes are checked before memory is taken.

A .npz file is a zip archive of .npy files: a header with dtype and shape, then the values. A header may lie, and an
archive of a few kilobytes may unpack to any size. So what a header claims must be what the archive says it holds, a
large array must not be compressed beyond what data are, and all arrays together must fit in memory.
"""

from __future__ import annotations

import io
import math
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from eqnp.backends import limits
from eqnp.data.idx import reject_other
from eqnp.errors import DataError
from eqnp.runs.archives import open_zip
from eqnp.runs.storage import open_regular
from eqnp.shown import shown

LONGEST_HEADER = 10_000  # bytes; NumPy's own limit
LARGE = 1 << 28  # bytes in all that may be compressed by any factor
FACTOR = 200  # the largest accepted compression of more bytes; deflate reaches 1030 on zeros


class _Refused(Exception):
    """An array is not read, and why."""


class _Plan(NamedTuple):
    """Where an array is in the archive, and what its header says."""

    info: zipfile.ZipInfo
    start: int  # bytes of the header
    dtype: np.dtype
    shape: tuple[int, ...]
    fortran: bool

    @property
    def size(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def read_npz(
    path: Path, needed: Sequence[str], optional: Sequence[str] = (), what: str = "", most: int | None = None
) -> dict[str, np.ndarray]:
    """Return the ``needed`` arrays of a .npz file, and the ``optional`` ones that it has, by name.

    Accepted are numbers and strings, uncompressed or by deflate, of at most ``most`` bytes together (None: what fits in
    memory). ``what`` the file should be is used in messages.

    Raises:
        DataError: missing or damaged, without one of the ``needed`` arrays, with one of Python objects, or larger than
            it should be or than the memory.
    """
    try:
        with open_regular(path) as file:
            reject_other(path, file.read(80))
            # a damaged header may warn before it fails
            with warnings.catch_warnings(action="ignore"), open_zip(file) as archive:
                plans = _plans(archive, needed, optional)
                size = sum(plan.size for plan in plans.values())
                if most is not None and size > most:
                    raise _Refused(f"its arrays have {size} bytes, more than {most}")
                _require_plausible(plans)
                require_memory(path, size)
                return {name: _read(archive, plan) for name, plan in plans.items()}
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file") from None
    except _Refused as error:
        raise DataError(f"{path}: {error}{f'; it is not {what}' if what else ''}") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None
    except MemoryError:
        raise
    except Exception as error:  # zipfile and NumPy raise anything on damaged bytes
        reason = shown(f"{type(error).__name__}: {error}", 120)
        raise DataError(f"{path}: damaged or not {what or 'a .npz file'} ({reason})") from None


def require_memory(path: Path, size: int) -> None:
    """Check that arrays of ``size`` bytes from ``path`` fit in the available memory.

    Raises:
        DataError: they do not.
    """
    available = limits.memory()
    if available is not None and size > available.value:
        raise DataError(
            f"{path}: its arrays take {size / 1e9:.3g} GB, but only {available.value / 1e9:.3g} GB of memory are "
            f"available ({available.by})"
        )


def _plans(archive: zipfile.ZipFile, needed: Sequence[str], optional: Sequence[str]) -> dict[str, _Plan]:
    members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
    if missing := [name for name in needed if name not in members]:
        has = ", ".join(list(members)[:6]) or "nothing"
        raise _Refused(f"it has no array {missing[0]}; needed are {', '.join(needed)}, it has {has}"[:300])
    return {name: _plan(archive, name, members[name]) for name in (*needed, *optional) if name in members}


def _plan(archive: zipfile.ZipFile, name: str, info: zipfile.ZipInfo) -> _Plan:
    """Return what the header of an array says, if the archive says the same.

    Raises:
        _Refused: they differ, or the array is of a kind or size that is not read.
    """
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise _Refused(f"{name} is compressed in another way than by NumPy")
    with archive.open(info) as file:
        begin = io.BytesIO(file.read(12 + LONGEST_HEADER))
    version = np.lib.format.read_magic(begin)
    if version not in ((1, 0), (2, 0)):
        raise _Refused(f"{name} has version {version} of the .npy format; 1.0 and 2.0 are read")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(begin, LONGEST_HEADER)
    if dtype.hasobject:
        raise _Refused(f"{name} holds Python objects, which are not read; save it as numbers, {name}.astype(...)")
    if dtype.kind == "V":
        raise _Refused(f"{name} holds records ({dtype}); save one array for each of their fields"[:200])
    plan = _Plan(info, begin.tell(), dtype, shape, fortran)
    if min(shape, default=0) < 0 or plan.size != info.file_size - plan.start:
        raise _Refused(
            f"{name} is damaged: its header says {shape} of {dtype}, but {info.file_size - plan.start} bytes follow"
        )
    return plan


def _require_plausible(plans: dict[str, _Plan]) -> None:
    """Check that the arrays together are not compressed beyond what data are.

    Raises:
        _Refused: they are.
    """
    size, packed = sum(plan.size for plan in plans.values()), sum(plan.info.compress_size for plan in plans.values())
    if size > LARGE and size > FACTOR * packed:
        name = max(plans, key=lambda each: plans[each].size)
        raise _Refused(
            f"its arrays would unpack from {packed / 1e6:.3g} MB to {size / 1e9:.3g} GB, mostly {name}; if that is "
            "right, save them by np.savez, uncompressed"
        )


def _read(archive: zipfile.ZipFile, plan: _Plan) -> np.ndarray:
    """Return an array in the machine's byte order."""
    room, done = np.empty(plan.size, np.uint8), 0
    with archive.open(plan.info) as file:
        file.read(plan.start)
        while done < plan.size and (part := file.read(min(plan.size - done, 1 << 20))):
            room[done : done + len(part)] = np.frombuffer(part, np.uint8)
            done += len(part)
        if done < plan.size or file.read(1):  # reading to the end also checks the CRC
            raise _Refused(f"{plan.info.filename} is damaged: {done} of {plan.size} bytes")
    array = np.ndarray(plan.shape, plan.dtype, room.data, order="F" if plan.fortran else "C")
    return np.asarray(array, plan.dtype.newbyteorder("="), order="C")
