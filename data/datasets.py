"""Datasets by name: images (N, H, W, C) uint8 and labels (N,), from the place where they are found."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path

import numpy as np

from eqnp.data.cifar import read_cifar_binary, read_cifar_python
from eqnp.data.idx import Readable, read_idx
from eqnp.data.layout import CIFAR, IDX_PARTS, Located, largest
from eqnp.data.locate import find, incomplete, searched
from eqnp.data.npz import read_npz
from eqnp.data.published import DATASETS, PARTS, count_fault, label_fault
from eqnp.errors import ConfigurationError, DataError

CLASSES = {name: published.classes for name, published in DATASETS.items()}
IMAGES = {name: published.shape for name, published in DATASETS.items()}
SAMPLES = {name: published.counts[0] for name, published in DATASETS.items() if published.counts}  # in training

_NAME_IT = "name its folder: --set data.folder=..."
# Training images (N, H, W, C), training labels (N,), test images (M, H, W, C), test labels (M,).
Arrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Dataset:
    """A dataset in memory. ``source`` is the place where it was read, with its form.

    Images of the user may also be floats, or samples (N, D).
    """

    name: str
    train_images: np.ndarray  # (N, H, W, C) uint8
    train_labels: np.ndarray  # (N,) int64
    test_images: np.ndarray  # (M, H, W, C) uint8
    test_labels: np.ndarray  # (M,) int64
    classes: tuple[str, ...]
    source: str
    validation_images: np.ndarray | None = None  # (K, H, W, C) uint8, held out from the training images
    validation_labels: np.ndarray | None = None  # (K,) int64


def load(name: str, folder: str | Path | None = None, train_samples: int = 0, test_samples: int = 0) -> Dataset:
    """Read the dataset called ``name``; keep the first ``train_samples`` and ``test_samples`` (0: all).

    Raises:
        ConfigurationError: no dataset has that name, or it has fewer samples than requested.
        DataError: not found (the message lists the searched places), damaged, or not as published: other numbers of
            images, other shapes, or the labels of another dataset.
    """
    if name == "arrays":
        raise ConfigurationError(
            "data.name = arrays: the run's data were given in Python; give them again: "
            "eqnp.open_run(run, data=...), or eqnp.resume"
        )
    if name in ("npz", "folder"):
        raise ConfigurationError(f"data.name = {name}: in Python, eqnp.data.load_{name}(...) reads it")
    if name not in CLASSES:
        near = difflib.get_close_matches(name, CLASSES, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(CLASSES)}"
        raise ConfigurationError(f"no dataset {name!r}; {hint}")
    if name == "mnist-small":
        arrays, source = (
            _read_idx_set(name, [files("eqnp.data.mnist_small") / f"{part}-ubyte.gz" for part in IDX_PARTS]),
            "embedded",
        )
    else:
        located = find(name, folder)
        if located is None:
            raise DataError(_missing(name, folder))
        source = f"{located.folder} ({located.form})"
        try:
            arrays = _read(name, located)
        except DataError as error:
            raise DataError(f"{error}; {_remedy(name)}") from None
    _check(name, source, arrays)
    x, y, tx, ty = arrays
    dataset = Dataset(name, x, y.astype(np.int64), tx, ty.astype(np.int64), CLASSES[name], source)
    return keep_first(dataset, train_samples, test_samples)


def keep_first(dataset: Dataset, train_samples: int = 0, test_samples: int = 0) -> Dataset:
    """Return ``dataset`` with its first ``train_samples`` and ``test_samples`` (0: all).

    Raises:
        ConfigurationError: it has fewer.
    """
    d = dataset
    x, y = _first(d.name, "train_samples", train_samples, d.train_images, d.train_labels)
    tx, ty = _first(d.name, "test_samples", test_samples, d.test_images, d.test_labels)
    return replace(d, train_images=x, train_labels=y, test_images=tx, test_labels=ty)


def found(name: str) -> bool:
    """Return whether the dataset called ``name`` is on this machine, damaged or not."""
    return name == "mnist-small" or find(name) is not None


def noise(name: str, samples: int) -> Dataset:
    """Return a dataset of ``samples`` random images and labels, in the shape of the dataset called ``name``."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (samples, *IMAGES[name]), np.uint8)
    labels = generator.integers(0, len(CLASSES[name]), samples)
    return Dataset(name, images, labels, images, labels, CLASSES[name], "noise")


def describe() -> dict[str, str]:
    """Return for every dataset where it is, or how to get it."""
    return {"mnist-small": "in the package"} | {name: _where(name) for name in list(CLASSES)[1:]}


