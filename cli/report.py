"""``eqnp report``: a table of runs, beside the published figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from eqnp.cli.mistakes import Command
from eqnp.cli.options import UserPath
from eqnp.cli.streams import say_lines
from eqnp.shown import shown

if TYPE_CHECKING:
    from eqnp.api.survey import Planned

FORMATS = ("text", "markdown", "csv", "latex")  # eqnp.api.survey_text.FORMATS, without importing NumPy


@click.command(cls=Command, examples=["report runs/* --html report.html", "report runs/* --format latex > table.tex"])
@click.argument("runs", nargs=-1, required=True, type=UserPath(path_type=Path), metavar="RUN...")
@click.option(
    "--format", "form", type=click.Choice(FORMATS), default="text", show_default=True, help="Format of the table."
)
@click.option("--html", "page", type=UserPath(path_type=Path), metavar="FILE", help="Also write a page with plots.")
@click.option("--force", is_flag=True, help="Overwrite an existing page.")
def report(runs: tuple[Path, ...], form: str, page: Path | None, force: bool) -> None:
    """Print a table of runs: mean and spread over seeds, beside the poster's figures.

    Runs whose configurations differ in their seed alone are one row. Unfinished and failed runs are shown and do not
    count. Every number is with the folder of its run. The folder of a sweep stands for all its runs.

    --html writes one page that needs nothing else: the table, and for each run its curves, configuration and
    environment.
    """
    from eqnp.api.survey import survey
    from eqnp.api.survey_text import FORMATS as WRITERS
    from eqnp.errors import ConfigurationError
    from eqnp.runs.storage import require_place, write_atomic

    if page is not None:
        if page.suffix.lower() not in (".html", ".htm"):
            raise ConfigurationError(f"--html {page}: the name of a page ends in .html")
        require_place(page, force, option="--html")
    paths, planned, waiting = _expanded(runs)
    found = survey(paths, planned)
    found = replace(found, unreadable=found.unreadable | dict.fromkeys(waiting, "not started"))
    say_lines(WRITERS[form](found))
    if page is not None:
        from eqnp.api.survey_page import survey_page

        write_atomic(page, survey_page(found).encode())
        say_lines(shown(f"page in {page}"), err=True)


def _expanded(paths: Sequence[Path]) -> tuple[list[str], dict[str, Planned], list[str]]:
    """Return run folders, a sweep replaced by its own, what sweeps know of them, and those that have not begun."""
    from eqnp.sweeps.folder import SweepFolder
    from eqnp.sweeps.watch import table_of_folder

    runs: list[str] = []
    planned: dict[str, Planned] = {}
    waiting: list[str] = []
    for path in paths:
        if not SweepFolder.is_one(path):
            runs.append(str(path))
            continue
        known, later = table_of_folder(SweepFolder(path))
        runs += known
        planned |= known
        waiting += later
    return runs, planned, waiting
