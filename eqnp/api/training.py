"""A session that trains: epochs, progress, metrics, checkpoints, and stopping so that it can resume."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from eqnp.analysis.diagnostics import alignment_angles
from eqnp.analysis.drift import drift_warning
from eqnp.analysis.exactness import SAMPLES as CHECK_SAMPLES
from eqnp.analysis.exactness import angle_with_exact
from eqnp.analysis.measuring import batch_that_fits
from eqnp.analysis.precision import rounding_warning
from eqnp.api.events import (
    end_event,
    epoch_line,
    metrics_row,
    progress_event,
    saturation_warning,
    start_event,
    why_stopped,
)
from eqnp.api.report import Report, clock, with_backend
from eqnp.api.results import summary
from eqnp.api.session import CONFIG, KIND, Session
from eqnp.api.signals import Interrupted, StopRequest
from eqnp.api.titles import announce
from eqnp.backends.sharding import Map
from eqnp.backends.world import Alone, World
from eqnp.errors import DiskError, DivergedError, EqnpError, OutOfMemoryError, memory_errors
from eqnp.runs import checkpoint
from eqnp.runs.configfile import to_toml
from eqnp.runs.experiment import from_content, to_content
from eqnp.runs.runfolder import RunFolder
from eqnp.runs.storage import require_space
from eqnp.training import State, Tally, batches_left, evaluate, next_epoch, require_finite, train_epoch

SAVE_SECONDS = 300.0  # between two checkpoints inside a long epoch


class _Stopped(Exception):
    """A first signal came: the current batch is finished, and training or evaluation ends."""


class TrainingRun:
    """A session that trains in a run folder, and reports its progress."""

    def __init__(self, session: Session, folder: RunFolder, report: Report, world: World | None = None) -> None:
        self.world = world or Alone()
        self.leads = self.world.rank == 0  # and has the folder
        self._shared: dict[str, World] = {} if self.world.size == 1 else {"world": self.world}
        self.session = session
        self.folder = folder
        self.report = report
        self.epochs = session.config.training.epochs
        self.training = session.training_batches()
        self.chooses = session.chooses
        self._row: dict[str, float] = {}  # of the last epoch
        self._asked = False  # whether a callback asked to stop
        self.judge = session.ordered_batches(self.chooses)
        self.stop = StopRequest()
        self.resume = f"eqnp train --resume {with_backend(folder.path, session.learner.backend)}"
        self._deadline = math.inf
        self._saturated = False  # whether a layer was said to be at a bound
        self._judging = 0.0  # seconds that the last evaluation took, with the check

    def go_on(self, state: State) -> int:
        """Train until the last epoch is done, a signal asks to stop, or one of the configured limits is reached."""
        self._pass_on(state)
        self._require_space(state)
        training = self.session.config.training
        self._deadline = time.monotonic() + 60 * training.max_minutes if training.max_minutes else math.inf
        announce(self.report, self.session, state, self.folder.path)
        if self.world.size > 1:
            shards, each = len(self.session.learner.shards(training.batch_size)), training.threads
            threads = "1 thread" if each == 1 else f"{each} threads"
            self.report.message(f"{self.world.size} processes with {threads} each, batches in {shards} shards")
        self._warn(state)
        self._reached = state
        self.report.event("start", start_event(self.session, state, self.folder.path))
        with self.session.map(self.report.message) as run, self.stop as stop:
            self._listen(stop)
            try:
                state, reason = self._until_a_reason(state, run, stop)
            except BaseException as error:
                with suppress(Exception):  # a callback may have raised the error
                    self.report.event("end", end_event("error", self.folder, self._reached))
                if not (self.leads and isinstance(error, EqnpError)):
                    raise
                raise error.again(self._with_way_on(error)) from None
            if reason == "signal":  # before waiting for threads, which a further signal may interrupt
                self.report.message(self._stopped(state), to_paste=True)
                self.report.event("end", end_event(reason, self.folder, state))
                return self._signal
        if reason != "epochs":
            self.report.message(why_stopped(reason, self.session, state, self.resume), to_paste=True)
        return self.conclude(state, reason)

    def _pass_on(self, state: State, conclude: bool = False) -> None:
        """Give the other processes the configuration and the state, and what to do."""
        if self.leads and self.world.size > 1:
            place = {"folder": str(self.folder.path), "config": to_toml(self.session.config)}
            self.world.from_first(place | {"state": to_content(state), "conclude": conclude})
        self.world.use(self.session.learner.backend, self.report.message)

    def _listen(self, stop: StopRequest) -> None:
        """Let the processes agree on the exit code of a signal, on the end of the time, and on a callback's wish."""

        def wishes() -> tuple[float, ...]:
            late = self.leads and time.monotonic() >= self._deadline
            return float(stop.exit_code or 0), float(late), float(self._asked)

        self.world.listen(wishes)

    @property
    def _signal(self) -> int:
        """The exit code of the signal on which the processes have agreed; 0: none came."""
        return int(self.world.agreed[0])

    def _require_space(self, state: State) -> None:
        """Check that there is room for what training will write: best.h5, and a new file beside the old one."""
        folder = self.folder
        if self.leads and state.epoch < self.epochs:
            size = os.path.getsize(folder.last_path)
            try:
                require_space(folder.path, size + (0 if os.path.exists(folder.best_path) else size))
            except DiskError as error:
                raise DiskError(self._with_way_on(error)) from None

    def _with_way_on(self, error: EqnpError) -> str:
        """Return the message of an error and how to continue. The folder may be gone since the run started."""
        folder = self.folder
        if all(map(os.path.isfile, (folder.config_path, folder.last_path))):
            change = f" --set {error.key}=..." if isinstance(error, DivergedError) else ""
            return f"{error}; `{self.resume}{change}` continues from last.h5"
        if os.path.isdir(folder.path):
            return f"{error}; files of the run were moved or deleted while it trained, so it cannot be resumed"
        gone = f"{folder.path}: the run folder was moved or deleted while the run trained"
        cure = "if it was moved, `eqnp train --resume` with its new place continues from its last.h5"
        return f"{gone}; {cure}" if isinstance(error, DiskError) else f"{error}; {gone}; {cure}"

    def _until_a_reason(self, state: State, run: Map, stop: StopRequest) -> tuple[State, str]:
        """Train epoch after epoch; return the last state and why training ended, as ``why_stopped`` takes it."""
        patience = self.session.config.training.patience
        while not self._signal:
            if state.epoch >= self.epochs:
                return state, "epochs"
            if self.world.agreed[2]:
                return state, "callback"
            if patience and state.best_epoch and not state.batch and state.epoch - state.best_epoch >= patience:
                return state, "patience"
            self._reached = state
            before, state = state, self._epoch(state, run, stop)
            if state.epoch > before.epoch:
                self._asked = self.report.event("epoch", self._row)
            self.world.sync()
            if state.epoch < self.epochs and self.world.agreed[1] and not self._signal:
                return state, "max_minutes"
        return state, "signal"

    def conclude(self, state: State, reason: str = "epochs", together: bool = False) -> int:
        """Evaluate the test set once if a validation set chose the weights, and print the result of the run.

        A run that ran out of time is to be resumed, so its test set is not evaluated yet. ``together``: the other
        processes have not been told about this run yet.
        """
        if together:
            self._pass_on(state, conclude=True)
        chosen = self.leads and os.path.isfile(self.folder.best_path)
        if reason != "max_minutes" and self.chooses == "validation" and self.world.from_first(chosen):
            with StopRequest() as stop, self.session.map() as run:
                self._listen(stop)
                try:
                    self._test(state, run, stop)
                except _Stopped:
                    self.report.message(
                        f"stopped before the test set was evaluated; `{self.resume}` does that", to_paste=True
                    )
                    return self._signal
        if self.leads:
            self.report.event("end", end_event(reason, self.folder, state))
            self.report.result(summary(self.folder, self.session, state))
        return 0

    def _test(self, state: State, run: Map, stop: StopRequest) -> None:
        """Evaluate the test set with the weights that the validation set chose, once for this number of epochs."""
        chosen = self._from_first(self._to_test(state) if self.leads else None)
        if chosen is None:
            return
        test = self.session.ordered_batches("test")
        show = partial(self._show_evaluation, stop, test.count)
        result = evaluate(self.session.learner, chosen.evaluated, test, run, show, **self._shared)
        self.report.clear()
        if not self.leads:
            return
        row = {"epoch": state.epoch, "best_epoch": chosen.epoch}
        measured = {"test_loss": result.loss, "test_error_percent": result.error, "test_residual": result.residual}
        self.folder.append_rows(self.folder.test_path, [row | measured | {"samples": result.samples}])

    def _to_test(self, state: State) -> State | None:
        """Return the state that the validation set chose, or None if its test is done."""
        chosen = self.session.restore(self.folder.best_path)
        row = {"epoch": state.epoch, "best_epoch": chosen.epoch}
        done = self.folder.rows(self.folder.test_path)
        tested = done and [done[-1].get(name) for name in row] == [str(value) for value in row.values()]
        return None if tested else chosen

    def _from_first(self, state: State | None) -> State | None:
        """Return the state that the first process passes here."""
        if self.world.size == 1:
            return state
        content = self.world.from_first(None if state is None else to_content(state))
        if self.leads or content is None:
            return state
        return from_content(content, self.session.learner, self.session.initial_state())

    def _warn(self, state: State) -> None:
        """Warn if rounding over beta, or what is left of the free phase, is not small against the gradient."""
        if self.leads and state.epoch < self.epochs:
            batch = self.session.ordered_batches("train").batch(0, 0)
            for warning in (rounding_warning, drift_warning):
                if line := warning(self.session.learner, state.parameters, *batch):
                    self.report.message(line)

    def _epoch(self, state: State, run: Map, stop: StopRequest) -> State:
        """Train one epoch or its rest, evaluate and save. If stopped inside, save and return early."""
        learner = self.session.learner
        began = saved = time.monotonic()
        before, first = state.seconds, state.batch
        try:
            with stop.interruptible():
                for after in self._updates(state, run):
                    now = time.monotonic()
                    state = replace(after, seconds=before + now - began)
                    self._show(state, (state.batch - first) / max(now - began, 1e-9))
                    if (self._signal or self.world.agreed[1]) and state.position < self.training.samples:
                        raise _Stopped
                    if now - saved > SAVE_SECONDS:
                        self._save(state)
                        saved = time.monotonic()
                trained, show = time.monotonic(), partial(self._show_evaluation, stop, self.judge.count)
                result = evaluate(learner, state.evaluated, self.judge, run, show, **self._shared)
                require_finite(learner, state, result, self.chooses)
                checked = self._check(state)
                self._judging = time.monotonic() - trained
            return self._finish_epoch(state, result, checked)
        except (DivergedError, OutOfMemoryError):  # last.h5 holds the state before divergence, or was just saved
            raise
        except BaseException as error:  # a signal, out of memory, a full disk: save what was learned
            self._save(state)
            if isinstance(error, Interrupted) and self.world.size > 1:  # the others wait in an exchange
                self.report.message(self._stopped(state), to_paste=True)
                raise
            if isinstance(error, (_Stopped, Interrupted)):
                return state
            raise

    def _updates(self, state: State, run: Map) -> Iterator[State]:
        """Yield the state after every batch. If one does not fit in memory, save, and name a batch size that would."""
        learner = self.session.learner
        try:
            with memory_errors():
                for after in train_epoch(learner, state, self.training, run, **self._shared):
                    state = after
                    yield state
        except MemoryError as error:
            text = " ".join(str(error).split())[:120]  # the error itself would keep the arrays of the batch alive
            reason = f" ({text})" if text else ""
        else:
            return
        self._save(state)
        if self.world.size > 1:  # the others wait in an exchange, so nothing can be tried
            cure = "lower training.batch_size, or start fewer processes on this host"
            raise OutOfMemoryError(f"out of memory{reason}; {cure}")
        x, labels = self.training.batch(state.epoch, state.batch, state.position)
        try:
            with memory_errors():
                hint = f"--set training.batch_size={batch_that_fits(learner, state, x, labels, run)} would fit"
        except MemoryError:
            hint = "not even one sample would fit: a smaller network is needed"
        raise OutOfMemoryError(f"out of memory with training.batch_size = {len(x)}{reason}; {hint}")

    def _check(self, state: State) -> dict[str, float]:
        """Return the angle with the exact gradient, if it is to be measured after this epoch."""
        every = self.session.config.training.check_every if self.leads else 0
        if not every or (state.epoch + 1) % every:
            return {}
        self.report.update(["checking the gradient"])
        samples = list(range(min(CHECK_SAMPLES, self.session.count("train"))))
        return angle_with_exact(self.session.learner, state, *self.session.samples("train", samples))

    def _finish_epoch(self, state: State, result: Tally, checked: Mapping[str, float]) -> State:
        """Write metrics and checkpoints of a full epoch, and return the state at the start of the next."""
        angles = {f"angle_{name}": angle for name, angle in alignment_angles(state.parameters).items()}
        rate = max(self.session.learner.update.rates(state.epoch).values())
        measured = angles | dict(state.measured) | dict(checked)
        self._row = metrics_row(state, self.chooses, result, rate, measured)
        if self.leads and self.folder.append_metrics(self._row):
            self.report.message("metrics.csv had lost rows of earlier epochs; they are written again")
        after = next_epoch(state)
        if result.error < state.best_error:
            after = replace(after, best_error=result.error, best_epoch=after.epoch)
            self.write(self.folder.best_path, after)
        self.write(self.folder.last_path, after)
        self.report.message(epoch_line(state, self.chooses, result, self.epochs, checked))
        classes = self.session.learner.network.architecture.classes
        if not self._saturated and (line := saturation_warning(state, classes)):
            self._saturated = True
            self.report.message(line)
        return after

    def _save(self, state: State) -> None:
        """Save a state, unless its weights are not finite."""
        require_finite(self.session.learner, state)
        with self.stop.interruptible(False):
            self.write(self.folder.last_path, state)

    def write(self, path: Path, state: State) -> None:
        """Write a checkpoint, with the configuration that made it."""
        if not self.leads:
            return
        content = to_content(state) | {CONFIG: to_toml(self.session.config)}
        checkpoint.save(path, content, kind=KIND, follow=False)

    def _show(self, state: State, rate: float) -> None:
        if not self.report.due():
            return
        tally, rest = state.tally, batches_left(self.training, state.position)
        epochs = self.epochs - state.epoch  # to evaluate
        left = (rest + (epochs - 1) * self.training.count) / rate + epochs * self._judging
        left = min(left, max(0.0, self._deadline - time.monotonic()))
        self.report.progress(progress_event(state, state.batch + rest, self.epochs, left))
        self.report.update(
            [
                f"epoch {state.epoch + 1}/{self.epochs}  batch {state.batch}/{state.batch + rest}",
                f"error {tally.error:.1f} %",
                f"left {clock(left)}",
                f"loss {tally.loss:.3f}",
                f"{rate:.1f} batch/s" if rate >= 1 else f"{1 / rate:.1f} s/batch",
                f"residual {tally.residual:.0e}",
            ]
        )

    def _show_evaluation(self, stop: StopRequest, count: int, index: int) -> None:
        if self._signal:
            raise _Stopped
        self.report.update([f"evaluating  batch {index}/{count}"])

    def _stopped(self, state: State) -> str:
        """Return the message after a stop: what was dropped, and how to resume."""
        if self.stop.at_once and state.position < self.training.samples:
            return (
                f"stopped at once, without batch {state.batch + 1} of epoch {state.epoch + 1}; "
                f"`{self.resume}` continues before it"
            )
        return f"stopped; `{self.resume}` continues from here"
