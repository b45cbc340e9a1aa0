"""``eqnp train``: train a configuration in a run folder, or resume a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from eqnp.cli.mistakes import Command, refuse_run
from eqnp.cli.options import Place, UserPath, backend_option, run_options, short_forms

if TYPE_CHECKING:
    from eqnp.cli.progress import Progress


@click.command(cls=Command)
@click.argument("source", required=False, type=UserPath(), metavar="[PRESET | CONFIG.toml]")
@backend_option
@run_options
@short_forms("--epochs", "--batch-size", "--lr", "--beta", "--seed")
@click.option("--out", type=UserPath(path_type=Path), help="New run folder; default: runs/NAME-TIME.")
@click.option("--resume", type=UserPath(path_type=Path), metavar="RUN", help="Resume this run where it stopped.")
@click.option("--quiet", is_flag=True, help="No progress line.")
def train(
    source: str | None,
    backend: Place,
    overrides: tuple[str, ...],
    out: Path | None,
    resume: Path | None,
    quiet: bool,
) -> int:
    """Train a network by Equilibrium Propagation.

    Without arguments: a small ConvNet on the embedded digits. `eqnp presets` lists other configurations.
    """
    from eqnp.api.training import resume_run, start_run
    from eqnp.cli.progress import Progress
    from eqnp.runs.configfile import load

    progress = Progress(quiet)
    if resume is None:
        refuse_run(
            source,
            "`eqnp train --resume {run}` resumes it",
            "`eqnp evaluate {run}` measures it",
            "`eqnp train {run}/config.toml` starts a new run with its configuration",
        )
        path, code = start_run(load(source, overrides), backend.open, out, progress)
        return _with_curves(path, code, progress)
    if source is not None or out is not None:
        raise click.UsageError("--resume uses the configuration and the folder of the run: give no PRESET and no --out")
    return _with_curves(resume, resume_run(resume, overrides, backend.open, progress), progress)


def _with_curves(run: Path, code: int, progress: Progress) -> int:
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
