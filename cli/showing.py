"""What ``eqnp data show`` shows: a summary of a dataset as text, and its images as a contact sheet."""

from __future__ import annotations

import difflib
import json
import os
import textwrap
from pathlib import Path
from typing import Any

import numpy as np

from eqnp.analysis.sheet import choose, contact_sheet
from eqnp.data import Augmentation, Dataset
from eqnp.data.datasets import CLASSES
from eqnp.errors import ConfigurationError
from eqnp.runs.config import Config
from eqnp.runs.configfile import load

ENDINGS = (".png", ".svg", ".pdf")
_PARTS = {"train": "training", "test": "test", "validation": "validation"}


def configuration(source: str, overrides: tuple[str, ...]) -> Config:
    """Return a configuration on the data that ``source`` names.

    ``source`` is a dataset, a .npz file, a folder of images, a run or a TOML file.

    Raises:
        ConfigurationError: it is none of these, or an override is wrong.
    """
    if source in CLASSES:
        return load("digits", (f"data.name={source}", *overrides))
    if source.endswith(".toml") or os.path.isfile(os.path.join(source, "config.toml")):
        return load(source if source.endswith(".toml") else os.path.join(source, "config.toml"), overrides)
    path = json.dumps(source, ensure_ascii=False)
    if os.path.isdir(source):
        return load("digits", ("data.name=folder", f"data.folder={path}", *overrides))
    if source.endswith(".npz") or os.path.isfile(source):
        return load("digits", ("data.name=npz", f"data.file={path}", *overrides))
    near = difflib.get_close_matches(source, CLASSES, 1)
    known = f"choose one of {', '.join(CLASSES)}, or give a .npz file or a folder of images"
    hint = f"did you mean {near[0]!r}?" if near else known
    raise ConfigurationError(f"no dataset, file or folder {source!r}; {hint}")


def sheet_place(out: Path | None, source: str) -> Path:
    """Return the file for the sheet: ``out``, or the last part of ``source`` with .png.

    Raises:
        ConfigurationError: ``out`` has another ending than .png, .svg or .pdf.
    """
    path = out or Path(f"{Path(source).resolve().stem}.png")
    if path.suffix not in ENDINGS:
        raise ConfigurationError(f"--out {path}: the ending must be one of {', '.join(ENDINGS)}")
    return path


def sheet(config: Config, dataset: Dataset, split: str, count: int) -> Any:
    """Return the contact sheet of about ``count`` samples of ``split``: train, test or validation.

    Training images are augmented as configured.

    Raises:
        ConfigurationError: the samples are not images, or there is no such split.
        BackendError: matplotlib is not installed.
    """
    images, labels = _part(dataset, split)
    if images.ndim != 4:
        raise ConfigurationError(f"{dataset.name}: samples of shape {images.shape[1:]} are not images")
    chosen = choose(labels, len(dataset.classes), count)
    shown, d = images[chosen], config.data
    augmentation = Augmentation(d.flip, d.crop, d.randaugment, d.magnitude)
    changed = split == "train" and augmentation != Augmentation(magnitude=d.magnitude)
    if changed:
        shown = augmentation(shown, np.random.default_rng(config.training.seed))
    title = f"{dataset.name}: {len(chosen)} of {len(labels)} {_PARTS[split]} images{', augmented' if changed else ''}"
    return contact_sheet(shown, labels[chosen], dataset.classes, title)


def _part(dataset: Dataset, split: str) -> tuple[np.ndarray, np.ndarray]:
    if split == "validation":
        if dataset.validation_images is None or dataset.validation_labels is None:
            raise ConfigurationError("--split validation: no samples are held out; add --set data.validation=0.1")
        return dataset.validation_images, dataset.validation_labels
    if split == "train":
        return dataset.train_images, dataset.train_labels
    return dataset.test_images, dataset.test_labels


def summary(dataset: Dataset) -> list[tuple[str, str]]:
    """Return rows that say what a dataset holds, and where it was read."""
    held = dataset.validation_labels
    labelled = {"training": dataset.train_labels, "validation": held, "test": dataset.test_labels}
    parts = ", ".join(f"{len(labels)} {part}" for part, labels in labelled.items() if labels is not None)
    shape = " x ".join(map(str, dataset.train_images.shape[1:]))
    counts = np.bincount(dataset.train_labels, minlength=len(dataset.classes))
    each = f"{counts.min()}" if counts.min() == counts.max() else f"{counts.min()} to {counts.max()}"
    names = textwrap.shorten(", ".join(dataset.classes), 60, placeholder=" ...")
    return [
        (dataset.name, f"{parts} samples of {shape}, {dataset.train_images.dtype}"),
        ("classes", f"{len(dataset.classes)}, {each} training samples each: {names}"),
        ("read from", dataset.source),
    ]
