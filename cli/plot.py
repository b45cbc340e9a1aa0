"""``eqnp plot``: learning curves of runs, and how one run settles, as a picture."""

from __future__ import annotations

from pathlib import Path

import click

from eqnp.cli.mistakes import Command
from eqnp.cli.options import FiniteRange, Place, UserPath, backend_option, checkpoint_option, set_option
from eqnp.cli.streams import say
from eqnp.errors import memory_advice

KINDS = ("curves", "activity", "residual", "angles", "gradients")  # eqnp.api.plotting.KINDS, without importing NumPy


@click.command(
    cls=Command, examples=["plot runs/a runs/b --out curves.png", "plot runs/a --what residual --out residual.pdf"]
)
@click.argument("runs", nargs=-1, required=True, type=UserPath(path_type=Path), metavar="RUN...")
@click.option(
    "--out",
    type=UserPath(path_type=Path),
    default="plot.png",
    show_default=True,
    help="Picture to write: .png, .svg or .pdf.",
)
@click.option(
    "--what",
    "kinds",
    type=click.Choice(KINDS),
    metavar="KIND",
    multiple=True,
    help="curves, activity, residual, angles or gradients; repeatable. Default: curves of several runs, all of one.",
)
@click.option(
    "--width", type=FiniteRange(min=2, max=40), metavar="INCHES", help="Width of the picture; default: by its panels."
)
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
@checkpoint_option
@backend_option
@set_option
@memory_advice("lower the number of layers or plot --what curves")
def plot(
    runs: tuple[Path, ...],
    out: Path,
    kinds: tuple[str, ...],
    width: float | None,
    force: bool,
    checkpoint: str,
    backend: Place,
    overrides: tuple[str, ...],
) -> None:
    """Draw learning curves of runs, and how one run settles.

    Several runs: error and loss by epoch, a line per run. One run also has the activity of its layers and the residual,
    step by step in the free phase on 50 test samples; and if its metrics have them, the angles between forward and
    backward weights (vector field), the angle with the exact gradient (training.check_every) and the norms of the
    gradient. Lines can be told apart without colours.
    """
    from eqnp.api.plotting import draw_runs
    from eqnp.cli.progress import Progress
    from eqnp.runs.figures import require_figure, save_figure

    require_figure(out, force)
    figure = draw_runs(
        runs,
        kinds,
        backend=backend.open,
        checkpoint=checkpoint,
        overrides=overrides,
        width=width or 0.0,
        message=Progress().message,
    )
    save_figure(figure, out)
    say(f"figure in {out}")
