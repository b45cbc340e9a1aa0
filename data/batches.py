"""Batches as functions of (seed, epoch, index): order, augmentation, normalisation.

There is no generator with a state, so a resumed run replays nothing and another thread can prepare the next batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from eqnp.data.normalisation import UNIT, Normalisation
from eqnp.data.randaugment import draw, randaugment

# The purpose of a random stream; with (seed, epoch) it seeds a separate generator. 3 is that of the validation set.
_ORDER, _AUGMENTATION, _RANDAUGMENT = 1, 2, 4


@dataclass(frozen=True)
class Augmentation:
    """Random changes of images, in this order.

    Mirror half of the images (``flip``); apply ``operations`` of RandAugment's operations, of this ``magnitude`` (0 to
    30), to each; pad all by ``crop`` pixels of edge and crop.
    """

    flip: bool = False
    crop: int = 0
    operations: int = 0
    magnitude: int = 9

    def require(self, images: np.ndarray) -> None:
        """Check that these images can be augmented.

        Raises:
            ValueError: RandAugment of anything but uint8 images (N, H, W, C) of 1 or 3 channels.
        """
        if self.operations and (images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3)):
            raise ValueError(
                f"RandAugment needs uint8 images of 1 or 3 channels; these are {images.dtype} {images.shape[1:]}"
            )

    def choose(self, generator: np.random.Generator, samples: int) -> np.ndarray:
        """Return RandAugment's choices for ``samples`` images, (samples, operations)."""
        return draw(generator, samples, self.operations)

    def __call__(
        self,
        images: np.ndarray,
        generator: np.random.Generator,
        choices: np.ndarray | None = None,
        within: tuple[int, slice] | None = None,
    ) -> np.ndarray:
        """Return augmented images, each drawn independently: (N, H, W, C) -> (N, H, W, C).

        ``choices`` (N, operations) are RandAugment's, from ``choose``; None: they are drawn from ``generator`` too.
        ``within`` (samples, part) says that the images are a part of so many: they get the flips and crops of that
        part.
        """
        if not (self.flip or self.crop or self.operations):
            return images
        n, (h, w) = len(images), images.shape[1:3]
        drawn, part = within or (n, slice(None))
        if self.flip:
            mirrored = (generator.random(drawn) < 0.5)[part]
            images = images.copy()
            images[mirrored] = images[mirrored][:, :, ::-1]
        if self.operations:
            choices = self.choose(generator, n) if choices is None else choices
            images = randaugment(images, choices, self.magnitude)
        if self.crop:
            top, left = generator.integers(0, 2 * self.crop + 1, (2, drawn))[:, part].tolist()
            border = (self.crop, self.crop)
            padded = np.pad(images, ((0, 0), border, border, (0, 0)), mode="edge")
            # Slices are several times as fast as one index that gathers every pixel.
            parts = [image[i : i + h, j : j + w] for image, i, j in zip(padded, top, left, strict=True)]
            images = np.stack(parts) if parts else images
        return images


class Batches:
    """The batches of an epoch: shuffled and augmented for training, or ``in_order`` and unchanged for evaluation.

    ``images`` are (N, H, W, C) uint8, ``labels`` (N,). An epoch has ``samples`` = N samples in ``count`` batches; the
    last one may be smaller.

    Raises:
        ValueError: ``normalisation`` or ``augmentation`` does not take the images, labels are not (N,), or the batch
            size is below 1.
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        batch_size: int,
        *,
        normalisation: Normalisation = UNIT,
        augmentation: Augmentation = Augmentation(),
        seed: int = 0,
        dtype: Any = np.float32,
        in_order: bool = False,
    ) -> None:
        normalisation.require(images)
        augmentation.require(images)
        if labels.shape != images.shape[:1]:
            raise ValueError(f"{len(images)} images need labels ({len(images)},), not an array {labels.shape}")
        if batch_size < 1:
            raise ValueError(f"a batch size of {batch_size}; it must be at least 1")
        self.images = images
        self.labels = labels
        self.batch_size = batch_size
        self.normalisation = normalisation
        self.augmentation = augmentation
        self.seed = seed
        self.dtype = np.dtype(dtype)
        self.in_order = in_order
        self.samples = len(images)
        self.count = -(-len(images) // batch_size)
        self._order: tuple[int, np.ndarray] = (-1, np.empty(0, np.int64))  # the last epoch and its order
        self._choices: tuple[int, np.ndarray] = (-1, np.empty((0, 0), np.uint8))  # and its choices of RandAugment

    def batch(
        self, epoch: int, index: int, first: int | None = None, part: slice | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return batch ``index`` of an epoch: inputs (N, H, W, C), labels (N,).

        It begins at sample ``first`` of the epoch's order, by default at ``index`` times the batch size. The order is a
        function of (seed, epoch), flips and crops of (seed, epoch, index), and RandAugment of (seed, epoch, sample).
        Of its samples only those of ``part`` are prepared, as they are in the whole (None: all).
        """
        first = index * self.batch_size if first is None else first
        chosen = self._permutation(epoch)[first : first + self.batch_size]
        samples, part = len(chosen), part or slice(0, len(chosen))
        chosen = chosen[part]
        images = self.images[chosen]
        if not self.in_order:
            generator = np.random.default_rng([self.seed, _AUGMENTATION, epoch, index])
            images = self.augmentation(images, generator, self._randaugment(epoch, chosen), (samples, part))
        return self.normalisation(images, self.dtype), self.labels[chosen]

    def _permutation(self, epoch: int) -> np.ndarray:
        if self.in_order:
            return np.arange(len(self.images))
        if self._order[0] != epoch:
            generator = np.random.default_rng([self.seed, _ORDER, epoch])
            self._order = (epoch, generator.permutation(len(self.images)))
        return self._order[1]

    def _randaugment(self, epoch: int, chosen: np.ndarray) -> np.ndarray | None:
        """Return RandAugment's choices for the ``chosen`` samples in an epoch, whatever batch they are in."""
        if not self.augmentation.operations:
            return None
        drawn_for, choices = self._choices
        if drawn_for != epoch:
            generator = np.random.default_rng([self.seed, _RANDAUGMENT, epoch])
            choices = self.augmentation.choose(generator, len(self.images))
            self._choices = (epoch, choices)
        return np.take(choices, chosen, axis=0)
