"""stdout and stderr: they accept any text, and text leaves only through ``say``, safe on a terminal.

Characters outside their encoding are escaped and cause no error.
"""

from __future__ import annotations

import codecs
import io
import json
import sys
from typing import Any

import click

from eqnp.shown import RESULT, shown, shown_lines

_HANDLER = "eqnp.escape"


def take_any_text() -> None:
    """Write paths with undecodable bytes as those bytes, and escape other characters that the encoding lacks.

    A stream in ASCII, as in the locale C, is switched to UTF-8, as Python itself does in that locale.
    """
    codecs.register_error(_HANDLER, _escape)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # None if it was closed
            ascii_only = codecs.lookup(stream.encoding).name == "ascii"
            stream.reconfigure(encoding="utf-8" if ascii_only else None, errors=_HANDLER)


def say(line: str) -> None:
    """Print a line of results to stdout, as ``eqnp.shown`` shows it."""
    click.echo(shown(line, RESULT))


def say_lines(text: str, *, err: bool = False, nl: bool = True) -> None:
    """Print several lines to stdout, or with ``err`` to stderr, each as ``eqnp.shown`` shows it."""
    click.echo(shown_lines(text), err=err, nl=nl)


def say_json(value: Any) -> None:
    """Print a line of JSON for another program to stdout, whole; it is ASCII, with control codes escaped."""
    click.echo(json.dumps(value))


def say_toml(text: str) -> None:
    """Print TOML to stdout, whole; what is not printable, which it has only in strings, is escaped as TOML does."""
    click.echo("".join(c if c.isprintable() or c == "\n" else f"\\U{ord(c):08x}" for c in text), nl=False)


def say_script(text: str) -> None:
    """Print text for a shell to stdout as it is: a script of our own, or words that complete a command line."""
    click.echo(text, nl=text[-1:] != "\n")


def _escape(error: UnicodeError) -> tuple[str | bytes, int]:
    """Return the replacement of the first character that cannot be encoded, and the next position."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letter = error.object[error.start]
    byte = ord(letter) - 0xDC00  # Python's code for an undecodable byte of a path
    shown = bytes([byte]) if 0x80 <= byte <= 0xFF else letter.encode("ascii", "backslashreplace").decode()
    return shown, error.start + 1
