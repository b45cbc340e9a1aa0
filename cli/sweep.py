"""``eqnp sweep``: train all runs of a sweep, some at a time, and print their table."""

from __future__ import annotations

from pathlib import Path

import click

from eqnp.cli.completing import complete_toml
from eqnp.cli.mistakes import Command
from eqnp.cli.options import Place, UserPath, backend_option, set_option

FORMATS = ("text", "markdown", "csv", "latex")  # eqnp.api.survey_text.FORMATS, without importing NumPy


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
    from eqnp.cli.sweeping import Asked, check_options, list_runs, print_table, train_on_ranks, train_runs

    is_default = ctx.get_parameter_source("device") is not click.core.ParameterSource.COMMANDLINE
    spread = backend.name == "cupy" and is_default and (jobs > 1 or executor == "mpi")
    asked = Asked(file, out, overrides, backend, spread, jobs, executor, index, only, not no_retry, form)
    check_options(asked, only_looks=dry_run or table_only)
    board = Board(quiet, callbacks=[print_event] if as_json else [], json=as_json)
    if dry_run:
        list_runs(asked, not no_time)
        return 0
    if table_only:
        print_table(asked, board)
        return 0
    return train_on_ranks(asked, board) if executor == "mpi" else train_runs(asked, board)
