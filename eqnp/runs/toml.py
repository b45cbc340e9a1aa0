"""Text in TOML from files, read in bounded time: the parser takes quadratic time on keys of thousands of parts."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from eqnp.runs.storage import read_bounded

MOST_BYTES = 1_000_000
MOST_PARTS = 100  # of a key, and dots in one line that may belong to one
_NUMBER = re.compile(r"(?<![\w.])[0-9]+\.[0-9]+(?![\w.])")
_DOT = re.compile(r"(?<!\.)\.(?!\.)")  # two dots in a row are in no key


def read_text(path: Path) -> str:
    """Return the text of a file in UTF-8, which may begin with a byte-order mark as editors on Windows write it.

    Raises:
        OSError: it cannot be read, is not a regular file, or is larger than a configuration may be.
        UnicodeDecodeError: it is not UTF-8.
    """
    return read_bounded(path, MOST_BYTES).decode("utf-8-sig").replace("\r\n", "\n")


def parse(text: str) -> dict[str, Any]:
    """Return the tables and keys in ``text``.

    Raises:
        TOMLDecodeError, RecursionError: it is not TOML.
        ValueError: a key has too many parts, or a number too many digits.
    """
    if len(text) > MOST_BYTES:
        raise tomllib.TOMLDecodeError(f"it has more than {MOST_BYTES} characters")
    for number, line in enumerate(text.splitlines(), start=1):
        if line.count(".") > MOST_PARTS and _parts(line) > MOST_PARTS:
            raise tomllib.TOMLDecodeError(f"a key of more than {MOST_PARTS} parts (at line {number})")
    return tomllib.loads(text)


def _parts(line: str) -> int:
    """Return of how many parts a key in this line may be at most."""
    return 0 if line.lstrip().startswith("#") else len(_DOT.findall(_NUMBER.sub("", line)))
