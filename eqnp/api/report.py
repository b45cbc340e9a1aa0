"""Reports of a run: none, to a function, or to a terminal (``eqnp.cli.progress``)."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

from eqnp.shown import RESULT, shown, shown_lines


class Report:
    """Receives the progress of a run. This one calls ``say`` with every message; with None it is silent."""

    def __init__(self, say: Callable[[str], None] | None = None) -> None:
        self._say = say

    def update(self, fields: list[str]) -> None:
        """Show the current position, the most important field first. Called after every batch."""

    def message(self, text: str, to_paste: bool = False) -> None:
        """Report a permanent line. ``to_paste``: it holds a command and must not be wrapped."""
        if self._say is not None:
            self._say(shown(text, RESULT))

    def result(self, text: str) -> None:
        """Report the summary of a run, several lines."""
        if self._say is not None:
            self._say(shown_lines(text))

    def clear(self) -> None:
        """Erase what ``update`` showed."""


def clock(seconds: float) -> str:
    """Return a duration as m:ss or h:mm:ss."""
    minutes, s = divmod(int(seconds + 0.5), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02}:{s:02}" if hours else f"{m}:{s:02}"


def quoted(path: Path) -> str:
    """Return a path as it may be pasted behind a command."""
    text = shlex.quote(str(path))
    return f"./{text}" if text.startswith("-") else text
