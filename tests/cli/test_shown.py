"""Text from files, servers and arguments on a terminal: escaped, one line, of limited length."""

from __future__ import annotations

import sys
import unicodedata

import pytest

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
