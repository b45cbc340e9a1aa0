"""``eqnp evaluate``: error and loss of the weights of a run."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from eqnp.cli.mistakes import Command
from eqnp.cli.options import (
    Place,
    backend_option,
    checkpoint_option,
    distributed_option,
    run_argument,
    set_option,
    short_forms,
    split_option,
)

if TYPE_CHECKING:
    from eqnp.backends.world import World


@click.command(cls=Command, examples=["evaluate runs/mlp --split train"])
@run_argument
@checkpoint_option
@split_option
@backend_option
@set_option
@short_forms("--batch-size")
@distributed_option
def evaluate(run: Path, checkpoint: str, split: str, backend: Place, overrides: tuple[str, ...], world: World) -> None:
    """Measure the error of a run: run the free phase on every sample and compare its output with its label."""
    from eqnp.api.processes import idle, join, marked
    from eqnp.api.report import Report
    from eqnp.api.results import which_weights
    from eqnp.api.session import open_run
    from eqnp.cli.progress import Progress
    from eqnp.cli.rows import show_row
    from eqnp.runs.changes import describe
    from eqnp.training import evaluate as evaluate_batches

    session, state = open_run(run, partial(backend.open, world), overrides, checkpoint)
    join(world, session, marked(world, state.parameters))
    batches, progress = session.ordered_batches(split), Report() if world.rank else Progress()
    if note := idle(world, session):
        progress.message(note)
    with session.map(progress.message) as run_shards:
        tally = evaluate_batches(
            session.learner,
            state.parameters,
            batches,
            run_shards,
            lambda index: progress.update([f"batch {index}/{batches.count}"]),
            world,
        )
    if world.rank:
        return
    progress.clear()
    mistakes = f"{tally.mistakes} of {tally.samples} samples of {session.dataset.name}"
    rows = [
        (f"{split} error", f"{tally.error:.2f} % ({mistakes})"),
        (f"{split} loss", f"{tally.loss:.4f}"),
        ("residual", f"{tally.residual:.1e} after {session.learner.phases.T1} free steps at most"),
        *(("with", describe(change, nudged=False)) for change in session.changed),
        *which_weights(run, session, state, checkpoint, split),
    ]
    for name, text in rows:
        show_row(name, text, max(11, len(split) + 6))
