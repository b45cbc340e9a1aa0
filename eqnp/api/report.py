"""Where a run says how far it is: to nobody, to a function, or (``eqnp.cli.progress``) to a terminal."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path


class Report:
    """Is told what a run does. This one passes its messages to ``say``, a function of a line, or to nobody."""

    def __init__(self, say: Callable[[str], None] | None = None) -> None:
        self._say = say

    def update(self, fields: list[str]) -> None:
        """Take in where the run is now, the most important field first. Many times a second."""

    def message(self, text: str, to_paste: bool = False) -> None:
        """Take in a line that stays; ``to_paste``: it has a command, which must stay whole."""
        if self._say is not None:
            self._say(text)

    def result(self, text: str) -> None:
        """Take in what the run has come to, several lines."""
        self.message(text)

    def clear(self) -> None:
        """Take in that what ``update`` was told is over."""


def clock(seconds: float) -> str:
    """Return a duration as m:ss or h:mm:ss."""
    minutes, s = divmod(int(seconds + 0.5), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02}:{s:02}" if hours else f"{m}:{s:02}"


def quoted(path: Path) -> str:
    """Return a path as it may be pasted behind a command."""
    text = shlex.quote(str(path))
    return f"./{text}" if text.startswith("-") else text
