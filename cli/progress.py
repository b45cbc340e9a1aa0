"""The progress line of a run: rewritten in place on a terminal, otherwise a plain line every ten seconds."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TextIO

from eqnp.api.report import Callback, Report
from eqnp.cli.rows import filled, terminal_width
from eqnp.cli.streams import say_lines
from eqnp.shown import LONGEST, RESULT, shown

LIVE_SECONDS = 0.2  # between two live lines
PLAIN_SECONDS = 10.0  # between two plain lines


class Progress(Report):
    """Shows the progress of a run on stderr; with ``quiet`` only messages. A closed stream does not stop the work."""

    def __init__(
        self, quiet: bool = False, stream: TextIO | None = None, callbacks: Sequence[Callback] = (), json: bool = False
    ) -> None:
        """Write to ``stream`` (None: stderr). With ``json`` stdout belongs to the callbacks: no result is printed."""
        super().__init__(callbacks=callbacks)
        self._json = json
        self.stream = stream or sys.stderr  # None if it was closed
        # A dumb terminal cannot erase a line.
        self.live = self.stream is not None and self.stream.isatty() and os.environ.get("TERM") != "dumb"
        self.quiet = quiet
        self._last = float("-inf") if self.live else time.monotonic()  # the first plain line comes after one interval
        self._shown = False

    def due(self) -> bool:
        """Return whether a line or an event is due."""
        return self._line_is_due(time.monotonic()) or super().due()

    def _line_is_due(self, now: float) -> bool:
        return not self.quiet and now - self._last >= (LIVE_SECONDS if self.live else PLAIN_SECONDS)

    def update(self, fields: list[str]) -> None:
        """Show ``fields``, the most important first. On a narrow terminal the last ones are left out."""
        now = time.monotonic()
        if not self._line_is_due(now):
            return
        self._last = now
        if not self.live:
            self._write(shown("  ".join(fields)) + "\n")
            return
        width = terminal_width()
        line, *others = map(shown, fields)
        for field in others:
            if len(line) + 2 + len(field) > width:
                break
            line += "  " + field
        self._write("\r\x1b[K" + line[:width])
        self._shown = True

    def message(self, text: str, to_paste: bool = False) -> None:
        """Print a permanent line. On a terminal it is wrapped between words, unless it holds a command ``to_paste``."""
        self.clear()
        breaks = self.live and not to_paste
        text = shown(text, RESULT if to_paste else LONGEST)
        self._write((filled(text, "  ") if breaks else text) + "\n")

    def result(self, text: str) -> None:
        """Print what a run has come to, on stdout."""
        if not self._json:
            say_lines(text)

    def clear(self) -> None:
        """Erase the live line."""
        if self._shown:
            self._write("\r\x1b[K")
            self._shown = False

    def _write(self, text: str) -> None:
        if self.stream is not None:
            with suppress(OSError):  # the pipe is closed, or the disk of a log is full
                self.stream.write(text)
                self.stream.flush()
