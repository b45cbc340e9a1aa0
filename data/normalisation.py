"""From what a dataset holds to what a network gets: pixels or floats, shifted and scaled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Normalisation:
    """x = (pixel / 255 - mean) / deviation, with one mean and one deviation per channel (the last axis) or for all."""

    mean: tuple[float, ...] = (0.0,)
    deviation: tuple[float, ...] = (1.0,)

    @classmethod
    def named(cls, name: str, dataset: str) -> Normalisation:
        """Return ``unit`` (pixels / 255) or ``published``: the normalisation of the paper's code for ``dataset``.

        For CIFAR-10: the mean and three times the standard deviation of each channel. For CIFAR-100: the mean and the
        standard deviation of each channel, as in the code of arXiv:2509.26003. For other datasets: ``unit``.
        """
        return _PUBLISHED.get(dataset, cls()) if name == "published" else cls()

    def require(self, images: np.ndarray) -> None:
        """Check that images are what is normalised here.

        Raises:
            ValueError: they are not uint8 (N, H, W, C) or (N, D).
        """
        _require_pixels(images)

    def __call__(self, images: np.ndarray, dtype: Any) -> np.ndarray:
        """Return normalised images: (N, H, W, C) uint8 -> (N, H, W, C) ``dtype``.

        Raises:
            ValueError: the images are not (N, H, W, C) or (N, D) uint8.
        """
        _require_pixels(images)
        mean, deviation = np.array(self.mean), np.array(self.deviation)
        x = images.astype(dtype)
        # For a whole image: with one number per channel, NumPy would work on three numbers at a time.
        x *= np.broadcast_to((1 / (255 * deviation)).astype(dtype), x.shape[1:]).copy()
        x -= np.broadcast_to((mean / deviation).astype(dtype), x.shape[1:]).copy()
        return x


UNIT = Normalisation()  # pixels / 255
_PUBLISHED = {
    "cifar10": Normalisation((0.4914, 0.4822, 0.4465), (3 * 0.2023, 3 * 0.1994, 3 * 0.2010)),
    "cifar100": Normalisation((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
}


class AsGiven(Normalisation):
    """Inputs that are floats, (N, D) or (N, H, W, C): x = (input - mean) / deviation, by default unchanged."""

    def require(self, images: np.ndarray) -> None:
        """Check that inputs are floats.

        Raises:
            ValueError: they are not.
        """
        if images.dtype.kind != "f":
            raise ValueError(f"inputs are {images.dtype}; expected floats, which are used unchanged")

    def __call__(self, images: np.ndarray, dtype: Any) -> np.ndarray:
        """Return the inputs as ``dtype``, shifted and scaled."""
        x: np.ndarray = images.astype(dtype, copy=False)
        if self == AsGiven():
            return x
        x = (x - np.array(self.mean, dtype)) / np.array(self.deviation, dtype)
        return x


def _require_pixels(images: np.ndarray) -> None:
    """Raise a ValueError unless images are (N, H, W, C) or (N, D) uint8: other values would be divided by 255 too."""
    if images.ndim not in (2, 4):
        raise ValueError(f"images are {images.shape}; expected (N, H, W, C), channels last, such as images[..., None]")
    if images.dtype == np.uint8:
        return
    values = cure = ""
    if images.size and images.dtype.kind in "iuf":
        low, high = images.min(), images.max()
        values = f" from {low:.4g} to {high:.4g}"
        if low >= 0 and high <= 255:
            pixels = "(images * 255).round()" if images.dtype.kind == "f" and high <= 1 else "images"
            cure = f": give {pixels}.astype(np.uint8)"
    raise ValueError(
        f"images are {images.dtype}{values}; expected uint8 pixels from 0 to 255, which are divided by 255 here{cure}"
    )
