"""The end of a download that stands still although bytes come."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPResponse
from threading import Event


@contextmanager
def cut_when_still(answer: HTTPResponse, done: Callable[[], int], seconds: float) -> Iterator[None]:
    """End the connection when ``done``, the bytes so far, stays the same for about ``seconds``.

    The time limit of a socket does not suffice: it starts again with every byte, also of what is no content, such as
    the sizes of chunks. Where no thread can start, only that limit holds.
    """
    ended = Event()

    def watch() -> None:
        before = -1
        while not ended.wait(seconds):
            if done() == before:
                return _shut_down(answer)
            before = done()

    thread = threading.Thread(target=watch, daemon=True)
    with suppress(RuntimeError):  # can't start new thread
        thread.start()
    try:
        yield
    finally:
        ended.set()
        if thread.ident is not None:
            thread.join()


def _shut_down(answer: HTTPResponse) -> None:
    """Let the thread that reads the answer see its end."""
    with suppress(OSError, ValueError, AttributeError):  # it has been closed
        connection = socket.socket(fileno=os.dup(answer.fileno()))
        with connection:
            connection.shutdown(socket.SHUT_RDWR)
