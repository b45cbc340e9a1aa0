"""``eqnp presets``: the configurations that come with the package."""

from __future__ import annotations

import click

from eqnp.cli.mistakes import Command


@click.command(cls=Command)
@click.argument("name", required=False)
def presets(name: str | None) -> None:
    """List the presets with their layers, or print one as TOML: a template for your own configuration.

    A layer is written as channels, kernel / stride + the layers that its skips come from; 0 is the input.
    """
    from eqnp.cli.rows import show_row
    from eqnp.runs import presets as available
    from eqnp.runs.configfile import load, preset_text
    from eqnp.runs.experiment import layers_of

    if name is not None:
        click.echo(preset_text(name), nl=False)
        return
    names = available.names()
    width = max(map(len, names))
    for each in names:
        config = load(each, ())
        show_row(each, config.description, width)
        show_row("", " - ".join(map(str, layers_of(config.model))), width)
