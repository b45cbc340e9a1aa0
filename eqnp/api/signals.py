"""Stopping by signals: a first SIGINT, SIGTERM or SIGHUP asks to stop, a later one interrupts."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
if hasattr(signal, "SIGHUP"):  # the terminal was closed; Windows has no SIGHUP
    _CODES[signal.SIGHUP] = 129
SIGTERM = int(signal.SIGTERM)

SAME_SECONDS = 0.5  # signals this close count as one request: a bouncing key, or a signal sent twice to a process group


class Interrupted(KeyboardInterrupt):
    """A second signal, with its exit code."""

    def __init__(self, exit_code: int) -> None:
        super().__init__()
        self.exit_code = exit_code


class StopRequest:
    """Inside ``with StopRequest() as stop`` a signal sets ``stop.exit_code`` to 128 + its number.

    A later signal raises ``Interrupted``, but only inside ``with stop.interruptible()`` and only once. Work outside,
    such as a save, is finished. Python has signal handlers in the main thread only; in other threads this does nothing.
    """

    def __init__(self) -> None:
        self.exit_code: int | None = None
        self.at_once = False  # whether Interrupted was raised
        self._since = 0.0
        self._open = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is not threading.main_thread():
            return self
        for number in _CODES:
            if number in (signal.SIGINT, signal.SIGTERM) or signal.getsignal(number) is not signal.SIG_IGN:  # nohup
                self._before[number] = signal.signal(number, self._remember)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def interruptible(self, yes: bool = True) -> Iterator[None]:
        """Allow a second signal to interrupt the block; ``interruptible(False)`` inside it forbids that again."""
        before, self._open = self._open, yes
        try:
            yield
        finally:
            self._open = before

    def _remember(self, number: int, frame: FrameType | None) -> None:
        code = _CODES[signal.Signals(number)]
        if self.exit_code is None:
            self.exit_code, self._since = code, time.monotonic()
        elif self._open and not self.at_once and time.monotonic() - self._since > SAME_SECONDS:
            self.at_once, self._open = True, False  # the handling of Interrupted is not interrupted
            raise Interrupted(code)


def name_of_signal(number: int) -> str:
    """Return the name of a signal: ``SIGKILL``."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def stop_this_process() -> None:
    """Send SIGTERM to this process: a run saves its state and ends."""
    os.kill(os.getpid(), signal.SIGTERM)
