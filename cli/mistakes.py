"""Commands that answer a mistake on the command line with the correct words."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from eqnp.cli.options import ShortForm, in_order, take_environment
from eqnp.cli.othernames import ELSEWHERE, OF_SWEEPS, OTHER_COMMANDS, OTHER_COMMANDS_OF, OTHER_OPTIONS
from eqnp.runs.spelling import did_you_mean, near_words
from eqnp.shown import quoted


class _WithExamples(click.Command):
    """A command whose help ends with examples."""

    def __init__(self, *args: Any, examples: Sequence[str] = (), **options: Any) -> None:
        """Make a command; ``examples`` are command lines without ``eqnp``, which its help shows."""
        super().__init__(*args, **options)
        self.examples = examples

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples at the end of the help."""
        super().format_epilog(ctx, formatter)
        if self.examples:
            with formatter.section("Examples" if len(self.examples) > 1 else "Example"):
                for words in self.examples:
                    formatter.write(f"{'':>{formatter.current_indent}}eqnp {words}\n")


class Command(_WithExamples):
    """A command that suggests what was meant by an unknown option, setting or word."""

    allow_extra_args = True  # click's own message does not name them

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the words of the command, and check what click accepts or refuses without advice."""
        given = list(args)
        try:
            rest = super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            raise click.UsageError(_unknown_option(self, error.option_name, given), ctx) from None
        if not ctx.resilient_parsing:
            self._look(ctx, given)
            in_order(self, ctx, given)
            take_environment(ctx)
        return rest

    def _look(self, ctx: click.Context, given: list[str]) -> None:
        for text in ctx.params.get("overrides", ()):
            if "=" not in text:
                after = given[given.index(text) + 1 :][:1] if text in given else []
                value = after[0] if after and not after[0].startswith("-") else "VALUE"
                raise click.UsageError(
                    f"--set {text}: write key and value as one word, key=value: "
                    f"{_setting(_key(text) or text, value.removeprefix('='))}",
                    ctx,
                )
        arguments = [ctx.params[each.name] for each in self.params if isinstance(each, click.Argument) and each.name]
        for word in [str(each) for each in arguments if each is not None] + ctx.args:
            key, equals, value = word.partition("=")
            if equals and "overrides" in ctx.params and _key(key) and not os.path.exists(word):
                raise click.UsageError(f"{word}: did you mean {_setting(_key(key), value)}?", ctx)
            if _is_number(word) and "--lr" in given[:-1]:
                rate = given[given.index("--lr") + 1]
                raise click.UsageError(f"{word}: write rates per layer as one word: --lr '[{rate}, {word}]'", ctx)
        if ctx.args:
            usage = " ".join(each for param in self.params for each in param.get_usage_pieces(ctx))
            raise click.UsageError(
                f"unexpected {ctx.args[0]!r}: {ctx.command_path} takes {usage or 'no arguments'}", ctx
            )


class Group(_WithExamples, click.Group):
    """A group that suggests what was meant by an unknown command or option."""

    command_class = Command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the words before the command."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            token = error.option_name
            near = near_words(token, _options(self))
            hint = did_you_mean(near) or f"options follow the command, as in `eqnp train {token} ...`"
            raise click.UsageError(f"no option {token} before a command; {hint}", ctx) from None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that the first word names, or suggest which was meant."""
        name, known = args[0], self.list_commands(ctx)
        if name not in known and not name.startswith("-") and not ctx.resilient_parsing:
            others = OTHER_COMMANDS if ctx.parent is None else OTHER_COMMANDS_OF.get(str(self.name), {})
            other = others.get(name)
            hint = did_you_mean(repr(each) for each in ([other] if other else near_words(name, known)))
            raise click.UsageError(f"no command {name!r}; {hint or 'choose one of ' + ', '.join(known)}", ctx)
        return super().resolve_command(ctx, args)


def refuse_run(source: str | None, *commands: str) -> None:
    """Refuse a run folder where a preset or a configuration is expected.

    Raises:
        UsageError: ``source`` is a folder; ``commands`` say what to do instead, with "{run}" for the folder.
    """
    from eqnp.runs import presets

    if source is None or source in presets.names() or not os.path.isdir(source):
        return
    if not os.path.isfile(os.path.join(source, "config.toml")):
        raise click.UsageError(f"{source}: this is a folder, not a preset or a configuration (a .toml file)")
    cures = ", ".join(each.format(run=quoted(Path(source))) for each in commands)
    raise click.UsageError(f"{source}: this is a run folder; {cures}")


