"""``eqnp show``: a page on which a network settles."""

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


@click.command(
    cls=Command, examples=["show runs/mlp --out mlp.html", "show runs/mlp --samples 3,18 --set dynamics.T1=60"]
)
@run_argument
@click.option(
    "--out", type=UserPath(path_type=Path), default="show.html", show_default=True, help="HTML file to write."
)
@click.option("--samples", metavar="RANGE", help="3,5 or 0:10. Default: the first sample of each class.")
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
@checkpoint_option
@split_option
@backend_option
@set_option
@short_forms("--beta")
@memory_advice("take fewer --samples")
def show(
    run: Path,
    out: Path,
    samples: str | None,
    force: bool,
    checkpoint: str,
    split: str,
    backend: Place,
    overrides: tuple[str, ...],
) -> None:
    """Write a page on which the network settles, step by step.

    One HTML file for any browser, without a network: an image of choice, the states of every layer through the free
    phase and both nudged phases with a slider, the energy, the residual, the prediction as it forms, and what each
    nudge changes.
    """
    from eqnp.api.session import open_run
    from eqnp.api.showing import default_samples, settling_page
    from eqnp.cli.progress import Progress
    from eqnp.cli.rows import show_changed
    from eqnp.cli.selection import parse_selection
    from eqnp.errors import ConfigurationError
    from eqnp.runs.storage import require_place, write_atomic

    if out.suffix.lower() not in (".html", ".htm"):
        raise ConfigurationError(f"--out {out}: the name of a page ends in .html")
    require_place(out, force)
    session, state = open_run(run, backend.open, overrides, checkpoint)
    chosen = parse_selection("--samples", samples, session.count(split)) if samples else default_samples(session, split)
    page, count = settling_page(session, state.parameters, run.resolve().name, split, chosen)
    write_atomic(out, page.encode())
    if count < len(chosen):
        Progress().message(
            f"{len(chosen) - count} of {len(chosen)} samples left out, so that the page stays below 3 MB"
        )
    say(f"page in {out}: {count} samples, {len(page) / 1e6:.1f} MB; open it in a browser")
    show_changed(session.changed)
