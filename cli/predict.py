"""``eqnp predict``: class and score of image files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from eqnp.cli.mistakes import Command
from eqnp.cli.options import Place, UserPath, backend_option, checkpoint_option, run_argument, set_option
from eqnp.cli.streams import say, say_json
from eqnp.errors import memory_advice

if TYPE_CHECKING:
    from eqnp.api.predicting import Prediction


@click.command(cls=Command, examples=["predict runs/mlp seven.png", "predict runs/mlp *.png --json"])
@run_argument
@click.argument("images", nargs=-1, required=True, type=UserPath(path_type=Path), metavar="IMAGE...")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line, with the scores of all classes.")
@click.option("--resize", is_flag=True, help="Scale pictures of another size.")
@checkpoint_option
@backend_option
@set_option
@memory_advice("give fewer images, or lower training.batch_size with --set")
def predict(
    run: Path,
    images: tuple[Path, ...],
    as_json: bool,
    resize: bool,
    checkpoint: str,
    backend: Place,
    overrides: tuple[str, ...],
) -> None:
    """Print the class of image files, and its score.

    Images are PNG, JPEG (`pip install pillow`) or .npy files of one or more samples. They are scaled as the images that
    the run was trained on; a colour picture is turned into grey if those were grey.

    The score is the probability of the class, or with squared error its output unit.
    """
    from eqnp.api.predicting import predict_files, score_meaning
    from eqnp.api.run import Run, outline_of
    from eqnp.api.session import open_run
    from eqnp.cli.rows import show_changed

    session, state = open_run(run, backend.open, overrides, checkpoint, read=outline_of)
    opened = Run(run, checkpoint, state, session)
    found = predict_files(opened, images, resize)
    if as_json:
        for each in found:
            say_json(each.as_json())
        return
    for line in _table(found, score_meaning(opened)):
        say(line)
    show_changed(session.changed, nudged=False)


def _table(found: list[Prediction], meaning: str) -> list[str]:
    """Return a title and one line per image: file, class, score, and the second class with its score."""
    rows = [("image", "class", meaning, "next")]
    for each in found:
        place = each.file if each.index is None else f"{each.file} [{each.index}]"
        second = max(
            (k for k in range(len(each.scores)) if k != each.label), key=lambda k: each.scores[k], default=None
        )
        next_best = "" if second is None else f"{each.names[second]} {each.scores[second]:.3f}"
        rows.append((place, each.name, f"{each.score:.3f}", next_best))
    widths = [max(len(row[k]) for row in rows) for k in range(4)]
    return ["  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
