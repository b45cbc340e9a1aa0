"""Resuming a run: what changed since it was saved is reported and recorded before training starts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from eqnp.api.report import Report
from eqnp.api.results import progress_of
from eqnp.runs.changes import Change, comparable, differences, flat
from eqnp.runs.config import Config
from eqnp.runs.history import environment_changes, new_rows
from eqnp.runs.runfolder import RunFolder
from eqnp.training import State

KEPT = (
    "the schedule of the learning rate keeps its length of {} epochs, so that the rate does not jump; "
    "--set optimizer.T_max=... changes it"
)


def take_up_changes(
    folder: RunFolder,
    before: Config,
    config: Config,
    environment: Mapping[str, Any],
    state: State,
    progress: Report,
) -> State:
    """Report and record what differs from ``before`` when the run resumes with ``config`` from ``state``.

    Changes are in the configuration or in the environment (other versions, another machine or backend). Return the
    state, without its lowest error if errors before and after the changes cannot be compared.
    """
    folder.truncate_metrics(state.epoch)
    if lost := state.epoch - len({row["epoch"] for row in folder.metrics()}):
        progress.message(
            f"metrics.csv lacks the rows of {lost} of {state.epoch} epochs, which are not trained again; "
            "if you have a copy, stop, restore it, and resume again"
        )
    changes, rows = differences(before, config), folder.history()
    moved = environment_changes(folder.environment(), rows, environment)
    current = flat(config) | {f"environment.{name}": value for name, value in environment.items()}
    folder.append_rows(folder.history_path, new_rows(rows, [*changes, *moved], current, state.epoch, state.batch))
    for change in (*changes, *moved):
        progress.message(change_line(change, state))
    return _compared_anew(changes, bool(config.data.validation), state, progress)


def change_line(change: Change, state: State) -> str:
    """Return a change and where it takes effect, for a message."""
    return f"from epoch {state.epoch + 1}, batch {state.batch + 1}: {change}"


def _compared_anew(changes: Sequence[Change], validation: bool, state: State, progress: Report) -> State:
    first = comparable(changes, validation)
    if first is None:
        return state
    if state.best_error <= 100:
        word = "best validation" if validation else "lowest test"
        progress.message(
            f"errors before and after this change of {first.key} cannot be compared: the {word} error "
            f"({state.best_error:.2f} % so far) starts anew, and best.h5 is kept until the next epoch is done"
        )
    return replace(state, best_error=math.inf, best_epoch=0)


def nothing_to_do(state: State, written: Config, asked: Config, run: str) -> str:
    """Return why there is nothing to train, whether changes that were ``asked`` for were made, and how to continue.

    ``run`` is what ``with_backend`` returns.
    """
    verb = "is" if (state.epoch, state.batch) == (1, 0) else "are"
    done = f"{progress_of(state)} {verb} done and training.epochs is {asked.training.epochs}"
    left = "; nothing was changed" if written != asked else ""
    if state.epoch < written.training.epochs:
        return f"nothing to do: {done}{left}; `eqnp train --resume {run}` continues to epoch {written.training.epochs}"
    more, o = max(2 * state.epoch, 1), written.optimizer
    options = f"--set training.epochs={more}"
    if o.schedule != "constant" and not o.minimum_rate and state.epoch and (o.T_max or written.training.epochs) < more:
        options += f" --set optimizer.T_max={more}"  # otherwise the rate would be 0
    return f"nothing to do: {done}{left}; `eqnp train --resume {run} {options}` continues"
