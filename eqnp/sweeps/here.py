"""A sweep on this machine: some runs at a time, each a process of its own; signals are passed on to all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from eqnp.api.signals import Interrupted, StopRequest
from eqnp.errors import RunBusyError
from eqnp.sweeps.child import Child
from eqnp.sweeps.file import Entry
from eqnp.sweeps.folder import SweepFolder
from eqnp.sweeps.watch import Watch

PAUSE = 0.05  # seconds between two looks at the runs
BUSY_SECONDS, BUSY_PAUSE = 30.0, 2.0  # how long a run in use is tried again, and the time between two tries

Start = Callable[[Entry, int], Child]  # starts the process of an entry in a slot, numbered from 0


def prepare(folder: SweepFolder, entry: Entry) -> None:
    """Write what the process of an entry needs: its configuration, unless its run has begun, and empty logs."""
    if not folder.begun(entry.folder):
        folder.write_config(entry)
    folder.clear_logs(entry.folder)


def starter(folder: SweepFolder, options: Sequence[str], cores: int | None, devices: int) -> Start:
    """Return what starts the runs of a sweep on this machine.

    ``options`` are further words for ``eqnp train``; each run may use ``cores`` cores (None: all). ``devices`` is the
    number of GPUs among which the slots choose in turn; 0: none.
    """

    def start(entry: Entry, slot: int) -> Child:
        prepare(folder, entry)
        own = ["--device", str(slot % devices)] if devices else []
        return Child(folder, entry.folder, [*options, *own], cores)

    return start


def run_here(entries: Sequence[Entry], jobs: int, start: Start, watch: Watch, stop: StopRequest) -> None:
    """Train ``entries``, at most ``jobs`` at a time, until all have ended or a signal came.

    A run that fails stops no other. After a signal no run starts, and those that are going on save and stop; a second
    signal reaches them too. If this function fails, they save and stop as well.

    A run in use is tried again for a while: after a sweep was killed, its runs are still saving.
    """
    waiting, going = _Queue(entries), dict[int, tuple[Entry, Child]]()
    told = False
    try:
        while going or (waiting and stop.exit_code is None):
            for slot in range(jobs):
                if slot not in going and stop.exit_code is None and (following := waiting.take()) is not None:
                    going[slot] = following, start(following, slot)
                    watch.begins(following)
            try:
                with stop.interruptible():
                    time.sleep(PAUSE)
            except Interrupted as again:
                _tell(going, again.exit_code - 128)
            if stop.exit_code is not None and not told:
                told = True
                _tell(going, stop.exit_code - 128)
            for slot, (entry, child) in list(going.items()):
                end = child.ended()
                watch.sees(entry, child.events())
                if end is not None:
                    del going[slot]
                    if end.code == RunBusyError.exit_code and stop.exit_code is None and waiting.put_back(entry):
                        watch.waits(entry)
                    else:
                        watch.ended(entry, end)
            watch.shows()
    finally:
        for _, child in going.values():
            child.release()


class _Queue:
    """The runs that have not started, and those that are to be tried again, each not before a time."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self._waiting = [(0.0, entry) for entry in entries]
        self._first: dict[int, float] = {}  # when a run was put back first, by index

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def take(self) -> Entry | None:
        """Return the first run whose time has come; None without one."""
        now = time.monotonic()
        for place, (due, entry) in enumerate(self._waiting):
            if due <= now:
                del self._waiting[place]
                return entry
        return None

    def put_back(self, entry: Entry) -> bool:
        """Add a run to try it again later; return False if that was done for long enough."""
        now = time.monotonic()
        if now - self._first.setdefault(entry.index, now) > BUSY_SECONDS:
            return False
        self._waiting.append((now + BUSY_PAUSE, entry))
        return True


def _tell(going: dict[int, tuple[Entry, Child]], number: int) -> None:
    for _, child in going.values():
        child.signal(number)
