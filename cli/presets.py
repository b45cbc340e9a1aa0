"""``eqnp presets``: the configurations that come with the package."""

from __future__ import annotations

import click

from eqnp.cli.mistakes import Command
from eqnp.cli.streams import say_lines


@click.command(cls=Command)
@click.argument("name", required=False)
def presets(name: str | None) -> None:
    """List the presets, or print one as TOML: a template for your own configuration."""
    from eqnp.cli.rows import show_row
    from eqnp.runs import presets as available
    from eqnp.runs.configfile import load, preset_text

    if name is not None:
        say_lines(preset_text(name), nl=False)
        return
    names = available.names()
    width = max(map(len, names))
    for each in names:
        show_row(each, load(each, ()).description, width)
