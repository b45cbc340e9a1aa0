"""Files of strangers are read whole only if they are regular files of a limited size.

A pipe in the place of a file would wait for ever, a device such as /dev/zero would fill the memory.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


def read_regular(path: str | Path, most: int) -> bytes:
    """Return the bytes of a regular file that has at most ``most`` of them.

    Raises:
        OSError: it cannot be read, is not a regular file, or is larger; ``strerror`` says so.
    """
    _require_regular(os.stat(path).st_mode)  # before it is opened: opening a pipe may wait
    with open(path, "rb") as file:
        _require_regular(os.fstat(file.fileno()).st_mode)
        data = file.read(most + 1)
    if len(data) > most:
        raise OSError(errno.EFBIG, f"it has more than {most} bytes")
    return data


def _require_regular(mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is not a file but a device or a pipe")
