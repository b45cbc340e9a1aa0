"""One-letter slips in the commands, subcommands, options, datasets and presets of every command are understood."""

from __future__ import annotations

import click
import pytest
from commands import run
from typos import typos

from eqnp.cli.main import eqnp
from eqnp.data.published import SOURCES
from eqnp.runs import presets


def commands(command=eqnp, words=()):
    """Yield (words, command) for every command that is no group, and every group."""
    yield words, command
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(command)):
            yield from commands(command.get_command(click.Context(command), name), (*words, name))


ALL = list(commands())
WITH_OPTIONS = [(words, command) for words, command in ALL if words and any(_opts for _opts in command.params)]


def options(command):
    return [name[2:] for param in command.params for name in param.opts if name.startswith("--")]


def suggestions(result):
    """Return the words after "did you mean" in the answer to a mistake."""
    hint = result.err.partition("did you mean")[2].partition("?")[0]
    for sign in "'=,":
        hint = hint.replace(sign, " ")
    return [each.removeprefix("--") for each in hint.split()]


@pytest.mark.parametrize(("words", "command"), WITH_OPTIONS, ids=[" ".join(words) for words, _ in WITH_OPTIONS])
def test_options_of_every_command(capsys, words, command):
    names = options(command)
    if not names:
        pytest.skip("no options")
    missed, cases = [], list(typos(names, 40))
    for name, wrong in cases:
        result = run(capsys, *words, f"--{wrong}")
        assert result.code == 2 and result.err.count("\n") == 1, result.err
        if name not in suggestions(result):
            missed.append((name, wrong, result.err))
    assert len(missed) <= len(cases) * 5 // 100, missed


@pytest.mark.parametrize(
    ("line", "names"),
    [
        *((" ".join((*words, "{}")), each.list_commands(None)) for words, each in ALL if isinstance(each, click.Group)),
        ("data fetch {}", list(SOURCES)),
        *((f"{before} {{}}", presets.names()) for before in ("train", "summary", "config show", "bench", "check")),
        ("config init --preset {}", presets.names()),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_names_of_every_kind(capsys, tmp_path, monkeypatch, line, names):
    monkeypatch.chdir(tmp_path)
    cases = list(typos(names, 60))
    missed = [
        (name, wrong) for name, wrong in cases if name not in suggestions(run(capsys, *line.format(wrong).split()))
    ]
    assert len(missed) <= len(cases) * 5 // 100, missed
    assert not list(tmp_path.iterdir())
