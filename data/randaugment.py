"""RandAugment (Cubuk et al., 2019, arXiv:1909.13719): a few operations on each image, drawn from fourteen.

The operations, their order and their strengths are those of torchvision's default space with 31 bins, and Pillow's
definitions of them: nearest neighbour, black where there is no image, fractions cut off. All work on a batch at once:
images (N, H, W, C) uint8, C = 1 or 3. ``share`` is magnitude / 30, negative half of the time for operations with a
sign. Letters: y and x are rows and columns at the centres of pixels.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

STRONGEST = 30  # the largest magnitude; a magnitude is one of 31 bins
_FARTHEST = 150 / 331  # translation at the strongest magnitude, relative to the size of the image
_GREY = (19595, 38470, 7471)  # weights of red, green and blue in units of 1/65536


def identity(images: np.ndarray, share: float) -> np.ndarray:
    """Return the images unchanged."""
    return images


def shear_x(images: np.ndarray, share: float) -> np.ndarray:
    """Take every pixel from x + 0.3 share y."""
    y, x = _centres(images)
    return _gather(images, y, x + 0.3 * share * y)


def shear_y(images: np.ndarray, share: float) -> np.ndarray:
    """Take every pixel from y + 0.3 share x."""
    y, x = _centres(images)
    return _gather(images, y + 0.3 * share * x, x)


def translate_x(images: np.ndarray, share: float) -> np.ndarray:
    """Move the images to the right by a whole number of pixels, at most 45 % of the width."""
    y, x = _centres(images)
    return _gather(images, y, x - int(_FARTHEST * images.shape[2] * share))


def translate_y(images: np.ndarray, share: float) -> np.ndarray:
    """Move the images down by a whole number of pixels, at most 45 % of the height."""
    y, x = _centres(images)
    return _gather(images, y - int(_FARTHEST * images.shape[1] * share), x)


def rotate(images: np.ndarray, share: float) -> np.ndarray:
    """Rotate the images about their centre by 30 share degrees, counterclockwise."""
    h, w = images.shape[1:3]
    y, x = _centres(images)
    y, x = y - h / 2, x - w / 2
    cos, sin = np.cos(np.radians(30 * share)), np.sin(np.radians(30 * share))
    return _gather(images, sin * x + cos * y + h / 2, cos * x - sin * y + w / 2)


def brightness(images: np.ndarray, share: float) -> np.ndarray:
    """Move every pixel away from black."""
    return _blend(np.zeros((1, 1, 1, 1), np.uint8), images, share)


def color(images: np.ndarray, share: float) -> np.ndarray:
    """Move every pixel away from its grey value. Images of one channel stay."""
    return images if images.shape[3] == 1 else _blend(_grey(images), images, share)


def contrast(images: np.ndarray, share: float) -> np.ndarray:
    """Move every pixel away from the mean grey value of its image, rounded."""
    mean = np.floor(_grey(images).mean(axis=(1, 2, 3), keepdims=True) + 0.5)
    return _blend(mean.astype(np.uint8), images, share)


def sharpness(images: np.ndarray, share: float) -> np.ndarray:
    """Move every pixel away from the weighted mean of its 3x3 window (weights 1, centre 5). The border stays."""
    smooth, wide = images.copy(), images.astype(np.int32)
    h, w = images.shape[1:3]
    if h > 2 and w > 2:
        total = 4 * wide[:, 1:-1, 1:-1]
        for i in range(3):
            for j in range(3):
                total = total + wide[:, i : h - 2 + i, j : w - 2 + j]
        smooth[:, 1:-1, 1:-1] = (2 * total + 13) // 26  # total / 13, rounded
    return _blend(smooth, images, share)


def posterize(images: np.ndarray, share: float) -> np.ndarray:
    """Keep the upper 8 to 4 bits of every pixel."""
    return images & np.uint8(256 - 2 ** round(4 * share))


def solarize(images: np.ndarray, share: float) -> np.ndarray:
    """Invert all pixels from 255 (1 - share) on."""
    return np.where(images < 255 - 255 * share, images, 255 - images)


def autocontrast(images: np.ndarray, share: float) -> np.ndarray:
    """Stretch every channel of every image to 0 .. 255."""
    low, high = (end(images, axis=(1, 2), keepdims=True).astype(np.float64) for end in (np.min, np.max))
    scale = 255 / np.where(high > low, high - low, 255)
    offset = np.where(high > low, -low * scale, 0)
    return np.clip(images * scale + offset, 0, 255).astype(np.uint8)


def equalize(images: np.ndarray, share: float) -> np.ndarray:
    """Spread the values of every channel of every image, so that all are about equally frequent."""
    n, h, w, c = images.shape
    flat = images.transpose(0, 3, 1, 2).reshape(n * c, h * w)
    rows = np.arange(n * c)[:, None]
    counts = np.bincount((256 * rows + flat).ravel(), minlength=256 * n * c).reshape(n * c, 256)
    step = (h * w - counts[rows[:, 0], flat.max(axis=1)])[:, None] // 255
    below = counts.cumsum(axis=1) - counts
    table = np.where(step > 0, np.minimum((step // 2 + below) // np.maximum(step, 1), 255), np.arange(256))
    equal = table.astype(np.uint8)[rows, flat]
    return np.ascontiguousarray(equal.reshape(n, c, h, w).transpose(0, 2, 3, 1))


Operation = Callable[[np.ndarray, float], np.ndarray]
# The operations, and whether their strength has a sign.
OPERATIONS: tuple[tuple[Operation, bool], ...] = (
    (identity, False),
    (shear_x, True),
    (shear_y, True),
    (translate_x, True),
    (translate_y, True),
    (rotate, True),
    (brightness, True),
    (color, True),
    (contrast, True),
    (sharpness, True),
    (posterize, False),
    (solarize, False),
    (autocontrast, False),
    (equalize, False),
)


def draw(generator: np.random.Generator, samples: int, count: int) -> np.ndarray:
    """Return choices (samples, count) uint8: twice the number of an operation, plus 1 for a negative strength."""
    return generator.integers(0, 2 * len(OPERATIONS), (samples, count), np.uint8)


def randaugment(images: np.ndarray, choices: np.ndarray, magnitude: int) -> np.ndarray:
    """Return the images (N, H, W, C) uint8 after the operations of ``choices`` (N, count), one after the other.

    The images with the same choice are computed at once. No image depends on another one.
    """
    images = images.copy()
    for column in choices.T:
        for choice in np.unique(column):
            rows = np.flatnonzero(column == choice)
            operation, signed = OPERATIONS[choice // 2]
            share = magnitude / STRONGEST * (-1 if signed and choice % 2 else 1)
            images[rows] = operation(images[rows], share)
    return images


def _centres(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows (H, 1) and columns (1, W) of the centres of the pixels."""
    h, w = images.shape[1:3]
    return np.arange(h)[:, None] + 0.5, np.arange(w)[None, :] + 0.5


def _gather(images: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return the pixel under every place (y, x), each broadcast to (H, W); 0 outside the image."""
    h, w = images.shape[1:3]
    rows, columns = (np.floor(each).astype(np.int64) for each in np.broadcast_arrays(y, x))
    inside = (rows >= 0) & (rows < h) & (columns >= 0) & (columns < w)
    taken: np.ndarray = images[:, rows.clip(0, h - 1), columns.clip(0, w - 1)]
    return np.where(inside[None, :, :, None], taken, np.uint8(0))


def _blend(from_: np.ndarray, images: np.ndarray, share: float) -> np.ndarray:
    """Return from_ + (1 + 0.9 share) (images - from_), cut to whole numbers from 0 to 255."""
    start = from_.astype(np.float32)
    return np.clip(start + np.float32(1 + 0.9 * share) * (images - start), 0, 255).astype(np.uint8)


def _grey(images: np.ndarray) -> np.ndarray:
    """Return the grey value of every pixel: (N, H, W, C) -> (N, H, W, 1)."""
    if images.shape[3] == 1:
        return images
    total: np.ndarray = images.astype(np.int32) @ np.array(_GREY, np.int32)
    return np.expand_dims((total + (1 << 15)) >> 16, -1).astype(np.uint8)
