"""The result of a run in words: its errors, and the weights that each belongs to."""

from __future__ import annotations

import os
from pathlib import Path

from eqnp.api.report import with_backend
from eqnp.api.session import Session
from eqnp.errors import ConfigurationError
from eqnp.runs.runfolder import RunFolder
from eqnp.training import State


def summary(folder: RunFolder, session: Session, state: State) -> str:
    """Return the last lines of a training run: errors, files, and the next command."""
    chosen = os.path.isfile(folder.best_path)
    tables = [p.name for p in (folder.metrics_path, folder.test_path, folder.history_path) if os.path.isfile(p)]
    last = "to resume from" if state.begun else "the initial weights"
    run = with_backend(folder.path, session.learner.backend)
    lines = [
        *_errors(folder, session, state, chosen),
        ("run folder", str(folder.path)),
        ("  weights", f"{folder.last_path.name} ({last})"),
        *([("", f"{folder.best_path.name} ({_word(session)} {session.chooses} error)")] if chosen else []),
        *([("  metrics", ", ".join(tables))] if tables else []),
        ("  configuration", folder.config_path.name),
        ("next", f"eqnp evaluate {run}{'' if chosen else ' --checkpoint last'}"),
    ]
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"{name:<{width}}  {text}" for name, text in lines)


def _word(session: Session) -> str:
    """Return the name of the lowest error: ``best`` needs a validation set, since the test set must not choose."""
    return "best" if session.chooses == "validation" else "lowest"


def _errors(folder: RunFolder, session: Session, state: State, chosen: bool) -> list[tuple[str, str]]:
    name = f"{_word(session)} {session.chooses} error"
    at = f"{state.best_error:.2f} %" + (f" after epoch {state.best_epoch}" if state.best_epoch else "")
    best = (name, at if chosen and state.best_error <= 100 else "not measured")
    if session.chooses == "test":
        last = _cell(folder.metrics(), "test_error_percent", state.epoch)
        shown = f"{last} after epoch {state.epoch}, the one to report" if last else "not measured"
        return [("last test error", shown), best]
    test = _cell(folder.rows(folder.test_path), "test_error_percent", state.epoch)
    return [best, ("test error", f"{test} with the weights of {folder.best_path.name}" if test else "not measured")]


def _cell(rows: list[dict[str, str]], column: str, epoch: int) -> str:
    """Return the percentage in ``column`` of the last row if that belongs to ``epoch``, else an empty string."""
    if rows and int(rows[-1]["epoch"]) == epoch:
        try:
            return f"{float(rows[-1].get(column, '')):.2f} %"
        except ValueError:
            pass
    return ""


def progress_of(state: State) -> str:
    """Return the progress of a run: ``3 epochs``, ``1 epoch and 20 batches``."""
    parts = [(state.epoch, "epoch"), *([(state.batch, "batch")] if state.batch else [])]
    plural = {"epoch": "epochs", "batch": "batches"}
    return " and ".join(f"{count} {name if count == 1 else plural[name]}" for count, name in parts)


def which_weights(path: Path, session: Session, state: State, checkpoint: str, split: str) -> list[tuple[str, str]]:
    """Return rows that name the evaluated weights, and how they were chosen."""
    average = session.config.optimizer.average
    line = f"{checkpoint}.h5 after {progress_of(state)}{', averaged over updates' if average else ''}"
    if checkpoint == "last":
        return [("weights", line)]
    rows = [("weights", f"{line}, with the {_word(session)} {session.chooses} error")]
    if session.chooses == split == "test":
        rows += _last_error(path)
    return rows


def _last_error(path: Path) -> list[tuple[str, str]]:
    """Return the test error of the last epoch, which was not chosen by the test set."""
    try:
        rows = RunFolder(path).metrics()
    except ConfigurationError:
        return []
    epoch = int(rows[-1]["epoch"]) if rows else 0
    last = _cell(rows, "test_error_percent", epoch)
    return [("last error", f"{last} after epoch {epoch}, the one to report")] if last else []
