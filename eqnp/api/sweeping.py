"""A sweep on this machine: some runs at a time, each a process of its own; signals are passed on to all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from eqnp.api.signals import Interrupted, StopRequest
from eqnp.api.sweepchild import Child
from eqnp.api.sweepwatch import Watch
from eqnp.runs.sweepfile import Entry
from eqnp.runs.sweepfolder import SweepFolder

PAUSE = 0.05  # seconds between two looks at the runs

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
    """
    waiting, going = list(entries), dict[int, tuple[Entry, Child]]()
    told = False
    try:
        while going or (waiting and stop.exit_code is None):
            for slot in range(jobs):
                if waiting and slot not in going and stop.exit_code is None:
                    entry = waiting.pop(0)
                    going[slot] = entry, start(entry, slot)
                    watch.begins(entry)
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
                    watch.ended(entry, end)
            watch.shows()
    finally:
        for _, child in going.values():
            child.release()


def _tell(going: dict[int, tuple[Entry, Child]], number: int) -> None:
    for _, child in going.values():
        child.signal(number)
