"""Datasets as NumPy arrays on the host.

Read ``idx`` and ``cifar``, then ``datasets``, ``validation``, ``batches``, ``locate``, ``fetch``.
"""

from eqnp.data.batches import Augmentation, Batches, Normalisation
from eqnp.data.datasets import SAMPLES, Dataset, describe, found, load, noise
from eqnp.data.fetch import fetch
from eqnp.data.validation import hold_out, validation_count

__all__ = [
    "SAMPLES",
    "Augmentation",
    "Batches",
    "Dataset",
    "Normalisation",
    "describe",
    "fetch",
    "found",
    "hold_out",
    "load",
    "noise",
    "validation_count",
]
