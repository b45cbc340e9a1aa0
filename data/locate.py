"""Where datasets are found: a folder that is named, EQNP_DATA, and where torchvision, Keras and eqnp put them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

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
    """Return the folder that ``eqnp data fetch`` downloads to: XDG_DATA_HOME/eqnp or ~/.local/share/eqnp."""
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "eqnp"


def places(folder: str | Path | None) -> list[Path]:
    """Return the folders that are searched, in order."""
    named = [Path(folder)] if folder else []
    named += [Path(place) for place in os.environ.get("EQNP_DATA", "").split(os.pathsep) if place]
    home = Path.home()
    usual = [Path("data"), Path("datasets"), home / "data", home / "datasets", home / ".keras" / "datasets"]
    return [place.expanduser() for place in [*named, own_folder(), *usual]]


def find(name: str, folder: str | Path | None = None) -> Located | None:
    """Return where the dataset called ``name`` is, or None. In a place that was named, bare files are enough."""
    for place in places(folder):
        for subfolder in _SUBFOLDERS[name]:
            if subfolder == "." and name == "fashion-mnist" and not _is_named(place, folder):
                continue  # its files are called as MNIST's: only a folder that was named says which they are
            located = _find_in(name, place / subfolder)
            if located is not None:
                return located
    return None


def _is_named(place: Path, folder: str | Path | None) -> bool:
    return folder is not None and place == Path(folder).expanduser()


def _find_in(name: str, folder: Path) -> Located | None:
    if name == "cifar10":
        forms = {"binary": CIFAR_BINARY, "python": CIFAR_PYTHON}
        for form, names in forms.items():
            files = tuple(folder / each for each in names)
            if all(file.is_file() for file in files):
                return Located(form, folder, files)
        return None
    files = tuple(file for part in IDX_PARTS for file in _spellings(folder, part))
    if len(files) == len(IDX_PARTS):
        return Located("idx", folder, files)
    if name == "mnist" and (folder / MNIST_NPZ[0]).is_file():
        return Located("npz", folder, (folder / MNIST_NPZ[0],))
    return None


def _spellings(folder: Path, part: str) -> Iterator[Path]:
    """Yield the first file that holds ``part`` (train-images-idx3): plain or .gz, with ``-`` or ``.`` before idx."""
    for stem in (part, part.replace("-idx", ".idx")):
        for suffix in ("-ubyte", "-ubyte.gz"):
            path = folder / (stem + suffix)
            if path.is_file():
                yield path
                return
