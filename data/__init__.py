"""Datasets as NumPy arrays on the host.

Read ``idx`` and ``cifar``, then ``datasets``, ``batches``, ``locate``, ``fetch``.
"""

from eqnp.data.batches import Augmentation, Batches, Normalisation
from eqnp.data.datasets import Dataset, describe, load
from eqnp.data.fetch import fetch

__all__ = ["Augmentation", "Batches", "Dataset", "Normalisation", "describe", "fetch", "load"]
