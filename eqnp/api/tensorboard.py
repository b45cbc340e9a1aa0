"""Event files of TensorBoard: a callback of a run that writes its metrics to ``tensorboard/`` in the run folder.

The files are written by tensorboardX, which needs neither TensorFlow nor TensorBoard itself.
"""

from __future__ import annotations

import time
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from eqnp.api.report import Event
from eqnp.errors import BackendError, DiskError
from eqnp.runs.storage import disk_error

FOLDER = "tensorboard"
_SPLITS = ("train", "validation", "test")
_BY_LAYER = ("gradient_norm", "relative_update", "at_bound_percent", "angle")


class TensorBoard:
    """A callback that writes every number of an ``epoch`` event, at the step of its epoch.

    Raises:
        BackendError: tensorboardX is not installed.
    """

    def __init__(self) -> None:
        try:  # before the run: what is missing is said at once
            parts = ("event_file_writer", "proto.event_pb2", "proto.summary_pb2")
            self._files, self._events, self._summaries = (import_module(f"tensorboardX.{part}") for part in parts)
        except ImportError:
            raise BackendError(
                "event files of TensorBoard need tensorboardX; `pip install tensorboardX`, or train without them"
            ) from None
        self._writer: Any = None
        self._folder = Path()

    def __call__(self, event: Event) -> None:
        """Write an event of a run.

        Raises:
            DiskError: the files cannot be written.
        """
        try:
            if event["event"] == "start":
                self._begin(Path(event["run"]) / FOLDER, event["epoch"] + 1)
            elif event["event"] == "epoch":
                numbers = {name: value for name, value in event.items() if name not in ("event", "epoch")}
                self._write(event["epoch"], summary=self._summaries.Summary(value=map(self._scalar, numbers.items())))
            elif event["event"] == "end":
                self._close()
        except OSError as error:
            self._close()
            raise disk_error(self._folder, error) from error

    def _begin(self, folder: Path, first: int) -> None:
        """Begin a file for the epochs from ``first`` on; they replace those that earlier files have.

        A name holds the second of the start, and a suffix tells apart what began within one. The writer is
        tensorboardX's own without its thread and queue, which would lose the last numbers if the run is killed.
        """
        self._folder = folder
        if folder.is_symlink():
            raise DiskError(f"{folder}: is a link, through which nothing is written; remove it")
        folder.mkdir(exist_ok=True)
        self._writer = self._files.EventsWriter(str(folder / "events"), f".from-epoch-{first}")
        self._write(first, session_log=self._events.SessionLog(status=self._events.SessionLog.START))

    def _write(self, step: int, **content: Any) -> None:
        self._writer.write_event(self._events.Event(step=step, wall_time=time.time(), **content))
        self._writer.flush()

    def _close(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            with suppress(OSError):  # what could be written has been flushed
                writer.close()

    def _scalar(self, item: tuple[str, float]) -> Any:
        return self._summaries.Summary.Value(tag=tag(item[0]), simple_value=item[1])


def tag(column: str) -> str:
    """Return the tag of a column of metrics.csv: ``loss/train``, ``gradient_norm/forward.0``, ``seconds``."""
    for split in _SPLITS:
        if column.startswith(f"{split}_"):
            return f"{column.removeprefix(f'{split}_')}/{split}"
    for kind in _BY_LAYER:
        if column.startswith(f"{kind}_"):
            return f"{kind}/{column.removeprefix(f'{kind}_')}"
    return column
