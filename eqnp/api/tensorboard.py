"""Event files of TensorBoard: a callback of a run that writes its metrics to ``tensorboard/`` in the run folder.

The files are written by tensorboardX, which needs neither TensorFlow nor TensorBoard itself.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from eqnp.api.report import Event
from eqnp.errors import BackendError

FOLDER = "tensorboard"
_SPLITS = ("train", "validation", "test")
_BY_LAYER = ("gradient_norm", "relative_update", "at_bound_percent", "angle")


class TensorBoard:
    """A callback that writes every number of an ``epoch`` event, at the step of its epoch.

    Raises:
        BackendError: tensorboardX is not installed.
    """

    def __init__(self) -> None:
        try:
            self._package = import_module("tensorboardX")  # before the run: what is missing is said at once
        except ImportError:
            raise BackendError(
                "event files of TensorBoard need tensorboardX; `pip install tensorboardX`, or train without them"
            ) from None
        self._writer: Any = None

    def __call__(self, event: Event) -> None:
        """Write an event of a run."""
        if event["event"] == "start":
            # Epochs that a resumed run trains again replace those in the files. Names hold the second of the start; the
            # suffix tells apart what was started within one.
            folder, first = Path(event["run"]) / FOLDER, event["epoch"] + 1
            suffix = f".from-epoch-{first}"
            self._writer = self._package.SummaryWriter(str(folder), purge_step=first, filename_suffix=suffix)
        elif event["event"] == "epoch":
            for name, value in event.items():
                if name not in ("event", "epoch"):
                    self._writer.add_scalar(tag(name), value, event["epoch"])
            self._writer.flush()
        elif event["event"] == "end" and self._writer is not None:
            self._writer.close()


def tag(column: str) -> str:
    """Return the tag of a column of metrics.csv: ``loss/train``, ``gradient_norm/forward.0``, ``seconds``."""
    for split in _SPLITS:
        if column.startswith(f"{split}_"):
            return f"{column.removeprefix(f'{split}_')}/{split}"
    for kind in _BY_LAYER:
        if column.startswith(f"{kind}_"):
            return f"{kind}/{column.removeprefix(f'{kind}_')}"
    return column
