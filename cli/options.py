"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

BACKENDS = ("numpy", "cupy", "auto")  # eqnp.backend.NAMES, written again so that --help need not import NumPy


def backend_option(function: F) -> F:
    """Add ``--backend``."""
    return click.option(
        "--backend",
        type=click.Choice(BACKENDS),
        default="numpy",
        show_default=True,
        help="Where arrays live; auto takes CuPy if a GPU answers it.",
    )(function)


def set_option(function: F) -> F:
    """Add ``--set key=value``, repeatable."""
    return click.option(
        "--set",
        "overrides",
        metavar="KEY=VALUE",
        multiple=True,
        help="Change one key of the configuration, for example training.epochs=3. Repeatable.",
    )(function)


def run_argument(function: F) -> F:
    """Add the argument RUN, a run folder."""
    return click.argument("run", type=click.Path(path_type=Path))(function)


def checkpoint_option(function: F) -> F:
    """Add ``--checkpoint best|last``."""
    return click.option(
        "--checkpoint",
        type=click.Choice(["best", "last"]),
        default="best",
        show_default=True,
        help="Which of the run's two checkpoints to read.",
    )(function)


def split_option(function: F) -> F:
    """Add ``--split test|train``."""
    return click.option(
        "--split", type=click.Choice(["test", "train"]), default="test", show_default=True, help="Which samples."
    )(function)
