"""Checkpoints: nested dictionaries of arrays and Python scalars as HDF5 files with a checksum.

A file is a user block of 512 bytes, then HDF5. The user block holds, little-endian: the magic (8 bytes), the format
version (4), the length of the rest (8), the SHA-256 of the rest (32), zeros. Dictionaries are groups, arrays are
datasets, and Python scalars are scalar datasets whose attribute ``python`` names their type.

h5py writes the HDF5. ``eqnp.runs.plainhdf5`` reads it, since a checksum is no signature: whoever made the file can make
it right, and libhdf5 is not safe on files that were made to harm.
"""

from __future__ import annotations

import hashlib
import io
import os
import struct
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from eqnp import __version__
from eqnp.errors import BackendError, CheckpointError
from eqnp.runs.hdf5objects import BASE
from eqnp.runs.hdf5types import STORED
from eqnp.runs.plainhdf5 import MOST_LEVELS, MOST_NAME, MOST_NAMES, PlainFile
from eqnp.runs.storage import open_regular, write_atomic
from eqnp.shown import quoted, shown

MAGIC = b"eqnp\r\n\x1a\n"  # line ends and the end-of-text sign reveal a copy in text mode
FORMAT = 1
BLOCK = BASE
_FIELDS = struct.Struct("<8sIQ32s")
_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"


def save(path: str | Path, content: Mapping[str, Any], *, kind: str, follow: bool = True) -> None:
    """Write ``content`` to ``path``: nested dictionaries of NumPy arrays of any shape, str, int, float and bool.

    ``load`` needs the same ``kind``. Equal contents give equal bytes. Keys may not be empty, ``.`` or contain ``/`` or
    NUL. A symbolic link at ``path`` stays and its target is replaced; without ``follow`` the link is replaced.

    Raises:
        TypeError: a leaf has another type (copy an array from a GPU to the host first).
        ValueError: a key cannot be a name in HDF5, or dictionaries are nested too deeply.
        DiskError: the file cannot be written; an older file at ``path`` is unchanged.
        BackendError: this version of h5py writes a layout that ``load`` does not know.
    """
    buffer = io.BytesIO()  # in memory, since HDF5 itself can crash on a full disk
    with h5py.File(buffer, "w", userblock_size=BLOCK, track_order=True, libver="earliest") as file:
        file.attrs["kind"] = kind
        file.attrs["eqnp"] = __version__
        _write(file, content, "", MOST_LEVELS)
    with buffer.getbuffer() as data:
        _require_readable(data[BLOCK:], content)
        data[:BLOCK] = _user_block(data[BLOCK:])
        write_atomic(path, data, follow=follow)


def load(path: str | Path, *, kind: str, most: int | None = None) -> dict[str, Any]:
    """Return the content that ``save`` wrote with the same ``kind``, bitwise: types, dtypes and shapes included.

    A file of more than ``most`` bytes is refused before it is read.

    Raises:
        CheckpointError: the file is missing, damaged, not from eqnp, of a newer format or of another kind.
    """
    path = Path(path)
    data = _read_checked(path, most)
    try:
        file = PlainFile(memoryview(data)[BLOCK:])
        content = _copied(file.content()) if file.kind == kind else {}
    except (ValueError, ArithmeticError) as error:
        reason = shown(str(error), 200)
        raise _error(path, f"its checksum is right, but its HDF5 cannot be read ({reason})") from error
    if file.kind != kind:
        found = shown(file.kind, 60)
        raise CheckpointError(f"{path}: holds {found}, but {kind} is needed; give a file that holds {kind}")
    return content


def restore_into(template: Mapping[str, Any], loaded: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """Return ``loaded`` in the order of ``template``; names, types, shapes and dtypes have to be equal.

    Raises:
        CheckpointError: they differ; the message names the first difference.
    """
    result = {}
    for key, expected in template.items():
        name = f"{where}{key}"
        if key not in loaded:
            raise _difference(name, "is not in the checkpoint")
        actual = loaded[key]
        if _describe(actual) != _describe(expected):
            raise _difference(name, f"is {_describe(actual)} in the checkpoint, but {_describe(expected)} is needed")
        result[key] = restore_into(expected, actual, f"{name}.") if isinstance(expected, Mapping) else actual
    for key in loaded:
        if key not in template:
            raise _difference(f"{where}{key}", "is in the checkpoint, but not in this configuration")
    return result


def integers(values: Iterable[int]) -> np.ndarray:
    """Return whole numbers as an int64 array (N,), the type in files on every platform."""
    return np.fromiter(values, np.int64)


def _difference(name: str, what: str) -> CheckpointError:
    return CheckpointError(f"{name} {what}; use the configuration of the run that wrote the checkpoint")


def _describe(value: Any) -> str:
    """Return what has to be equal between a value and its template, as text."""
    if isinstance(value, Mapping):
        return "a group"
    if hasattr(value, "dtype") and hasattr(value, "shape") and not isinstance(value, float):
        return f"an array {tuple(value.shape)} of {value.dtype}"
    for python in (bool, int, float, str):  # bool is an int, too
        if isinstance(value, python):
            return f"one {python.__name__}"
    return f"one {type(value).__name__}"


# ---- content to HDF5 and back


def _write(group: h5py.Group, content: Mapping[str, Any], where: str, levels: int) -> None:
    if not levels:
        raise ValueError(f"{where[:60]}: dictionaries are nested deeper than {MOST_LEVELS} levels")
    if sum(len(str(key).encode(errors="replace")) + 22 for key in content) > MOST_NAMES:
        raise ValueError(f"{where[:60]}: {len(content)} keys are too many for one dictionary")
    for key, value in content.items():
        name = f"{where}{key}"
        if not isinstance(key, str):
            raise TypeError(f"{name}: keys must be str, not {type(key).__name__}")
        if key in ("", ".") or "/" in key or "\0" in key:
            raise ValueError(f"{name!r}: a key may not be empty, '.' or contain '/' or NUL")
        if len(key.encode(errors="replace")) > MOST_NAME:
            raise ValueError(f"{name[:60]}...: a key may have {MOST_NAME} bytes at most")
        if isinstance(value, Mapping):
            _write(group.create_group(key, track_order=True), value, f"{name}.", levels - 1)
        else:
            _write_leaf(group, key, value, name)


def _write_leaf(group: h5py.Group, key: str, value: Any, name: str) -> None:
    if isinstance(value, np.ndarray) and value.dtype in STORED:
        group.create_dataset(key, data=value, track_times=False)
        return
    for python, stored in _STORED:
        if isinstance(value, python):
            dataset = group.create_dataset(key, data=stored(value), track_times=False)
            dataset.attrs["python"] = python.__name__
            return
    kind = f"an array of {value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__
    raise TypeError(f"{name}: cannot save {kind}; convert it to a NumPy array of numbers, str, int, float or bool")


def _stored_int(value: int) -> np.int64 | str:
    return np.int64(value) if -(2**63) <= value < 2**63 else str(value)  # a generator's state has 128 bits


def _stored_str(value: str) -> str | np.ndarray:
    """Return text as an HDF5 string in UTF-8, or as bytes if it has what these cannot hold (NUL, lone surrogates)."""
    data = value.encode("utf-8", "surrogatepass")
    plain = b"\0" not in data and data.decode("utf-8", "replace") == value
    return str(value) if plain else np.frombuffer(data, np.uint8)


_STORED: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (bool, np.bool_),  # before int, which it is too
    (int, _stored_int),
    (float, np.float64),
    (str, _stored_str),
)


