"""What only the files of Linux below /proc and /sys tell. Elsewhere every answer is empty."""

from __future__ import annotations

import os
from pathlib import Path

_ROOT = Path("/")
_MOST = 2**20  # bytes


def system_text(name: str, root: Path = _ROOT) -> str:
    """Return the text of a file such as ``proc/meminfo``; "" if the system does not have it."""
    try:
        with open(root / name, encoding="utf-8", errors="replace") as file:
            return file.read(_MOST)
    except (OSError, ValueError):
        return ""


def system_link(name: str, root: Path = _ROOT) -> str:
    """Return where a link such as ``proc/self/ns/pid`` leads; "" if the system does not have it."""
    try:
        return os.readlink(root / name)
    except (OSError, ValueError):
        return ""
