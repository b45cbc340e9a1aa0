"""What a run reports as data: rows of metrics.csv, and the events that callbacks, ``--json`` and TensorBoard get."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from eqnp.api.report import clock
from eqnp.api.session import Session
from eqnp.runs.runfolder import RunFolder
from eqnp.training import State, Tally

SETTLED = 1e-3  # the residual above which an angle with the exact gradient is not to be trusted


def start_event(session: Session, state: State, folder: Path) -> dict[str, Any]:
    """Return the keys of ``start``: the run, where it begins, and its whole configuration."""
    return {
        "run": str(folder),
        "name": session.config.name,
        "parameters": int(sum(p.size for p in state.parameters.values())),
        "epoch": state.epoch,
        "batch": state.batch,
        "epochs": session.config.training.epochs,
        "config": asdict(session.config),
    }


def progress_event(state: State, batches: int, epochs: int, left: float) -> dict[str, Any]:
    """Return the keys of ``progress``: the epoch under way, its batches so far, and their mean loss and error."""
    return {
        "epoch": state.epoch + 1,
        "epochs": epochs,
        "batch": state.batch,
        "batches": batches,
        "train_loss": state.tally.loss,
        "train_error_percent": state.tally.error,
        "train_residual": state.tally.residual,
        "seconds_left": left,
    }


def end_event(reason: str, folder: RunFolder, state: State) -> dict[str, Any]:
    """Return the keys of ``end``: why training ended, how far it is, and the lowest error, None without one."""
    known = math.isfinite(state.best_error)
    return {
        "run": str(folder.path),
        "reason": reason,
        "epoch": state.epoch,
        "batch": state.batch,
        "best_error_percent": state.best_error if known else None,
        "best_epoch": state.best_epoch if known else None,
    }


def why_stopped(reason: str, session: Session, state: State, resume: str) -> str:
    """Return why a run ended before its last epoch, and how to continue; ``resume`` is the command."""
    training = session.config.training
    if reason == "patience":
        epochs = "an epoch" if training.patience == 1 else f"{training.patience} epochs"
        return (
            f"stopped after epoch {state.epoch}: the {session.chooses} error has not been lower for {epochs} "
            f"(training.patience); `{resume} --set training.patience=0` continues"
        )
    where = (
        f"after epoch {state.epoch}" if not state.batch else f"in epoch {state.epoch + 1}, after batch {state.batch}"
    )
    if reason == "callback":
        return f"stopped {where}, as a callback asked; `{resume}` continues"
    minutes = "1 minute" if training.max_minutes == 1 else f"{training.max_minutes:g} minutes"
    return f"stopped {where}: {minutes} have passed (training.max_minutes); `{resume}` continues"


def epoch_line(state: State, split: str, result: Tally, epochs: int, checked: Mapping[str, float]) -> str:
    """Return the line of a full epoch, with the ``result`` on ``split`` and the angle that was ``checked``, if any."""
    angle = ""
    if checked:
        left = checked["exact_residual"]
        unsettled = "" if left <= SETTLED else f" (of states that still move by {left:.0e})"
        angle = f"{checked['angle_exact']:.1f} degrees from the exact gradient{unsettled}, "
        if math.isnan(checked["angle_exact"]):
            angle = "no angle with the exact gradient (`eqnp check` says why), "
    return (
        f"epoch {state.epoch + 1}/{epochs}: train loss {state.tally.loss:.4f} error {state.tally.error:.2f} %, "
        f"{split} loss {result.loss:.4f} error {result.error:.2f} %, residual {state.tally.residual:.1e}, "
        f"{angle}{clock(state.seconds)}"
    )


def saturation_warning(state: State, classes: int) -> str:
    """Return one line if a whole layer was at a bound in the last batch of an epoch that only guessed, else "".

    A gradient that is exactly zero then ends the run (``eqnp.training``). One that is not is that of states which have
    not settled.
    """
    measured = dict(state.measured)
    full = [name for name, share in measured.items() if name.startswith("at_bound_percent_") and share == 100]
    if not full or not state.tally.is_guessing(classes):
        return ""
    return (
        f"warning: every unit of {full[-1].rpartition('_')[2]} is at a bound and the network only guesses; what "
        f"gradient is left is that of states that have not settled (residual {state.tally.residual:.0e}): raise "
        "dynamics.T1, or lower optimizer.rates, model.gain or dynamics.beta, in a new run"
    )


def metrics_row(
    state: State, split: str, result: Tally, rate: float, measured: Mapping[str, float]
) -> dict[str, float]:
    """Return a row of metrics.csv with the ``result`` on ``split`` and what else was ``measured`` of the epoch.

    Errors are in percent, times in seconds; ``seconds`` of training, the last column, differs from run to run.
    """
    return {
        "epoch": state.epoch + 1,
        "train_loss": state.tally.loss,
        "train_error_percent": state.tally.error,
        f"{split}_loss": result.loss,
        f"{split}_error_percent": result.error,
        "train_residual": state.tally.residual,
        f"{split}_residual": result.residual,
        "largest_rate": rate,
        **_steps(state.tally),
        **measured,
        "seconds": round(state.seconds, 3),
    }


def _steps(tally: Tally) -> Mapping[str, float]:
    """Return the mean steps of the phases of a sample; nothing if a part of the epoch did not count them."""
    steps = {"free_steps": tally.free_steps, "nudged_steps": tally.nudged_steps}
    return {name: total / tally.samples for name, total in steps.items() if total >= tally.samples > 0}