def _require_readable(hdf5: memoryview, content: Mapping[str, Any]) -> None:
    """Check before a file gets its name that ``load`` will read it: other versions of h5py may write otherwise."""
    try:
        restore_into(content, PlainFile(hdf5).content())
    except (ValueError, CheckpointError) as error:
        raise BackendError(
            f"h5py {h5py.__version__} (HDF5 {h5py.version.hdf5_version}) writes checkpoints that eqnp {__version__} "
            f"cannot read back ({error}); nothing was written; install another version of h5py"
        ) from error


def _copied(tree: Any) -> Any:
    """Return the tree with arrays of its own, so that the bytes of the file can be freed."""
    if isinstance(tree, dict):
        return {key: _copied(value) for key, value in tree.items()}
    return tree.copy() if isinstance(tree, np.ndarray) else tree


# ---- the user block


def _user_block(rest: bytes | memoryview) -> bytes:
    digest = hashlib.sha256(rest).digest()
    return _FIELDS.pack(MAGIC, FORMAT, len(rest), digest).ljust(BLOCK, b"\0")


def _read_checked(path: Path, most: int | None) -> bytes:
    """Return all bytes of a file, checked against its user block."""
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            _check_start(path, file.read(BLOCK), size)
            if most is not None and size > most:
                raise _error(path, f"has {size} bytes, far more than this network needs")
            file.seek(0)
            data = file.read(size)
    except FileNotFoundError:
        raise _error(path, "there is no such file") from None
    except IsADirectoryError:
        raise _error(path, "is a folder, not a checkpoint") from None
    except OSError as error:
        raise _error(path, f"cannot be read ({error.strerror or error})") from error
    if data[:BLOCK] != _user_block(memoryview(data)[BLOCK:]):
        raise _error(path, "is damaged (its checksum is wrong)")
    return data


def _check_start(path: Path, start: bytes, size: int) -> None:
    """Raise, before the rest is read, if the file is not a checkpoint or has another length than it should."""
    if not start:
        raise _error(path, "is empty")
    if not start.startswith(MAGIC):
        if start.startswith(_HDF5_MAGIC):
            raise _error(path, "is HDF5, but not written by eqnp")
        raise _error(path, "is not a checkpoint of eqnp, or its beginning is damaged")
    if len(start) < BLOCK:
        raise _error(path, f"is truncated after {size} bytes")
    _, version, length, _ = _FIELDS.unpack_from(start)
    if version > FORMAT:
        raise CheckpointError(f"{path}: has format {version}, eqnp {__version__} reads {FORMAT}; use a newer eqnp")
    if size != BLOCK + length:
        raise _error(path, f"is damaged (it has {size} bytes instead of {BLOCK + length})")


def _error(path: Path, what: str) -> CheckpointError:
    return CheckpointError(f"{path}: {what}; {_advice(path)}")


def _advice(path: Path) -> str:
    """Return what to do instead. A run has two checkpoints, and either can replace the other."""
    best, last = path.with_name("best.h5"), path.with_name("last.h5")
    saved = any(map(os.path.lexists, (best, last, path.with_name("metrics.csv"))))
    if path.name in (best.name, last.name) and not saved and os.path.isfile(path.with_name("config.toml")):
        return f"nothing of this run was saved yet; `eqnp train --resume {quoted(path.parent)}` starts it"
    if path.name == last.name and os.path.isfile(best):
        return f"copy {best.name} to {last.name} to continue from the best epoch, or start a new run"
    if path.name == best.name and os.path.isfile(last):
        return f"use {last.name} (--checkpoint last)"
    if path.name == last.name:
        return "restore a copy, or start a new run"
    return "give another file, restore a copy or make it again"
