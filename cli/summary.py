"""``eqnp summary``: what a configuration has and costs, before it is trained."""

from __future__ import annotations

import click

from eqnp.cli.completing import complete_source_or_run
from eqnp.cli.mistakes import Command
from eqnp.cli.options import Place, UserPath, backend_option, run_options, short_forms
from eqnp.cli.streams import say_lines


@click.command(cls=Command, examples=["summary mnist-cnn", "summary mine.toml --no-time --batch-size 20"])
@click.argument(
    "source",
    required=False,
    type=UserPath(),
    metavar="[PRESET | CONFIG.toml | RUN]",
    shell_complete=complete_source_or_run,
)
@backend_option
@run_options
@short_forms("--epochs", "--batch-size")
@click.option("--no-time", is_flag=True, help="Measure neither time nor memory: nothing is computed.")
def summary(source: str | None, backend: Place, overrides: tuple[str, ...], no_time: bool) -> None:
    """Show layers, connections, parameters, FLOPs, memory and time of a configuration.

    FLOPs are multiplications and additions of products and convolutions, counted as in the direct form. Time and memory
    are estimated from a second or two of updates on random inputs, on this machine. No dataset is needed, and no run
    folder is made.
    """
    from eqnp.api.summary import summarize
    from eqnp.cli.rows import terminal_width
    from eqnp.cli.sources import file_of
    from eqnp.cli.summaries import WIDTH, summary_text
    from eqnp.runs.configfile import load

    content = summarize(load(file_of(source), overrides), backend.open(), not no_time)
    say_lines(summary_text(content, min(WIDTH, terminal_width() + 1)))
