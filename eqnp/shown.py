"""How foreign text is shown: text from files, servers and arguments, which may hold what controls a terminal.

A name in a file may contain escape codes (they move the cursor, change the title, answer questions), marks that reverse
the direction of the text after them, line breaks, or a million characters.
"""

from __future__ import annotations

import re
import shlex
import unicodedata
from collections.abc import Iterable
from itertools import accumulate, takewhile
from pathlib import Path

LONGEST = 2000  # characters of a message; about a screen
RESULT = 10_000  # characters of a line of results, which may be a command to paste
NAME = 80  # characters of a name within a line
_GAP = " ... "
_BYTES = re.compile("([\udc80-\udcff]+)")  # bytes of a path that Python could not decode


def quoted(path: Path) -> str:
    """Return a path as it may be pasted behind a command."""
    text = shlex.quote(str(path))
    return f"./{text}" if text.startswith("-") else text


def shown(text: str, most: int = LONGEST) -> str:
    r"""Return ``text`` as one line that is safe on a terminal, of at most ``most`` (at least 20) characters.

    Characters that are not printable are escaped as in Python: control codes (``\x1b``, ``\n``), marks of direction
    (``\u202e``), invisible characters. The middle of a longer text is left out, so that the end, which often says what
    to do, remains. Undecodable bytes of a path stay as they are, unless a terminal could read them as control codes.
    """
    if len(text) <= most:
        safe = "".join(_safe(text))
        if len(safe) <= most:
            return safe
    end = (most - len(_GAP)) // 3
    begin = most - len(_GAP) - end
    last = "".join(_first(end, [piece[::-1] for piece in reversed(_safe(text[-most:]))]))[::-1]
    return "".join(_first(begin, _safe(text[:most]))) + _GAP + last


def shown_lines(text: str, most: int = RESULT) -> str:
    """Return a text of several lines with each line ``shown``."""
    return "\n".join(shown(line, most) for line in text.split("\n"))


def _safe(text: str) -> list[str]:
    """Return ``text`` in pieces, each a character or an escape."""
    parts = _BYTES.split(text)
    return [piece for k, part in enumerate(parts) for piece in map(_byte if k % 2 else _letter, _decoded(part))]


def _decoded(part: str) -> str:
    """Return the characters that the undecodable bytes in ``part`` form in UTF-8, where they form any."""
    return part.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape") if _BYTES.match(part) else part


def _letter(letter: str) -> str:
    """Return a character, escaped unless it is printable or a space of some kind."""
    if letter.isprintable() or unicodedata.category(letter) == "Zs":
        return letter
    return letter.encode("unicode_escape").decode()


def _byte(letter: str) -> str:
    """Return what ``_decoded`` made of bytes as these bytes again, escaped if they control a terminal."""
    if "\udc80" <= letter <= "\udc9f":  # control codes in many encodings of one byte
        return f"\\x{ord(letter) - 0xDC00:x}"
    safe = letter if "\udca0" <= letter <= "\udcff" else _letter(letter)
    return safe.encode("utf-8", "surrogateescape").decode("ascii", "surrogateescape")


def _first(most: int, pieces: Iterable[str]) -> Iterable[str]:
    """Return as many of ``pieces`` as have at most ``most`` characters together."""
    pairs = zip(pieces := list(pieces), accumulate(map(len, pieces)), strict=True)
    return [piece for piece, _ in takewhile(lambda pair: pair[1] <= most, pairs)]
