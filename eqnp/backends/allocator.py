"""Freed memory that a process keeps, so that an update does not wait for the system to give the same memory again.

Every update allocates and frees arrays of the same sizes. The C library returns large ones to the system, which must
then clear and map their pages anew. With few sweeps per update this took an eighth of the time
(benchmarks/results/allocator.md).
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Mapping

# glibc's numbers of the settings, and the highest values to which it raises them by itself when arrays are freed.
_SETTINGS = {-3: 32 * 2**20, -1: 64 * 2**20}  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD: bytes
_VARIABLES = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")  # by which users set them


def keep_freed_memory(environment: Mapping[str, str] = os.environ) -> bool:
    """Let glibc keep up to 64 MiB of freed memory per thread, and take arrays of up to 32 MiB from it.

    Returns False and changes nothing without glibc (macOS, Windows, Alpine Linux), or if the user has set how glibc
    allocates.
    """
    tunables = environment.get("GLIBC_TUNABLES", "")  # with settings of other kinds too
    is_set = "glibc.malloc." in tunables or any(name in environment for name in _VARIABLES)
    if is_set or sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return all(mallopt(setting, size) for setting, size in _SETTINGS.items())
