"""A survey of runs: rows of runs that differ in their seed alone, with mean and spread, beside published figures."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from eqnp.api.plotting import read_curves
from eqnp.api.poster import is_full_size, method_of, published
from eqnp.errors import ConfigurationError, EqnpError
from eqnp.runs.changes import differences, flat, is_of_measuring, resumable
from eqnp.runs.config import Config
from eqnp.runs.configfile import load
from eqnp.runs.runfolder import RunFolder

# Keys that do not make another row: the seed, names, and how the same numbers are computed.
_FREE_IN_SWEEPS = frozenset({"name", "description", "training.seed"})
_FREE = _FREE_IN_SWEEPS | {
    "data.folder",
    "data.mean",  # of the samples that the validation set left, which the seed chooses
    "data.deviation",
    "training.threads",
    "training.shards",
    "training.memory_gb",
    "training.convolution",
    "training.kernels",
    "training.products",
    "training.check_every",
    "training.max_minutes",
    "dynamics.check_every",
}

_LONGER = {"training.epochs", "training.patience", "optimizer.T_max"}  # a run may be resumed for more epochs


@dataclass(frozen=True)
class Cell:
    """One run. ``status`` is ``finished``, ``unfinished`` or ``failed``; errors are in percent, of the last epoch.

    With a validation set ``test_error`` is that of best.h5, which the validation set chose.
    """

    run: str
    seed: int
    status: str
    reason: str
    """Why it is not finished; of a finished run empty, or that training.patience ended it or that keys changed."""
    epochs: int
    of: int
    test_error: float | None
    train_error: float | None
    seconds: float | None
    """Of training, in the last epoch."""
    config: Config


@dataclass(frozen=True)
class Planned:
    """A run that a sweep is to make."""

    config: Config
    row: str
    """The name of its row: runs of a sweep that differ in their seed alone."""
    failed: str = ""
    """The line of the error with which its last process ended, if it failed."""


@dataclass(frozen=True)
class Row:
    """Runs with one configuration and several seeds."""

    name: str
    method: str
    cells: tuple[Cell, ...]
    differs: str
    """What tells it from other rows of the same name and method: keys and values."""
    published: tuple[float, float] | None
    """The poster's test error and its standard deviation for this method."""
    full_size: bool
    """Whether the runs have the poster's dataset, network and number of epochs."""

    @property
    def finished(self) -> list[float]:
        """The test errors of the finished runs."""
        return [c.test_error for c in self.cells if c.status == "finished" and c.test_error is not None]

    @property
    def mean(self) -> float | None:
        """The mean test error of the finished runs; None if there are none."""
        return mean(self.finished) if self.finished else None

    @property
    def spread(self) -> float | None:
        """The standard deviation (n - 1) over the finished runs; None for fewer than two."""
        return stdev(self.finished) if len(self.finished) > 1 else None


@dataclass(frozen=True)
class Survey:
    """Rows in the order of their first runs, and the folders that are no runs or cannot be read, with the reason."""

    rows: tuple[Row, ...]
    unreadable: dict[str, str] = field(default_factory=dict)


def survey(paths: Sequence[str | Path], planned: Mapping[str, Planned] | None = None) -> Survey:
    """Return a survey of the runs in the folders ``paths``.

    ``planned`` are those, by their paths, that a sweep is to make: a run that has not begun is shown, too.

    Raises:
        ConfigurationError: none of them is a run that can be read.
    """
    groups: dict[tuple[Any, ...], list[Cell]] = {}
    configs: list[tuple[Config, frozenset[str]]] = []  # of the rows, and the keys that do not tell them apart
    unreadable: dict[str, str] = {}
    for path in dict.fromkeys(map(str, paths)):
        plan = (planned or {}).get(path)
        try:
            cell = cell_of(path) if plan is None else _planned_cell(path, plan)
        except EqnpError as error:
            unreadable[path] = str(error).removeprefix(f"{path}: ")
            continue
        key = ("planned", plan.row) if plan else _key(cell.config)
        if key not in groups:
            configs.append((plan.config, _FREE_IN_SWEEPS) if plan else (cell.config, _FREE))
        groups.setdefault(key, []).append(cell)
    if not groups:
        raise ConfigurationError(next(f"{path}: {reason}" for path, reason in unreadable.items()))
    return Survey(tuple(_rows(list(groups.values()), configs)), unreadable)


def _planned_cell(path: str, plan: Planned) -> Cell:
    """Return the state of a run of a sweep, which may not have begun."""
    if not os.path.lexists(RunFolder(path).config_path):
        status, reason = ("failed", plan.failed) if plan.failed else ("unfinished", "not started")
        epochs = plan.config.training.epochs
        return Cell(path, plan.config.training.seed, status, reason, 0, epochs, None, None, None, plan.config)
    cell = cell_of(path)
    changes = differences(plan.config, cell.config)
    free = _FREE | {"data.file"}  # which a run notes as an absolute path
    own = [str(each) for each in changes if resumable(each.key) and each.key not in free]
    if own:
        return replace(cell, status="failed", reason=f"resumed with {', '.join(own)}", test_error=None)
    if plan.failed and cell.status != "finished":
        return replace(cell, status="failed", reason=f"{cell.reason}: {plan.failed}")
    return cell


