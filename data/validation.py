"""The validation set: training samples that are held out to choose the best epoch, so that the test set does not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from eqnp.data.datasets import Dataset
from eqnp.errors import ConfigurationError

_VALIDATION = 3  # purpose of the random stream; 1 and 2 are sample order and augmentation


def validation_count(validation: float, samples: int) -> int:
    """Return how many of ``samples`` training samples are held out: a fraction (below 1) or a number of them.

    Raises:
        ConfigurationError: none would be held out, or none would be left for training.
    """
    count = round(validation * samples) if validation < 1 else int(validation)
    if validation and not 0 < count < samples:
        raise ConfigurationError(
            f"data.validation: {validation:g} is {count} of {samples} training samples; "
            f"give 1 to {samples - 1} of them, or a fraction below 1"
        )
    return count


def hold_out(dataset: Dataset, validation: float, seed: int, train_samples: int = 0) -> Dataset:
    """Return ``dataset`` with ``validation_count`` of its training samples as the validation set.

    The set is drawn by ``seed`` and stratified: every class gives the same fraction, up to one sample. It is drawn
    from all training samples; then the first ``train_samples`` (0: all) of the others are kept for training. So the
    validation set does not depend on ``train_samples``.

    Raises:
        ConfigurationError: none would be held out, or fewer than ``train_samples`` are left.
    """
    labels = dataset.train_labels
    held = _stratified(labels, validation_count(validation, len(labels)), np.random.default_rng([seed, _VALIDATION]))
    kept = np.delete(np.arange(len(labels)), held)
    if train_samples > len(kept):
        raise ConfigurationError(
            f"data.train_samples: {train_samples} requested, {dataset.name} has {len(labels)}, "
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
    """Return ``count`` sorted indices into ``labels`` (N,): equally spaced in the shuffled samples sorted by class."""
    shuffled = generator.permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    places = (np.arange(count) + 0.5) * len(labels) / count
    return np.sort(by_class[places.astype(np.int64)])
