"""The progress of a sweep: on a terminal a line for each run that is going on, otherwise plain lines now and then."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence

from eqnp.cli.progress import LIVE_SECONDS, Progress
from eqnp.cli.rows import terminal_width
from eqnp.shown import shown

PLAIN_SECONDS = 60.0  # between two reports in plain lines


class Board(Progress):
    """Shows several lines at once, rewritten in place on a terminal."""

    _lines = 0  # how many are shown
    _fields: Sequence[str] = ()

    def update(self, fields: list[str]) -> None:
        """Show ``fields``, a line each; those that the terminal has no room for are counted."""
        now = time.monotonic()
        if self.quiet or now - self._last < (LIVE_SECONDS if self.live else PLAIN_SECONDS):
            return
        self._last = now
        if not self.live:
            self._write("".join(f"{shown(line)}\n" for line in fields))
            return
        if self._shown and fields == self._fields:
            return
        self._fields = fields
        room = max(2, shutil.get_terminal_size().lines - 1)
        if len(fields) > room:
            fields = [*fields[: room - 1], f"     and {len(fields) - room + 1} more"]
        self.clear()
        width = terminal_width()
        self._write("\n".join(shown(line)[:width] for line in fields))
        self._lines, self._shown = len(fields), True

    def clear(self) -> None:
        """Erase the lines."""
        if self._shown:
            up = f"\x1b[{self._lines - 1}A" if self._lines > 1 else ""
            self._write(f"\r{up}\x1b[J")
            self._shown = False