def cell_of(path: str) -> Cell:
    """Return the state of a run.

    Raises:
        ConfigurationError: the folder is no run, or its configuration is damaged.
    """
    folder = RunFolder.open(path)
    config = load(str(folder.config_path))
    status, reason, row = _state(folder, config)
    epochs = int(row["epoch"]) if row else 0
    curves = {name: _number(text) for name, text in row.items()}
    tested = curves.get("test_error_percent")
    if config.data.validation and status == "finished":
        tested = _number(folder.rows(folder.test_path)[-1].get("test_error_percent", ""))
    return Cell(
        path,
        config.training.seed,
        status,
        reason,
        epochs,
        config.training.epochs,
        tested if status == "finished" else None,
        curves.get("train_error_percent"),
        curves.get("seconds"),
        config,
    )


def _state(folder: RunFolder, config: Config) -> tuple[str, str, dict[str, str]]:
    """Return the status of a run, why it is not finished, and the last row of its metrics ({} without one)."""
    try:
        rows = folder.metrics()
    except ConfigurationError as error:
        return "failed", str(error).removeprefix(f"{folder.path}/"), {}
    last, of = rows[-1] if rows else {}, config.training.epochs
    if not rows:
        begun = "no epoch is finished" if folder.begun() else "it ended before its first save"
        return "unfinished" if folder.begun() else "failed", begun, {}
    losses = [_number(text) for name, text in last.items() if name.endswith("_loss")]
    if not all(loss is not None and math.isfinite(loss) for loss in losses):
        return "failed", f"it diverged in epoch {last['epoch']}", last
    changed = _changed_on_the_way(folder, config)
    early = _patience_ended(rows, config, changed or {})
    if int(last["epoch"]) < of and not early:
        return "unfinished", f"{last['epoch']} of {of} epochs", last
    if config.data.validation:
        tested = folder.rows(folder.test_path)
        if not tested or int(tested[-1]["epoch"]) < int(last["epoch"]):
            return "unfinished", f"{last['epoch']} epochs, but the test set was not evaluated", last
    if _number(last.get("test_error_percent", "")) is None and not config.data.validation:
        return "failed", "metrics.csv has no test error", last
    notes = [f"by training.patience after {last['epoch']} of {of} epochs"] if early else []
    if changed is None:
        notes.append("history.csv is damaged")
    elif own := sorted(changed.keys() - _FREE - _LONGER):
        notes.append(f"{', '.join(own)} changed on the way (history.csv)")
    return "finished", "; ".join(notes), last


def _changed_on_the_way(folder: RunFolder, config: Config) -> dict[str, int] | None:
    """Return the keys that changed while a run was trained, each with its last epoch; None if they cannot be read."""
    keys = flat(config).keys()  # others are of the environment, or of a stranger
    try:
        return {row["key"]: int(row["epoch"]) for row in folder.history() if row["key"] in keys}
    except (ConfigurationError, KeyError, ValueError):
        return None


def _patience_ended(rows: Sequence[dict[str, str]], config: Config, changed: Mapping[str, int]) -> bool:
    """Return whether ``training.patience`` ended a run before its last epoch, from the rows of its metrics.

    The comparison of errors starts anew where a key ``changed`` that defines what is measured.
    """
    patience, split = config.training.patience, "validation" if config.data.validation else "test"
    anew = [epoch for key, epoch in changed.items() if is_of_measuring(key, split == "validation")]
    rows = [row for row in rows if int(row["epoch"]) >= max(anew, default=0)]
    errors = [_number(row.get(f"{split}_error_percent", "")) for row in rows]
    known = [error for error in errors if error is not None]
    if not patience or not known or int(rows[-1]["epoch"]) >= config.training.epochs:
        return False
    return len(errors) - 1 - errors.index(min(known)) >= patience


def _rows(groups: list[list[Cell]], configs: Sequence[tuple[Config, frozenset[str]]]) -> list[Row]:
    titles = [(config.name, str(method_of(config))) for config, _ in configs]
    flats = [flat(config) for config, _ in configs]
    rows = []
    for cells, (config, free), own, title in zip(groups, configs, flats, titles, strict=True):
        others = [each for each, its in zip(flats, titles, strict=True) if its == title]
        keys = [key for key in own if key not in free and any(its.get(key) != own[key] for its in others)]
        differs = ", ".join(f"{key} {own[key]}" for key in keys[:4]) + (", ..." if len(keys) > 4 else "")
        ordered = tuple(sorted(cells, key=lambda cell: cell.seed))
        rows.append(Row(*title, ordered, differs, published(config), is_full_size(config)))
    return rows


def _key(config: Config) -> tuple[Any, ...]:
    """Return what runs of one row have in common."""
    return (config.name, *((key, str(value)) for key, value in flat(config).items() if key not in _FREE))


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def errors_by_epoch(cell: Cell) -> dict[str, list[tuple[float, float]]]:
    """Return (epoch, error in percent) of a run for its curves, by split; {} before its first epoch."""
    try:
        curves = read_curves(cell.run)
    except ConfigurationError:
        return {}
    names = {curves.split: f"{curves.split}_error_percent", "training": "train_error_percent"}
    return {
        split: [(e, v) for e, v in zip(curves.epochs, curves.columns[column], strict=True) if math.isfinite(v)]
        for split, column in names.items()
        if column in curves.columns
    }
