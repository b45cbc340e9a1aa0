"""How processes end together when one fails: it sends a notice to all others, which look for notices while they wait.

Process 0 has the state of the run. It gets the notice as a ``RankError`` in its next exchange, saves the state, prints
the one line and ends all. If that takes too long, the process that failed ends all itself.
"""

from __future__ import annotations

import atexit
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np

from eqnp.errors import ConfigurationError, DivergedError, EqnpError, RankError, RunBusyError, exit_code_of
from eqnp.shown import shown

HEAR_SECONDS = 2.0  # that process 0 waits for the notices of others, to tell whether all fail alike
# Errors of the command, which process 0 says for all: configuration, divergence, a busy run folder.
_OF_THE_COMMAND = (ConfigurationError.exit_code, DivergedError.exit_code, RunBusyError.exit_code)
LEAVE_SECONDS = 10.0  # that a failed process waits for process 0 to end all, beside two batches


class Notices:
    """The notices of failed processes on ``comm``, a communicator for them alone. ``name`` names a rank."""

    def __init__(self, mpi: Any, comm: Any, name: Callable[[int], str]) -> None:
        self._mpi, self._comm, self.name = mpi, comm, name
        self._rank, self._size = comm.Get_rank(), comm.Get_size()
        self._heard: dict[int, dict[str, Any]] = {}
        self._sent: list[Any] = []

    def require_none(self) -> None:
        """Check that no other process has failed.

        Raises:
            RankError: one has.
        """
        self._listen()
        if self._heard:
            first = next(iter(self._heard.values()))
            notice = next((each for each in self._heard.values() if each["own"]), first)
            raise RankError(f"{self.name(notice['rank'])}: {notice['text']}", notice["code"])

    def note_end(self, rank: int) -> None:
        """Note that a process ended; one that fails in an orderly way has sent a notice before."""
        self._listen()
        if not self._heard:
            self._heard[rank] = {"rank": rank, "own": True, "code": 1, "text": "ended without a message"}

    def leave(self, error: BaseException, patience: float) -> None:
        """Tell all others that this process ends by ``error``; process 0 then ends all at its exit.

        Another process waits ``patience`` seconds longer than ``LEAVE_SECONDS`` for that.
        """
        own, code = not isinstance(error, RankError), exit_code_of(error)
        notice = {"rank": self._rank, "own": own, "code": code, "text": _said(error)}
        content = np.frombuffer(json.dumps(notice).encode(), np.uint8)
        self._sent = [self._comm.Isend(content, rank) for rank in range(self._size) if rank != self._rank]
        if self._rank == 0:
            self._hear(HEAR_SECONDS, self._size - 1)
            alike = [each for each in self._heard.values() if each["own"] and each["code"] == code]
            of_the_host = isinstance(error, (EqnpError, MemoryError)) and code not in _OF_THE_COMMAND
            if own and of_the_host and len(alike) < self._size - 1:
                error.args = (f"{self.name(0)}: {error}",)
            atexit.register(self._end_all, code)
            return
        if own and not isinstance(error, (EqnpError, MemoryError, OSError, KeyboardInterrupt)):
            traceback.print_exception(error)
        self._hear(LEAVE_SECONDS + patience)
        if own:
            with suppress(OSError, AttributeError):
                sys.stderr.write(f"eqnp: {shown(f'{self.name(self._rank)}: {_said(error)}')}\n")
        self._end_all(code)

    def _listen(self) -> None:
        while self._comm.Iprobe():
            status = self._mpi.Status()
            self._comm.Probe(status=status)
            content = np.empty(status.Get_count(self._mpi.BYTE), np.uint8)
            self._comm.Recv(content, source=status.Get_source())
            notice = json.loads(content.tobytes())
            self._heard[notice["rank"]] = notice

    def _hear(self, seconds: float, enough: int | None = None) -> None:
        """Take notices for so long, or until there are ``enough``."""
        last = time.monotonic() + seconds
        while time.monotonic() < last and (enough is None or len(self._heard) < enough):
            self._listen()
            time.sleep(0.01)

    def _end_all(self, code: int) -> None:
        """End all processes with this exit code. MPI's own line about it adds nothing and is not shown."""
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError, AttributeError):
                stream.flush()
        with suppress(OSError), open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        self._comm.Abort(code)


def _said(error: BaseException) -> str:
    """Return the message of an error on one line; that of a bug begins with its kind."""
    text = " ".join(str(error).split())
    if isinstance(error, EqnpError):
        return text
    if isinstance(error, MemoryError):
        return f"out of memory{f' ({text})' if text else ''}"
    if isinstance(error, KeyboardInterrupt):
        return "stopped"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
