"""Images in files of a user: PNG and JPEG by Pillow (optional), arrays in .npy files.

Every mistake is a DataError of one line that begins with the file.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from eqnp.data.arrays import take_inputs
from eqnp.data.pictures import ENDINGS as PICTURES
from eqnp.data.pictures import read_header, read_pixels, require_pillow
from eqnp.errors import DataError
from eqnp.inputs import Shape
from eqnp.runs.storage import open_regular

ENDINGS = (*PICTURES, ".npy")


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
    if len(shape) != 3 or shape[-1] not in (1, 3):
        raise DataError(f"{path}: the network takes samples of shape {shape}, not pictures; give .npy files")
    require_pillow()
    header, (height, width, channels) = read_header(path), shape
    if header.size != (height, width) and not resize:
        raise DataError(
            f"{path}: is {header.size[1]}x{header.size[0]} pixels (width x height), the network takes "
            f"{width}x{height}; --resize scales it"
        )
    return read_pixels(header, (height, width), channels)


def _reason(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:100]
