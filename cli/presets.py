"""``eqnp presets``: the configurations that come with the package."""

from __future__ import annotations

from pathlib import Path

import click

from eqnp.cli.completing import complete_preset
from eqnp.cli.mistakes import Command
from eqnp.cli.options import UserPath
from eqnp.cli.streams import say, say_lines


@click.command(cls=Command, examples=["presets", "presets digits > mine.toml"])
@click.argument("name", required=False, shell_complete=complete_preset)
@click.option(
    "--picture",
    type=UserPath(path_type=Path),
    help="Draw the network of the preset NAME to this file, .svg, .png or .pdf; needs matplotlib.",
)
def presets(name: str | None, picture: Path | None) -> None:
    """List the presets with their layers, or print one as TOML: a template for your own configuration.

    A layer is written as channels, kernel / stride + the layers that its skips come from; 0 is the input.
    """
    from eqnp.cli.rows import show_row
    from eqnp.runs import presets as available
    from eqnp.runs.configfile import load, preset_text
    from eqnp.runs.experiment import layers_of

    if picture is not None:
        _draw(name, picture)
        return
    if name is not None:
        say_lines(preset_text(name), nl=False)
        return
    names = available.names()
    width = max(map(len, names))
    for each in names:
        config = load(each, ())
        show_row(each, config.description, width)
        show_row("", " - ".join(map(str, layers_of(config.model))), width)


def _draw(name: str | None, path: Path) -> None:
    """Draw the network of a preset.

    Raises:
        ConfigurationError: no name, no such preset, or a file name with another ending.
    """
    from eqnp.analysis.picture import plot_network
    from eqnp.data.datasets import CLASSES, IMAGES
    from eqnp.errors import ConfigurationError
    from eqnp.runs.configfile import load
    from eqnp.runs.experiment import make_architecture
    from eqnp.runs.figures import save_figure

    if name is None:
        raise ConfigurationError(
            "--picture: name the preset to draw, for example `eqnp presets digits --picture d.svg`"
        )
    if path.suffix not in (".svg", ".png", ".pdf"):
        raise ConfigurationError(f"--picture: {path} does not end in .svg, .png or .pdf")
    config = load(name, ())
    dataset = config.data.name
    save_figure(plot_network(make_architecture(config.model, IMAGES[dataset], len(CLASSES[dataset]))), path)
    say(str(path))
