"""Options that several commands share."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

BACKENDS = ("numpy", "cupy", "auto")  # eqnp.backend.NAMES, written again so that --help need not import NumPy
DTYPES = ("float32", "float64")


class Place(NamedTuple):
    """Where arrays live, as ``eqnp.backend.get_backend`` takes it."""

    name: str
    device: int = 0
    memory_gb: float = 0.0


class FiniteRange(click.FloatRange):
    """A number in a range, which nan and inf are not."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number, or fail as click does."""
        number = super().convert(value, param, ctx)
        return number if math.isfinite(number) else self.fail(f"{value} is not a finite number.", param, ctx)


def backend_option(function: F) -> F:
    """Add ``--backend``, ``--device`` and ``--device-memory``, given to the command as one ``backend``, a Place."""

    @functools.wraps(function)
    def command(*args: Any, backend: str, device: int | None, device_memory: float | None, **options: Any) -> Any:
        if backend == "numpy":
            for name, value in (("--device", device), ("--device-memory", device_memory)):
                if value is not None:
                    raise click.UsageError(f"{name} is about a GPU: give --backend cupy with it")
        return function(*args, backend=Place(backend, device or 0, device_memory or 0.0), **options)

    for option in (
        click.option(
            "--device-memory",
            type=FiniteRange(min=0, min_open=True),
            metavar="GB",
            help="Use at most this much of a GPU's memory.",
        ),
        click.option("--device", type=click.IntRange(min=0), metavar="N", help="Which GPU, counted from 0."),
        click.option(
            "--backend",
            type=click.Choice(BACKENDS),
            default="numpy",
            show_default=True,
            help="Where arrays live; auto takes CuPy if a GPU answers it.",
        ),
    ):
        command = option(command)
    return command


def run_options(function: F) -> F:
    """Add ``--set``, and ``--threads``, ``--dtype`` and ``--tf32``, given to the command among the ``overrides``."""

    @functools.wraps(function)
    def command(
        *args: Any, overrides: tuple[str, ...], threads: int | None, dtype: str | None, tf32: bool, **options: Any
    ) -> Any:
        given = (("threads", threads), ("dtype", dtype), ("tf32", "true" if tf32 else None))
        more = tuple(f"training.{key}={value}" for key, value in given if value is not None)
        return function(*args, overrides=(*overrides, *more), **options)

    for option in (
        click.option("--tf32", is_flag=True, help="On a GPU, faster products of convolutions, less precise."),
        click.option("--dtype", type=click.Choice(DTYPES), help="Type of all numbers; default: the configuration's."),
        click.option("--threads", type=click.IntRange(min=0), help="CPU threads; 0: what suits the net and the cores."),
    ):
        command = option(command)
    return set_option(command)


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
        help="Which of the run's checkpoints to read: after its last epoch, or after that with the lowest error on the "
        "validation set (without data.validation: on the test set).",
    )(function)


def split_option(function: F) -> F:
    """Add ``--split test|train|validation``."""
    return click.option(
        "--split",
        type=click.Choice(["test", "train", "validation"]),
        default="test",
        show_default=True,
        help="Which samples; validation: those that data.validation holds out.",
    )(function)
