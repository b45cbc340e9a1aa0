"""Stopping politely: a first SIGINT or SIGTERM is remembered, a second one interrupts at once."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import Any

_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}


class StopRequest:
    """Inside ``with StopRequest() as stop``, ``stop.exit_code`` becomes 130 or 143 when a signal asks to stop."""

    def __init__(self) -> None:
        self.exit_code: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        for number in _CODES:
            self._before[number] = signal.signal(number, self._remember)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self.exit_code is not None:
            raise KeyboardInterrupt
        self.exit_code = _CODES[signal.Signals(number)]
