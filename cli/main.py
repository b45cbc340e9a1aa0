"""The group of commands, and the one place where errors become a line and an exit code."""

from __future__ import annotations

import difflib
import errno
import io
import os
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module

import click

from eqnp import __version__
from eqnp.errors import DiskError, EqnpError, OutOfMemoryError, memory_errors

_COMMANDS = {
    "train": "Train a network by Equilibrium Propagation.",
    "evaluate": "Measure the test error of a run.",
    "check": "Compare EP with BPTT step by step, and its bias with the exact gradient.",
    "states": "Save the neurons' states of chosen samples and steps to HDF5.",
    "bench": "Measure a step, a batch and an epoch of training, and their memory.",
    "data": "List and fetch datasets.",
    "presets": "List the presets, or show one.",
    "doctor": "Show what is installed, which backends answer, which data was found.",
}


class _LazyGroup(click.Group):
    """Knows its commands' names and help, and imports a command's module when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        return getattr(import_module(f"eqnp.cli.{cmd_name}"), cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in _COMMANDS and not name.startswith("-"):
            near = difflib.get_close_matches(name, _COMMANDS, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(_COMMANDS)}"
            raise click.UsageError(f"no command {name!r}; {hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="eqnp")
def eqnp() -> None:
    """Equilibrium Propagation by hand, on NumPy and CuPy.

    `eqnp train` alone trains a small ConvNet on embedded digits.
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; results go to stdout, all else to stderr."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # a path that is no UTF-8 is printed as it is
    try:
        with memory_errors(), warnings.catch_warnings():
            # NumPy's, of numbers that are no longer finite: that is found and said in one line.
            warnings.simplefilter("ignore", RuntimeWarning)
            code = eqnp.main(args=arguments, prog_name="eqnp", standalone_mode=False)
        if sys.stdout:  # None if it was closed
            sys.stdout.flush()  # a closed pipe shows here and not at exit
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.ctx.get_help(), err=True)
        return error.exit_code
    except click.ClickException as error:
        return _fail(_one_line(error), 2)
    except EqnpError as error:
        return _fail(str(error), error.exit_code)
    except MemoryError as error:
        reason = f" ({error})" if str(error) else ""
        return _fail(
            f"out of memory{reason}; lower training.batch_size or training.threads", OutOfMemoryError.exit_code
        )
    except (KeyboardInterrupt, click.Abort) as error:
        return _fail("stopped", getattr(error.__cause__ or error, "exit_code", 130))
    except SystemExit:  # click's answer to a closed pipe
        return 0
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # keep the exit from flushing into the pipe
        return 0
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        return _fail(f"{error.filename or 'output'}: {error.strerror}; free some space", DiskError.exit_code)
    return code if isinstance(code, int) else 0


def _one_line(error: click.ClickException) -> str:
    """Return click's message with where to find help, on one line."""
    text = " ".join(error.format_message().split())
    ctx = getattr(error, "ctx", None)
    return f"{text} (see `{ctx.command_path} --help`)" if ctx else text


def _fail(message: str, code: int) -> int:
    with suppress(OSError):  # a reader that went away
        click.echo(f"eqnp: {message}", err=True)
    return code
