"""Datasets as NumPy arrays on the host. Images are (N, H, W, C) uint8, labels are (N,) int64.

Order of reading: ``idx``, ``npz`` and ``cifar``, then ``published``, ``layout``, ``locate``, ``datasets``; after them
``arrays``, ``images`` and ``own`` (data of the user), ``validation``, ``normalisation``, ``randaugment`` and
``batches``, ``download`` and ``fetch``.
"""

from eqnp.data.arrays import from_arrays, outline, take_inputs, take_labels
from eqnp.data.batches import Augmentation, Batches
from eqnp.data.datasets import SAMPLES, Dataset, describe, found, keep_first, load, noise
from eqnp.data.fetch import fetch
from eqnp.data.locate import find, lasting_folder, lasting_path
from eqnp.data.normalisation import AsGiven, Normalisation
from eqnp.data.own import load_folder, load_npz, statistics
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
    "keep_first",
    "lasting_folder",
    "lasting_path",
    "load",
    "load_folder",
    "load_npz",
    "noise",
    "outline",
    "statistics",
    "take_inputs",
    "take_labels",
    "validation_count",
]
