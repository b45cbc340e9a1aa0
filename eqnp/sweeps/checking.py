"""What is checked of a sweep before its first run begins: networks, data, and how long it may take."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from eqnp.api.fitting import fitted, read_dataset
from eqnp.api.run import outline_of
from eqnp.api.summary import summarize
from eqnp.backends.backend import Backend
from eqnp.data import Dataset
from eqnp.errors import ConfigurationError, DataError, EqnpError
from eqnp.runs.config import Config, Optimizer
from eqnp.runs.experiment import default_threads, make_architecture
from eqnp.sweeps.file import Entry, Sweep

MOST_MEASURED = 8  # networks; each takes a second or two


def check_networks(file: Path, sweep: Sweep) -> None:
    """Check that the layers of every run fit its data and each other, as ``eqnp config check`` does.

    Raises:
        ConfigurationError: the first run whose layers do not.
    """
    for entry in _one_a_row(sweep.entries):
        outline = outline_of(entry.config)
        try:
            make_architecture(entry.config.model, outline.train_images.shape[1:], len(outline.classes))
        except ConfigurationError as error:
            raise ConfigurationError(f"{file}: run {entry.index} ({entry.folder}): {error}") from None


def check_data(file: Path, entries: Iterable[Entry]) -> None:
    """Check that the data of these runs are there, by reading them once.

    Raises:
        ConfigurationError, DataError: the first run whose data are not there, or do not suit it.
    """
    data, dataset = None, None
    for entry in sorted(_one_a_row(entries), key=lambda each: str(each.config.data)):
        try:
            if dataset is None or entry.config.data != data:
                data, dataset = entry.config.data, None  # the one before is freed first
                dataset = read_dataset(entry.config)
            _fit(entry.config, dataset)
        except (ConfigurationError, DataError) as error:
            raise type(error)(f"{file}: run {entry.index} ({entry.folder}): {error}") from None


def _fit(config: Config, dataset: Dataset) -> None:
    if len(dataset.train_images):
        fitted(config, dataset)


def _one_a_row(entries: Iterable[Entry]) -> list[Entry]:
    rows: dict[str, Entry] = {}
    for entry in entries:
        rows.setdefault(entry.row, entry)
    return list(rows.values())


def estimate(entries: Sequence[Entry], backend: Backend, cores: int) -> float | str:
    """Return the seconds that these runs take one after the other, each on ``cores`` cores, or why that is not known.

    A few updates of every network are measured on random inputs; other rates or seeds are not measured again.
    """
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(str(_costs(entry.config)), []).append(entry)
    if len(groups) > MOST_MEASURED:
        return f"not measured: the runs are of {len(groups)} kinds; `eqnp summary` estimates one"
    seconds = 0.0
    for same in groups.values():
        config = same[0].config
        threads = config.training.threads or default_threads(config.model, cores)
        try:
            found = summarize(replace(config, training=replace(config.training, threads=threads)), backend)
        except EqnpError as error:
            return f"not measured: {error}"
        if "run" not in found["time"]:
            return "not measured: the number of samples is not known"
        seconds += len(same) * found["time"]["run"]
    return seconds


def _costs(config: Config) -> Config:
    """Return a configuration without what does not change the time of a run."""
    o, plain = config.optimizer, Optimizer()
    optimizer = replace(plain, name=o.name, momentum=o.momentum, clip_norm=o.clip_norm)
    dynamics = replace(config.dynamics, beta=1.0)
    training = replace(config.training, seed=0)
    return replace(config, name="run", description="", optimizer=optimizer, dynamics=dynamics, training=training)
