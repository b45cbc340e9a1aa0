"""``eqnp completion``: the script with which a shell completes commands, options, presets, keys and run folders."""

from __future__ import annotations

import click

from eqnp.cli.mistakes import Command
from eqnp.cli.streams import say_script

SHELLS = ("bash", "zsh", "fish")


@click.command(
    cls=Command,
    examples=[
        "completion bash >> ~/.bashrc",
        "completion zsh >> ~/.zshrc",
        "completion fish > ~/.config/fish/completions/eqnp.fish",
    ],
)
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script with which a shell completes `eqnp`.

    Commands, options, presets, configuration keys and their values, datasets and run folders complete. Bash needs
    version 4.4.
    """
    from eqnp.cli.completing import script

    say_script(script(ctx.find_root().command, shell))
