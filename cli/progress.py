"""The live line of a run: rewritten in place on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import shutil
import sys
import time
from typing import TextIO

LIVE_SECONDS = 0.2  # between two live lines
PLAIN_SECONDS = 10.0  # between two plain lines


def clock(seconds: float) -> str:
    """Return a duration as m:ss or h:mm:ss."""
    minutes, s = divmod(int(seconds + 0.5), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02}:{s:02}" if hours else f"{m}:{s:02}"


class Progress:
    """Shows where a run is, on stderr. ``quiet`` shows nothing but messages."""

    def __init__(self, quiet: bool = False, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stderr
        self.live = self.stream.isatty()
        self.quiet = quiet
        self._last = float("-inf") if self.live else time.monotonic()  # plain lines wait for their first interval
        self._shown = False

    def update(self, fields: list[str]) -> None:
        """Show ``fields``, the most important first: those that do not fit a narrow terminal are left out."""
        now = time.monotonic()
        if self.quiet or now - self._last < (LIVE_SECONDS if self.live else PLAIN_SECONDS):
            return
        self._last = now
        if not self.live:
            print("  ".join(fields), file=self.stream, flush=True)
            return
        width = shutil.get_terminal_size().columns - 1
        line = fields[0]
        for field in fields[1:]:
            if len(line) + 2 + len(field) > width:
                break
            line += "  " + field
        self.stream.write("\r\x1b[K" + line[:width])
        self.stream.flush()
        self._shown = True

    def message(self, text: str) -> None:
        """Print a line that stays, above the live one."""
        self.clear()
        print(text, file=self.stream, flush=True)

    def clear(self) -> None:
        """Take the live line away."""
        if self._shown:
            self.stream.write("\r\x1b[K")
            self.stream.flush()
            self._shown = False
