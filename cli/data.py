"""``eqnp data``: which datasets were found, how to download the others, and what is in them."""

from __future__ import annotations

import os
from pathlib import Path

import click

from eqnp.cli.completing import complete_dataset
from eqnp.cli.mistakes import Group
from eqnp.cli.options import UserPath, set_option, split_option
from eqnp.cli.streams import say


@click.group(cls=Group, examples=["data list", "data fetch mnist"])
def data() -> None:
    """List, download and show datasets."""


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
    from eqnp.cli.progress import Progress
    from eqnp.data import fetch as fetch_dataset
    from eqnp.data import find, load
    from eqnp.shown import quoted

    progress = Progress()
    where = fetch_dataset(
        name,
        folder,
        progress=lambda file, done, total: progress.update([f"{file}  {done / 1e6:.1f} of {total / 1e6:.1f} MB"]),
        message=progress.message,
    )
    progress.clear()
    load(name, folder)  # as `train` will read it; that may be another copy
    say(f"{name} is in {where}")
    read = find(name)
    if read is None or not os.path.samefile(read.folder, where):
        hint = f"--set data.folder={quoted(where)}"
        other = f"eqnp reads {name} from {read.folder} by default" if read else "eqnp does not search there by default"
        progress.message(f"{other}; to train on the downloaded copy: {hint}", to_paste=True)


@data.command(examples=["data show mnist-small", "data show cifar10 --split train --set data.randaugment=3"])
@click.argument("source", type=UserPath(), metavar="NAME | FILE.npz | FOLDER | RUN")
@click.option("--out", type=UserPath(path_type=Path), help="Image to write: .png, .svg or .pdf. Default: NAME.png.")
@click.option(
    "--count", type=click.IntRange(1, 1000), default=100, show_default=True, metavar="N", help="Images, at most."
)
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
@split_option
@set_option
def show(source: str, out: Path | None, count: int, force: bool, split: str, overrides: tuple[str, ...]) -> None:
    """Write a contact sheet of images with their labels.

    From every class come equally many. With `--split train`, images are shown as augmented.
    """
    from eqnp.api.fitting import read_dataset
    from eqnp.cli.rows import show_row
    from eqnp.cli.showing import configuration, sheet, sheet_place, summary
    from eqnp.runs.figures import save_figure
    from eqnp.runs.storage import require_place

    config = configuration(source, overrides)
    place = sheet_place(out, source)
    require_place(place, force)
    dataset = read_dataset(config)
    figure = sheet(config, dataset, split, count)
    save_figure(figure, place)
    rows = [*summary(dataset), ("written", str(place))]
    for name, text in rows:
        show_row(name, text, max(len(each) for each, _ in rows))
