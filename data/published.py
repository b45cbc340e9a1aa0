"""Facts about the published datasets: names, counts, sizes, first labels, and download addresses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from eqnp.data.names import CLOTHES, DIGITS, FINE, HIRAGANA, OBJECTS

PARTS = ("training", "test")


@dataclass(frozen=True)
class Published:
    """A published dataset.

    ``counts`` are the numbers of training and test images; None: any number. ``first_labels`` are the first labels of
    both parts, which distinguish MNIST, Fashion-MNIST and others with the same file names and sizes. Empty: they are
    only compared with those of other datasets of the same size (CIFAR is accepted in any order and encoding).
    """

    classes: tuple[str, ...]
    shape: tuple[int, int, int]  # of an image, (H, W, C)
    counts: tuple[int, int] | None
    first_labels: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())


FIRST = 10  # labels in ``first_labels``
_MNIST_LABELS = ((5, 0, 4, 1, 9, 2, 1, 3, 1, 4), (7, 2, 1, 0, 4, 1, 4, 9, 5, 9))
_FASHION_LABELS = ((9, 0, 0, 3, 0, 2, 7, 2, 5, 5), (9, 2, 1, 1, 6, 1, 4, 6, 5, 7))
DATASETS = {
    "mnist-small": Published(DIGITS, (28, 28, 1), (5000, 1000)),
    "mnist": Published(DIGITS, (28, 28, 1), (60000, 10000), _MNIST_LABELS),
    "fashion-mnist": Published(CLOTHES, (28, 28, 1), (60000, 10000), _FASHION_LABELS),
    "kmnist": Published(HIRAGANA, (28, 28, 1), (60000, 10000)),
    "cifar10": Published(OBJECTS, (32, 32, 3), (50000, 10000)),
    "cifar100": Published(FINE, (32, 32, 3), (50000, 10000)),
}


def label_fault(name: str, part: int, labels: Sequence[int] | np.ndarray) -> str:
    """Return why ``labels`` (N,) of ``part`` (0: training, 1: test) are not those of ``name``, or ""."""
    this = DATASETS[name]
    expected = this.first_labels[part]
    first = tuple(int(label) for label in labels[: len(expected) or FIRST])
    same_size = (other for other, known in DATASETS.items() if (known.shape, known.counts) == (this.shape, this.counts))
    owner = next((other for other in same_size if first and DATASETS[other].first_labels[part] == first), None)
    if first == expected or not (expected or owner):
        return ""
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
    """A published file: its name, size in bytes and SHA-256, and the MD5 that its publisher or torchvision gives."""

    name: str
    size: int
    sha256: str
    md5: str = ""


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
FASHION = Source(
    (
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    ),
    "FashionMNIST/raw",
    (
        File(
            "train-images-idx3-ubyte.gz",
            26421880,
            "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        ),
        File(
            "train-labels-idx1-ubyte.gz",
            29515,
            "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            "25c81989df183df01b3e8a0aad5dffbe",
        ),
        File(
            "t10k-images-idx3-ubyte.gz",
            4422102,
            "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            "bef4ecab320f06d8554ea6380940ec79",
        ),
        File(
            "t10k-labels-idx1-ubyte.gz",
            5148,
            "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
            "bb300cfdad3c16e7a12a480ee83cd310",
        ),
    ),
)
KMNIST = Source(
    ("https://codh.rois.ac.jp/kmnist/dataset/kmnist/",),
    "KMNIST/raw",
    (
        File(
            "train-images-idx3-ubyte.gz",
            18165135,
            "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
            "bdb82020997e1d708af4cf47b453dcf7",
        ),
        File(
            "train-labels-idx1-ubyte.gz",
            29497,
            "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
            "e144d726b3acfaa3e44228e80efcd344",
        ),
        File(
            "t10k-images-idx3-ubyte.gz",
            3041136,
            "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
            "5c965bf0a639b31b8f53240b1b52f4d7",
        ),
        File(
            "t10k-labels-idx1-ubyte.gz",
            5120,
            "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
            "7320c461ea6c1c855c0b718fb2a4b134",
        ),
    ),
)
CIFAR100 = Source(
    ("https://www.cs.toronto.edu/~kriz/",),
    ".",
    (
        File(
            "cifar-100-python.tar.gz",
            169001437,
            "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
            "eb9058c3a382ffc7106e4002c42a8d85",
        ),
    ),
)
SOURCES = {"mnist": MNIST, "fashion-mnist": FASHION, "kmnist": KMNIST, "cifar10": CIFAR10, "cifar100": CIFAR100}
