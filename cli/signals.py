"""Stopping politely: a first SIGINT, SIGTERM or SIGHUP is remembered, a second one interrupts at once."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import Any

_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
if hasattr(signal, "SIGHUP"):  # a terminal that is closed; Windows has none
    _CODES[signal.SIGHUP] = 129


class Interrupted(KeyboardInterrupt):
    """A second signal, with its exit code."""

    def __init__(self, exit_code: int) -> None:
        super().__init__()
        self.exit_code = exit_code


class StopRequest:
    """Inside ``with StopRequest() as stop``, ``stop.exit_code`` becomes 128 + the signal's number once one came."""

    def __init__(self) -> None:
        self.exit_code: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        for number in _CODES:
            if number in (signal.SIGINT, signal.SIGTERM) or signal.getsignal(number) is not signal.SIG_IGN:  # nohup
                self._before[number] = signal.signal(number, self._remember)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        code = _CODES[signal.Signals(number)]
        if self.exit_code is not None:
            raise Interrupted(code)
        self.exit_code = code
