"""``eqnp bench``: what a step, a batch and an epoch take."""

from __future__ import annotations

from pathlib import Path

import click

from eqnp.cli.mistakes import Command, refuse_run
from eqnp.cli.options import FiniteRange, Place, UserPath, backend_option, run_options, short_forms


@click.command(cls=Command)
@click.argument("source", required=False, type=UserPath(), metavar="[PRESET | CONFIG.toml]")
@backend_option
@run_options
@short_forms("--batch-size")
@click.option("--runs", type=click.IntRange(min=1), default=5, show_default=True, help="How often each is measured.")
@click.option("--steps", type=click.IntRange(min=1), default=10, show_default=True, help="Steps of one run.")
@click.option(
    "--seconds",
    type=FiniteRange(min=0),
    default=60.0,
    show_default=True,
    help="No further run begins after this time for steps, and again for batches; one is always measured.",
)
@click.option("--out", type=UserPath(path_type=Path), help="Write the figures and the machine here as JSON.")
@click.option("--force", is_flag=True, help="Write over a file that exists.")
def bench(
    source: str | None,
    backend: Place,
    overrides: tuple[str, ...],
    runs: int,
    steps: int,
    seconds: float,
    out: Path | None,
    force: bool,
) -> None:
    """Measure a step, a batch and an epoch of training, and the memory that they take.

    On the preset's dataset, or on noise of its shape where that is not here. Nothing is trained or kept.
    """
    from eqnp.cli.benching import bench_table, measure, write_json
    from eqnp.cli.progress import Progress
    from eqnp.runs.storage import require_place

    refuse_run(source, "`eqnp bench {run}/config.toml` measures with its configuration")
    if out is not None:
        require_place(out, force)
    progress = Progress()
    content = measure(source, overrides, backend, runs, steps, seconds, lambda text: progress.update([text]))
    progress.clear()
    click.echo(bench_table(content))
    if out is not None:
        write_json(out, content)
        click.echo(f"figures in {out}")
