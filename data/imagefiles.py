"""Images in files of a user: PNG and JPEG by Pillow (optional), arrays in .npy files.

Pillow is imported here, for ``eqnp.data.images`` too. Every mistake is a DataError of one line that begins with the
file.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from eqnp.data.arrays import take_inputs
from eqnp.errors import BackendError, DataError
from eqnp.inputs import Shape
from eqnp.runs.storage import open_regular

PICTURES = (".png", ".jpg", ".jpeg")
ENDINGS = (*PICTURES, ".npy")
_MODES = {1: "L", 3: "RGB"}  # Pillow's name of uint8 pixels, by the number of channels
_EIGHT_BITS = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")  # modes that convert to uint8 without loss


def read_images(path: Path, shape: Shape, resize: bool = False) -> np.ndarray:
    """Return the samples in a file as (N, *shape): N = 1 for PNG and JPEG; one or several in .npy.

    ``shape`` is that of a sample, (H, W, C) or (D,). A picture is converted to C channels. ``resize`` scales it to
    (H, W) if it has another size; otherwise another size is an error. Arrays are taken as they are: uint8 or floats.

    Raises:
        DataError: the file is missing, damaged, of another format or of another shape.
        BackendError: a picture needs Pillow, which is not installed.
    """
    ending = path.suffix.lower()
    if not path.is_file():
        raise DataError(f"{path}: {'is a folder, not a file' if path.is_dir() else 'there is no such file'}")
    if ending not in ENDINGS:
        raise DataError(f"{path}: not an image that eqnp reads; give {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}")
    if ending == ".npy":
        return _read_array(path, shape)
    return _read_picture(path, shape, resize)[None]


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


def _read_array(path: Path, shape: Shape) -> np.ndarray:
    try:
        # a damaged header may warn before it fails; np.load would open an archive, too
        with warnings.catch_warnings(action="ignore"), open_regular(path) as file:
            array = np.lib.format.read_array(file, allow_pickle=False)
    except Exception as error:  # NumPy raises anything on damaged bytes, even MemoryError
        raise DataError(f"{path}: damaged or not an array that NumPy saved ({_reason(error)})") from None
    single = array.shape == shape or (len(shape) == 3 and shape[2] == 1 and array.shape == shape[:2])
    try:
        return take_inputs("its array", array[None] if single else array, shape)
    except ValueError as error:
        raise DataError(f"{path}: {error}") from None


def _read_picture(path: Path, shape: Shape, resize: bool) -> np.ndarray:
    """Return a picture as (H, W, C) uint8."""
    if len(shape) != 3 or shape[-1] not in _MODES:
        raise DataError(f"{path}: the network takes samples of shape {shape}, not pictures; give .npy files")
    module = require_pillow()
    height, width, channels = shape
    from PIL import ImageOps

    try:
        with warnings.catch_warnings(action="error"), module.open(path, formats=("PNG", "JPEG")) as picture:
            if picture.size != (width, height) and not resize:
                _require_size(path, picture, width, height)
            if picture.mode not in _EIGHT_BITS:
                raise DataError(f"{path}: its pixels have more than 8 bits ({picture.mode}); save it with 8 bits")
            upright = ImageOps.exif_transpose(picture)
            if upright.has_transparency_data and np.asarray(upright.convert("RGBA"))[..., 3].min() < 255:
                raise DataError(f"{path}: is partly transparent; save it with a background")
            pixels = upright.convert(_MODES[channels])
    except DataError:
        raise
    except Exception as error:  # Pillow raises anything on damaged bytes
        raise DataError(f"{path}: damaged or not a PNG or JPEG picture ({_reason(error)})") from None
    if pixels.size != (width, height):
        if not resize:  # it was turned
            _require_size(path, pixels, width, height)
        pixels = pixels.resize((width, height), module.Resampling.LANCZOS)
    return np.asarray(pixels, np.uint8).reshape(shape)


def _require_size(path: Path, picture: Any, width: int, height: int) -> None:
    """Raise a DataError unless a picture, turned upright, has the size."""
    turned = picture.getexif().get(0x0112, 1) >= 5  # the tag of the orientation: from 5 on, width and height swap
    if (picture.size[::-1] if turned else picture.size) != (width, height):
        raise DataError(
            f"{path}: is {picture.width}x{picture.height} pixels (width x height), the network takes "
            f"{width}x{height}; --resize scales it"
        )


def _reason(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:100]
