"""How far a measurement is: its stages counted on stderr, with the time that the others will take."""

from __future__ import annotations

import time
from types import TracebackType

from eqnp.analysis.steady import Watch
from eqnp.api.report import clock
from eqnp.cli.progress import Progress

FIRST = 3  # stages to wait for before a time is foretold


class Stages(Watch):
    """Shows the stage that is measured. The time left is that of a mean stage for each that is expected."""

    def __init__(self, progress: Progress | None = None) -> None:
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
        """Count ``stages`` more."""
        self.expected += stages

    def stage(self, what: str) -> None:
        """Show that a stage begins."""
        self.begun, self.what = self.begun + 1, what
        self.detail("")

    def detail(self, text: str) -> None:
        """Show how far the stage is."""
        total, done = max(self.expected, self.begun), self.begun - 1
        fields = [f"check {self.begun}/{total}"]
        if done >= FIRST:
            left = (time.monotonic() - self.start) / done * (total - done)
            fields.append(f"left {clock(left)}")
        self.progress.update([*fields, self.what, *([text] if text else [])])
