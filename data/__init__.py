"""Datasets as NumPy arrays on the host. Images are (N, H, W, C) uint8, labels are (N,) int64.

Order of reading: ``idx`` and ``cifar``, then ``published``, ``layout``, ``locate``, ``datasets``; after them
``validation``, ``batches``, ``download`` and ``fetch``.
"""

from eqnp.data.arrays import from_arrays, outline, take_inputs, take_labels
from eqnp.data.batches import AsGiven, Augmentation, Batches, Normalisation
from eqnp.data.datasets import SAMPLES, Dataset, describe, found, load, noise
from eqnp.data.fetch import fetch
from eqnp.data.locate import find, lasting_folder
from eqnp.data.validation import hold_out, validation_count

__all__ = [
    "SAMPLES",
    "AsGiven",
    "Augmentation",
    "Batches",
    "Dataset",
    "Normalisation",
    "describe",
    "fetch",
    "find",
    "found",
    "from_arrays",
    "hold_out",
    "lasting_folder",
    "load",
    "noise",
    "outline",
    "take_inputs",
    "take_labels",
    "validation_count",
]
