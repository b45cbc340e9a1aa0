"""Options that several commands share, and the types of their values."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

import click

from eqnp.cli.completing import complete_run, complete_setting
from eqnp.cli.streams import say_lines

if TYPE_CHECKING:
    from eqnp.backends.backend import Backend
    from eqnp.backends.world import World

F = TypeVar("F", bound=Callable[..., Any])

BACKENDS = ("numpy", "cupy", "auto")  # eqnp.backends.backend.NAMES, repeated so that --help does not import NumPy
DTYPES = ("float32", "float64")
PROCESSES = ("auto", "mpi", "none")  # eqnp.api.processes.CHOICES


class Place(NamedTuple):
    """The array backend: arguments of ``eqnp.backends.backend.get_backend``. Memory in GB, 0: no limit.

    ``device`` None: GPU 0, or that of each of several processes.
    """

    name: str
    device: int | None = None
    memory_gb: float = 0.0

    def words(self) -> list[str]:
        """Return the options that choose this backend, as words; none for the default."""
        from eqnp.backends.backend import choosing

        return list(choosing(self.name, self.device, self.memory_gb))

    def open(self, world: World | None = None) -> Backend:
        """Return the backend, and say on stderr which one ``auto`` took and why.

        Raises:
            BackendError: it is not available.
        """
        from eqnp.api.report import Report
        from eqnp.backends.backend import get_backend
        from eqnp.cli.progress import Progress
        from eqnp.errors import BackendError

        own = world.gpu() if world is not None and self.device is None else self.device or 0
        report = Report() if world is not None and world.rank else Progress()
        try:
            return get_backend(self.name, own, self.memory_gb, report.message)
        except BackendError as error:
            if self.device is None and own and str(error).startswith("--device"):
                raise BackendError(
                    f"backend cupy: process {own + 1} of this host has no GPU; start one process a GPU, or give "
                    "--device N for all to share GPU N"
                ) from None
            raise


class FiniteRange(click.FloatRange):
    """A finite number in a range; NaN and infinity are refused."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number, or fail with click's message."""
        number = super().convert(value, param, ctx)
        return number if math.isfinite(number) else self.fail(f"{value} is not a finite number.", param, ctx)


class UserPath(click.Path):
    """A path in which ``~`` is the home folder, even if the shell does not expand it: ``--out=~/runs/a``."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path, or fail if the home folder is not known."""
        path = os.path.expanduser(value)
        if os.fspath(path).startswith("~"):
            self.fail(f"{value}: no such home folder is known; write ./{value} for a file of that name.", param, ctx)
        return super().convert(path, param, ctx)


def backend_option(function: F) -> F:
    """Add ``--backend``, ``--device`` and ``--device-memory``; the command gets one ``backend``, a Place."""

    @functools.wraps(function)
    def command(*args: Any, backend: str, device: int | None, device_memory: float | None, **options: Any) -> Any:
        if backend == "numpy":
            for name, value in (("--device", device), ("--device-memory", device_memory)):
                if value is not None:
                    raise click.UsageError(f"{name} needs a GPU: add --backend cupy")
        return function(*args, backend=Place(backend, device, device_memory or 0.0), **options)

    for option in (
        click.option(
            "--device-memory",
            type=FiniteRange(min=0, min_open=True),
            metavar="GB",
            help="Use at most this much GPU memory.",
        ),
        click.option("--device", type=click.IntRange(min=0), metavar="N", help="Index of the GPU."),
        click.option(
            "--backend",
            type=click.Choice(BACKENDS),
            default="numpy",
            show_default=True,
            help="Array backend; auto takes CuPy if a GPU is available.",
        ),
    ):
        command = option(command)
    return cast(F, command)  # click, not a caller, gives it its arguments


def distributed_option(function: F) -> F:
    """Add ``--distributed``; the command gets the ``world`` of processes, and is run by all of them."""

    @functools.wraps(function)
    def command(*args: Any, distributed: str, **options: Any) -> Any:
        from eqnp.api.processes import open_world

        with open_world(distributed) as world:
            return function(*args, world=world, **options)

    option = click.option(
        "--distributed",
        type=click.Choice(PROCESSES),
        default="auto",
        show_default=True,
        help="Several processes on one run: mpi; none: each for itself; auto: mpi if mpiexec or srun started several.",
    )
    return cast(F, option(command))


class ShortForm(click.Option):
    """An option that is a short form of ``--set`` for one key."""

    def __init__(self, *args: Any, configuration_key: str, **options: Any) -> None:
        super().__init__(*args, **options)
        self.configuration_key = configuration_key


