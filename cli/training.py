"""The training run: epochs, progress, metrics, checkpoints, and stopping so that it can go on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import click

from eqnp import checkpoint
from eqnp.backend import get_backend
from eqnp.cli.options import Place
from eqnp.cli.progress import Progress, clock, quoted
from eqnp.cli.session import KIND, Session
from eqnp.cli.signals import Interrupted, StopRequest
from eqnp.config import Config
from eqnp.configfile import load, to_toml
from eqnp.diagnostics import alignment_angles
from eqnp.environment import describe_environment
from eqnp.errors import DiskError, DivergedError, EqnpError, OutOfMemoryError, memory_errors
from eqnp.experiment import to_content, with_threads
from eqnp.measuring import batch_that_fits
from eqnp.runfolder import RunFolder
from eqnp.sharding import Map, thread_map
from eqnp.training import State, Tally, batches_left, evaluate, next_epoch, require_finite, train_epoch

SAVE_SECONDS = 300.0  # between two checkpoints inside a long epoch


def start_run(
    source: str | None, overrides: tuple[str, ...], backend: Place, out: Path | None, progress: Progress
) -> int:
    """Train from the beginning in a new run folder; return the exit code."""
    config = with_threads(load(source, overrides))
    chosen = get_backend(*backend)
    session = Session.start(
        config, chosen
    )  # everything that can be wrong with the input is found before a folder is made
    with RunFolder.create(out or RunFolder.default_path(config.name), to_toml(config)) as folder:
        return _Run(session, folder, progress).go_on(_begin(session, folder))


def resume_run(path: Path, overrides: tuple[str, ...], backend: Place, progress: Progress) -> int:
    """Go on with a run from its ``last.h5``, or begin it if nothing of it was saved; return the exit code."""
    with RunFolder.open(path, lock=True) as folder:
        config = with_threads(load(str(folder.config_path), overrides))
        session = Session.start(config, get_backend(*backend))
        state = session.restore(folder.last_path) if folder.begun() else None
        if state is not None:
            folder.truncate_metrics(state.epoch)
        if overrides:
            folder.write_config(to_toml(config))
        return _Run(session, folder, progress).go_on(state or _begin(session, folder))


def _begin(session: Session, folder: RunFolder) -> State:
    """Save where a run begins, and return it: a function of the configuration, so a failure here loses nothing."""
    state = session.initial_state()
    try:
        folder.write_environment(describe_environment(session.learner.backend.name))
        checkpoint.save(folder.last_path, to_content(state), kind=KIND)
    except DiskError as error:
        raise DiskError(f"{error}; then `eqnp train --resume {quoted(folder.path)}` begins the run") from None
    return state


class _Stopped(Exception):
    """A first signal came: the batch under way is done, training or evaluation ends here."""


class _Run:
    """A session that trains in a run folder."""

    def __init__(self, session: Session, folder: RunFolder, progress: Progress) -> None:
        self.session = session
        self.folder = folder
        self.progress = progress
        self.epochs = session.config.training.epochs
        self.training = session.training_batches()
        self.test = session.ordered_batches("test")
        self.stop = StopRequest()
        self._resume = f"eqnp train --resume {quoted(folder.path)}"

    def go_on(self, state: State) -> int:
        """Train until the last epoch is done or a signal asks to stop."""
        self.progress.message(self._title(state))
        with thread_map(self.session.config.training.threads, self.progress.message) as run, self.stop as stop:
            try:
                while state.epoch < self.epochs and stop.exit_code is None:
                    state = self._epoch(state, run, stop)
            except EqnpError as error:
                change = " --set optimizer.rates=..." if isinstance(error, DivergedError) else ""
                raise type(error)(f"{error}; `{self._resume}{change}` goes on from last.h5") from None
            if stop.exit_code is not None:  # said before threads are waited for, which a further signal may end
                self.progress.message(self._stopped(state), to_paste=True)
                return stop.exit_code
        click.echo(self._summary(state))
        return 0

    def _epoch(self, state: State, run: Map, stop: StopRequest) -> State:
        """Train one epoch, or its rest, then evaluate and save. A stop inside either saves and returns early."""
        learner = self.session.learner
        began = saved = time.monotonic()
        before, first = state.seconds, state.batch
        try:
            with stop.interruptible():
                for after in self._updates(state, run):
                    now = time.monotonic()
                    state = replace(after, seconds=before + now - began)
                    self._show(state, (state.batch - first) / max(now - began, 1e-9))
                    if stop.exit_code is not None and state.position < self.training.samples:
                        raise _Stopped
                    if now - saved > SAVE_SECONDS:
                        self._save(state)
                        saved = time.monotonic()
                result = evaluate(learner, state.parameters, self.test, run, partial(self._show_evaluation, stop))
            require_finite(state, result.loss)
            return self._finish_epoch(state, result)
        except (DivergedError, OutOfMemoryError):  # last.h5 is before the first and at the second already
            raise
        except BaseException as error:  # a signal, no memory, metrics that cannot be written: what was learned is kept
            self._save(state)
            if isinstance(error, (_Stopped, Interrupted)):
                return state
            raise

    def _updates(self, state: State, run: Map) -> Iterator[State]:
        """Yield the state after every batch. Without memory for one, save what is there and say how much would fit."""
        learner = self.session.learner
        try:
            with memory_errors():
                for after in train_epoch(learner, state, self.training, run):
                    state = after
                    yield state
        except MemoryError as error:
            text = " ".join(str(error).split())[:120]  # not the error itself, which holds all that the batch had made
            reason = f" ({text})" if text else ""
        else:
            return
        self._save(state)
        x, labels = self.training.batch(state.epoch, state.batch, state.position)
        try:
            with memory_errors():
                hint = f"--set training.batch_size={batch_that_fits(learner, state, x, labels, run)} would fit"
        except MemoryError:
            hint = "no batch would fit: a smaller net is needed"
        raise OutOfMemoryError(f"out of memory with training.batch_size = {len(x)}{reason}; {hint}")

    def _finish_epoch(self, state: State, result: Tally) -> State:
        """Write metrics and checkpoints of a full epoch, and return the state at the start of the next."""
        angles = {f"angle_{name}": angle for name, angle in alignment_angles(state.parameters).items()}
        rate = max(self.session.learner.rates(state.epoch).values())
        self.folder.append_metrics(_metrics(state, result, rate) | angles)
        after = next_epoch(state)
        if result.error < state.best_error:
            after = replace(after, best_error=result.error)
            self._write(self.folder.best_path, after)
        self._write(self.folder.last_path, after)
        self.progress.message(_epoch_line(state, result, self.epochs))
        return after

    def _save(self, state: State) -> None:
        """Save a state whose weights nobody has looked at yet."""
        require_finite(state)
        with self.stop.interruptible(False):
            self._write(self.folder.last_path, state)

    def _write(self, path: Path, state: State) -> None:
        checkpoint.save(path, to_content(state), kind=KIND)

    def _show(self, state: State, rate: float) -> None:
        tally, rest = state.tally, batches_left(self.training, state.position)
        left = (rest + (self.epochs - state.epoch - 1) * self.training.count) / rate
        self.progress.update(
            [
                f"epoch {state.epoch + 1}/{self.epochs}  batch {state.batch}/{state.batch + rest}",
                f"error {tally.error:.1f} %",
                f"left {clock(left)}",
                f"loss {tally.loss:.3f}",
                f"{rate:.1f} batch/s" if rate >= 1 else f"{1 / rate:.1f} s/batch",
                f"residual {tally.residual:.0e}",
            ]
        )

    def _show_evaluation(self, stop: StopRequest, index: int) -> None:
        if stop.exit_code is not None:
            raise _Stopped
        self.progress.update([f"evaluating  batch {index}/{self.test.count}"])

    def _stopped(self, state: State) -> str:
        """Return what is said after a stop: what was given up, and how to go on."""
        if self.stop.at_once and state.position < self.training.samples:
            return (
                f"stopped at once, without batch {state.batch + 1} of epoch {state.epoch + 1}; "
                f"`{self._resume}` goes on before it"
            )
        return f"stopped; `{self._resume}` goes on from here"

    def _title(self, state: State) -> str:
        config, network = self.session.config, self.session.learner.network
        weights = sum(p.size for p in state.parameters.values())
        where = f"epoch {state.epoch + 1}, batch {state.batch + 1}" if state.epoch or state.batch else "the beginning"
        return (
            f"{config.name}: {' - '.join(map(str, network.architecture.layers))} on {self.session.dataset.name}, "
            f"{weights} parameters, {_method(config, self.session.learner.segment)}, from {where}, "
            f"in {self.folder.path}"
        )

    def _summary(self, state: State) -> str:
        best = f"{state.best_error:.2f} %" if state.best_error <= 100 else "not measured"
        return "\n".join(
            [
                f"best test error  {best}",
                f"run folder       {self.folder.path}",
                f"  weights        {self.folder.best_path.name} (best), {self.folder.last_path.name} (to go on from)",
                f"  metrics        {self.folder.metrics_path.name}",
                f"  configuration  {self.folder.config_path.name}",
                f"next             eqnp evaluate {quoted(self.folder.path)}",
            ]
        )


def _method(config: Config, segment: int) -> str:
    """Return by what a run learns; ``segment`` is how many steps' states BPTT keeps at once."""
    kind = "vector field, " if config.model.kind == "vector-field" else ""
    common = ", common update (KP-VF)" if config.training.common_update else ""
    algorithm = f"{config.training.estimator} estimator"
    if config.training.algorithm == "bptt":
        short = segment < config.dynamics.T2
        algorithm = f"BPTT, states computed twice, in segments of {segment} steps" if short else "BPTT"
    return f"{kind}{algorithm}{common}"


def _epoch_line(state: State, result: Tally, epochs: int) -> str:
    return (
        f"epoch {state.epoch + 1}/{epochs}: train loss {state.tally.loss:.4f} error {state.tally.error:.2f} %, "
        f"test loss {result.loss:.4f} error {result.error:.2f} %, residual {state.tally.residual:.1e}, "
        f"{clock(state.seconds)}"
    )


def _metrics(state: State, result: Tally, rate: float) -> dict[str, float]:
    """Return a row of metrics.csv; errors in percent, seconds of training."""
    return {
        "epoch": state.epoch + 1,
        "train_loss": state.tally.loss,
        "train_error_percent": state.tally.error,
        "test_loss": result.loss,
        "test_error_percent": result.error,
        "train_residual": state.tally.residual,
        "test_residual": result.residual,
        "largest_rate": rate,
        "seconds": round(state.seconds, 3),
    }
