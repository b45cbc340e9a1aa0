"""What ``eqnp sweep`` does with a sweep: trains its runs, lists them, prints their table."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from eqnp.cli.options import Place

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eqnp.cli.board import Board
    from eqnp.sweeps.file import Entry, Sweep
    from eqnp.sweeps.folder import SweepFolder
    from eqnp.sweeps.ranks import Ranks
    from eqnp.sweeps.watch import Watch


class Asked(NamedTuple):
    """What the command line says about the runs."""

    file: Path
    out: Path | None
    overrides: tuple[str, ...]
    place: Place
    spread: bool  # over the GPUs of the machine
    jobs: int
    executor: str
    number: int | None
    only: tuple[str, ...]
    retry: bool
    form: str

    def again(self) -> str:
        """Return the command that goes on with the sweep."""
        words = ["eqnp", "sweep", str(self.file)]
        words += ["--out", str(self.out)] if self.out is not None else []
        words += [word for each in self.overrides if type(each) is str for word in ("--set", each)]
        words += self.place.words()
        words += ["--jobs", str(self.jobs)] if self.jobs > 1 else []
        words += ["--executor", self.executor] if self.executor != "local" else []
        words += ["--index", str(self.number)] if self.number is not None else []
        words += [word for each in self.only for word in ("--only", each)]
        words += [] if self.retry else ["--no-retry"]
        return shlex.join(words)


def check_options(asked: Asked, only_looks: bool) -> None:
    """Check that the options suit each other; ``only_looks``: nothing is to be trained.

    Raises:
        UsageError: they do not, or ``mpiexec`` started several of this command.
    """
    from eqnp.backends.launcher import launched

    if asked.number is not None and (asked.only or asked.jobs > 1 or asked.executor == "mpi"):
        raise click.UsageError("--index runs one entry: give no --only, --jobs or --executor")
    if asked.executor == "mpi" and asked.jobs > 1:
        raise click.UsageError("--executor mpi: mpiexec -n says how many processes there are; give no --jobs")
    count = launched(os.environ).size
    if count > 1 and asked.executor == "local" and asked.number is None and not only_looks:
        raise click.UsageError(f"mpiexec started {count} of this command: add --executor mpi")


def _read(asked: Asked) -> tuple[Sweep, SweepFolder, list[Entry]]:
    """Return the sweep, its folder and the chosen runs, all of it checked."""
    from eqnp.errors import ConfigurationError
    from eqnp.runs.spelling import nearest
    from eqnp.sweeps.checking import check_networks
    from eqnp.sweeps.file import read_sweep
    from eqnp.sweeps.folder import SweepFolder

    file = asked.file
    made = read_sweep(file, asked.overrides)
    entries = list(made.entries)
    if asked.number is not None:
        if asked.number >= len(entries):
            raise ConfigurationError(
                f"--index {asked.number}: {file} has {len(entries)} runs, numbered from 0 to {len(entries) - 1}"
            )
        entries = [entries[asked.number]]
    names = {name for entry in entries for name in (entry.row, entry.folder)}
    for name in asked.only:
        if name not in names:
            raise ConfigurationError(
                f"--only {name}: {file} has no run of that name{nearest(name, names)}; "
                "`eqnp sweep --dry-run` lists them"
            )
    if asked.only:
        entries = [entry for entry in entries if {entry.row, entry.folder} & set(asked.only)]
    check_networks(file, made)
    folder = SweepFolder(asked.out or Path("runs") / made.name)
    folder.require_usable(made)
    return made, folder, entries


def train_on_ranks(asked: Asked, board: Board) -> int:
    """Run a sweep on all processes of ``mpiexec``: rank 0 leads, and the others work until it is done or fails."""
    from eqnp.sweeps.ranks import Ranks

    ranks = Ranks()
    if ranks.is_worker:
        ranks.work()
        return 0
    try:
        return train_runs(asked, board, ranks)
    finally:
        ranks.dismiss()


def train_runs(asked: Asked, board: Board, ranks: Ranks | None = None) -> int:
    """Train the chosen runs that are not finished, and print the table; return the exit code."""
    from eqnp.sweeps.checking import check_data
    from eqnp.sweeps.watch import Watch, has_failed, is_finished

    made, folder, chosen = _read(asked)
    todo = [entry for entry in chosen if not is_finished(folder, entry)]
    finished = len(chosen) - len(todo)
    if not asked.retry:
        todo = [entry for entry in todo if not has_failed(folder, entry)]
    if asked.number is None:  # otherwise the process of the one run does that
        check_data(asked.file, todo)
    jobs = min(asked.jobs if ranks is None else ranks.workers, max(1, len(todo)))
    devices = _devices() if asked.spread else 0
    folder.prepare(made, lock=asked.number is None)
    try:
        board.message(
            f"sweep {made.name} in {folder.path}: {_count(len(chosen), 'run')}, {finished} finished, {len(todo)} to do"
            + (f", {jobs} at a time" if jobs > 1 else "")
        )
        board.event("sweep", {"name": made.name, "out": str(folder.path), "runs": len(chosen), "finished": finished})
        if others := folder.others(made.entries):
            board.message(f"{_count(len(others), 'run')} in {folder.path} not in {asked.file}: left as they are")
        watch = Watch(made, folder, board, len(todo), jobs)
        code = _run(asked, todo, watch, devices, ranks)
        return _conclude(asked, board, watch, chosen, code)
    finally:
        board.clear()
        folder.close()


def _run(asked: Asked, todo: Sequence[Entry], watch: Watch, devices: int, ranks: Ranks | None) -> int | None:
    """Train ``todo``; return the exit code of the signal that stopped it, or None."""
    from eqnp.api.signals import StopRequest
    from eqnp.backends.limits import available_cores
    from eqnp.sweeps.here import run_here, starter

    with StopRequest() as stop:
        if ranks is not None and todo:
            from eqnp.sweeps.ranks import run_on_ranks

            with ranks.leading() as executor:
                run_on_ranks(todo, executor, watch.folder, asked.place.words(), devices, watch, stop)
        elif todo:
            cores = max(1, available_cores() // watch.jobs) if watch.jobs > 1 else None
            run_here(todo, watch.jobs, starter(watch.folder, asked.place.words(), cores, devices), watch, stop)
    return stop.exit_code


def _conclude(asked: Asked, board: Board, watch: Watch, chosen: Sequence[Entry], stopped: int | None) -> int:
    """Report what the sweep has come to, and return its exit code."""
    from eqnp.sweeps.watch import has_failed, is_finished

    folder = watch.folder
    finished = sum(is_finished(folder, entry) for entry in chosen)
    failed = sum(has_failed(folder, entry) for entry in chosen)
    counts = {"runs": len(chosen), "finished": finished, "failed": failed}
    board.event("sweep_end", counts | {"stopped": stopped is not None})
    text = f"{finished} of {_count(len(chosen), 'run')} finished" + (f", {failed} failed" if failed else "")
    way_on = "" if finished == len(chosen) else f"; `{asked.again()}` continues"
    board.message(f"stopped; {text}{way_on}" if stopped else f"{text}{way_on}", to_paste=True)
    if stopped:
        return stopped
    if asked.number is None:
        board.result(_table(asked, folder, chosen))
    return watch.exit_code()


def _table(asked: Asked, folder: SweepFolder, entries: Sequence[Entry]) -> str:
    from eqnp.api.survey_text import FORMATS as WRITERS
    from eqnp.sweeps.watch import table

    return WRITERS[asked.form](table(folder, entries))


def print_table(asked: Asked, board: Board) -> None:
    """Print the table of the chosen runs as they are now."""
    _, folder, chosen = _read(asked)
    board.result(_table(asked, folder, chosen))


def list_runs(asked: Asked, measure: bool) -> None:
    """Print the runs of a sweep, what each changes, and how long they may take."""
    from eqnp.cli.rows import show_row
    from eqnp.cli.streams import say
    from eqnp.runs.overrides import toml_value
    from eqnp.sweeps.watch import state_of

    made, folder, chosen = _read(asked)
    say(f"sweep {made.name} in {folder.path}: {_count(len(made.entries), 'run')}")
    todo = []
    for entry in chosen:
        state = state_of(folder, entry)
        if state != "finished":
            todo.append(entry)
        changes = [f"{key}={toml_value(value)}" for key, value in entry.changes.items()]
        show_row(f"{entry.index:>4} {state:<11}", f"{entry.folder}  {' '.join(changes)}".rstrip(), 16)
    if measure and todo:
        say(f"time: {_time(asked, todo)}")
    say("nothing was trained or written (--dry-run)")


def _time(asked: Asked, todo: Sequence[Entry]) -> str:
    from eqnp.backends.limits import available_cores
    from eqnp.cli.summaries import duration
    from eqnp.sweeps.checking import estimate

    found = estimate(todo, asked.place.open(), max(1, available_cores() // asked.jobs))
    if isinstance(found, str):
        return found
    jobs = min(asked.jobs, len(todo))
    how = f", {jobs} at a time" if jobs > 1 else ""
    return f"about {duration(found / jobs)} for {_count(len(todo), 'run')}{how}, estimated from a few updates here"


def _devices() -> int:
    """Return the number of GPUs."""
    from eqnp.backends.backend import count_gpus

    return count_gpus()


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
