"""The files of a dataset in a folder, in every form and spelling, and whether they look complete.

The checks are cheap (sizes, first labels). They decide which copy is read; reading it finds all other faults.
"""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from eqnp.data.cifar import CIFAR10, CIFAR100
from eqnp.data.idx import GZIP, LARGEST
from eqnp.data.packed import begin_of_gzip
from eqnp.data.published import DATASETS, label_fault
from eqnp.runs.storage import open_regular

IDX_PARTS = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
CIFAR_BINARY = (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin")
CIFAR_PYTHON = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")
SLACK = 1 << 16  # bytes
CIFAR100_BINARY, CIFAR100_PYTHON = ("train.bin", "test.bin"), ("train", "test")
CIFAR = {"cifar10": CIFAR10, "cifar100": CIFAR100}
# The folder in an archive that is fetched, and its files that are read.
ARCHIVED = {
    "cifar10": ("cifar-10-batches-bin", CIFAR_BINARY),
    "cifar100": ("cifar-100-python", CIFAR100_PYTHON),
}

_FORMS: dict[str, dict[str, tuple[str, ...]]] = {
    "mnist": {"idx": IDX_PARTS, "npz": ("mnist.npz",)},
    "fashion-mnist": {"idx": IDX_PARTS},
    "kmnist": {"idx": IDX_PARTS},
    "cifar10": {"binary": CIFAR_BINARY, "python": CIFAR_PYTHON},
    "cifar100": {"binary": CIFAR100_BINARY, "python": CIFAR100_PYTHON},
}
# Folders of a dataset, possibly one inside the other, and the folders in them that hold its files.
_OUTER = {
    "mnist": ("MNIST", "mnist"),
    "fashion-mnist": ("FashionMNIST", "fashion-mnist"),
    "kmnist": ("KMNIST", "kmnist"),
    "cifar10": ("CIFAR10", "cifar10", "cifar-10", "cifar-10-batches-py-target"),
    "cifar100": ("CIFAR100", "cifar100", "cifar-100", "cifar-100-python-target"),
}
_IDX_INNER = ("raw", os.curdir)
_INNER = {
    "mnist": _IDX_INNER,
    "fashion-mnist": _IDX_INNER,
    "kmnist": _IDX_INNER,
    "cifar10": ("cifar-10-batches-bin", "cifar-10-batches-py", os.curdir),
    "cifar100": ("cifar-100-binary", "cifar-100-python", os.curdir),
}


@dataclass(frozen=True)
class Located:
    """A dataset that was found: its form (idx, npz, binary or python), its folder and its files in order.

    ``fault`` is what the cheap checks found, or ""; ``bare``: no folder name says which dataset it is.
    """

    form: str
    folder: Path
    files: tuple[Path, ...]
    fault: str
    bare: bool


def subfolders(name: str) -> list[str]:
    """Return the folders in a place that may hold the dataset, most specific first; "." is the place itself."""
    outer = _OUTER[name]
    wrapped = [*(os.path.join(a, b) for a, b in product(outer, outer)), *outer, os.curdir]
    return [os.path.normpath(os.path.join(a, b)) for a, b in product(wrapped, _INNER[name])]


def candidates(name: str, place: Path) -> Iterator[Located]:
    """Yield every complete set of the dataset's files in ``place``, damaged or not.

    Files that cannot be accessed (no permission, a name too long) count as missing: ``os.path.isfile`` never raises,
    unlike ``Path.is_file``.
    """
    for subfolder in subfolders(name):
        folder = place / subfolder
        if not os.path.isdir(folder):
            continue
        for form, parts in _FORMS[name].items():
            files = [path for n in range(len(parts)) if (path := _best(name, form, n, folder))]
            if len(files) == len(parts):
                bare = subfolder in _IDX_INNER and name not in CIFAR
                yield Located(form, folder, tuple(files), _fault(name, form, files), bare)


def partial(name: str, place: Path) -> str:
    """Return which of the dataset's files are missing in ``place`` if it has some of them, or ""."""
    for subfolder in subfolders(name):
        folder = place / subfolder
        for parts in _FORMS[name].values():
            missing = [part for part in parts if not any(_spellings(folder, part))]
            if 0 < len(missing) < len(parts):
                names = ", ".join(part + "-ubyte" if part in IDX_PARTS else part for part in missing)
                are = "is" if len(missing) == 1 else "are"
                return f"found {len(parts) - len(missing)} of {len(parts)} files in {folder}; {names} {are} missing"
    return ""


def _best(name: str, form: str, number: int, folder: Path) -> Path | None:
    """Return the file of one part, if possible one without a fault, or None."""
    found = list(_spellings(folder, _FORMS[name][form][number]))
    return next((path for path in found if not _file_fault(name, form, number, path)), found[0] if found else None)


def _spellings(folder: Path, part: str) -> Iterator[Path]:
    """Yield the files that hold ``part``: in ``folder``, or in a folder with the name of the file.

    An IDX part (train-images-idx3) may be plain or .gz, with ``-`` or ``.`` before idx.
    """
    names = [part]
    if part in IDX_PARTS:
        names = [stem + end for stem in (part, part.replace("-idx", ".idx")) for end in ("-ubyte", "-ubyte.gz")]
    for name in names:
        path = folder / name
        if os.path.isfile(path):
            yield path
        elif os.path.isdir(path):  # some programs unpack each file into a folder of its name
            yield from (path / inner for inner in names if os.path.isfile(path / inner))


def _fault(name: str, form: str, files: list[Path]) -> str:
    """Return the first fault of a complete set of files that the cheap checks find, or ""."""
    faults = [_file_fault(name, form, number, path) for number, path in enumerate(files)]
    if form == "idx":
        faults += [label_fault(name, part, _first_labels(files[2 * part + 1])) for part in (0, 1)]
    return next(filter(None, faults), "")


def _file_fault(name: str, form: str, number: int, path: Path) -> str:
    """Return what is wrong with the size or the end of a file, or ""."""
    expected = _published_size(name, form, number)
    with suppress(OSError):
        size, last = _size_and_end(path)
        if form == "npz":
            return "" if zipfile.is_zipfile(path) else f"{path.name} is damaged"
        if form == "python":
            return "" if size > expected and last == b"." else f"{path.name} is truncated"
        return "" if size == expected or not expected else f"{path.name} holds {size} bytes, not {expected}"
    return f"{path.name} cannot be read"


def _published_size(name: str, form: str, number: int) -> int:
    """Return the size in bytes of a published file when unpacked, of a pickle the minimum; 0: not known."""
    counts = DATASETS[name].counts
    if counts is None or form == "npz":
        return 0
    if form == "idx":
        dimensions, item = (1, 1) if number % 2 else (3, math.prod(DATASETS[name].shape))  # labels or images
        return 4 + 4 * dimensions + counts[number // 2] * item
    training = len(_FORMS[name][form]) - 1  # files; the last one holds the test images
    return (counts[1] if number == training else counts[0] // training) * CIFAR[name].record


def largest(name: str, form: str, number: int) -> int:
    """Return how many bytes a file may have, packed or unpacked: about twice what the published one has."""
    if form == "npz":
        published = sum(_published_size(name, "idx", n) for n in range(4))
    else:
        published = _published_size(name, form, number)
    return 2 * published + SLACK if published else LARGEST


def _size_and_end(path: Path) -> tuple[int, bytes]:
    """Return the unpacked size of a file, which gzip stores in the last four bytes, and its last byte."""
    with open_regular(path) as file:
        begin = file.read(2)
        size = file.seek(0, os.SEEK_END)
        file.seek(-min(size, 4), os.SEEK_END)
        end = file.read(4)
    return int.from_bytes(end, "little") if begin == GZIP else size, end[-1:]


def _first_labels(path: Path) -> bytes:
    """Return the first labels in an IDX file, or none if it cannot be read."""
    with suppress(OSError), open_regular(path) as file:
        data = file.read(1 << 12)
        return (begin_of_gzip(data, 8 + 16) if data[:2] == GZIP else data)[8 : 8 + 16]
    return b""
