"""``eqnp bench``: time and memory of a step, a batch and an epoch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from eqnp.cli.completing import complete_source
from eqnp.cli.mistakes import Command, refuse_run
from eqnp.cli.options import (
    FiniteRange,
    Place,
    UserPath,
    backend_option,
    distributed_option,
    run_options,
    short_forms,
)
from eqnp.cli.streams import say, say_lines

if TYPE_CHECKING:
    from eqnp.backends.world import World


@click.command(cls=Command, examples=["bench mnist-cnn --out figures.json"])
@click.argument(
    "source", required=False, type=UserPath(), metavar="[PRESET | CONFIG.toml]", shell_complete=complete_source
)
@backend_option
@run_options
@short_forms("--batch-size")
@click.option(
    "--runs", type=click.IntRange(min=1), metavar="N", default=5, show_default=True, help="Runs per measurement."
)
@click.option("--steps", type=click.IntRange(min=1), metavar="N", default=10, show_default=True, help="Steps per run.")
@click.option(
    "--seconds",
    type=FiniteRange(min=0),
    metavar="S",
    default=60.0,
    show_default=True,
    help="Time limit for steps, and again for batches: no further run starts after it. One run is always measured.",
)
@click.option("--out", type=UserPath(path_type=Path), help="JSON file for the results and the environment.")
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
@distributed_option
def bench(
    source: str | None,
    backend: Place,
    overrides: tuple[str, ...],
    runs: int,
    steps: int,
    seconds: float,
    out: Path | None,
    force: bool,
    world: World,
) -> None:
    """Measure time and memory of a step, a batch and an epoch of training.

    The input is the dataset of the preset, or random data of its shape if the dataset is not found. No run folder is
    made.
    """
    from eqnp.api.report import Report
    from eqnp.cli.benching import bench_table, measure, write_json
    from eqnp.cli.progress import Progress
    from eqnp.runs.storage import require_place

    refuse_run(source, "`eqnp bench {run}/config.toml` measures with its configuration")
    if out is not None and not world.rank:
        require_place(out, force)
    progress = Report() if world.rank else Progress()
    content = measure(source, overrides, backend, runs, steps, seconds, lambda text: progress.update([text]), world)
    progress.clear()
    if world.rank:
        return
    say_lines(bench_table(content))
    if out is not None:
        write_json(out, content)
        say(f"figures in {out}")
