"""The progress of a measurement: its stages, counted on stderr, with an estimate of the time left."""

from __future__ import annotations

import time
from types import TracebackType

from eqnp.analysis.steady import Watch
from eqnp.api.report import Report, clock
from eqnp.cli.progress import Progress

FIRST = 3  # stages before the time left is estimated


class Stages(Watch):
    """Shows the current stage. The time left is the mean time of a stage times the number of stages left."""

    def __init__(self, progress: Report | None = None) -> None:
        self.progress = progress or Progress()
        self.expected, self.begun, self.what = 0, 0, ""
        self.start = time.monotonic()

    def __enter__(self) -> Stages:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.clear()

    def expect(self, stages: int) -> None:
        """Add ``stages`` to the expected number."""
        self.expected += stages

    def stage(self, what: str) -> None:
        """Show the beginning of a stage."""
        self.begun, self.what = self.begun + 1, what
        self.detail("")

    def detail(self, text: str) -> None:
        """Show the progress inside the stage."""
        done = self.begun - 1
        known = self.begun <= self.expected  # else there are more stages than could be foreseen
        fields = [f"check {self.begun}/{self.expected}" if known else f"check {self.begun}"]
        if known and done >= FIRST:
            left = (time.monotonic() - self.start) / done * (self.expected - done)
            fields.append(f"left {clock(left)}")
        self.progress.update([*fields, self.what, *([text] if text else [])])
