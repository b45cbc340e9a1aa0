"""The folder of a sweep: a run folder for each entry, and what the sweep knows of them in ``.sweep``.

For an entry called NAME, ``.sweep`` holds ``NAME.toml``, the configuration that its run was started with,
``NAME.end``, how its last process ended, and the output of that process, ``NAME.log`` and ``NAME.events``. Each entry
has its own files, so the processes of a job array can work in one folder at once.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import tomli_w

from eqnp.errors import ConfigurationError, RunBusyError
from eqnp.runs import toml
from eqnp.runs.changes import differences
from eqnp.runs.config import Config
from eqnp.runs.configfile import load, to_toml
from eqnp.runs.locks import FileLock
from eqnp.runs.storage import disk_error, make_folder, read_bounded, write_atomic
from eqnp.sweeps.file import Entry, Sweep

HIDDEN = ".sweep"
DONE = ("epochs", "patience", "callback")  # reasons of training to end after which nothing is left to do
STOPPED = (129, 130, 143)  # exit codes of a run that a signal stopped, with its state saved


@dataclass(frozen=True)
class End:
    """How the process of a run ended: its exit code, why training ended, and the line of its error, if there is one."""

    code: int
    reason: str = ""
    message: str = ""

    @property
    def finished(self) -> bool:
        """Whether the run is done."""
        return self.code == 0 and self.reason in DONE

    @property
    def cause(self) -> str:
        """The beginning of its message, without what to do; "" if it did not fail."""
        return self.message.partition("; ")[0] if self.failed else ""

    @property
    def failed(self) -> bool:
        """Whether the process ended by an error, or was killed without having saved."""
        return self.code != 0 and self.code not in STOPPED


class SweepFolder:
    """The folder of a sweep. One process runs the whole sweep at a time and holds its lock; a job array does not."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.hidden = self.path / HIDDEN
        self._sweep_path = self.hidden / "sweep.toml"
        self._lock = FileLock(self.hidden / ".lock")

    @classmethod
    def is_one(cls, path: str | Path) -> bool:
        """Return whether ``path`` is the folder of a sweep."""
        return os.path.isfile(cls(path)._sweep_path)

    def require_usable(self, sweep: Sweep) -> None:
        """Check that ``sweep`` can run in this folder; nothing is written.

        Raises:
            ConfigurationError: it is a file, it holds something else, or another sweep, or runs that were started with
                another configuration.
            DiskError: it cannot be read.
        """
        if os.path.lexists(self.path) and not self.is_one(self.path):
            try:
                items = os.listdir(self.path)
            except NotADirectoryError:
                raise ConfigurationError(f"{self.path}: is a file, not a folder; give another --out") from None
            except OSError as error:
                raise disk_error(self.path, error) from error
            if set(items) - {HIDDEN}:
                raise ConfigurationError(f"{self.path}: is not empty and not the folder of a sweep; give another --out")
            return
        if self.is_one(self.path):
            name = self._content().get("name")
            if name != sweep.name:
                raise ConfigurationError(
                    f"{self.path}: belongs to the sweep {name!r}, not to {sweep.name!r}; give another --out"
                )
        for entry in sweep.entries:
            self._require_same(entry)

    def prepare(self, sweep: Sweep, lock: bool = True) -> None:
        """Create the folder, take its lock if ``lock`` is set, and write what the sweep is.

        Raises:
            RunBusyError: another process runs the whole sweep.
            DiskError: something cannot be written.
        """
        make_folder(self.hidden)
        if lock and not self._lock.acquire():
            raise RunBusyError(
                f"{self.path}: in use by {self._lock.holder()}; wait until it ends, or run single entries with --index"
            )
        try:
            entries = [entry.folder for entry in sweep.entries]
            content = {"name": sweep.name, "entries": entries, "file": dict(sweep.tree)}
            write_atomic(self._sweep_path, tomli_w.dumps(content).encode(errors="replace"), follow=False)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Release the lock, if it is held."""
        self._lock.release()

    def run_path(self, folder: str) -> Path:
        """Return the run folder of an entry."""
        return self.path / folder

    def begun(self, folder: str) -> bool:
        """Return whether the run folder of an entry has a configuration, so that its run can be resumed."""
        return os.path.lexists(self.run_path(folder) / "config.toml")

    def config_path(self, folder: str) -> Path:
        """Return the configuration that the run of an entry was started with."""
        return self.hidden / f"{folder}.toml"

    def log_path(self, folder: str) -> Path:
        """Return the file with the messages of an entry's last process."""
        return self.hidden / f"{folder}.log"

    def events_path(self, folder: str) -> Path:
        """Return the file with the events of an entry's last process, one JSON object a line."""
        return self.hidden / f"{folder}.events"

    def clear_logs(self, folder: str) -> None:
        """Make the files for the output of an entry's process, empty."""
        for path in (self.events_path(folder), self.log_path(folder)):
            write_atomic(path, b"", follow=False)

    def write_config(self, entry: Entry) -> Path:
        """Write the configuration of an entry whose run is about to start, and return the file."""
        path = self.config_path(entry.folder)
        write_atomic(path, to_toml(entry.config).encode(), follow=False)
        return path

    def write_end(self, folder: str, end: End) -> None:
        """Write how the process of an entry ended."""
        write_atomic(self._end_path(folder), json.dumps(asdict(end)).encode(), follow=False)

    def forget_end(self, folder: str) -> None:
        """Remove how the process of an entry ended, since another one begins."""
        with suppress(FileNotFoundError):
            os.unlink(self._end_path(folder))

    def end(self, folder: str) -> End | None:
        """Return how the last process of an entry ended; None if it has not, or that is not known."""
        try:
            content = json.loads(read_bounded(self._end_path(folder), 20_000))
            return End(int(content["code"]), str(content["reason"]), str(content["message"]))
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None

    def ask_stop(self, number: int) -> None:
        """Ask the processes of other hosts, which look for it, to stop their runs as after this signal; 0: go on."""
        write_atomic(self.hidden / ".stop", str(number).encode(), follow=False)

    def stop_asked(self) -> int:
        """Return the number of the signal that ``ask_stop`` passes on; 0 without one."""
        try:
            text = read_bounded(self.hidden / ".stop", 20)
        except OSError:
            return 0
        return int(text) if text.isdigit() else 0

    def planned(self) -> list[tuple[str, Config | None]]:
        """Return the entries of the sweep that was last run here, with their configurations; None if one has none yet.

        Raises:
            ConfigurationError: the files of the sweep are damaged.
        """
        folders = self._content().get("entries")
        if not isinstance(folders, list) or not all(isinstance(each, str) and "/" not in each for each in folders):
            raise ConfigurationError(f"{self._sweep_path}: is damaged; run the sweep again")
        paths = {each: self.config_path(each) for each in folders}
        return [(each, load(str(path)) if os.path.isfile(path) else None) for each, path in paths.items()]

    def others(self, entries: Sequence[Entry]) -> list[str]:
        """Return the runs of this sweep's folder that are not among ``entries``."""
        ours = {entry.folder for entry in entries} | {"sweep"}
        begun = (path.name.removesuffix(".toml") for path in self.hidden.glob("*.toml"))
        return sorted(name for name in begun if name not in ours and self.begun(name))

    def _end_path(self, folder: str) -> Path:
        return self.hidden / f"{folder}.end"

    def _content(self) -> dict[str, object]:
        try:
            return toml.parse(toml.read_text(self._sweep_path))
        except (OSError, ValueError, RecursionError):
            raise ConfigurationError(f"{self._sweep_path}: is damaged; restore a copy, or give another --out") from None

    def _require_same(self, entry: Entry) -> None:
        """Check that the run of an entry, if it began, was started with the configuration that the entry has."""
        if not self.begun(entry.folder):
            return
        path, run = self.config_path(entry.folder), self.run_path(entry.folder)
        if not os.path.isfile(path):
            raise ConfigurationError(f"{run}: was not made by this sweep; move it away or give another --out")
        before = load(str(path))
        described = replace(before, description=entry.config.description)
        if changes := differences(described, entry.config):
            raise ConfigurationError(
                f"run {entry.index}, {run}: was started with other values: {changes[0]}; change the file back, give "
                "another --out, or move that run away"
            )
