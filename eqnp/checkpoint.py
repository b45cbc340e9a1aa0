"""Checkpoints: nested dictionaries in HDF5, sealed so that damage is noticed.

The file begins with a 512-byte HDF5 user block: magic, format version, length and SHA-256 of everything after it. It is
checked before HDF5 parses anything, because HDF5 itself opens many damaged files and returns other numbers. Behind the
block is plain HDF5, which h5py and HDFView open as they open any file. The bytes are built in memory and written
by ``storage.write_atomic``, because HDF5 on a full disk can end the process.
"""

from __future__ import annotations

import hashlib
import io
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from eqnp.errors import CheckpointError
from eqnp.storage import write_atomic

MAGIC = b"eqnp checkpoint\n"
VERSION = 1
BLOCK = 512
_HEADER = struct.Struct("<16sIQ32s")  # magic, format version, length of the rest, SHA-256 of the rest
_ADVICE = "use the run's other checkpoint, or train again"


def save(path: Path, content: Mapping[str, Any], *, kind: str) -> None:
    """Write nested dictionaries of NumPy arrays, numbers and strings to ``path``, atomically.

    Names must not hold ``/``. ``kind`` says what the file is for and is asked for again by ``load``.

    Raises:
        DiskError: the disk did not take it; what was at ``path`` is still there.
        TypeError: a leaf is none of array, int, float, bool, str.
    """
    memory = io.BytesIO()
    with h5py.File(memory, "w", userblock_size=BLOCK, track_order=True) as file:
        file.attrs["kind"] = kind
        _write(file, content)
    body = memory.getvalue()[BLOCK:]
    header = _HEADER.pack(MAGIC, VERSION, len(body), hashlib.sha256(body).digest())
    write_atomic(path, header.ljust(BLOCK, b"\0") + body)


def load(path: Path, *, kind: str) -> dict[str, Any]:
    """Return what ``save`` wrote, with the types it had.

    Raises:
        CheckpointError: missing, damaged, of another kind or of a newer format.
    """
    data = _verified(Path(path))
    try:
        with h5py.File(io.BytesIO(data), "r") as file:
            found = file.attrs["kind"]
            if found != kind:
                raise CheckpointError(f"{path}: holds {found}, where {kind} is needed")
            return _read(file)
    except (OSError, KeyError, RuntimeError, ValueError) as error:  # sealed, and still not what we write
        raise CheckpointError(f"{path}: not in the form that eqnp writes ({_short(error)}); {_ADVICE}") from None


def restore_into(template: Mapping[str, Any], content: Mapping[str, Any], where: str = "") -> None:
    """Check that ``content`` has the names, types, shapes and dtypes of ``template``.

    Raises:
        CheckpointError: the first difference, by name.
    """
    for name in [*template, *content]:
        path = f"{where}{name}"
        if name not in content:
            raise CheckpointError(f"the checkpoint has no {path}: it is of another network or optimiser")
        if name not in template:
            raise CheckpointError(f"the checkpoint has {path}, which this network or optimiser has not")
        ours, theirs = template[name], content[name]
        if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
            restore_into(ours, theirs, f"{path}.")
        elif _form(ours) != _form(theirs):
            raise CheckpointError(
                f"the checkpoint's {path} is {_form(theirs)}, where this network or optimiser has {_form(ours)}"
            )


def _form(leaf: Any) -> str:
    if isinstance(leaf, np.ndarray):
        return f"{leaf.dtype} {leaf.shape}"
    return "a table" if isinstance(leaf, Mapping) else type(leaf).__name__


def _write(group: h5py.Group, content: Mapping[str, Any]) -> None:
    """Write a dictionary: dictionaries as groups, arrays as datasets, numbers and strings as attributes."""
    for name, value in content.items():
        if not isinstance(name, str) or not name or "/" in name or name == ".":
            raise TypeError(f"{name!r} cannot be a name in a checkpoint")
        if isinstance(value, Mapping):
            _write(group.create_group(name, track_order=True), value)
        elif isinstance(value, np.ndarray):
            group.create_dataset(name, data=value, track_times=False)
        elif isinstance(value, bool):
            group.attrs[name] = np.bool_(value)
        elif isinstance(value, int):
            group.attrs[name] = np.int64(value)
        elif isinstance(value, float):
            group.attrs[name] = np.float64(value)
        elif isinstance(value, str):
            group.attrs[name] = value
        else:
            raise TypeError(f"{name}: a checkpoint cannot hold {type(value).__name__}")


def _read(group: h5py.Group) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for name, value in group.attrs.items():
        if group.name != "/" or name != "kind":
            content[name] = value if isinstance(value, str) else value.item()
    for name, item in group.items():
        content[name] = _read(item) if isinstance(item, h5py.Group) else item[()]
        if isinstance(content[name], np.generic):  # h5py reads an array of no dimensions as a number
            content[name] = np.asarray(content[name])
    return content


def _verified(path: Path) -> bytes:
    """Return the bytes of a sealed file, or raise with what is wrong with it."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise CheckpointError(f"{path}: there is no such checkpoint") from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from None
    if len(data) < BLOCK or data[: len(MAGIC)] != MAGIC:
        raise CheckpointError(f"{path}: not a checkpoint of eqnp, or its beginning is damaged; {_ADVICE}")
    _, version, length, digest = _HEADER.unpack_from(data)
    if version > VERSION:
        raise CheckpointError(f"{path}: written in format {version}, this eqnp reads up to {VERSION}; update eqnp")
    body = data[BLOCK:]
    if len(body) != length:
        raise CheckpointError(f"{path}: damaged: {len(body)} bytes where it was written with {length}; {_ADVICE}")
    padding = data[_HEADER.size : BLOCK]
    if version != VERSION or any(padding) or hashlib.sha256(body).digest() != digest:
        raise CheckpointError(f"{path}: damaged: its SHA-256 is not the one it was written with; {_ADVICE}")
    return data


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:80]
