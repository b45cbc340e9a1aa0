"""Going on with a run: what has changed since, said and dated before anything depends on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eqnp.changes import Change, comparable, flat
from eqnp.cli.progress import Progress
from eqnp.config import Config
from eqnp.history import environment_changes, new_rows
from eqnp.runfolder import RunFolder
from eqnp.training import State


def date_changes(
    folder: RunFolder, changes: Sequence[Change], config: Config, environment: Mapping[str, Any], state: State
) -> list[Change]:
    """Write the changes of the configuration and of the environment to history.csv before anything depends on them.

    Return those of the environment: other versions, another machine or backend.
    """
    rows = folder.rows(folder.history_path)
    moved = environment_changes(folder.environment(), rows, environment)
    current = flat(config) | {f"environment.{name}": value for name, value in environment.items()}
    more = new_rows(rows, [*changes, *moved], current, state.epoch, state.batch)
    folder.append_rows(folder.history_path, more)
    return moved


def say_changes(changes: Sequence[Change], state: State, chooses: str, progress: Progress) -> None:
    """Say which keys change where the run goes on, and what that means for its rate and its errors."""
    for change in changes:
        progress.message(f"from epoch {state.epoch + 1}, batch {state.batch + 1}: {change}")
    if any(change.key == "optimizer.T_max" and not change.old for change in changes):
        progress.message(
            "the cosine of the learning rate keeps its length, so that the rate does not jump; "
            "--set optimizer.T_max=... changes it"
        )
    first = comparable(changes, chooses == "validation")
    if first and state.best_error <= 100:
        word = "best" if chooses == "validation" else "lowest"
        progress.message(
            f"errors before and after this change of {first.key} cannot be compared: the {word} {chooses} error "
            f"({state.best_error:.2f} % so far) starts anew, and best.h5 stays until the next epoch is done"
        )


def nothing_to_do(state: State, config: Config, changes: Sequence[Change], run: str) -> str:
    """Return why a run does not go on, what became of the changes that were asked for, and how it would go on."""
    asked, o = config.training.epochs, config.optimizer
    batches = f" and {state.batch} batches" if state.batch else ""
    done = f"{state.epoch} epochs{batches} are done and training.epochs is {asked}"
    more = max(2 * state.epoch, 1)
    ends = o.schedule == "cosine" and not o.minimum_rate and state.epoch > 0
    options = f"--set training.epochs={more}" + f" --set optimizer.T_max={more}" * ends
    left = "; nothing was changed" if changes else ""
    return f"nothing to do: {done}{left}; `eqnp train --resume {run} {options}` goes on"
