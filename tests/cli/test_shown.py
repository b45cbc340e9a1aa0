"""Text from files, servers and arguments on a terminal: escaped, one line, of limited length."""

from __future__ import annotations

import ast
import errno
import os
import sys
import unicodedata
from pathlib import Path

import pytest
from commands import assert_fails, run
from places import ROOT

from eqnp.errors import DataError
from eqnp.shown import LONGEST, shown, shown_lines

HOSTILE = {
    "a title": "a\x1b]0;owned\x07b",
    "C1 codes": "a\x9b31mb\x90",
    "a line erased": "a\r\x1b[2Kb",
    "right to left": "a\u202egpj.exe\u202c",
    "isolates": "\u2066a\u2069\u200f",
    "invisible": "a\u200bb\ufeff\xadc\u2060",
    "tags": "a\U000e0041",
    "breaks": "a\nb\x0bc\x85d\u2028e\u2029f",
    "half a pair": "\ud800",
    "bytes that are C1": "a\udc9b31m",
    "bytes that form C1": "a\udcc2\udc9b31m",
    "bytes that form a mark": "\udce2\udc80\udcae",
    "deletion": "\x7f\x08",
}


def is_safe(text):
    """Return whether no character of ``text``, as bytes of UTF-8 either, controls a terminal."""
    letters = text.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
    return not any(unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp") or "\ud800" <= c <= "\udc9f" for c in letters)


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_controls_a_terminal_is_escaped(kind):
    text = shown(HOSTILE[kind])
    assert is_safe(text) and "\\" in text
    assert is_safe(str(DataError(HOSTILE[kind])))
    assert shown(text) == text


@pytest.mark.parametrize(
    "text", ["", "runs/a b", "žluť", "数　据", "שלום", "a\xa0b", "C:\\new", "p\udcff", "\udcc5\udcbe"]
)
def test_plain_text_stays(text):
    assert shown(text) == text


def test_the_middle_of_a_long_text_is_left_out():
    for letter in ("a", "\x1b", "\U000e0041", "\udcff"):
        text = shown(f"begin{letter * 1_000_000}end")
        assert len(text) <= LONGEST and text.startswith("begin") and text.endswith("end") and is_safe(text)
        assert len(shown(letter * 100, 40)) <= 40
    assert len(str(DataError("x" * 10**6))) <= LONGEST


def test_lines_are_shown_one_by_one():
    assert shown_lines("a\x1bb\nc\rd\n") == "a\\x1bb\nc\\rd\n"


def test_every_character_that_is_kept_is_safe():
    kept = [chr(n) for n in range(sys.maxunicode + 1) if shown(chr(n)) == chr(n)]
    assert all(map(is_safe, kept)) and len(kept) > 100_000


# ---- the door


def test_the_commands_print_through_one_door():
    for path in (ROOT / "cli").glob("*.py"):
        calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        words = {ast.unparse(call) for call in calls} - {"formatter.write"}  # of a command's own help
        names = {each.rpartition(".")[2] for each in words}
        found = names & {"echo", "secho", "print"} | (names & {"write"} if path.name != "progress.py" else set())
        assert not found or path.name == "streams.py", f"{path}: {found}: use eqnp.cli.streams.say"


ESCAPE = "\x1b]0;owned\x07\u202e\x9b2J"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["{}"], 2),
        (["--{}"], 2),
        (["presets", "{}"], 2),
        (["presets", "--{}={}"], 2),
        (["data", "fetch", "{}"], 2),
        (["train", "{}.toml"], 2),
        (["train", "{}"], 2),
        (["train", "--set", "{}=1"], 2),
        (["train", "--set", "name={}"], 2),
        (["train", "--set", "model.{}=1"], 2),
        (["train", "--set", "model.kind='{}'"], 2),
        (["train", "--set", 'data.name="mnist"', "--set", "data.folder='/x{}'"], 3),
        (["train", "--resume", "{}"], 2),
        (["evaluate", "{}"], 2),
        (["check", "--samples", "{}"], 2),
        (["bench", "--out", "{}/x.json"], 8),
        (["states", "{}", "--out", "{}.h5"], 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_no_argument_reaches_the_terminal_as_it_is(capsys, nowhere, words, code):
    for text in (ESCAPE.replace("\x1b]", "\x7f") if "folder" in words[-1] else ESCAPE, "x" * 3000, "\u202e" * 3000):
        result = run(capsys, *(word.replace("{}", text) for word in words))
        assert result.err.count("\n") == 1 and is_safe(result.err[:-1]), result.err
        assert len(result.err) <= LONGEST + 10 and result.code in (code, 2), result.err


CONFIGURATIONS = {
    "a key": 'base = "digits"\n"\\u001b]0;x\\u0007\\u202e" = 1\n',
    "a key of a table": 'base = "digits"\n[model]\n"\\u001b[2J" = 1\n',
    "a long key": f'base = "digits"\n{"k" * 90_000} = 1\n',
    "a name": 'base = "digits"\nname = "\\u001b]0;x\\u0007"\n',
    "a name that turns": 'base = "digits"\nname = "a\\u202egpj"\n',
    "a long name": f'base = "digits"\nname = "{"n" * 90_000}"\n',
    "a base": 'base = "\\u001b[2J"\n',
    "a long base": f'base = "{"b" * 90_000}"\n',
    "a folder": 'base = "digits"\n[data]\nname = "mnist"\nfolder = "/\\u001b[2J"\n',
    "a folder in C1": 'base = "digits"\n[data]\nname = "mnist"\nfolder = "/\\u009b2J\\u202e"\n',
    "a long folder": f'base = "digits"\n[data]\nname = "mnist"\nfolder = "/{"f" * 90_000}"\n',
    "a choice": 'base = "digits"\n[model]\nkind = "\\u001b[2J"\n',
    "a long choice": f'base = "digits"\n[model]\nkind = "{"s" * 90_000}"\n',
    "not TOML": "\x1b]0;x\x07",
    "a value of another type": 'base = "digits"\n[training]\nepochs = "\\u001b[2J"\n',
    "a key of many parts": ".".join(["a"] * 20_000) + " = 1\n",
    "nested tables": "a = " + "[" * 50_000,
    "too long": "#" * 200_000,
}


@pytest.mark.parametrize("kind", CONFIGURATIONS)
def test_no_text_of_a_configuration_reaches_the_terminal_as_it_is(capsys, nowhere, kind):
    Path("c.toml").write_text(CONFIGURATIONS[kind], encoding="utf-8")
    for command in ("train", "bench"):
        result = run(capsys, command, "c.toml")
        assert result.code in ((2, 3) if command == "train" else (0, 2, 3)), result.err
        if result.code:
            assert result.err.startswith("eqnp: c.toml: ") or "dataset" in result.err, result.err
            assert result.err.count("\n") == 1 and is_safe(result.err[:-1]) and len(result.err) <= LONGEST + 10


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names")
def test_a_configuration_is_a_regular_file(capsys, nowhere):
    os.mkfifo("c.toml")
    assert_fails(run(capsys, "train", "c.toml"), 2, "c.toml: cannot be read (it is not a file but a device or a pipe)")
    Path("z.toml").symlink_to("/dev/zero")
    assert_fails(run(capsys, "train", "z.toml"), 2, "z.toml: cannot be read (it is not a file but a device or a pipe)")


# ---- what the system refuses


@pytest.mark.parametrize("words", [["presets"], ["train"], ["train", "digits"], ["check"], ["train", "nopreset"]])
def test_presets_that_cannot_be_read_are_one_line(capsys, nowhere, monkeypatch, words):
    def fail(*args):
        raise OSError(errno.EIO, os.strerror(errno.EIO), "presets")

    monkeypatch.setattr(Path, "iterdir", fail)
    assert_fails(run(capsys, *words), 8, "the presets of eqnp cannot be read (Input/output error)")


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.EIO, errno.EROFS, errno.ENOSPC])
def test_what_the_system_refuses_anywhere_is_one_line(capsys, monkeypatch, number):
    def fail(**options):
        raise OSError(number, os.strerror(number), "a\x1bfile")

    monkeypatch.setattr("eqnp.cli.presets.presets.callback", fail)
    assert_fails(run(capsys, "presets"), 8, f"a\\x1bfile: {os.strerror(number)}; ")
