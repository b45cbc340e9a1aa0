"""A folder of images as a dataset: ``train/CLASS/*`` and ``test/CLASS/*``, PNG or JPEG, read by Pillow (optional).

Sizes come from the headers of the files, before any pixel is decoded. ``eqnp.data.pictures`` reads each file.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from eqnp.data.npz import require_memory
from eqnp.data.pictures import ENDINGS, Header, read_header, read_pixels, require_pillow
from eqnp.errors import DataError

OTHER_IMAGES = (".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".npy")


class ImageFolder(NamedTuple):
    """Images of one shape, (N, H, W, C) uint8, with labels (N,) int64, and the names of the classes."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    classes: tuple[str, ...]


def read_images(folder: Path, resize: tuple[int, int] = (0, 0)) -> ImageFolder:
    """Return the images in ``folder``: one channel if all are grey, else three.

    A subfolder of ``train`` is a class; classes are sorted by name, and so are the files of a class. The samples
    alternate between the classes, so that the first N of them have all classes. ``resize`` is the size (H, W) to which
    images are resized; (0, 0): they must have the same size.

    Raises:
        BackendError: Pillow is not installed.
        DataError: no such folders, no images, images of different sizes, or one that cannot be read.
    """
    require_pillow("data.name = folder: reading images needs Pillow; `pip install pillow`")
    train = _classes(folder, "train")
    test = _classes(folder, "test")
    if unknown := [name for name in test if name not in train]:
        raise DataError(f"{folder / 'test' / unknown[0]}: this class is not in train, which has {_some(train)}")
    listed = [_in_turn(train), _in_turn({name: test.get(name, []) for name in train})]
    headers = [[read_header(path) for path, _ in each] for each in listed]
    size = resize if any(resize) else _one_size([*headers[0], *headers[1]])
    channels = 1 if all(header.grey for header in chain(*headers)) else 3
    require_memory(folder, sum(map(len, headers)) * size[0] * size[1] * channels)
    x, tx = (_decode(each, size, channels) for each in headers)
    y, ty = (np.array([label for _, label in each], np.int64) for each in listed)
    return ImageFolder(x, y, tx, ty, tuple(train))


def _classes(folder: Path, part: str) -> dict[str, list[Path]]:
    """Return the image files of every class of ``part``, train or test, sorted by name."""
    place = folder / part
    try:
        inside = sorted(entry.name for entry in os.scandir(place) if entry.is_dir() and entry.name[0] != ".")
        for name in inside:
            if not name.isprintable():  # or not UTF-8
                raise DataError(f"{place}: the folder {name!a} needs another name, of printable characters in UTF-8")
        classes = {name: _files(place / name) for name in inside}
    except FileNotFoundError:
        has = f"it has {_some(sorted(os.listdir(folder)))}" if os.path.isdir(folder) else f"{folder} does not exist"
        raise DataError(f"{place}: no such folder; images belong in train/CLASS and test/CLASS, but {has}") from None
    except OSError as error:
        raise DataError(f"{error.filename or place}: cannot be read ({error.strerror})") from None
    if not classes:
        raise DataError(f"{place}: has no folders; put the images of each class in a folder of its name")
    if not any(classes.values()):
        raise DataError(f"{place}: has no PNG or JPEG images in its folders ({_some(inside)})")
    if part == "train" and (empty := [name for name, files in classes.items() if not files]):
        raise DataError(f"{place / empty[0]}: has no PNG or JPEG images; remove the folder, or put images there")
    return classes


def _files(folder: Path) -> list[Path]:
    """Return the PNG and JPEG files in a folder and below it, sorted; images of other kinds are an error."""
    found = []
    for place, below, names in os.walk(folder, onerror=_raise):
        below[:] = sorted(name for name in below if name[0] != ".")
        for name in sorted(names):
            ending = os.path.splitext(name)[1].lower()
            if ending in OTHER_IMAGES and name[0] != ".":
                raise DataError(f"{os.path.join(place, name)}: only PNG and JPEG are read; convert it, or remove it")
            if ending in ENDINGS and name[0] != ".":
                found.append(Path(place, name))
    return found


def _raise(error: OSError) -> None:
    raise error


def _in_turn(classes: dict[str, list[Path]]) -> list[tuple[Path, int]]:
    """Return (file, label) of all files: the first of every class, then the second of every class, and so on."""
    labelled = [[(path, label) for path in files] for label, files in enumerate(classes.values())]
    return [each for each in chain(*zip_longest(*labelled)) if each is not None]


def _one_size(headers: Sequence[Header]) -> tuple[int, int]:
    first = headers[0]
    for other in headers:
        if other.size != first.size:
            (h, w), (other_h, other_w) = first.size, other.size
            raise DataError(
                f"{first.path} is {w} x {h} and {other.path} {other_w} x {other_h}: images must have one size; "
                f"--set data.resize={min(h, w)} resizes all to {min(h, w)} x {min(h, w)}"
            )
    return first.size


def _decode(headers: Sequence[Header], size: tuple[int, int], channels: int) -> np.ndarray:
    """Return the pixels of the files: (N, H, W, C) uint8."""
    pixels = np.empty((len(headers), *size, channels), np.uint8)
    for n, header in enumerate(headers):
        pixels[n] = read_pixels(header, size, channels)
    return pixels


def _some(names: Sequence[str] | dict[str, Any]) -> str:
    """Return the first few names."""
    few = list(names)[:5]
    return ", ".join(few) + (", ..." if len(names) > len(few) else "") if few else "nothing"
