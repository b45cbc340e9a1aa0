"""``eqnp export`` and ``eqnp import``: weights for other programs, and runs from theirs."""

from __future__ import annotations

from pathlib import Path

import click

from eqnp.cli.mistakes import Command
from eqnp.cli.options import UserPath, checkpoint_option, run_argument, set_option
from eqnp.cli.streams import say

FORMATS = ("safetensors", "npz", "pytorch")  # eqnp.api.exchange.FORMATS, without importing NumPy


@click.command(
    "export",
    cls=Command,
    examples=["export runs/mlp --out mlp.safetensors", "export runs/mlp --to pytorch --out mlp.pt"],
)
@run_argument
@click.option("--out", type=UserPath(path_type=Path), required=True, help="File to write.")
@click.option("--to", type=click.Choice(FORMATS), help="Format; default: by the ending of --out.")
@click.option("--no-card", is_flag=True, help="Write no model card (README.md) beside the file.")
@click.option("--force", is_flag=True, help="Overwrite an existing file and its model card.")
@checkpoint_option
def export(run: Path, out: Path, to: str | None, no_card: bool, force: bool, checkpoint: str) -> None:
    """Write the weights of a run for other programs, with a model card.

    safetensors (`pip install safetensors`) and npz keep eqnp's names and layout, and the configuration; `eqnp import`
    reads them back. pytorch has the names and the layout of the published PyTorch code, in a file that --out names:
    .pt (`pip install torch`), .safetensors or .npz.
    """
    from eqnp.api.exchange import export_run, require_export
    from eqnp.api.functions import open_run

    if to is not None:
        require_export(out, to, force, not no_card)
    written = export_run(open_run(run, checkpoint=checkpoint), out, to or "", force=force, card=not no_card)
    say(f"weights     {written[0]}")
    for path in written[1:]:
        say(f"model card  {path}")


@click.command(
    "import",
    cls=Command,
    examples=["import mlp.safetensors --out runs/copy", "import theirs.pt --config mnist-mlp --out runs/theirs"],
)
@click.argument("file", type=UserPath(path_type=Path))
@click.option("--out", type=UserPath(path_type=Path), required=True, help="New run folder.")
@click.option(
    "--config",
    "--preset",
    "source",
    type=UserPath(),
    metavar="PRESET|TOML",
    help="Configuration of the network; default: the one in the file.",
)
@set_option
def import_(file: Path, out: Path, source: str | None, overrides: tuple[str, ...]) -> None:
    """Make a run folder from a file of weights.

    The file is one that `eqnp export` wrote, or a state_dict of the published PyTorch code (.pt, read without running
    code in it; or .safetensors, .npz). A state_dict needs --config.
    """
    from eqnp.api.exchange import import_run
    from eqnp.shown import quoted

    path = import_run(file, out, source, overrides)
    say(f"run folder  {path}")
    say("  weights   last.h5, after no epoch of training here")
    say(f"next        eqnp evaluate {quoted(path)} --checkpoint last")
