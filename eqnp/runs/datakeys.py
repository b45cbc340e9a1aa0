"""Which keys of the table ``[data]`` belong together."""

from __future__ import annotations

from typing import Any

from eqnp.errors import ConfigurationError

OWN_DATA = ("npz", "folder", "arrays")  # data of the user: shape and classes are known once they are read
# The datasets that a key belongs to, and how it is left out if not as [].
_BELONG = {"file": ("npz",), "resize": ("folder",), "shape": OWN_DATA, "classes": OWN_DATA}
_NONE = {"file": "''", "resize": "0"}


def check_data(d: Any) -> None:
    """Check that the keys of ``d``, the table ``[data]`` (``eqnp.runs.config.Data``), belong together.

    Raises:
        ConfigurationError: the first keys that do not.
    """
    _check_place(d)
    _check_samples(d)
    _check_scale(d)


def _check_place(d: Any) -> None:
    """Check that what names and places the data belongs together."""
    if d.name == "arrays" and len(d.shape) not in (1, 3):
        raise ConfigurationError(
            "data.name: arrays are given in Python, eqnp.train(..., data=...); name a dataset here"
        )
    if d.name == "npz" and not d.file:
        raise ConfigurationError("data.file: name your file: --set data.file=FILE.npz")
    if d.name == "folder" and not d.folder:
        raise ConfigurationError("data.folder: name the folder that has train and test in it: --set data.folder=FOLDER")
    foreign = [what for what, names in _BELONG.items() if any(getattr(d, what)) and d.name not in names]
    if foreign:
        names = _BELONG[foreign[0]]
        without = " ".join(f"--set data.{what}={_NONE.get(what, '[]')}" for what in foreign)
        raise ConfigurationError(
            f"data.{foreign[0]}: needs data.name = {' or '.join(names)}; with {d.name} add {without}"
        )
    if bool(d.resize[0]) != bool(d.resize[1]):
        raise ConfigurationError(f"data.resize: {list(d.resize)} has one size of 0; give two sizes, or 0 for none")
    for what in ("folder", "file"):
        if any(c < " " for c in getattr(d, what)):
            raise ConfigurationError(
                f"data.{what}: {getattr(d, what)!r} contains control characters (in double quotes a backslash begins "
                "an escape); give the path without quotes or in single quotes"
            )


def _check_samples(d: Any) -> None:
    """Check that shape and names of classes are possible, and that augmentation suits the shape."""
    if d.shape and len(d.shape) not in (1, 3):
        raise ConfigurationError(f"data.shape: {list(d.shape)} is neither [H, W, C] nor [D]")
    if len(set(d.classes)) < len(d.classes):
        raise ConfigurationError("data.classes: two classes have the same name")
    if (d.flip or d.crop or d.randaugment) and len(d.shape) == 1:
        raise ConfigurationError(
            "data.flip, data.crop and data.randaugment: need images, not samples of shape (D,); set all to 0"
        )
    if d.randaugment and d.shape and d.shape[2] not in (1, 3):
        raise ConfigurationError(f"data.randaugment: needs images of 1 or 3 channels, not {d.shape[2]}")


def _check_scale(d: Any) -> None:
    """Check that the normalisation belongs to the data, and mean and deviation to the normalisation."""
    if d.normalisation == "none" and d.name not in ("arrays", "npz"):
        raise ConfigurationError("data.normalisation: none needs data.name = arrays or npz, of floats")
    if d.normalisation == "none" and d.randaugment:
        raise ConfigurationError("data.randaugment: needs uint8 pixels, not floats")
    if d.normalisation == "published" and d.name in OWN_DATA:
        raise ConfigurationError("data.normalisation: published needs a published dataset; take unit or standard")
    if len(d.mean) != len(d.deviation):
        raise ConfigurationError(
            f"data.mean and data.deviation: {len(d.mean)} and {len(d.deviation)} numbers; give one for each channel"
        )
    if d.mean and d.normalisation not in ("standard", "none"):
        raise ConfigurationError("data.mean and data.deviation: need data.normalisation = standard")
    if d.mean and d.shape and len(d.mean) not in (1, d.shape[-1]):
        raise ConfigurationError(
            f"data.mean and data.deviation: {len(d.mean)} numbers, but the samples have {d.shape[-1]} channels"
        )
