"""``eqnp train``: train a configuration in a run folder, or resume a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from eqnp.cli.completing import complete_run, complete_source
from eqnp.cli.mistakes import Command, refuse_run
from eqnp.cli.options import Place, UserPath, backend_option, distributed_option, run_options, short_forms

if TYPE_CHECKING:
    from eqnp.api.report import Report
    from eqnp.backends.world import World


@click.command(
    cls=Command, examples=["train mnist-mlp --epochs 3 --out runs/mlp", "train --resume runs/mlp --epochs 5"]
)
@click.argument(
    "source", required=False, type=UserPath(), metavar="[PRESET | CONFIG.toml]", shell_complete=complete_source
)
@backend_option
@run_options
@short_forms("--epochs", "--batch-size", "--lr", "--beta", "--seed")
@click.option("--out", type=UserPath(path_type=Path), help="New run folder; default: runs/NAME-TIME.")
@click.option(
    "--resume",
    type=UserPath(path_type=Path),
    metavar="RUN",
    shell_complete=complete_run,
    help="Resume this run where it stopped.",
)
@click.option("--dry-run", is_flag=True, help="Check everything and say what would be trained, but write nothing.")
@click.option("--quiet", is_flag=True, help="No progress line.")
@click.option("--json", "as_json", is_flag=True, help="Print events on stdout, one JSON object a line.")
@click.option("--tensorboard", is_flag=True, help="Write event files of TensorBoard to RUN/tensorboard.")
@distributed_option
def train(
    source: str | None,
    backend: Place,
    overrides: tuple[str, ...],
    out: Path | None,
    resume: Path | None,
    dry_run: bool,
    quiet: bool,
    as_json: bool,
    tensorboard: bool,
    world: World,
) -> int:
    """Train a network by Equilibrium Propagation.

    Without arguments: a small ConvNet on the embedded digits. `eqnp presets` lists other configurations.
    """
    from functools import partial

    from eqnp.api.planning import plan_resume, plan_run
    from eqnp.api.report import Callback, Report
    from eqnp.api.starting import resume_run, start_run
    from eqnp.api.tensorboard import TensorBoard
    from eqnp.cli.events import print_event
    from eqnp.cli.progress import Progress
    from eqnp.runs.configfile import load

    if world.rank and dry_run:
        return 0
    callbacks: list[Callback] = [print_event] if as_json else []
    if tensorboard:
        callbacks.append(TensorBoard())
    progress = Report() if world.rank else Progress(quiet, callbacks=callbacks, json=as_json)
    open_backend = partial(backend.open, world)
    if resume is None:
        refuse_run(
            source,
            "`eqnp train --resume {run}` resumes it",
            "`eqnp evaluate {run}` measures it",
            "`eqnp train {run}/config.toml` starts a new run with its configuration",
        )
        if dry_run:
            plan_run(load(source, overrides), open_backend, progress, out=out)
            return 0
        ended = start_run(load(source, overrides), open_backend, out, progress, world=world)
        return ended.exit_code if world.rank else _with_curves(ended.path, ended.exit_code, progress)
    if source is not None or out is not None:
        raise click.UsageError("--resume uses the configuration and the folder of the run: give no PRESET and no --out")
    if dry_run:
        plan_resume(resume, overrides, open_backend, progress)
        return 0
    code = resume_run(resume, overrides, open_backend, progress, world=world)
    return code if world.rank else _with_curves(resume, code, progress)


def _with_curves(run: Path, code: int, progress: Report) -> int:
    """Draw the learning curves of a run that is done (``code`` 0), if matplotlib is there; return ``code``.

    The run is saved by now, so nothing that fails here changes its result.
    """
    from importlib.util import find_spec

    if code == 0 and find_spec("matplotlib") is not None:
        from eqnp.api.plotting import CURVES, write_curves

        try:
            if (written := write_curves(run)) is not None:
                progress.message(f"curves in {written}", to_paste=True)
        except Exception as error:  # matplotlib raises anything on a broken installation
            progress.message(f"without {CURVES}: {error}")
    return code
