"""Facts about the published datasets: names, counts, sizes, first labels, and download addresses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

DIGITS = tuple("0123456789")
CLOTHES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
OBJECTS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
PARTS = ("training", "test")


@dataclass(frozen=True)
class Published:
    """A published dataset.

    ``counts`` are the numbers of training and test images; None: any number. ``first_labels`` are the first labels of
    both parts, which distinguish MNIST, Fashion-MNIST and others with the same file names and sizes. Empty: not checked
    (CIFAR-10 is accepted in any order and encoding).
    """

    classes: tuple[str, ...]
    shape: tuple[int, int, int]  # of an image, (H, W, C)
    counts: tuple[int, int] | None
    first_labels: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())


_MNIST_LABELS = ((5, 0, 4, 1, 9, 2, 1, 3, 1, 4), (7, 2, 1, 0, 4, 1, 4, 9, 5, 9))
_FASHION_LABELS = ((9, 0, 0, 3, 0, 2, 7, 2, 5, 5), (9, 2, 1, 1, 6, 1, 4, 6, 5, 7))
DATASETS = {
    "mnist-small": Published(DIGITS, (28, 28, 1), (5000, 1000)),
    "mnist": Published(DIGITS, (28, 28, 1), (60000, 10000), _MNIST_LABELS),
    "fashion-mnist": Published(CLOTHES, (28, 28, 1), (60000, 10000), _FASHION_LABELS),
    "cifar10": Published(OBJECTS, (32, 32, 3), (50000, 10000)),
}


def label_fault(name: str, part: int, labels: Sequence[int] | np.ndarray) -> str:
    """Return why ``labels`` (N,) of ``part`` (0: training, 1: test) are not those of ``name``, or ""."""
    expected = DATASETS[name].first_labels[part]
    first = tuple(int(label) for label in labels[: len(expected)])
    if first == expected:
        return ""
    owner = next((other for other, known in DATASETS.items() if first and known.first_labels[part] == first), None)
    whose = f"which are the labels of {owner}" if owner else f"which is not {name}"
    return f"its {PARTS[part]} labels begin with {' '.join(map(str, first)) or 'nothing'}, {whose}"


def count_fault(name: str, part: int, count: int, what: str = "images", share: int = 1) -> str:
    """Return what is wrong with the ``count`` of ``what`` in ``part``, or in one of its ``share`` files; or ""."""
    counts = DATASETS[name].counts
    if counts is None or count == counts[part] // share:
        return ""
    return f"{count} {PARTS[part]} {what}, but the published {name} has {counts[part] // share}"


@dataclass(frozen=True)
class File:
    """A published file: its name, size in bytes and SHA-256."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Source:
    """The addresses of a dataset, the folder it is put into, and its files."""

    urls: tuple[str, ...]  # tried in order
    folder: str
    files: tuple[File, ...]


MNIST = Source(
    ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"),
    "MNIST/raw",
    (
        File("train-images-idx3-ubyte.gz", 9912422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
        File("train-labels-idx1-ubyte.gz", 28881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
        File("t10k-images-idx3-ubyte.gz", 1648877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
        File("t10k-labels-idx1-ubyte.gz", 4542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
    ),
)
CIFAR10 = Source(
    ("https://www.cs.toronto.edu/~kriz/",),
    ".",
    (File("cifar-10-binary.tar.gz", 170052171, "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"),),
)
SOURCES = {"mnist": MNIST, "cifar10": CIFAR10}


def fetchable() -> tuple[str, ...]:
    """Return the names of the datasets that can be fetched."""
    return tuple(SOURCES)
