"""``eqnp data``: which datasets are here, and fetching those that are not."""

from __future__ import annotations

from pathlib import Path

import click

from eqnp.cli.mistakes import Group


@click.group(cls=Group)
def data() -> None:
    """List and fetch datasets."""


@data.command("list")
def list_datasets() -> None:
    """Show every dataset that eqnp knows, and where it was found."""
    from eqnp.cli.rows import show_row
    from eqnp.data import describe

    for name, where in describe().items():
        show_row(name, where, 13)


@data.command()
@click.argument("name")
@click.option("--folder", type=click.Path(path_type=Path), help="Where to; default a folder of eqnp's own.")
def fetch(name: str, folder: Path | None) -> None:
    """Download a dataset over https and check it; a broken download goes on where it stopped."""
    from eqnp.cli.progress import Progress
    from eqnp.data import fetch as fetch_dataset

    progress = Progress()
    where = fetch_dataset(
        name,
        folder,
        progress=lambda file, done, total: progress.update([f"{file}  {done / 1e6:.1f} of {total / 1e6:.1f} MB"]),
    )
    progress.clear()
    click.echo(f"{name} is in {where}")
