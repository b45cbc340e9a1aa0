"""The process of one run of a sweep: how it is started, what it reports, how it ended.

A run is a process of its own, so that whatever ends it (an error, no memory, a signal) ends no other run.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import eqnp
from eqnp.api.signals import name_of_signal
from eqnp.backends.launcher import without_launcher
from eqnp.errors import OutOfMemoryError, RunBusyError
from eqnp.runs.storage import read_bounded
from eqnp.runs.variables import OTHERS, PREFIX
from eqnp.sweeps.folder import STOPPED, End, SweepFolder

_MODULE = "eqnp.cli.leashed"  # runs a command that stops when this process is gone
_MOST = 1_000_000  # bytes of a log in which the error is looked for
_THREADS = "OMP_NUM_THREADS"  # a limit of the whole process, as eqnp.backends.limits takes it


class Child:
    """The process that trains the run called ``name`` in the folder of a sweep; the run is resumed if it has begun.

    ``options`` are further words for ``eqnp train``. ``cores`` is how many it may use; None: as many as there are.

    Raises:
        DiskError: the files for its output cannot be written.
        OutOfMemoryError: the system starts no further process.
    """

    def __init__(self, folder: SweepFolder, name: str, options: Sequence[str] = (), cores: int | None = None) -> None:
        self._folder, self._name = folder, name
        run = str(folder.run_path(name))
        start = ["--resume", run] if folder.begun(name) else [str(folder.config_path(name)), "--out", run]
        folder.forget_end(name)
        folder.clear_logs(name)
        logs = folder.events_path(name), folder.log_path(name)
        with open(logs[0], "ab") as events, open(logs[1], "ab") as log:
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", _MODULE, "train", *start, *options, "--json", "--quiet"],
                    stdin=subprocess.PIPE,
                    stdout=events,
                    stderr=log,
                    env=_environment(cores),
                    start_new_session=True,  # a terminal sends Ctrl-C to this process alone, which passes it on once
                )
            except OSError as error:
                reason = error.strerror or error
                raise OutOfMemoryError(f"no process can be started for {run} ({reason}); lower --jobs") from error
        self._reader = EventReader(logs[0])
        self._found: list[dict[str, Any]] = []  # events that were read and not returned yet
        self._reason = ""

    def events(self) -> list[dict[str, Any]]:
        """Return the events since the last call; all of them once ``ended`` has answered."""
        found, self._found = [*self._found, *self._reader.read()], []
        for event in found:
            if event["event"] == "end":
                self._reason = str(event.get("reason", ""))
        return found

    def signal(self, number: int) -> None:
        """Send the process a signal. On Windows Ctrl-C reaches it without this."""
        if os.name != "nt":
            self._process.send_signal(number)

    def ended(self) -> End | None:
        """Return how the process ended, and note it in the sweep's folder; None while it goes on."""
        code = self._process.poll()
        if code is None:
            return None
        self._found = self.events()
        self._close()
        end = self._end(128 - code if code < 0 else code)
        if end.code != RunBusyError.exit_code:  # another process trains this run, and will note its end
            self._folder.write_end(self._name, end)
        return end

    def release(self) -> None:
        """Let the process stop as after SIGTERM, if it still runs, and wait until it has saved its run."""
        self._close()
        self._process.wait()

    def _close(self) -> None:
        self._reader.close()
        if self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()

    def _end(self, code: int) -> End:
        if code == 0 or code in STOPPED:
            return End(code, self._reason)
        log = self._folder.log_path(self._name)
        lines = _lines(log)
        said = [line.removeprefix("eqnp: ") for line in lines if line.startswith("eqnp: ")]
        if code > 128 and not said:
            memory = ", as the system does if memory runs out" if code == 128 + 9 else ""
            return End(code, self._reason, f"the process was ended by {name_of_signal(code - 128)}{memory}")
        if code == 1 or not said:
            last = lines[-1] if lines else f"exit code {code}"
            return End(code, self._reason, f"{last}; all of it is in {log}")
        return End(code, self._reason, said[-1])


class EventReader:
    """Reads a file of events while another process writes it; with ``follow``, also the file that takes its place."""

    def __init__(self, path: Path, follow: bool = False) -> None:
        self._path, self._follow = path, follow
        self._rest = b""
        self._open()

    def read(self) -> list[dict[str, Any]]:
        """Return the events since the last call; [] after ``close``."""
        if self._file.closed:
            return []
        with suppress(OSError):
            if self._follow and not os.path.samestat(os.stat(self._path), os.fstat(self._file.fileno())):
                self._file.close()
                self._open()
        *lines, self._rest = (self._rest + self._file.read()).split(b"\n")
        return [event for line in lines if (event := _event(line)) is not None]

    def _open(self) -> None:
        self._file = open(self._path, "rb")  # noqa: SIM115  closed by close()
        self._rest = b""

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _event(line: bytes) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) and "event" in event else None


def _lines(path: Path) -> list[str]:
    try:
        text = read_bounded(path, _MOST).decode("utf-8", "replace")
    except OSError:
        return []
    return [line for line in text.splitlines() if line.strip()]


def _environment(cores: int | None) -> dict[str, str]:
    """Return the environment of a run's process: no rank of ``mpiexec``, no settings, ``cores`` cores.

    Settings in variables are in the configuration of the run already.
    """
    kept = {name: value for name, value in without_launcher(os.environ).items() if not _is_setting(name)}
    root = os.path.dirname(os.path.dirname(os.path.abspath(eqnp.__file__)))
    if root in map(os.path.abspath, sys.path) and os.path.basename(root) != "site-packages":  # in a clone
        kept["PYTHONPATH"] = os.pathsep.join(filter(None, [root, kept.get("PYTHONPATH", "")]))
    return kept if cores is None else kept | _limit(kept, cores)


def _limit(environment: Mapping[str, str], cores: int) -> dict[str, str]:
    given = environment.get(_THREADS, "").partition(",")[0]
    return {_THREADS: str(min(cores, int(given)) if given.isdecimal() and int(given) else cores)}


def _is_setting(name: str) -> bool:
    return name.upper().startswith(PREFIX) and name not in OTHERS
