"""The group of commands. Errors become one line and an exit code here, and only here."""

from __future__ import annotations

import errno
import os
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module

import click

from eqnp import __version__
from eqnp.backends.launcher import launched
from eqnp.cli.mistakes import Command, Group
from eqnp.cli.streams import say_lines, take_any_text
from eqnp.errors import DiskError, EqnpError, OutOfMemoryError, memory_errors, missing_package
from eqnp.shown import shown

_COMMANDS = {
    "train": "Train a network by Equilibrium Propagation.",
    "evaluate": "Measure the error of a run.",
    "predict": "Print the class and the score of image files.",
    "plot": "Draw learning curves of runs, and how one run settles.",
    "show": "Write a page on which a network settles.",
    "report": "Print a table of runs, beside the published figures.",
    "sweep": "Train many runs: a grid or a list of settings, several seeds.",
    "check": "Compare the EP gradient with the exact gradient and with BPTT.",
    "states": "Save the states of chosen samples and steps to HDF5.",
    "bench": "Measure time and memory of a step, a batch and an epoch.",
    "export": "Write the weights of a run for other programs.",
    "import": "Make a run from weights of other programs.",
    "data": "List, download and show datasets.",
    "summary": "Show layers, FLOPs, memory and time of a configuration.",
    "config": "Show, check or start a configuration.",
    "presets": "List the presets, or show one.",
    "completion": "Print the script for completion in bash, zsh or fish.",
    "doctor": "Show packages, hardware limits, backends and datasets.",
}
# Module and function of the commands whose module has another name.
_PLACES = {"export": ("exchange", "export"), "import": ("exchange", "import_")}
# What the system may refuse at any place, and what to do.
_OF_THE_SYSTEM = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some of your quota",
    errno.EIO: "check the disk",
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
    errno.ENFILE: "close other programs: the system has too many open files",
    errno.EROFS: "choose a place that can be written",
    getattr(errno, "ESTALE", errno.EIO): "check the connection to the file server",
}


class _LazyGroup(Group):
    """Knows the names and help of its commands, and imports the module of a command when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, name = _PLACES.get(cmd_name, (cmd_name, cmd_name))
        command: click.Command = getattr(import_module(f"eqnp.cli.{module}"), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(
    cls=_LazyGroup,
    examples=["train", "train mnist-mlp --epochs 3"],
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="eqnp")
def eqnp() -> None:
    """Equilibrium Propagation by hand, on NumPy and CuPy.

    `eqnp train` without arguments trains a small ConvNet on the embedded digits.
    """


# Commands that several processes of mpiexec or srun compute together, or share out. The others are for one process.
_TOGETHER = ("train", "evaluate", "check", "bench", "sweep")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. Results go to stdout, everything else to stderr."""
    take_any_text()
    words = sys.argv[1:] if arguments is None else list(arguments)
    if _follows(words) and not any(word in _TOGETHER for word in words[:1]):
        return 0
    if asked := os.environ.get("_EQNP_COMPLETE"):  # by the script of a shell
        from eqnp.cli.completing import answer

        return answer(eqnp, asked)
    try:
        with memory_errors(), warnings.catch_warnings():
            # NumPy warns of NaN and overflow; divergence is detected and reported in one line instead.
            warnings.simplefilter("ignore", RuntimeWarning)
            code = eqnp.main(args=arguments, prog_name="eqnp", standalone_mode=False)
        if sys.stdout:  # None if it was closed
            sys.stdout.flush()  # raises here, not at exit, if the pipe is closed
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        say_lines(error.ctx.get_help(), err=True)
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
    except UnicodeEncodeError as error:
        if error.encoding != sys.getfilesystemencoding():
            raise
        return _fail(
            f"{error.object!a}: file names are encoded in {error.encoding}, which lacks these characters; "
            "set PYTHONUTF8=1 or use a UTF-8 locale",
            2,
        )
    except ModuleNotFoundError as error:
        missing = missing_package(error)
        if missing is None:
            raise
        return _fail(str(missing), missing.exit_code)
    except SystemExit:  # click exits so if the pipe is closed
        return 0
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that exit does not flush into the pipe
        return 0
    except OSError as error:
        if error.errno not in _OF_THE_SYSTEM:
            raise
        advice = _OF_THE_SYSTEM[error.errno]
        return _fail(f"{error.filename or 'output'}: {error.strerror}; {advice}", DiskError.exit_code)
    return code if isinstance(code, int) else 0


def _one_line(error: click.ClickException) -> str:
    """Return click's message on one line, with the command that prints help."""
    text = " ".join(error.format_message().split())
    ctx = getattr(error, "ctx", None)
    if ctx and isinstance(error, click.MissingParameter) and isinstance(ctx.command, Command) and ctx.command.examples:
        text = f"{text.rstrip('.')}; for example `eqnp {ctx.command.examples[0]}`"
    return f"{text} (see `{ctx.command_path} --help`)" if ctx else text


def _follows(words: Sequence[str]) -> bool:
    """Return whether this is not the first of several processes, which are not independent, so that it is silent."""
    text = " ".join(words)
    return launched().rank > 0 and "--distributed none" not in text and "--distributed=none" not in text


def _fail(message: str, code: int) -> int:
    if _follows(sys.argv[1:]):  # the first process says the same, or the world has said what is to say
        return code
    with suppress(OSError):  # stderr is closed
        say_lines(f"eqnp: {shown(message)}", err=True)
    return code