_COUNT = click.IntRange(min=0)
# The configuration key of each option, and its arguments for click.
_SHORT: dict[str, tuple[str, dict[str, Any]]] = {
    "--epochs": ("training.epochs", {"type": _COUNT, "metavar": "N", "help": "Passes over the training set."}),
    "--batch-size": (
        "training.batch_size",
        {"type": click.IntRange(min=1), "metavar": "N", "help": "Samples per batch."},
    ),
    "--lr": (
        "optimizer.rates",
        {"metavar": "RATE", "help": "Learning rate, or one per layer: '[0.2,0.1]'."},
    ),
    "--beta": (
        "dynamics.beta",
        {"type": FiniteRange(min=0, min_open=True), "metavar": "BETA", "help": "Nudging strength."},
    ),
    "--seed": (
        "training.seed",
        {"type": _COUNT, "metavar": "N", "help": "Seed of weights, sample order and augmentation."},
    ),
    "--threads": (
        "training.threads",
        {"type": _COUNT, "metavar": "N", "help": "CPU threads; 0: chosen by network and cores."},
    ),
    "--dtype": (
        "training.dtype",
        {"type": click.Choice(DTYPES), "help": "Floating-point precision; default: as configured."},
    ),
    "--tf32": (
        "training.tf32",
        {"flag_value": "true", "help": "TF32 convolutions on a GPU: faster, less precise."},
    ),
}


def short_forms(*names: str) -> Callable[[F], F]:
    """Return a decorator that adds options, each a short form of ``--set``; the command gets them in ``overrides``."""

    def decorate(function: F) -> F:
        for name in reversed(names):
            key, how = _SHORT[name]
            place = "short" + name.replace("-", "_")
            function = click.option(name, place, cls=ShortForm, configuration_key=key, default=None, **how)(function)
        return function

    return decorate


def in_order(command: click.Command, ctx: click.Context, words: list[str]) -> None:
    """Insert the short forms into the ``overrides`` of ``ctx``, in the order of ``words``: a key's last value counts.

    ``words`` are the words of the command line, which were parsed without error.
    """
    values = {each: ctx.params.pop(each.name) for each in command.params if isinstance(each, ShortForm)}
    if not any(value is not None for value in values.values()):
        return
    settings, overrides = iter(ctx.params["overrides"]), []
    for each in command.make_parser(ctx).parse_args(args=list(words))[2]:
        if each in values:
            overrides.append(f"{each.configuration_key}={values[each]}")
        elif each.name == "overrides":
            overrides.append(next(settings))
    ctx.params["overrides"] = tuple(overrides)


def take_environment(ctx: click.Context) -> None:
    """Insert the settings of environment variables before the ``overrides`` of ``ctx``, which stand above them.

    Raises:
        ConfigurationError: a variable is misspelt. One that resembles none of eqnp's is reported and ignored.
    """
    if "overrides" not in ctx.params or not any(name.upper().startswith("EQNP_") for name in os.environ):
        return
    from eqnp.runs.variables import settings_in

    found, unknown = settings_in(os.environ)
    for name in unknown:
        say_lines(f"{name}: no such setting; the variable is ignored", err=True)
    ctx.params["overrides"] = (*found, *ctx.params["overrides"])


def run_options(function: F) -> F:
    """Add ``--set``, ``--threads``, ``--dtype`` and ``--tf32``; the command gets them in ``overrides``."""
    return set_option(short_forms("--threads", "--dtype", "--tf32")(function))


def set_option(function: F) -> F:
    """Add ``--set key=value``, repeatable."""
    return click.option(
        "--set",
        "overrides",
        shell_complete=complete_setting,
        metavar="KEY=VALUE",
        multiple=True,
        help="Change a configuration key: training.epochs=3. Repeatable.",
    )(function)


def run_argument(function: F) -> F:
    """Add the argument RUN, a run folder."""
    return click.argument("run", type=UserPath(path_type=Path), shell_complete=complete_run)(function)


def checkpoint_option(function: F) -> F:
    """Add ``--checkpoint best|last``."""
    return click.option(
        "--checkpoint",
        type=click.Choice(["best", "last"]),
        default="best",
        show_default=True,
        help="last: after the last epoch; best: after the epoch with the lowest validation error (without "
        "data.validation: test error).",
    )(function)


def split_option(function: F) -> F:
    """Add ``--split test|train|validation``."""
    return click.option(
        "--split",
        type=click.Choice(["test", "train", "validation"]),
        metavar="SPLIT",
        default="test",
        show_default=True,
        help="test, train or validation (held out by data.validation).",
    )(function)
