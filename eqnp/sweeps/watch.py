"""What is known of the runs of a sweep while it goes on: for its display, its events and its exit code."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import mean
from typing import Any

from eqnp.api.report import Report, clock
from eqnp.api.survey import Planned, Survey, cell_of, survey
from eqnp.errors import ConfigurationError, EqnpError, RunBusyError
from eqnp.sweeps.file import Entry, Sweep
from eqnp.sweeps.folder import End, SweepFolder

_NAME = 34  # characters of a run's name in a line of 80


@dataclass
class _Going:
    """A run that is going on."""

    began: float
    epoch: int = 0
    of: int = 0
    text: str = ""
    end: float | None = None
    """When it ends, as the run itself estimates."""

    @property
    def left(self) -> float | None:
        """Seconds until it ends."""
        return None if self.end is None else max(0.0, self.end - time.monotonic())


@dataclass
class Watch:
    """Follows the runs of a sweep and reports them. ``todo`` is how many runs this process is to make."""

    sweep: Sweep
    folder: SweepFolder
    report: Report
    todo: int
    jobs: int
    ends: dict[int, End] = field(default_factory=dict)
    """How the runs of this process ended, by index."""
    going: dict[int, _Going] = field(default_factory=dict)
    times: list[float] = field(default_factory=list)
    """Seconds that the runs took which ended by themselves."""

    def begins(self, entry: Entry) -> None:
        """Note that the process of a run starts."""
        self.going[entry.index] = _Going(time.monotonic(), of=entry.config.training.epochs)

    def sees(self, entry: Entry, events: Iterable[Mapping[str, Any]]) -> None:
        """Note and pass on the events of a run."""
        state = self.going[entry.index]
        for event in events:
            values = {key: value for key, value in event.items() if key != "event"}
            self.report.event(str(event["event"]), {"index": entry.index, "folder": entry.folder} | values)
            if event["event"] in ("progress", "epoch"):
                _note(state, event)

    def waits(self, entry: Entry) -> None:
        """Note that a run is to be tried again, since another process uses it now."""
        del self.going[entry.index]

    def ended(self, entry: Entry, end: End) -> None:
        """Note and report how the process of a run ended."""
        state = self.going.pop(entry.index)
        self.ends[entry.index] = end
        seconds = time.monotonic() - state.began
        if end.code == 0:
            self.times.append(seconds)
        status, text = self._outcome(entry, end)
        done = f"{len(self.ends)}/{self.todo}"
        self.report.message(f"{done}  {entry.folder}: {text}, {clock(seconds)}")
        ended = {"index": entry.index, "folder": entry.folder, "status": status, "exit_code": end.code}
        self.report.event("run_end", ended | {"message": end.message, "seconds": round(seconds, 3)})

    def _outcome(self, entry: Entry, end: End) -> tuple[str, str]:
        if end.code == RunBusyError.exit_code:
            return "busy", end.message
        if end.failed:
            return "failed", f"failed: {end.message}"
        if not end.finished:
            why = "its time is over (training.max_minutes)" if end.code == 0 else "stopped"
            return "unfinished", why
        try:
            error = cell_of(str(self.folder.run_path(entry.folder))).test_error
        except EqnpError as damaged:
            return "failed", f"failed: {damaged}"
        return "finished", "finished" if error is None else f"test error {error:.2f} %"

    def shows(self) -> None:
        """Show the runs that are going on, a line each."""
        states = [self.ends[each] for each in self.ends]
        failed = sum(end.failed for end in states)
        head = [f"{len(states)} of {self.todo} runs ended"]
        head += [f"{failed} failed"] if failed else []
        left = self._left()
        head += [f"left {clock(left)}"] if left is not None else []
        lines = [f"sweep {self.sweep.name}: {', '.join(head)}"]
        for index, state in self.going.items():
            name = self.sweep.entries[index].folder
            name = name if len(name) <= _NAME else f"{name[: _NAME - 15]}...{name[-12:]}"
            epoch = f"epoch {state.epoch}/{state.of}" if state.epoch else "begins"
            text = f"  {state.text}" if state.text else ""
            wait = f"  left {clock(state.left)}" if state.left is not None else ""
            lines.append(f"{index:>4} {name:<{_NAME}} {epoch}{text}{wait}")
        self.report.update(lines)

    def _left(self) -> float | None:
        """Return the estimated seconds until all runs have ended; None if nothing is known yet."""
        now, waiting = time.monotonic(), self.todo - len(self.ends) - len(self.going)
        going = [state for state in self.going.values() if state.left is not None]
        times = self.times or [now - state.began + (state.left or 0) for state in going]
        if not times:
            return None
        known = [state.left or 0 for state in going] + [mean(times)] * (len(self.going) - len(going) + waiting)
        return max(max((state.left or 0 for state in going), default=0), sum(known) / max(1, self.jobs))

    def exit_code(self) -> int:
        """Return the exit code of the first run, by index, that failed or was stopped; 0 if there is none."""
        return next((self.ends[index].code for index in sorted(self.ends) if self.ends[index].code), 0)


def _note(state: _Going, event: Mapping[str, Any]) -> None:
    epoch = event.get("epoch")
    if not isinstance(epoch, int):
        return
    state.epoch = min(epoch, state.of or epoch)
    name = next((n for n in ("validation", "test", "train") if f"{n}_error_percent" in event), "")
    error = event.get(f"{name}_error_percent")
    if isinstance(error, int | float):
        state.text = f"{name} error {error:.1f} %"
    left = event.get("seconds_left")
    if isinstance(left, int | float):
        state.end = time.monotonic() + left


def is_finished(folder: SweepFolder, entry: Entry) -> bool:
    """Return whether nothing is left to do for an entry: its process said so, and its files show it."""
    end = folder.end(entry.folder)
    if end is None or not end.finished or not folder.begun(entry.folder):
        return False
    try:
        return cell_of(str(folder.run_path(entry.folder))).status == "finished"
    except EqnpError:
        return False


def has_failed(folder: SweepFolder, entry: Entry) -> bool:
    """Return whether the last process of an entry failed."""
    end = folder.end(entry.folder)
    return end is not None and end.failed


def state_of(folder: SweepFolder, entry: Entry) -> str:
    """Return ``finished``, ``failed``, ``interrupted`` or ``new``."""
    if is_finished(folder, entry):
        return "finished"
    if has_failed(folder, entry):
        return "failed"
    return "interrupted" if folder.begun(entry.folder) else "new"


def table(folder: SweepFolder, entries: Sequence[Entry]) -> Survey:
    """Return the survey of all runs of a sweep: those that have not begun are in it, and why others failed."""
    planned = {}
    for entry in entries:
        end = folder.end(entry.folder)
        cause = "" if end is None else end.cause
        planned[str(folder.run_path(entry.folder))] = Planned(entry.config, entry.row, cause)
    return survey(list(planned), planned)


def table_of_folder(folder: SweepFolder) -> tuple[dict[str, Planned], list[str]]:
    """Return what is known of the run folders of the sweep that was last run in a folder, and those not started yet.

    Raises:
        ConfigurationError: the files of the sweep are damaged, or none of its runs has started.
    """
    planned, waiting = {}, []
    for name, config in folder.planned():
        if config is None:
            waiting.append(str(folder.run_path(name)))
            continue
        end = folder.end(name)
        row = name.rpartition("-seed_")[0]
        planned[str(folder.run_path(name))] = Planned(config, row, "" if end is None else end.cause)
    if not planned:
        raise ConfigurationError(f"{folder.path}: no run of this sweep has started yet")
    return planned, waiting
