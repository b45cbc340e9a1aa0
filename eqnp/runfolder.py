"""The folder of a run: configuration, environment, metrics and two checkpoints, in the hands of one process at a time."""

from __future__ import annotations

import csv
import io
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import tomli_w

from eqnp.errors import ConfigurationError, DiskError, RunBusyError
from eqnp.storage import PART, FileLock, disk_error, write_atomic

_LOCK = ".lock"


class RunFolder:
    """A run's folder. Who writes to it holds its lock, from ``create`` or ``open(lock=True)`` to the end of ``with``."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._lock = FileLock(self.path / _LOCK)

    @classmethod
    def create(cls, path: str | Path, config_toml: str) -> RunFolder:
        """Make a run folder with this configuration, and lock it.

        Raises:
            ConfigurationError: there is something at ``path`` already.
            RunBusyError: another process is making the same folder.
            DiskError: the folder or the configuration cannot be written.
        """
        folder = cls(path)
        try:
            folder.path.mkdir(parents=True, exist_ok=True)
            folder._require_empty()
            folder._acquire()
            with folder._freed_on_error():
                folder._require_empty()
        except OSError as error:
            raise _creation_error(folder.path, error) from error
        return folder
