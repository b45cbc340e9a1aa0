"""``eqnp data``: which datasets were found, and how to download the others."""

from __future__ import annotations

import os
from pathlib import Path

import click

from eqnp.cli.completing import complete_dataset
from eqnp.cli.mistakes import Group
from eqnp.cli.options import UserPath


@click.group(cls=Group, examples=["data list", "data fetch mnist"])
def data() -> None:
    """List and download datasets."""


@data.command("list", examples=["data list"])
def list_datasets() -> None:
    """Show the known datasets, and where each was found."""
    from eqnp.cli.rows import show_row
    from eqnp.data import describe

    for name, where in describe().items():
        show_row(name, where, 13)


@data.command(examples=["data fetch mnist"])
@click.argument("name", shell_complete=complete_dataset)
@click.option("--folder", type=UserPath(path_type=Path), help="Target folder; default: eqnp's data folder.")
def fetch(name: str, folder: Path | None) -> None:
    """Download a dataset and verify it.

    The connection is https. An interrupted download resumes where it stopped.
    """
    from eqnp.api.report import quoted
    from eqnp.cli.progress import Progress
    from eqnp.data import fetch as fetch_dataset
    from eqnp.data import find, load

    progress = Progress()
    where = fetch_dataset(
        name,
        folder,
        progress=lambda file, done, total: progress.update([f"{file}  {done / 1e6:.1f} of {total / 1e6:.1f} MB"]),
        message=progress.message,
    )
    progress.clear()
    load(name, folder)  # as `train` will read it; that may be another copy
    click.echo(f"{name} is in {where}")
    read = find(name)
    if read is None or not os.path.samefile(read.folder, where):
        hint = f"--set data.folder={quoted(where)}"
        other = f"eqnp reads {name} from {read.folder} by default" if read else "eqnp does not search there by default"
        progress.message(f"{other}; to train on the downloaded copy: {hint}", to_paste=True)
