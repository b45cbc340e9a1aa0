"""The folder of a run: configuration, metrics, environment, checkpoints, and a lock against a second process."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import tomli_w

from eqnp.errors import ConfigurationError, RunBusyError
from eqnp.storage import FileLock, disk_error, write_atomic

_LOCK = ".lock"


class RunFolder:
    """A run's folder. As a context manager it holds the folder's lock, if it was opened with one, until the end."""

    def __init__(self, path: Path, lock: FileLock | None) -> None:
        self.path = path
        self._lock = lock
        self.config_path = path / "config.toml"
        self.metrics_path = path / "metrics.csv"
        self.environment_path = path / "environment.toml"
        self.last_path = path / "last.h5"
        self.best_path = path / "best.h5"

    @staticmethod
    def default_path(name: str) -> Path:
        """Return runs/NAME-TIME, a folder that is not there yet."""
        path = base = Path("runs") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
        count = 1
        while path.exists():
            count += 1
            path = base.with_name(f"{base.name}-{count}")
        return path

    @classmethod
    def create(cls, path: Path, config_toml: str) -> RunFolder:
        """Make a new run folder and lock it.

        Raises:
            ConfigurationError: there is something at ``path``.
            DiskError: the folder cannot be made.
        """
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise ConfigurationError(
                f"{path}: there is something already; go on with --resume, or choose another --out"
            )
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise disk_error(path, error) from None
        folder = cls(path, _take_lock(path))
        folder.write_config(config_toml)
        return folder

    @classmethod
    def open(cls, path: Path, *, lock: bool = False) -> RunFolder:
        """Open a run folder, to read or, with ``lock``, to go on writing.

        Raises:
            ConfigurationError: ``path`` is not a run folder.
            RunBusyError: another process holds its lock.
        """
        if not path.is_dir():
            raise ConfigurationError(f"{path}: there is no such run folder")
        if not (path / "config.toml").is_file():
            raise ConfigurationError(f"{path}: not a run folder, it holds no config.toml")
        return cls(path, _take_lock(path) if lock else None)

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lock is not None:
            self._lock.release()

    def write_config(self, config_toml: str) -> None:
        """Write config.toml."""
        write_atomic(self.config_path, config_toml.encode())

    def write_environment(self, description: Mapping[str, str]) -> None:
        """Write environment.toml."""
        write_atomic(self.environment_path, tomli_w.dumps(dict(description)).encode())

    def read_metrics(self) -> list[dict[str, str]]:
        """Return the rows of metrics.csv as text; a last line that was cut short is left out."""
        if not self.metrics_path.exists():
            return []
        rows = list(csv.DictReader(io.StringIO(self.metrics_path.read_text(encoding="utf-8"))))
        return [row for row in rows if None not in row and None not in row.values()]

    def append_metrics(self, row: Mapping[str, float]) -> None:
        """Add one epoch's row to metrics.csv; its first key is ``epoch``."""
        self._write_metrics([*self.read_metrics(), {name: _number(value) for name, value in row.items()}])

    def truncate_metrics(self, last_epoch: int) -> None:
        """Drop the rows after ``last_epoch``, which a resumed run is going to write again."""
        rows = self.read_metrics()
        kept = [row for row in rows if int(row["epoch"]) <= last_epoch]
        if len(kept) < len(rows):
            self._write_metrics(kept)

    def _write_metrics(self, rows: list[dict[str, str]]) -> None:
        text = io.StringIO()
        if rows:
            writer = csv.DictWriter(text, list(rows[-1]), lineterminator="\n", extrasaction="ignore", restval="")
            writer.writeheader()
            writer.writerows(rows)
        write_atomic(self.metrics_path, text.getvalue().encode())


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.6g}"


def _take_lock(path: Path) -> FileLock:
    """Return the folder's lock, held, or raise with who has it."""
    lock = FileLock(path / _LOCK)
    if not lock.acquire():
        raise RunBusyError(f"{path}: in use by {lock.holder()}; wait for it or stop it")
    return lock