def _where(name: str) -> str:
    located = find(name)
    if located:
        fault = f": {located.fault}; {_how_to_get(name)}" if located.fault else ""
        return f"{located.folder} ({located.form}){fault}"
    return f"{incomplete(name) or 'not found'}; {_how_to_get(name)}"


def _how_to_get(name: str) -> str:
    return f"run `eqnp data fetch {name}`"


def _remedy(name: str) -> str:
    """Return what to do about a damaged dataset. A fetched copy is found before it."""
    return f"{_how_to_get(name)}, or put the published files there"


def _missing(name: str, folder: str | Path | None) -> str:
    where = ", ".join(searched(name, folder))
    return f"dataset {name} not found in {where}; {_how_to_get(name)} or {_NAME_IT}"


def _read(name: str, located: Located) -> Arrays:
    if located.form == "idx":
        return _read_idx_set(name, list(located.files))
    most = [largest(name, located.form, number) for number in range(len(located.files))]
    if located.form == "npz":
        return _read_npz(located.files[0], most[0])
    read = read_cifar_binary if located.form == "binary" else read_cifar_python
    *train, test = batches = [read(path, CIFAR[name], limit) for path, limit in zip(located.files, most, strict=True)]
    for path, (images, _) in zip(located.files, batches, strict=True):
        is_test = path is located.files[-1]
        _require_no_fault(path, count_fault(name, int(is_test), len(images), share=1 if is_test else len(train)))
    images, labels = (np.concatenate(parts) for parts in zip(*train, strict=True))
    return images, labels, *test


def _read_idx_set(name: str, paths: list[Readable]) -> Arrays:
    x, y, tx, ty = (read_idx(path, largest(name, "idx", number)) for number, path in enumerate(paths))
    for part, images, labels in ((0, x, y), (1, tx, ty)):
        path, path_of_labels = paths[2 * part : 2 * part + 2]
        if images.ndim != 3 or labels.ndim != 1:
            raise DataError(f"{path}: not the images that its name says")
        _require_no_fault(path, count_fault(name, part, len(images)))
        _require_no_fault(path_of_labels, count_fault(name, part, len(labels), "labels"))
    return x[..., None], y, tx[..., None], ty


def _require_no_fault(path: Readable, fault: str) -> None:
    if fault:
        raise DataError(f"{path}: {fault}")


def _read_npz(path: Path, most: int) -> Arrays:
    """Read the mnist.npz of Keras."""
    names, what = ("x_train", "y_train", "x_test", "y_test"), "the mnist.npz of Keras"
    x, y, tx, ty = read_npz(path, names, what=what, most=most).values()
    for images in (x, tx):
        if images.ndim != 3:
            raise DataError(f"{path}: images of {images.ndim} dimensions; the mnist.npz of Keras has (N, 28, 28)")
    return x[..., None], y, tx[..., None], ty


def _check(name: str, source: str, arrays: Arrays) -> None:
    """Check that images and labels are those of the dataset and match each other."""
    for part, images, labels in ((0, *arrays[:2]), (1, *arrays[2:])):
        fault = _fault(PARTS[part], images, labels, IMAGES[name], len(CLASSES[name]))
        fault = fault or count_fault(name, part, len(images))
        if fault:
            raise DataError(f"{name} in {source}: {fault}; {_remedy(name)}")
        if fault := label_fault(name, part, labels):
            raise DataError(f"{name} in {source}: {fault}; {_how_to_get(name)} or {_NAME_IT}")


def _fault(what: str, images: np.ndarray, labels: np.ndarray, shape: tuple[int, ...], classes: int) -> str:
    """Return what is wrong with images (N, *``shape``) or labels (N,) below ``classes``, or ""."""
    if images.shape[1:] != shape or images.dtype != np.uint8:
        return f"its {what} images are {images.dtype} {images.shape[1:]}, not uint8 {shape}"
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        return f"its {what} labels are {labels.dtype} {labels.shape}, not one integer for every image"
    if len(images) != len(labels) or not len(labels):
        return f"{len(images)} {what} images but {len(labels)} labels"
    for label in (labels.min(), labels.max()):
        if not 0 <= label < classes:
            return f"a {what} label is {label}, but there are {classes} classes"
    return ""


def _first(name: str, what: str, count: int, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if count > len(x):
        raise ConfigurationError(f"data.{what}: {count} requested, {name} has {len(x)}")
    return (x[:count], y[:count]) if count else (x, y)
