"""``eqnp config``: show a configuration and where its values come from, check a file, write one to start from."""

from __future__ import annotations

import os
from pathlib import Path

import click

from eqnp.cli.completing import complete_preset, complete_source_or_run
from eqnp.cli.mistakes import Group
from eqnp.cli.options import UserPath, run_options, short_forms
from eqnp.cli.streams import say, say_toml


@click.group(cls=Group, examples=["config show --origin", "config init mine.toml"])
def config() -> None:
    """Show, check or start a configuration."""


@config.command(examples=["config show mnist-cnn --epochs 3 --origin"])
@click.argument(
    "source",
    required=False,
    type=UserPath(),
    metavar="[PRESET | CONFIG.toml | RUN]",
    shell_complete=complete_source_or_run,
)
@run_options
@short_forms("--epochs", "--batch-size", "--lr", "--beta", "--seed")
@click.option("--origin", is_flag=True, help="Say of every value where it comes from.")
def show(source: str | None, overrides: tuple[str, ...], origin: bool) -> None:
    """Print every key with its value, as TOML.

    A value comes from the command line, else from an environment variable (EQNP_TRAINING_EPOCHS=3), else from the file,
    else from the preset that is its base, else it is the default.
    """
    from eqnp.cli.sources import file_of
    from eqnp.runs.configfile import load, to_toml
    from eqnp.runs.origins import origins
    from eqnp.runs.template import with_origins

    source = file_of(source)
    loaded = load(source, overrides)
    text = with_origins(loaded, origins(source, overrides)) if origin else to_toml(loaded)
    say_toml(text)


@config.command(examples=["config check mine.toml"])
@click.argument("file", type=UserPath(), metavar="CONFIG.toml")
def check(file: str) -> None:
    """Check a configuration file: keys, values, layers.

    The layers must fit the data and each other. Data of your own (npz, folder) are read for this. Environment
    variables are left out. The exit code is 2 if anything is wrong, 3 if your data are.
    """
    from eqnp.api.fitting import fitted_outline
    from eqnp.errors import ConfigurationError
    from eqnp.runs import presets
    from eqnp.runs.configfile import load
    from eqnp.runs.experiment import make_architecture

    if file in presets.names() and not os.path.exists(file):
        raise ConfigurationError(f"{file}: is a preset, not a file; `eqnp config show {file}` prints it")
    if os.path.isdir(file):
        raise ConfigurationError(
            f"{file}: is a folder, not a file; that of a run is {os.path.join(file, 'config.toml')}"
        )
    loaded = load(file if "/" in file or file.endswith(".toml") else f"./{file}")
    try:
        loaded, outline = fitted_outline(loaded)
        architecture = make_architecture(loaded.model, outline.train_images.shape[1:], len(outline.classes))
    except ConfigurationError as error:
        raise ConfigurationError(f"{file}: {error}") from None
    say(f"{file}: no mistakes; {' - '.join(map(str, architecture.layers))} on {outline.name}")


@config.command(examples=["config init mine.toml --preset mnist-cnn"])
@click.argument("file", required=False, type=UserPath(path_type=Path), metavar="[CONFIG.toml]")
@click.option(
    "--preset",
    metavar="NAME",
    shell_complete=complete_preset,
    help="The preset whose values to begin with; default: digits.",
)
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
def init(file: Path | None, preset: str | None, force: bool) -> None:
    """Write a commented configuration to start from.

    It has every key, with a comment on each. Without a file it is printed. A run is then named after the file.
    """
    from eqnp.runs.configfile import DEFAULT_PRESET, load, preset_text
    from eqnp.runs.overrides import toml_value
    from eqnp.runs.storage import require_place, write_atomic
    from eqnp.runs.template import commented

    name = preset or DEFAULT_PRESET
    preset_text(name)  # only a preset, not a file
    if file is None:
        say_toml(commented(load(name)))
        return
    require_place(file, force, "config init")
    write_atomic(file, commented(load(name, [f"name={toml_value(file.stem)}"])).encode())
    say(f"{file}: preset {name} with a comment on every key")
