"""The validation set: training samples that are held out, so that the test set need not choose between epochs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from eqnp.data.datasets import Dataset
from eqnp.errors import ConfigurationError

_VALIDATION = 3  # what the random stream is for; 1 and 2 are the order of samples and their augmentation


def validation_count(validation: float, samples: int) -> int:
    """Return how many of ``samples`` training samples are held out: a share of them (below 1), or so many.

    Raises:
        ConfigurationError: none would be held out, or none would be left to train on.
    """
    count = round(validation * samples) if validation < 1 else int(validation)
    if validation and not 0 < count < samples:
        raise ConfigurationError(
            f"data.validation: {validation:g} is {count} of {samples} training samples; "
            f"give 1 to {samples - 1} of them, or a share of them below 1"
        )
    return count


def hold_out(dataset: Dataset, validation: float, seed: int, train_samples: int = 0) -> Dataset:
    """Return ``dataset`` with a part of its training samples as its validation set (``validation_count`` of them).

    The part is drawn by ``seed`` and stratified: every class gives the same share, up to one sample. It is cut from all
    training samples; then the first ``train_samples`` (0: all) of the others stay to train on. So the validation set
    does not depend on ``train_samples``.

    Raises:
        ConfigurationError: none would be held out, or fewer are left than ``train_samples``.
    """
    labels = dataset.train_labels
    held = _stratified(labels, validation_count(validation, len(labels)), np.random.default_rng([seed, _VALIDATION]))
    kept = np.delete(np.arange(len(labels)), held)
    if train_samples > len(kept):
        raise ConfigurationError(
            f"data.train_samples: {train_samples} asked for, {dataset.name} has {len(labels)}, "
            f"of which data.validation holds out {len(held)}"
        )
    kept = kept[: train_samples or len(kept)]
    return replace(
        dataset,
        train_images=dataset.train_images[kept],
        train_labels=labels[kept],
        validation_images=dataset.train_images[held],
        validation_labels=labels[held],
    )


def _stratified(labels: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    """Return ``count`` indices in rising order: at equal distances along the samples, shuffled and sorted by class."""
    shuffled = generator.permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    places = (np.arange(count) + 0.5) * len(labels) / count
    return np.sort(by_class[places.astype(np.int64)])
