"""The folder of a run: configuration, environment, metrics and two checkpoints, for one process at a time."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterable, Mapping, Sequence, Set
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path
from types import TracebackType
from typing import Any

import tomli_w

from eqnp.errors import ConfigurationError, RunBusyError
from eqnp.runs import presets, toml
from eqnp.runs.locks import FileLock
from eqnp.runs.storage import PART, disk_error, make_folder, write_atomic
from eqnp.runs.tables import Row, continued, is_same, read_rows, rows_of, text_of
from eqnp.shown import quoted

_LOCK = ".lock"


class RunFolder:
    """The folder of a run. A writer holds its lock from ``create`` or ``open(lock=True)`` until ``close``.

    Nothing is written through a symbolic link in it: the lock refuses one, all other writing replaces it by a file.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.config_path = self.path / "config.toml"
        self.environment_path = self.path / "environment.toml"
        self.metrics_path = self.path / "metrics.csv"
        self.history_path = self.path / "history.csv"
        self.test_path = self.path / "test.csv"
        self.last_path = self.path / "last.h5"
        self.best_path = self.path / "best.h5"
        self._lock = FileLock(self.path / _LOCK)
        self._known: dict[Path, tuple[int, bytes]] = {}  # rows and text of files, as this process left them

    @classmethod
    def create(cls, path: str | Path, config_toml: str) -> RunFolder:
        """Create a run folder with this configuration, and lock it.

        Raises:
            ConfigurationError: ``path`` is a file or a folder that is not empty.
            RunBusyError: another process is starting a run there.
            DiskError: the folder or the configuration cannot be written.
        """
        folder = cls(path)
        make_folder(folder.path)
        try:
            folder._require_empty()  # before the lock too, to leave no lock file in a folder that is no run
        except ConfigurationError:
            if not os.path.isfile(folder.path / _LOCK):  # else another process may be starting a run there
                raise
        folder._acquire("give another --out, or wait until it ends")
        try:
            folder._require_empty()
            folder._remove_unfinished()
            folder.write_config(config_toml)
        except BaseException:
            folder.close()
            raise
        return folder

    @classmethod
    def open(cls, path: str | Path, *, lock: bool = False) -> RunFolder:
        """Return the run folder at ``path``: for reading, or with ``lock`` to continue the run.

        Raises:
            ConfigurationError: it is not a run folder.
            RunBusyError: ``lock`` is set and another process holds the lock.
            DiskError: ``lock`` is set and the folder cannot be written.
        """
        folder = cls(path)
        if not os.path.isfile(folder.config_path):
            raise ConfigurationError(f"{folder.path}: {_missing(folder.path)}")
        if lock:
            folder._acquire()
            try:
                folder._remove_unfinished()
            except BaseException:
                folder.close()
                raise
        return folder

    @classmethod
    def require_free(cls, path: str | Path) -> None:
        """Check that a run can be created at ``path``; nothing is written.

        Raises:
            ConfigurationError: ``path`` is a file or a folder that is not empty.
            DiskError: the folder cannot be read.
        """
        if os.path.lexists(path):
            cls(path)._require_empty()

    @staticmethod
    def default_path(name: str, root: str | Path = "runs") -> Path:
        """Create and return a new empty folder ROOT/NAME-YYYYmmdd-HHMMSS, with -2, -3, ... appended if it exists.

        It is created here, so that two runs that start in the same second get two folders.

        Raises:
            ConfigurationError: a file is in the place of a folder.
            DiskError: the folder cannot be created.
        """
        encoding = sys.getfilesystemencoding()  # an ASCII locale cannot encode every name
        name = name.encode(encoding, "replace").decode(encoding)
        safe = re.sub(r"[^\w.-]+", "-", name).lstrip(".-") or "run"
        stem = f"{safe}-{time.strftime('%Y%m%d-%H%M%S')}"
        number = 1
        while True:
            path = Path(root) / (stem if number == 1 else f"{stem}-{number}")
            if make_folder(path):
                return path
            number += 1

    def begun(self) -> bool:
        """Return whether anything of the run was saved: a checkpoint, or a row of metrics.

        If not, the run ended before its first save and can start again from its configuration.
        """
        return any(map(os.path.lexists, (self.last_path, self.best_path))) or bool(self.metrics())

    def write_config(self, config_toml: str) -> None:
        """Write config.toml."""
        write_atomic(self.config_path, config_toml.encode(), follow=False)

    def write_environment(self, environment: Mapping[str, Any]) -> None:
        """Write environment.toml. Characters that UTF-8 cannot encode, as in file names, are replaced by "?"."""
        write_atomic(self.environment_path, tomli_w.dumps(environment).encode(errors="replace"), follow=False)

    def environment(self) -> dict[str, Any]:
        """Return the content of environment.toml, empty if the file is missing or damaged: no run depends on it."""
        try:
            return toml.parse(toml.read_text(self.environment_path))
        except (OSError, ValueError, RecursionError):
            return {}

    def metrics(self) -> list[dict[str, str]]:
        """Return the rows of metrics.csv as text, by column; see ``rows``."""
        return self.rows(self.metrics_path)

    def history(self) -> list[dict[str, str]]:
        """Return the rows of history.csv as text, by column; see ``rows`` and ``eqnp.runs.history``."""
        return self.rows(self.history_path, {"epoch", "batch", "key", "old", "new"})

    def rows(self, path: Path, needed: Set[str] = frozenset({"epoch"})) -> list[Row]:
        """Return the rows of a CSV file of the run as text, by column; see ``eqnp.runs.tables.read_rows``."""
        return read_rows(path, needed)

    def append_metrics(self, row: Mapping[str, Any]) -> bool:
        """Add a row to metrics.csv; see ``append_rows``."""
        return self.append_rows(self.metrics_path, [row])

    def append_rows(self, path: Path, rows: Sequence[Mapping[str, Any]]) -> bool:
        """Add rows to a CSV file of the run. The whole file is rewritten, so a row is never incomplete.

        Rows that were in the file when this process last read or wrote it, but are there no more, are written again:
        the file was removed or cut meanwhile. Return whether that was so.
        """
        if not rows:
            return False
        count, text = self._known.get(path, (0, b""))
        if count and is_same(path, text) and (more := continued(text, rows)):  # much faster than reading all rows
            self._known[path] = count + len(rows), more
            write_atomic(path, more, follow=False)
            return False
        found = self.rows(path)
        lost = len(found) < count
        self._write_rows(path, [*(rows_of(path, text.decode(), frozenset()) if lost else found), *rows])
        return lost

    def truncate_metrics(self, last_epoch: int) -> None:
        """Drop the rows of epochs after ``last_epoch`` from metrics.csv and test.csv; a resumed run writes them again.

        Raises:
            ConfigurationError: a file is damaged; it is not changed.
        """
        for path in (self.metrics_path, self.test_path):
            rows = self.rows(path)
            kept = [row for row in rows if int(row["epoch"]) <= last_epoch]
            if len(kept) < len(rows):
                self._write_rows(path, kept)
            else:
                self._know(path, kept)

    def _write_rows(self, path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write rows to a CSV file; a link in its place is replaced."""
        write_atomic(path, self._know(path, rows), follow=False)

    def _know(self, path: Path, rows: Sequence[Mapping[str, Any]]) -> bytes:
        """Return rows as text and keep it: it takes a tenth of their memory, which matters after many epochs."""
        text = text_of(rows).encode()
        self._known[path] = len(rows), text
        return text

    def close(self) -> None:
        """Release the lock, if it is held."""
        self._lock.release()

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _acquire(self, cure: str = "wait until it ends, or stop it") -> None:
        if not self._lock.acquire():
            raise RunBusyError(f"{self.path}: in use by {self._lock.holder()}; {cure}")

    def _remove_unfinished(self) -> None:
        """Remove unfinished files of killed processes. The lock is held."""
        for part in self.path.glob(PART.format("*")):
            with suppress(OSError):
                part.unlink()

    def _require_empty(self) -> None:
        if os.path.lexists(self.config_path):
            way_on = f"eqnp train --resume {quoted(self.path)}"
            raise ConfigurationError(f"{self.path}: has a run already; continue it (`{way_on}`) or give another --out")
        try:
            items = os.listdir(self.path)
        except OSError as error:
            raise disk_error(self.path, error) from error
        if not _only_traces(items):
            raise ConfigurationError(f"{self.path}: is not empty and not a run folder; give another --out")


def _only_traces(items: Iterable[str]) -> bool:
    """Return whether a folder has only files that a process leaves if it is killed while it starts a run."""
    return all(any(fnmatchcase(item, each) for each in (f"{_LOCK}*", PART.format("*"))) for item in items)


def _missing(path: Path) -> str:
    """Return why ``path`` is not a run folder, and what to do."""
    name = "give a folder that `eqnp train` made"
    try:
        os.stat(path / "config.toml")
    except FileNotFoundError:
        if not os.path.isdir(path):
            if str(path) in presets.names():
                return f"is a preset, not a run folder; train it first: `eqnp train {path} --out runs/{path}`"
            return f"there is no such folder; {name}"
        with suppress(OSError):
            if (items := os.listdir(path)) and _only_traces(items):
                return "holds no run yet, since it ended before the first save; start it again with --out"
        return f"is not a run folder (config.toml is missing); {name}"
    except NotADirectoryError:
        return f"is a file, not a run folder; {name}"
    except OSError as error:
        return f"config.toml cannot be read ({error.strerror or error}); {name}"
    return f"config.toml is not a file; {name}"
