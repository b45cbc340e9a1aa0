"""``eqnp evaluate``: error and loss of the weights of a run."""

from __future__ import annotations

from pathlib import Path

import click

from eqnp.cli.mistakes import Command
from eqnp.cli.options import (
    Place,
    backend_option,
    checkpoint_option,
    run_argument,
    set_option,
    short_forms,
    split_option,
)


@click.command(cls=Command, examples=["evaluate runs/mlp --split train"])
@run_argument
@checkpoint_option
@split_option
@backend_option
@set_option
@short_forms("--batch-size")
def evaluate(run: Path, checkpoint: str, split: str, backend: Place, overrides: tuple[str, ...]) -> None:
    """Measure the error of a run: run the free phase on every sample and compare its output with its label."""
    from eqnp.api.results import which_weights
    from eqnp.api.session import open_run
    from eqnp.backends.sharding import thread_map
    from eqnp.cli.progress import Progress
    from eqnp.cli.rows import show_row
    from eqnp.training import evaluate as evaluate_batches

    session, state = open_run(run, backend.open, overrides, checkpoint)
    batches, progress = session.ordered_batches(split), Progress()
    with thread_map(session.config.training.threads, progress.message) as run_shards:
        tally = evaluate_batches(
            session.learner,
            state.parameters,
            batches,
            run_shards,
            lambda index: progress.update([f"batch {index}/{batches.count}"]),
        )
    progress.clear()
    mistakes = f"{tally.mistakes} of {tally.samples} samples of {session.dataset.name}"
    rows = [
        (f"{split} error", f"{tally.error:.2f} % ({mistakes})"),
        (f"{split} loss", f"{tally.loss:.4f}"),
        ("residual", f"{tally.residual:.1e} after {session.learner.phases.T1} free steps at most"),
        *(("with", line) for line in session.changed),
        *which_weights(run, session, state, checkpoint, split),
    ]
    for name, text in rows:
        show_row(name, text, max(11, len(split) + 6))
