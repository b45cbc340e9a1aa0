"""Rows of a name and a text, wrapped between words on a narrow terminal."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from eqnp.cli.streams import say, say_lines
from eqnp.shown import RESULT, shown

if TYPE_CHECKING:
    from eqnp.runs.changes import Change

NARROWEST = 20  # columns; on a narrower terminal text is not wrapped


def terminal_width() -> int:
    """Return the number of usable columns, one less than the terminal has, at least 1."""
    return max(1, shutil.get_terminal_size().columns - 1)


def filled(text: str, indent: str) -> str:
    """Return a text wrapped between words for this terminal, later lines indented by ``indent``."""
    if terminal_width() < NARROWEST:
        return text
    return textwrap.fill(
        text, terminal_width(), subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def show_row(name: str, text: str, width: int, indent: str = "") -> None:
    """Print ``name``, padded to ``width``, and ``text``, wrapped in its own column on a narrow terminal."""
    begin = f"{indent}{shown(name):<{width}}  "
    line = begin + shown(text, RESULT)
    if sys.stdout is not None and sys.stdout.isatty() and len(begin) < terminal_width() // 2:
        line = filled(line, " " * len(begin))
    say_lines(line)


def show_changed(changed: Sequence[Change], nudged: bool = True) -> None:
    """Print what ``--set`` changed in the configuration of a run, one line per key; ``nudged`` as in ``describe``."""
    from eqnp.runs.changes import describe

    for change in changed:
        say(f"with         {describe(change, nudged)}")
