"""User arrays as inputs, labels and datasets. Arrays whose meaning is in doubt are refused.

Inputs are uint8 pixels, which are divided by 255, or floats, which are used unchanged. Labels are integers (N,) or
one-hot (N, K). NumPy or CuPy arrays: batches are made on the host.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from eqnp.backends.backend import Array, to_host
from eqnp.data.datasets import CLASSES, IMAGES, Dataset
from eqnp.inputs import Shape, require_array, require_labels, require_one_hot, require_sample_shape, require_values

NAME = "arrays"  # the name of a dataset that was given as arrays


def from_arrays(data: Sequence[Any]) -> Dataset:
    """Return (x_train, y_train, x_test, y_test) as a dataset. There are as many classes as the training labels name.

    Raises:
        ValueError: an array does not fit the others in shape, dtype or number of samples, or its meaning is in doubt.
    """
    if not isinstance(data, Sequence) or len(data) != 4:
        count = f"{len(data)} of them" if isinstance(data, Sequence) else f"a {type(data).__name__}"
        raise ValueError(f"data: must be four arrays (x_train, y_train, x_test, y_test), not {count}")
    x, y, tx, ty = data
    x = take_inputs("x_train", x)
    labels, classes = take_labels("y_train", y, len(x))
    tx = take_inputs("x_test", tx, x.shape[1:])
    if x.dtype.kind != tx.dtype.kind:
        raise ValueError(f"x_train is {x.dtype} and x_test {tx.dtype}: both must be uint8 pixels, or both floats")
    test_labels, _ = take_labels("y_test", ty, len(tx), classes)
    return Dataset(NAME, x, labels, tx, test_labels, tuple(map(str, range(classes))), "arrays given in Python")


def outline(name: str, shape: Shape, classes: int, names: tuple[str, ...] = ()) -> Dataset:
    """Return the dataset called ``name`` without a sample: the shape of its inputs and its classes.

    ``shape``, ``classes`` and their ``names`` (empty: 0, 1, ...) are those of a user's data; those of a published
    dataset are known.
    """
    if name in CLASSES:
        shape, names = IMAGES[name], CLASSES[name]
    names = names or tuple(map(str, range(classes)))
    none, labels = np.empty((0, *shape), np.uint8), np.empty(0, np.int64)
    return Dataset(name, none, labels, none, labels, names, "not read")


def take_inputs(name: str, x: Array, shape: Shape | None = None) -> np.ndarray:
    """Return x on the host as (N, *shape): uint8 or floats; (N, H, W) are images of one channel.

    ``shape`` None: any (D,) or (H, W, C).

    Raises:
        ValueError: another shape or dtype, NaN, or floats that may be unscaled pixels.
    """
    require_array(name, x)
    inputs: np.ndarray = to_host(x)
    if inputs.ndim == 3 and (shape is None or (len(shape) == 3 and shape[2] == 1 and inputs.shape[1:] == shape[:2])):
        inputs = inputs[..., None]
    require_sample_shape(name, inputs, shape)
    require_values(name, inputs)
    return inputs


def take_labels(name: str, y: Array, samples: int, classes: int | None = None) -> tuple[np.ndarray, int]:
    """Return labels (N,) int64 on the host and the number of classes; ``y`` is such labels or one-hot (N, K).

    ``classes`` None: as many as the largest label or the columns say.

    Raises:
        ValueError: another shape or dtype, another number of samples, or labels that do not start from 0.
    """
    require_array(name, y)
    y = to_host(y)
    if y.ndim == 2:
        require_one_hot(name, y, classes)
        classes, y = y.shape[1], y.argmax(axis=1)
    else:
        require_labels(y, np.iinfo(np.int64).max if classes is None else classes, name)
        if classes is None and len(y):
            if y.min() > 0:
                raise ValueError(f"{name} has labels from {y.min()} to {y.max()}: they must start from 0; subtract 1?")
            classes = int(y.max()) + 1
    if len(y) != samples:
        raise ValueError(f"{name} has {len(y)} labels for {samples} samples")
    return y.astype(np.int64), classes or 0
