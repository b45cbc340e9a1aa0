"""The live line of a run: rewritten in place on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from typing import TextIO

import click

from eqnp.api.report import Report
from eqnp.cli.rows import filled, terminal_width

LIVE_SECONDS = 0.2  # between two live lines
PLAIN_SECONDS = 10.0  # between two plain lines


class Progress(Report):
    """Shows where a run is, on stderr. ``quiet`` shows nothing but messages. Where nobody reads, work goes on."""

    def __init__(self, quiet: bool = False, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stderr  # None if it was closed
        # A terminal that calls itself dumb cannot take a line back.
        self.live = self.stream is not None and self.stream.isatty() and os.environ.get("TERM") != "dumb"
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
            self._write("  ".join(fields) + "\n")
            return
        width = terminal_width()
        line = fields[0]
        for field in fields[1:]:
            if len(line) + 2 + len(field) > width:
                break
            line += "  " + field
        self._write("\r\x1b[K" + line[:width])
        self._shown = True

    def message(self, text: str, to_paste: bool = False) -> None:
        """Print a line that stays, above the live one; on a terminal it is broken between words, unless pasted."""
        self.clear()
        breaks = self.live and not to_paste
        self._write((filled(text, "  ") if breaks else text) + "\n")

    def result(self, text: str) -> None:
        """Print what a run has come to, on stdout."""
        click.echo(text)

    def clear(self) -> None:
        """Take the live line away."""
        if self._shown:
            self._write("\r\x1b[K")
            self._shown = False

    def _write(self, text: str) -> None:
        if self.stream is not None:
            with suppress(OSError):  # the reader went away, or a log's disk is full
                self.stream.write(text)
                self.stream.flush()
