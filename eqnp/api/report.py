"""Reports of a run: none, to a function, or to a terminal (``eqnp.cli.progress``)."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from eqnp.backends.backend import Backend
from eqnp.shown import RESULT, quoted, shown, shown_lines

Event = Mapping[str, Any]
Callback = Callable[[Event], object]
PROGRESS_SECONDS = 10.0  # between two events of progress


class Report:
    """Receives the progress of a run. This one calls ``say`` with every message; with None it is silent.

    Each of ``callbacks`` is called with every event: a mapping of numbers, texts and, at the start, the configuration.
    Its "event" is ``start``, ``progress`` (every 10 seconds at most), ``epoch`` or ``end``; docs/api.md lists the keys.
    """

    def __init__(self, say: Callable[[str], None] | None = None, callbacks: Sequence[Callback] = ()) -> None:
        self._say = say
        self._callbacks = tuple(callbacks)
        self._next_progress = 0.0

    def event(self, name: str, values: Mapping[str, Any]) -> bool:
        """Call the callbacks with an event; return whether one of them returned True, which asks to stop."""
        answers = [callback({"event": name, **values}) for callback in self._callbacks]
        return any(answer is True for answer in answers)

    def due(self) -> bool:
        """Return whether ``progress`` or ``update`` would show anything now; asked after every batch."""
        return bool(self._callbacks) and time.monotonic() >= self._next_progress

    def progress(self, values: Mapping[str, Any]) -> None:
        """Call the callbacks with an event of progress, unless the last one is too recent."""
        if self._callbacks and (now := time.monotonic()) >= self._next_progress:
            self._next_progress = now + PROGRESS_SECONDS
            self.event("progress", values)

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


def with_backend(path: Path, backend: Backend) -> str:
    """Return a run's path and the options of the backend that it computes on, to be pasted behind a command."""
    return " ".join([quoted(path), *backend.options])
