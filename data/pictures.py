"""One picture in a PNG or JPEG file, read by Pillow (optional): first what its header says, then its pixels.

Training on a folder of images and `eqnp predict` read pictures here, so that a picture has the same pixels for both.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from eqnp.errors import BackendError, DataError

ENDINGS = (".png", ".jpg", ".jpeg")
MOST_PIXELS = 1 << 26  # of one picture; a file of a few kilobytes may claim more
_GREY, _COLOUR = ("1", "L", "LA"), ("RGB", "RGBA", "P", "PA", "CMYK", "YCbCr")  # Pillow's names of pixel formats
_MODES = {1: "L", 3: "RGB"}  # the format of uint8 pixels, by the number of channels
_ORIENTATION = 0x0112  # the tag of EXIF that says how a picture is turned
_TURNED = (5, 6, 7, 8)  # its values that swap height and width


class Header(NamedTuple):
    """What a picture's file says of it: its size when it stands upright, and whether it is grey."""

    path: Path
    size: tuple[int, int]  # (H, W)
    grey: bool


def require_pillow(missing: str = "PNG and JPEG files need Pillow; `pip install pillow`, or give .npy files") -> Any:
    """Return the module ``PIL.Image``; ``missing`` is the message without it.

    Raises:
        BackendError: Pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError:
        raise BackendError(missing) from None
    return Image


def read_header(path: Path) -> Header:
    """Return what the header of a picture's file says. Pillow must be there (``require_pillow``).

    Raises:
        DataError: it is not a PNG or JPEG file, too large, or has pixels of more than 8 bits.
    """
    with _opened(path) as picture:
        width, height = picture.size
        if width * height > MOST_PIXELS:
            raise DataError(f"{path}: {width} x {height} pixels are too many; make the picture smaller")
        if picture.mode not in (*_GREY, *_COLOUR):
            raise DataError(
                f"{path}: pixels of the format {picture.mode} are not read; save it with 8 bits for each channel"
            )
        try:
            turned = picture.getexif().get(_ORIENTATION) in _TURNED
        except Exception as error:  # Pillow raises anything on damaged bytes
            raise _unreadable(path, error) from None
        return Header(path, (width, height) if turned else (height, width), picture.mode in _GREY)


def read_pixels(header: Header, size: tuple[int, int], channels: int) -> np.ndarray:
    """Return the pixels of a picture upright, resized if it is not of ``size`` (H, W): (H, W, C) uint8, C = 1 or 3.

    Raises:
        DataError: the file is damaged, or has transparent pixels, whose colour would depend on the background.
    """
    from PIL import Image, ImageOps

    with _opened(header.path) as picture:
        try:
            upright = ImageOps.exif_transpose(picture)
            clear = upright.has_transparency_data and np.asarray(upright.convert("RGBA"))[..., 3].min() < 255
            pixels = upright.convert(_MODES[channels])
        except MemoryError:
            raise
        except Exception as error:  # Pillow raises anything on damaged bytes
            raise _unreadable(header.path, error) from None
    if clear:
        raise DataError(f"{header.path}: it has transparent pixels; put it on a background")
    if pixels.size[::-1] != header.size:  # an orientation after the pixels
        raise DataError(f"{header.path}: is {pixels.width} x {pixels.height} when turned upright; save it upright")
    height, width = size
    if header.size != size:
        pixels = pixels.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(pixels, np.uint8).reshape(height, width, channels)


def _opened(path: Path) -> Any:
    from PIL import Image

    try:
        with warnings.catch_warnings(action="ignore"):  # of Pillow, about what is checked here
            return Image.open(path, formats=("PNG", "JPEG"))
    except Exception as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> DataError:
    reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:100] or type(error).__name__
    return DataError(f"{path}: damaged or not a PNG or JPEG picture ({reason}); replace it")
