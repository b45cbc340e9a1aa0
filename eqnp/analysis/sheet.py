"""A contact sheet: images in a grid, each with the name of its class, drawn by matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from eqnp.analysis.plots import new_figure, set_title

COLUMNS = 10
CELL = 0.85  # inches from one image to the next
LABEL = 0.26  # height of a label, relative to the width of a cell
LETTERS = 13  # of a label that fit above an image


def choose(labels: np.ndarray, classes: int, count: int) -> np.ndarray:
    """Return about ``count`` indices into ``labels`` (N,), sorted by class: the first samples of every class.

    Of every class come equally many, and as many as fill rows where that is possible. With more classes than
    ``count``: one of each of the first classes.
    """
    each = max(1, count // classes)
    each = each // COLUMNS * COLUMNS or each
    by_class = [np.flatnonzero(labels == n)[:each] for n in range(min(classes, count))]
    return np.concatenate(by_class)


def contact_sheet(images: np.ndarray, labels: np.ndarray, classes: Sequence[str], title: str) -> Any:
    """Draw images (N, H, W, C), uint8 or floats, with the names of their classes. Channels other than 3 are averaged.

    Floats are stretched: the smallest is black, the largest white.

    Raises:
        BackendError: matplotlib is not installed.
    """
    h, w = images.shape[1:3]
    rows, height = -(-len(images) // COLUMNS), h / w + LABEL
    inches = {"width": CELL * COLUMNS, "height": CELL * rows * height + 0.4}
    figure, axes = new_figure(1, **inches, otherwise="")
    axis = axes[0, 0]
    for n, (image, label) in enumerate(zip(_shown(images), labels, strict=True)):
        left, top = n % COLUMNS, n // COLUMNS * height + LABEL
        axis.imshow(image, extent=(left, left + 0.94, top + 0.94 * h / w, top), cmap="gray", vmin=0, vmax=1)
        axis.text(left + 0.47, top - 0.04, _short(classes[label]), fontsize=6, ha="center", va="bottom")
    axis.set_xlim(0, COLUMNS)
    axis.set_ylim(rows * height, 0)
    axis.set_aspect("equal")
    axis.axis("off")
    set_title(figure, title)
    return figure


def _shown(images: np.ndarray) -> np.ndarray:
    """Return images from 0 to 1, (N, H, W, 3) or (N, H, W)."""
    low, high = (0, 255) if images.dtype == np.uint8 else (images.min(), images.max())
    x = (images - float(low)) / max(float(high) - float(low), 1e-12)
    return x if x.shape[3] == 3 else x.mean(axis=3)


def _short(name: str) -> str:
    """Return a name that fits above an image; a dollar sign in it does not start TeX."""
    return (name if len(name) <= LETTERS else name[: LETTERS - 1] + "…").replace("$", r"\$")
