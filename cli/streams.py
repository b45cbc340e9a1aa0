"""Makes stdout and stderr take any text: what their encoding lacks is written as it can be, never an error."""

from __future__ import annotations

import codecs
import io
import sys

_HANDLER = "eqnp.escape"


def take_any_text() -> None:
    """Let the two streams write a path as the bytes that it is, and other letters that they lack by number.

    A stream in ASCII, as of the locale C, is written in UTF-8: so does Python by itself in that locale.
    """
    codecs.register_error(_HANDLER, _escape)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # None if it was closed
            ascii_only = codecs.lookup(stream.encoding).name == "ascii"
            stream.reconfigure(encoding="utf-8" if ascii_only else None, errors=_HANDLER)


def _escape(error: UnicodeError) -> tuple[str | bytes, int]:
    """Return what stands for the first letter that cannot be encoded, and where to go on."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letter = error.object[error.start]
    byte = ord(letter) - 0xDC00  # Python's sign for a byte of a path that is no text
    shown = bytes([byte]) if 0x80 <= byte <= 0xFF else letter.encode("ascii", "backslashreplace").decode()
    return shown, error.start + 1
