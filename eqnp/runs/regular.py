"""Files of strangers are read whole only if they are regular files of a limited size.

A pipe in the place of a file would wait for ever, a device such as /dev/zero would fill the memory.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

_GIVEN_BY_SHELL = ("/dev/fd/", "/dev/stdin", "/proc/self/fd/")  # `eqnp train <(command)`


def read_regular(path: str | Path, most: int, pipes: bool = False) -> bytes:
    """Return the bytes of a regular file that has at most ``most`` of them.

    ``pipes``: a pipe that the shell gave as an argument is read too.

    Raises:
        OSError: it cannot be read, is not a regular file, or is larger; ``strerror`` says so.
    """
    may_be_pipe = pipes and os.fspath(path).startswith(_GIVEN_BY_SHELL)
    _require_regular(os.stat(path), path, may_be_pipe)  # before it is opened: opening a pipe may wait
    with open(path, "rb") as file:
        _require_regular(os.fstat(file.fileno()), path, may_be_pipe)
        data = file.read(most + 1)
    if len(data) > most:
        raise OSError(errno.EFBIG, f"it is larger than {_size(most)}", str(path))
    return data


def _require_regular(status: os.stat_result, path: str | Path, may_be_pipe: bool) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(status.st_mode) and not (may_be_pipe and stat.S_ISFIFO(status.st_mode)):
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))


def _size(most: int) -> str:
    return f"{most / 1e6:.3g} MB" if most >= 1e6 else f"{most / 1e3:.3g} kB"
