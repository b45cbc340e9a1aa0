"""``eqnp states``: the states of the neurons, step by step, for plotting."""

from __future__ import annotations

from pathlib import Path

import click

from eqnp.cli.mistakes import Command
from eqnp.cli.options import (
    Place,
    UserPath,
    backend_option,
    checkpoint_option,
    run_argument,
    set_option,
    short_forms,
    split_option,
)
from eqnp.cli.streams import say
from eqnp.errors import memory_advice


@click.command(cls=Command, examples=["states runs/mlp --out states.h5 --samples 0:3"])
@run_argument
@click.option("--out", type=UserPath(path_type=Path), required=True, help="HDF5 file to write.")
@click.option("--samples", metavar="RANGE", default="0:10", show_default=True, help="3,5 or 0:10 or 0:100:10.")
@click.option("--steps", metavar="RANGE", default="", help="Steps of each phase; 0 is its start. Default: all.")
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
@checkpoint_option
@split_option
@backend_option
@set_option
@short_forms("--beta")
@memory_advice("take fewer --samples or --steps")
def states(
    run: Path,
    out: Path,
    samples: str,
    steps: str,
    force: bool,
    checkpoint: str,
    split: str,
    backend: Place,
    overrides: tuple[str, ...],
) -> None:
    """Save the states of chosen samples at chosen steps to HDF5.

    The file has the groups phases/free, phases/plus and phases/minus (nudged by +beta and -beta). Each has `steps` and
    one array (step, sample, ...) per layer: s1 is the first layer. docs/files.md plots it in five lines.
    """
    from eqnp.analysis.trajectories import record
    from eqnp.api.session import open_run
    from eqnp.cli.rows import show_changed
    from eqnp.cli.selection import parse_selection
    from eqnp.runs import checkpoint as files
    from eqnp.runs.changes import describe
    from eqnp.runs.storage import require_place

    require_place(out, force)
    session, state = open_run(run, backend.open, overrides, checkpoint)
    chosen = parse_selection("--samples", samples, session.count(split))
    x, labels = session.samples(split, chosen)
    wanted = (
        parse_selection("--steps", steps, max(session.learner.phases.T1, session.learner.phases.T2) + 1)
        if steps
        else None
    )
    content = record(session.learner, state.parameters, x, labels, wanted)
    content["samples"] |= {"index": files.integers(chosen), "split": split, "dataset": session.dataset.name}
    if session.changed:
        content["changed"] = "; ".join(map(describe, session.changed))
    files.save(out, content, kind="states")
    say(f"{out}: {len(chosen)} samples, {', '.join(content['phases'])}")
    show_changed(session.changed)
