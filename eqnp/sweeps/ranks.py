"""A sweep on the processes that ``mpiexec`` started: rank 0 hands out the runs, each other rank trains one at a time.

It is ``mpi4py.futures``. Each run is a process of its own here too, which knows nothing of MPI. All hosts need the same
file system.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from eqnp.api.signals import SIGTERM, StopRequest
from eqnp.backends.launcher import local_rank
from eqnp.backends.limits import available_cores
from eqnp.errors import BackendError, EqnpError, RunBusyError
from eqnp.sweeps.child import Child, EventReader
from eqnp.sweeps.file import Entry
from eqnp.sweeps.folder import End, SweepFolder
from eqnp.sweeps.here import BUSY_PAUSE, BUSY_SECONDS, prepare
from eqnp.sweeps.watch import Watch

_PAUSE = 0.1  # seconds between two looks at a run, or at a file of another process


class Ranks:
    """The processes that ``mpiexec`` started together with this one."""

    def __init__(self) -> None:
        """Start MPI.

        Raises:
            BackendError: mpi4py or an MPI library is missing.
        """
        try:
            self._mpi = import_module("mpi4py.MPI")
            self._futures = import_module("mpi4py.futures")
        except (ImportError, RuntimeError) as error:  # a RuntimeError without the library of MPI
            reason = " ".join(str(error).split())[:200]
            raise BackendError(
                f"--executor mpi: mpi4py cannot be used ({reason}); `pip install mpi4py mpich`, or use --jobs"
            ) from None
        self._all = self._mpi.COMM_WORLD
        self._dismissed = False
        self.workers = max(1, self._all.size - 1)
        os.environ["OMP_NUM_THREADS"] = str(self._cores())

    @property
    def is_worker(self) -> bool:
        """Whether this process trains what rank 0 hands out."""
        return bool(self._all.rank)

    def work(self) -> None:
        """Train what rank 0 hands out until it has no more. A signal is passed on to the run, and ends nothing here."""
        with StopRequest():
            if self._all.bcast(None):
                with self._futures.MPICommExecutor(self._all, root=0):
                    pass

    @contextmanager
    def leading(self) -> Iterator[Any]:
        """Give the executor of rank 0; the other ranks are released without work if the block is never entered."""
        self._dismissed = True
        self._all.bcast(True)
        with self._futures.MPICommExecutor(self._all, root=0) as executor:
            yield executor

    def dismiss(self) -> None:
        """Let the other ranks end, if nothing was handed out to them."""
        if not self._dismissed:
            self._dismissed = True
            self._all.bcast(False)

    def _cores(self) -> int:
        """Return the cores of this process, shared with the ranks of this host that may use the same ones.

        Rank 0 trains nothing, so it does not count.
        """
        mine = _affinity()
        local = self._all.Split_type(self._mpi.COMM_TYPE_SHARED)
        everyone = local.allgather((self._all.rank, mine))
        sharing = sum(bool(rank or self._all.size == 1) and bool(cores & mine) for rank, cores in everyone)
        local.Free()
        return max(1, available_cores() // max(1, sharing))


def _affinity() -> frozenset[int]:
    known = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    return frozenset(known)


def run_on_ranks(
    entries: Sequence[Entry],
    executor: Any,
    folder: SweepFolder,
    options: Sequence[str],
    devices: int,
    watch: Watch,
    stop: StopRequest,
) -> None:
    """Train ``entries`` on the other ranks until all have ended or a signal came.

    ``devices`` is the number of GPUs among which the ranks of a host choose by their number; 0: none.
    """
    folder.ask_stop(0)
    for entry in entries:
        prepare(folder, entry)
    waiting = {executor.submit(train_here, str(folder.path), e.folder, list(options), devices): e for e in entries}
    readers: dict[int, EventReader] = {}
    told = False
    try:
        while waiting:
            time.sleep(_PAUSE)
            if stop.exit_code is not None and not told:
                told = True
                folder.ask_stop(stop.exit_code - 128)
            for future, entry in list(waiting.items()):
                if told and future.cancel():
                    del waiting[future]
                    continue
                if future.running() or future.done():
                    _follow(entry, folder, readers, watch)
                if future.done():
                    del waiting[future]
                    readers.pop(entry.index).close()
                    watch.ended(entry, _end_of(future))
            watch.shows()
    finally:
        if waiting:
            folder.ask_stop(SIGTERM)
            for future in waiting:
                future.cancel()


def _follow(entry: Entry, folder: SweepFolder, readers: dict[int, EventReader], watch: Watch) -> None:
    """Report the events of a run whose process is on another rank."""
    if entry.index not in readers:
        readers[entry.index] = EventReader(folder.events_path(entry.folder), follow=True)
        watch.begins(entry)
    watch.sees(entry, readers[entry.index].read())


def _end_of(future: Any) -> End:
    """Return how a run ended, or the error of its rank."""
    try:
        end: End = future.result()
    except EqnpError as error:
        return End(error.exit_code, "", str(error))
    except Exception as error:
        return End(1, "", f"{type(error).__name__}: {error}")
    return end


def train_here(path: str, name: str, options: Sequence[str], devices: int) -> End:
    """Train a run of the sweep in the folder ``path`` on this rank, and return how it ended."""
    folder = SweepFolder(path)
    own = ["--device", str(local_rank(os.environ) % devices)] if devices else []
    latest = time.monotonic() + BUSY_SECONDS
    with StopRequest() as stop:
        while True:
            if number := _asked(folder, stop):
                return End(128 + number, "signal")
            end = _train(folder, Child(folder, name, [*options, *own]), stop)
            if end.code != RunBusyError.exit_code or time.monotonic() > latest:
                return end
            time.sleep(BUSY_PAUSE)


def _train(folder: SweepFolder, child: Child, stop: StopRequest) -> End:
    """Wait until the process of a run has ended, and pass on the first signal."""
    told = False
    try:
        while (end := child.ended()) is None:
            time.sleep(_PAUSE)
            if (number := _asked(folder, stop)) and not told:
                told = True
                child.signal(number)
    finally:
        child.release()
    return end


def _asked(folder: SweepFolder, stop: StopRequest) -> int:
    """Return the number of the signal that this rank got, or that rank 0 passes on; 0 without one."""
    return stop.exit_code - 128 if stop.exit_code is not None else folder.stop_asked()
