"""Data of the user in files: a .npz file of arrays, or a folder of images."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from eqnp.data.arrays import from_arrays
from eqnp.data.datasets import Dataset
from eqnp.data.images import read_images
from eqnp.data.npz import read_npz
from eqnp.errors import DataError

ARRAYS = ("x_train", "y_train", "x_test", "y_test")


def load_npz(file: str | Path, classes: Sequence[str] = ()) -> Dataset:
    """Return the dataset in a .npz file: x_train, y_train, x_test and y_test, and ``classes`` if it has them.

    x is (N, H, W, C), (N, H, W) or (N, D): uint8 pixels or floats. y is (N,), integers from 0 or strings, or one-hot.
    The names of the classes are those in the file, else ``classes``; if there are none, the labels, sorted.

    Raises:
        DataError: as ``read_npz``, or the arrays do not fit each other; the message names the file.
    """
    path = Path(os.path.expanduser(file))
    arrays = read_npz(path, ARRAYS, ("classes",))
    try:
        names = _names(arrays.pop("classes", None)) or tuple(classes)
        x, y, tx, ty = arrays.values()
        if y.dtype.kind == "U":
            names, y, ty = _numbered(y, ty, names)
        dataset = from_arrays((x, y, tx, ty))
        names = names or dataset.classes
        if len(names) < len(dataset.classes):
            raise ValueError(f"{len(names)} names of classes for labels from 0 to {len(dataset.classes) - 1}")
    except ValueError as error:
        raise DataError(f"{path}: {error}") from None
    return replace(dataset, name=path.name, classes=names, source=f"{path} (npz)")


def load_folder(folder: str | Path, resize: tuple[int, int] = (0, 0)) -> Dataset:
    """Return the dataset in a folder of images, as ``eqnp.data.images.read_images`` reads it.

    Raises:
        BackendError: Pillow is not installed.
        DataError: as ``read_images``.
    """
    path = Path(os.path.expanduser(folder))
    found = read_images(path, resize)
    return Dataset(path.resolve().name, *found[:4], found.classes, f"{path} (images)")


def statistics(x: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of every channel (the last axis) of x: of pixels / 255 if they are uint8.

    A channel that is the same everywhere has a deviation of 1, so that it becomes 0.
    """
    rows, unit = x.reshape(-1, x.shape[-1]), 255.0 if x.dtype == np.uint8 else 1.0
    step = max(1, (1 << 22) // rows.shape[1])
    parts = [rows[first : first + step] for first in range(0, len(rows), step)]
    mean = sum(part.sum(axis=0, dtype=np.float64) for part in parts) / len(rows)
    variance = sum(((part - mean) ** 2).sum(axis=0) for part in parts) / len(rows)
    deviation = np.where(variance > (1e-12 * mean) ** 2, np.sqrt(variance) / unit, 1.0)
    return tuple(map(float, mean / unit)), tuple(map(float, deviation))


def _names(given: Any) -> tuple[str, ...]:
    """Return the names of classes in a .npz file.

    Raises:
        ValueError: they are not different strings (K,).
    """
    if given is None:
        return ()
    if given.ndim != 1 or given.dtype.kind != "U" or len(set(given.tolist())) < len(given):
        raise ValueError(f"classes is {given.dtype} {given.shape}: must be different strings (K,), one for each class")
    return tuple(given.tolist())


def _numbered(y: np.ndarray, ty: np.ndarray, names: tuple[str, ...]) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """Return labels that are strings as numbers into their names, by default sorted.

    Raises:
        ValueError: a label is not among the names.
    """
    names = names or tuple(sorted(set(y.ravel().tolist())))
    number = {name: n for n, name in enumerate(names)}
    for what, labels in (("y_train", y), ("y_test", ty)):
        if labels.ndim != 1 or labels.dtype.kind != "U":
            raise ValueError(
                f"{what} is {labels.dtype} {labels.shape}: labels that are strings must be so in both parts"
            )
        if unknown := sorted(set(labels.tolist()) - set(number)):
            raise ValueError(f"{what} has the label {unknown[0]!r}, which is no class of {', '.join(names[:6])}")
    y, ty = (np.array([number[each] for each in labels.tolist()], np.int64) for labels in (y, ty))
    return names, y, ty
