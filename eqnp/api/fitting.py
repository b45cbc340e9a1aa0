"""What a configuration takes over from the user's data: shape, names of classes, units of the last layer, and scale.

A run stores it, so that its weights can be used without the data, and so that other data are noticed.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from eqnp.data import Dataset, hold_out, keep_first, load, load_folder, load_npz, outline, statistics
from eqnp.errors import ConfigurationError, DataError
from eqnp.runs.config import Config, Data, check
from eqnp.runs.datakeys import OWN_DATA

OWN = ("npz", "folder")  # data of the user in files


def read_dataset(config: Config) -> Dataset:
    """Return the dataset that a configuration names, with its validation set.

    Raises:
        DataError: not found or damaged, or of another shape or other classes than the configuration has.
    """
    d, train_samples = config.data, 0 if config.data.validation else config.data.train_samples
    if d.name in OWN:
        dataset = load_npz(d.file, d.classes) if d.name == "npz" else load_folder(d.folder, d.resize)
        _require_same(d, dataset)
        dataset = keep_first(dataset, train_samples, d.test_samples)
    else:
        dataset = load(d.name, d.folder or None, train_samples, d.test_samples)
    return hold_out(dataset, d.validation, config.training.seed, d.train_samples) if d.validation else dataset


def fitted(config: Config, dataset: Dataset) -> Config:
    """Return the configuration with what it takes over from ``dataset``, which it names.

    Of a .npz file or a folder: shape and classes; the last layer gets a unit for each class; floats are used
    unchanged. With ``data.normalisation = "standard"``: mean and deviation of the training samples, unless given.

    Raises:
        ConfigurationError: the configuration does not suit the data.
    """
    d, model, x = config.data, config.model, dataset.train_images
    if d.name in OWN:
        *layers, last = model.layers
        if last.dense:
            model = replace(model, layers=(*layers, replace(last, dense=len(dataset.classes))))
        d = replace(d, shape=x.shape[1:], classes=dataset.classes)
    if d.normalisation == "standard" and not d.mean:
        mean, deviation = statistics(x)
        d = replace(d, mean=mean, deviation=deviation)
    if d.name in OWN_DATA and x.dtype != np.uint8:
        d = replace(d, normalisation="none")
    elif d.normalisation == "none":
        raise ConfigurationError(f"data.normalisation: none needs floats; {dataset.source} has uint8 pixels")
    config = replace(config, data=d, model=model)
    check(config)
    return config


def fitted_outline(config: Config) -> tuple[Config, Dataset]:
    """Return the configuration as a run would have it, and a dataset with the shape and the classes of its data.

    Only a file or a folder of the user whose shape is not in the configuration is read; the samples are then there.

    Raises:
        ConfigurationError: the configuration does not suit the data.
        DataError: the user's data are not found or damaged.
    """
    d = config.data
    if d.name in OWN and not (d.shape and d.classes):
        dataset = read_dataset(config)
        return fitted(config, dataset), dataset
    return config, outline(d.name, d.shape, config.model.layers[-1].dense, d.classes)


def _require_same(d: Data, dataset: Dataset) -> None:
    """Check that data have the shape and the classes that the configuration has, if it has them."""
    shape, classes = dataset.train_images.shape[1:], dataset.classes
    anew = "which the start of a run sets; for a new run: --set data.shape=[] --set data.classes=[]"
    if d.shape and shape != d.shape:
        raise DataError(f"{dataset.source}: samples are {shape}, but data.shape is {d.shape}, {anew}")
    if d.classes and classes != d.classes:
        n = next((n for n, (a, b) in enumerate(zip(classes, d.classes, strict=False)) if a != b), None)
        first = "" if n is None else f"; class {n} is {classes[n]!r} instead of {d.classes[n]!r}"
        raise DataError(
            f"{dataset.source}: has {len(classes)} classes, but data.classes has {len(d.classes)}{first}, {anew}"
        )