def _unknown_option(command: click.Command, name: str, given: list[str]) -> str:
    """Return the message for an unknown option, with the nearest options or configuration keys."""
    token, value = _as_given(name, given)
    word = token.lstrip("-")
    if (place := _other_place(command, word, value or "FILE")) and "--out" not in _options(command):
        return f"no option {token}; {place}"
    if word in ELSEWHERE:
        return f"no option {token}; `eqnp {ELSEWHERE[word]}` has it" + _reminder(command, word)
    shown = dict.fromkeys(_meant(command, word, value))
    hint = did_you_mean(list(shown)[:3])
    return f"no option {token}" + (f"; {hint}" if hint else "")


def _reminder(command: click.Command, word: str) -> str:
    """Return what a command has instead of an option of another one, if that is known."""
    return "; the ending of --out says the format" if word == "format" and "--out" in _options(command) else ""


def _other_place(command: click.Command, word: str, file: str) -> str:
    """Return where a command that has no ``--out`` writes, if ``word`` asks for that; else an empty string."""
    if word.replace("_", "-") != "out" and OTHER_OPTIONS.get(word.replace("_", "-")) != "--out":
        return ""
    if "--html" in _options(command):
        return f"--html {file} writes a page, and the table is printed: `> {file}`"
    if command.name == "init":
        return f"give the file without it: `eqnp config init {file}`"
    return f"the result is printed; `> {file}` writes it to a file"


def _choices(command: click.Command, word: str) -> list[str]:
    """Return the option that takes ``word`` as one of its values: ``--csv`` means ``--format csv``."""
    return [
        f"{param.opts[0]} {word}"
        for param in command.params
        if isinstance(param, click.Option) and isinstance(param.type, click.Choice) and word in param.type.choices
    ]


def _as_given(name: str, given: list[str]) -> tuple[str, str]:
    """Return the word that click could not parse as an option, and its value, if there is one."""
    for n, word in enumerate(given):
        token, equals, value = word.partition("=")
        if token == name or (len(name) == 2 and word.startswith(name) and not word.startswith("--")):
            after = given[n + 1 : n + 2]
            return token, value if equals else after[0] if after and not after[0].startswith("-") else ""
    return name, ""


def _meant(command: click.Command, word: str, value: str) -> list[str]:
    """Return what ``word`` may have meant, the likeliest first."""
    options = _options(command)
    plain = word.replace("_", "-").lower()
    for other in (OTHER_OPTIONS.get(plain), OF_SWEEPS.get(plain)):
        if other and other.split()[0] in options:
            return [other]
    if chosen := _choices(command, word):
        return chosen
    keys, names = [], []
    if "--set" in options:
        from eqnp.runs.keys import named_keys, names_of_keys

        keys, names = named_keys(word), names_of_keys()
    if not keys:
        known = [] if "." in word else [option[2:] for option in options]  # only keys have a dot
        near = near_words(word.replace("_", "-"), known + [each.replace("_", "-") for each in names])
        found = [[f"--{each}"] if each in known else named_keys(each) for each in near]
        words = [each for some in found for each in some]
    else:
        words = keys
    return [each if each.startswith("--") else _short_or_set(command, each, value) for each in words]


def _short_or_set(command: click.Command, key: str, value: str) -> str:
    """Return how to set a key on the command line: by its own option if the command has one."""
    for param in command.params:
        if isinstance(param, ShortForm) and param.configuration_key == key:
            return param.opts[0] if param.is_flag else f"{param.opts[0]} {value}".strip()
    return _setting(key, value)


def _setting(key: str, value: str) -> str:
    return f"--set {shlex.quote(key + '=' + value) if value else key + '=...'}"


def _key(text: str) -> str:
    """Return the full name of a key given with or without its table; an empty string if it is not a key."""
    from eqnp.runs.keys import TABLES, named_keys

    text = text.strip()
    return next(iter(named_keys(text)), text if text.partition(".")[0] in TABLES else "")


def _options(command: click.Command) -> list[str]:
    names = [name for param in command.params for name in (*param.opts, *param.secondary_opts)]
    return [name for name in (*names, "--help") if name.startswith("--")]


def _is_number(word: Any) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
