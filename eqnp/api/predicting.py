"""Predictions for image files: class and score, with the preprocessing of the run's data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eqnp.api.run import Run, outline_of
from eqnp.data.imagefiles import read_images
from eqnp.errors import DataError
from eqnp.losses import CrossEntropy, softmax


@dataclass(frozen=True)
class Prediction:
    """The prediction for one image."""

    file: str
    index: int | None
    """Its place in a .npy file of several samples; None if the file has one."""
    label: int
    name: str
    """The name of the class ``label``."""
    score: float
    """The score of that class: its probability, or with another loss than cross-entropy its output unit."""
    scores: tuple[float, ...]
    """The scores of all classes."""
    names: tuple[str, ...]
    """The names of all classes."""

    def as_json(self) -> dict[str, Any]:
        """Return the prediction as a dictionary that JSON can hold."""
        return asdict(self)


def predict_files(run: Run, files: Sequence[str | Path], resize: bool = False) -> list[Prediction]:
    """Return the class and the score of every image in ``files``: PNG, JPEG, or .npy arrays of one or more samples.

    Pictures and uint8 arrays are scaled as the run's training images were; floats are used unchanged. ``resize`` scales
    pictures of another size than the network takes.

    Raises:
        DataError: a file is missing, damaged, or does not fit the network; nothing is predicted then.
        BackendError: a picture needs Pillow, which is not installed.
    """
    shape, names = run.network.architecture.input_shape, outline_of(run.config).classes
    read = [(Path(file), read_images(Path(file), shape, resize)) for file in files]
    for path, images in read:
        try:
            run.check_images(images)
        except ValueError as error:
            raise DataError(f"{path}: {error}") from None
    result = []
    for path, images in read:
        for index, row in enumerate(scores(run, images)):
            best = int(row.argmax())
            place = index if len(images) > 1 else None
            values = tuple(map(float, row))
            result.append(Prediction(str(path), place, best, names[best], values[best], values, names))
    return result


def scores(run: Run, images: np.ndarray) -> np.ndarray:
    """Return the scores of all classes, (N, ...) -> (N, K): softmax for cross-entropy, else the output units."""
    outputs = run.outputs(images)
    return softmax(outputs) if isinstance(run.network.loss, CrossEntropy) else outputs


def score_meaning(run: Run) -> str:
    """Return what a score of the run is, in words."""
    return "probability" if isinstance(run.network.loss, CrossEntropy) else "output unit"
