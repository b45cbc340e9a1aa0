"""``eqnp sweep``: train all runs of a sweep, some at a time, and print their table."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from eqnp.cli.completing import complete_toml
from eqnp.cli.mistakes import Command
from eqnp.cli.options import Place, UserPath, backend_option, set_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eqnp.api.sweepmpi import Ranks
    from eqnp.api.sweepwatch import Watch
    from eqnp.cli.board import Board
    from eqnp.runs.sweepfile import Entry, Sweep
    from eqnp.runs.sweepfolder import SweepFolder

FORMATS = ("text", "markdown", "csv", "latex")  # eqnp.api.survey_text.FORMATS, without importing NumPy


class _Asked(NamedTuple):
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
        words += _words(self.place)
        words += ["--jobs", str(self.jobs)] if self.jobs > 1 else []
        words += ["--executor", self.executor] if self.executor != "local" else []
        words += ["--index", str(self.number)] if self.number is not None else []
        words += [word for each in self.only for word in ("--only", each)]
        return shlex.join(words)


@click.command(
    cls=Command, examples=["sweep beta.toml --dry-run", "sweep beta.toml --jobs 2", "sweep beta.toml --index 0"]
)
@click.argument("file", type=UserPath(path_type=Path), metavar="SWEEP.toml", shell_complete=complete_toml)
@backend_option
@set_option
@click.option("--out", type=UserPath(path_type=Path), help="Folder of the sweep; default: runs/NAME.")
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="Runs at a time; they share the cores of this machine.",
)
@click.option(
    "--executor",
    type=click.Choice(["local", "mpi"]),
    default="local",
    show_default=True,
    help="mpi: on the processes that mpiexec started, one run each (mpi4py).",
)
@click.option("--index", type=click.IntRange(min=0), metavar="I", help="Only run number I, for a job array.")
@click.option("--only", multiple=True, metavar="NAME", help="Only these runs. Repeatable.")
@click.option("--no-retry", is_flag=True, help="Leave runs that failed.")
@click.option("--dry-run", is_flag=True, help="Check everything and list the runs, but write nothing.")
@click.option("--no-time", is_flag=True, help="With --dry-run: do not measure how long the runs may take.")
@click.option("--table", "table_only", is_flag=True, help="Only print the table of the runs as they are now.")
@click.option(
    "--format", "form", type=click.Choice(FORMATS), default="text", show_default=True, help="Format of the table."
)
@click.option("--quiet", is_flag=True, help="No progress lines.")
@click.option("--json", "as_json", is_flag=True, help="Print events on stdout, one JSON object a line.")
@click.pass_context
def sweep(
    ctx: click.Context,
    file: Path,
    backend: Place,
    overrides: tuple[str, ...],
    out: Path | None,
    jobs: int,
    executor: str,
    index: int | None,
    only: tuple[str, ...],
    no_retry: bool,
    dry_run: bool,
    no_time: bool,
    table_only: bool,
    form: str,
    quiet: bool,
    as_json: bool,
) -> int:
    """Train all runs of a sweep: a grid or a list of settings, with several seeds.

    Each run is a run folder in the folder of the sweep. The same command continues an interrupted sweep: finished runs
    are left, interrupted ones are resumed, failed ones are tried again. At the end it prints a table with mean and
    spread over seeds.
    """
    from eqnp.cli.board import Board
    from eqnp.cli.events import print_event

    is_default = ctx.get_parameter_source("device") is not click.core.ParameterSource.COMMANDLINE
    spread = backend.name == "cupy" and is_default and (jobs > 1 or executor == "mpi")
    asked = _Asked(file, out, overrides, backend, spread, jobs, executor, index, only, not no_retry, form)
    _check_options(asked, dry_run or table_only)
    board = Board(quiet, callbacks=[print_event] if as_json else [], json=as_json)
    if executor == "mpi" and not (dry_run or table_only):
        return _on_ranks(asked, board)
    if dry_run or table_only:
        made, folder, chosen = _read(asked)
        if dry_run:
            _list(asked, made, folder, chosen, not no_time)
        else:
            board.result(_table(asked, folder, chosen))
        return 0
    return _train(asked, board, None)


def _check_options(asked: _Asked, only_looks: bool) -> None:
    from eqnp.runs.launchers import launched

    if asked.number is not None and (asked.only or asked.jobs > 1 or asked.executor == "mpi"):
        raise click.UsageError("--index runs one entry: give no --only, --jobs or --executor")
    if asked.executor == "mpi" and asked.jobs > 1:
        raise click.UsageError("--executor mpi: mpiexec -n says how many processes there are; give no --jobs")
    count = launched(os.environ)
    if count > 1 and asked.executor == "local" and asked.number is None and not only_looks:
        raise click.UsageError(f"mpiexec started {count} of this command: add --executor mpi")


def _read(asked: _Asked) -> tuple[Sweep, SweepFolder, list[Entry]]:
    """Return the sweep, its folder and the chosen runs, all of it checked."""
    from eqnp.api.sweepcheck import check_networks
    from eqnp.errors import ConfigurationError
    from eqnp.runs.spelling import nearest
    from eqnp.runs.sweepfile import read_sweep
    from eqnp.runs.sweepfolder import SweepFolder

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


def _on_ranks(asked: _Asked, board: Board) -> int:
    """Run a sweep on all processes of ``mpiexec``: rank 0 leads, and the others work until it is done or fails."""
    from eqnp.api.sweepmpi import Ranks

    ranks = Ranks()
    if ranks.is_worker:
        ranks.work()
        return 0
    try:
        return _train(asked, board, ranks)
    finally:
        ranks.dismiss()


def _train(asked: _Asked, board: Board, ranks: Ranks | None) -> int:
    """Train the chosen runs that are not finished, and print the table; return the exit code."""
    from eqnp.api.sweepcheck import check_data
    from eqnp.api.sweepwatch import Watch, has_failed, is_finished

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


def _run(asked: _Asked, todo: Sequence[Entry], watch: Watch, devices: int, ranks: Ranks | None) -> int | None:
    """Train ``todo``; return the exit code of the signal that stopped it, or None."""
    from eqnp.api.signals import StopRequest
    from eqnp.api.sweeping import run_here, starter
    from eqnp.backends.limits import available_cores

    with StopRequest() as stop:
        if ranks is not None and todo:
            from eqnp.api.sweepmpi import run_on_ranks

            with ranks.leading() as executor:
                run_on_ranks(todo, executor, watch.folder, _words(asked.place), devices, watch, stop)
        elif todo:
            cores = max(1, available_cores() // watch.jobs) if watch.jobs > 1 else None
            run_here(todo, watch.jobs, starter(watch.folder, _words(asked.place), cores, devices), watch, stop)
    return stop.exit_code


def _conclude(asked: _Asked, board: Board, watch: Watch, chosen: Sequence[Entry], stopped: int | None) -> int:
    """Report what the sweep has come to, and return its exit code."""
    from eqnp.api.sweepwatch import has_failed, is_finished

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


def _table(asked: _Asked, folder: SweepFolder, entries: Sequence[Entry]) -> str:
    from eqnp.api.survey_text import FORMATS as WRITERS
    from eqnp.api.sweepwatch import table

    return WRITERS[asked.form](table(folder, entries))


def _list(asked: _Asked, made: Sweep, folder: SweepFolder, chosen: Sequence[Entry], measure: bool) -> None:
    """Print the runs of a sweep, what each changes, and how long they may take."""
    from eqnp.api.sweepwatch import state_of
    from eqnp.cli.rows import show_row
    from eqnp.cli.streams import say
    from eqnp.runs.overrides import toml_value

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


def _time(asked: _Asked, todo: Sequence[Entry]) -> str:
    from eqnp.api.sweepcheck import estimate
    from eqnp.backends.limits import available_cores
    from eqnp.cli.summaries import duration

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


def _words(place: Place) -> list[str]:
    """Return the options that choose an array backend, as words; none for the default."""
    if place.name == "numpy":
        return []
    words: list[Any] = ["--backend", place.name]
    words += ["--device", place.device] if place.device else []
    words += ["--device-memory", place.memory_gb] if place.memory_gb else []
    return list(map(str, words))


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
