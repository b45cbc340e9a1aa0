"""Where datasets are found: a folder that is named, EQNP_DATA, and where torchvision, Keras and eqnp put them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from eqnp.errors import ConfigurationError

IDX_PARTS = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
CIFAR_BINARY = (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin")
CIFAR_PYTHON = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")
MNIST_NPZ = ("mnist.npz",)

# Folders inside a place that may hold a dataset, most particular first; "." is the place itself.
_SUBFOLDERS = {
    "mnist": ("MNIST/raw", "MNIST", "mnist", "."),
    "fashion-mnist": ("FashionMNIST/raw", "FashionMNIST", "fashion-mnist", "."),
    "cifar10": (
        "cifar-10-batches-bin",
        "cifar-10-batches-py",
        "cifar10",
        "CIFAR10/cifar-10-batches-py",
        "cifar-10-batches-py-target/cifar-10-batches-py",
        "cifar-10/cifar-10-batches-py",
        ".",
    ),
}


@dataclass(frozen=True)
class Located:
    """A dataset that was found: its form (idx, npz, binary or python), its folder and its files in order."""

    form: str
    folder: Path
    files: tuple[Path, ...]


def own_folder() -> Path:
    """Return the folder that ``eqnp data fetch`` downloads to: XDG_DATA_HOME/eqnp or ~/.local/share/eqnp.

    Raises:
        ConfigurationError: it is in a home folder, and none is known.
    """
    folder = _expand(_own())
    if _is_homeless(folder):
        raise ConfigurationError(f"{folder}: no home folder is known; set HOME, or name a folder: --folder ...")
    return folder


def _own() -> str:
    return os.path.join(os.environ.get("XDG_DATA_HOME") or "~/.local/share", "eqnp")


def places(folder: str | Path | None) -> list[Path]:
    """Return the folders that are searched, in order. Where no home folder is known, those below it are left out."""
    named = [folder] if folder else []
    named += [place for place in os.environ.get("EQNP_DATA", "").split(os.pathsep) if place]
    usual = [_expand(place) for place in (_own(), "data", "datasets", "~/data", "~/datasets", "~/.keras/datasets")]
    return [*(_expand(place) for place in named), *(place for place in usual if not _is_homeless(place))]


def searched(name: str, folder: str | Path | None) -> list[str]:
    """Return the places, each with the reason, if there is one, why ``name`` could not be looked for there."""
    return [f"{place}{_obstacle(place, _SUBFOLDERS[name])}" for place in places(folder)]


def _obstacle(place: Path, subfolders: tuple[str, ...]) -> str:
    if _is_homeless(place) and not os.path.exists(place):
        return " (no such home folder)"
    for subfolder in reversed(subfolders):  # the place itself is the last
        try:
            os.stat(os.path.join(place, subfolder, os.curdir))  # asks whether the folder may be searched
        except (FileNotFoundError, ValueError):  # a zero byte gives a ValueError
            continue
        except OSError as error:
            return f" ({error.strerror})" if subfolder == "." else f" ({subfolder}: {error.strerror})"
    return ""


def _expand(place: str | Path) -> Path:
    """Return ``place`` with its home folder, or as it is if that is not known; unlike pathlib's it raises nothing."""
    return Path(os.path.expanduser(place))


def _is_homeless(place: Path) -> bool:
    return str(place).startswith("~")


def find(name: str, folder: str | Path | None = None) -> Located | None:
    """Return where the dataset called ``name`` is, or None. In a place that was named, bare files are enough.

    What cannot be looked at (no permission, a name too long) is not there: ``os.path.isfile`` raises for none of these,
    where ``Path.is_file`` raises for some.
    """
    for place in places(folder):
        for subfolder in _SUBFOLDERS[name]:
            if subfolder == "." and name == "fashion-mnist" and not _is_named(place, folder):
                continue  # its files are called as MNIST's: only a folder that was named says which they are
            located = _find_in(name, place / subfolder)
            if located is not None:
                return located
    return None


def _is_named(place: Path, folder: str | Path | None) -> bool:
    return bool(folder) and place == _expand(folder)


def _find_in(name: str, folder: Path) -> Located | None:
    if name == "cifar10":
        forms = {"binary": CIFAR_BINARY, "python": CIFAR_PYTHON}
        for form, names in forms.items():
            files = tuple(folder / each for each in names)
            if all(map(os.path.isfile, files)):
                return Located(form, folder, files)
        return None
    files = tuple(file for part in IDX_PARTS for file in _spellings(folder, part))
    if len(files) == len(IDX_PARTS):
        return Located("idx", folder, files)
    if name == "mnist" and os.path.isfile(folder / MNIST_NPZ[0]):
        return Located("npz", folder, (folder / MNIST_NPZ[0],))
    return None


def _spellings(folder: Path, part: str) -> Iterator[Path]:
    """Yield the first file that holds ``part`` (train-images-idx3): plain or .gz, with ``-`` or ``.`` before idx."""
    for stem in (part, part.replace("-idx", ".idx")):
        for suffix in ("-ubyte", "-ubyte.gz"):
            path = folder / (stem + suffix)
            if os.path.isfile(path):
                yield path
                return
