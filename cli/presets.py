"""``eqnp presets``: the configurations that come with the package."""

from __future__ import annotations

import click

from eqnp.cli.completing import complete_preset
from eqnp.cli.mistakes import Command


@click.command(cls=Command, examples=["presets", "presets digits > mine.toml"])
@click.argument("name", required=False, shell_complete=complete_preset)
def presets(name: str | None) -> None:
    """List the presets, or print one as TOML: a template for your own configuration."""
    from eqnp.cli.rows import show_row
    from eqnp.runs import presets as available
    from eqnp.runs.configfile import load, preset_text

    if name is not None:
        click.echo(preset_text(name), nl=False)
        return
    names = available.names()
    width = max(map(len, names))
    for each in names:
        show_row(each, load(each, ()).description, width)
