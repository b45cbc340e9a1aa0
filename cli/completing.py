"""What completes on the command line: commands and options by click, and here presets, keys, values and run folders."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress

import click
from click.shell_completion import BashComplete, CompletionItem, FishComplete, ShellComplete, ZshComplete

from eqnp.cli.streams import say_script
from eqnp.errors import EqnpError

PROGRAM, VARIABLE = "eqnp", "_EQNP_COMPLETE"  # click's name of the variable in which a shell's script asks
Items = list[CompletionItem[str]]


class Bash(BashComplete):
    """Completion in bash, which splits words at "=": they are put together again, and its answer begins after it."""

    source_template = BashComplete.source_template.replace(
        "    return 0\n",
        "    if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *= ]]; then\n"
        "        compopt -o nospace\n    fi\n\n    return 0\n",
    )
    _begin = ""  # what the shell has already written of the word: KEY=

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the words before the one to complete, and this one."""
        args, incomplete = super().get_completion_args()
        words: list[str] = []
        for word in [*args, incomplete]:
            is_value = len(words) > 1 and words[-1] == "="
            if is_value:
                words[-2:] = [f"{words[-2]}={word}"]
            else:
                words.append(word)
        if len(words) > 1 and words[-1] == "=":
            words[-2:] = [f"{words[-2]}="]
        *args, incomplete = words
        self._begin = incomplete[: incomplete.find("=") + 1]
        return args, incomplete

    def format_completion(self, item: CompletionItem[str]) -> str:
        """Return a line of the answer."""
        item.value = item.value.removeprefix(self._begin)
        return super().format_completion(item)


SHELLS: dict[str, type[ShellComplete]] = {"bash": Bash, "zsh": ZshComplete, "fish": FishComplete}


def script(command: click.Command, shell: str) -> str:
    """Return the script that a shell reads to complete ``eqnp``."""
    return SHELLS[shell](command, {}, PROGRAM, VARIABLE).source()


def answer(command: click.Command, instruction: str) -> int:
    """Print the completions that a shell's script asks for; ``instruction`` is ``bash_complete``. Return the exit code.

    Nothing is printed on a mistake: it would stand in the line that the user writes.
    """
    shell, _, what = instruction.partition("_")
    if shell not in SHELLS or what != "complete":
        return 1
    with suppress(EqnpError, click.ClickException, OSError, KeyError, ValueError):
        say_script(SHELLS[shell](command, {}, PROGRAM, VARIABLE).complete())
    return 0


def complete_preset(ctx: click.Context, param: click.Parameter, incomplete: str) -> Items:
    """Return the presets that begin so."""
    from eqnp.runs import presets

    return [CompletionItem(name) for name in presets.names() if name.startswith(incomplete)]


def complete_source(ctx: click.Context, param: click.Parameter, incomplete: str) -> Items:
    """Return presets; the shell adds files."""
    return [CompletionItem(incomplete, type="file"), *complete_preset(ctx, param, incomplete)]


def complete_run(ctx: click.Context, param: click.Parameter, incomplete: str) -> Items:
    """Return run folders: those in the folder that the word names, or, for a first word, here and in ``runs/``."""
    begin, name = os.path.split(incomplete)
    places = [begin] if begin else ["", "runs"]
    found = [os.path.join(place, each) for place in places for each in _runs_in(place)]
    found = [path for path in found if path.startswith(incomplete) or os.path.basename(path).startswith(name or "\0")]
    return [CompletionItem(incomplete, type="dir"), *map(CompletionItem, found)]


def complete_toml(ctx: click.Context, param: click.Parameter, incomplete: str) -> Items:
    """Return the TOML files of a folder; the shell adds other files and folders."""
    begin, name = os.path.split(incomplete)
    found: list[str] = []
    with suppress(OSError):
        found = [each for each in sorted(os.listdir(begin or os.curdir)) if each.endswith(".toml")]
    paths = [os.path.join(begin, each) for each in found if each.startswith(name)]
    return [CompletionItem(incomplete, type="file"), *map(CompletionItem, paths)]


def complete_source_or_run(ctx: click.Context, param: click.Parameter, incomplete: str) -> Items:
    """Return presets and run folders; the shell adds files."""
    runs = complete_run(ctx, param, incomplete)[1:]
    return [*complete_source(ctx, param, incomplete), *runs]


def complete_setting(ctx: click.Context, param: click.Parameter, incomplete: str) -> Items:
    """Return keys with "=", or, after it, the values among which a key chooses."""
    from eqnp.runs.keys import choices_of, known_keys

    key, equals, value = incomplete.partition("=")
    if not equals:
        return [CompletionItem(f"{each}=") for each in known_keys() if each.startswith(key)]
    return [CompletionItem(f"{key}={each}") for each in choices_of(key) if each.startswith(value)]


def complete_dataset(ctx: click.Context, param: click.Parameter, incomplete: str) -> Items:
    """Return the names of datasets."""
    from eqnp.runs.keys import choices_of

    return [CompletionItem(name) for name in choices_of("data.name") if name.startswith(incomplete)]


def _runs_in(folder: str) -> Iterator[str]:
    """Yield the names of the run folders in a folder, sorted."""
    with suppress(OSError):
        for name in sorted(os.listdir(folder or os.curdir)):
            if os.path.isfile(os.path.join(folder, name, "config.toml")):
                yield name
