"""How many cores and how much memory this process may use, and what sets the limit.

Limits come from the machine, from the control groups (cgroups, versions 1 and 2) of a container or batch job, from
``ulimit`` and from environment variables. The smallest limit holds. ``root`` is "/"; tests pass another folder.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

# A variable that limits the threads of BLAS or Python is taken as a limit of the whole process.
VARIABLES = ("PYTHON_CPU_COUNT", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_ROOT = Path("/")


class Limit(NamedTuple):
    """A number of cores or bytes, and what sets it."""

    value: int
    by: str


def cores(root: Path = _ROOT) -> Limit:
    """Return how many cores this process may use, at least 1, and what sets this limit."""
    limits = [Limit(os.cpu_count() or 1, "the machine")]
    if hasattr(os, "sched_getaffinity"):  # Linux
        limits.append(Limit(len(os.sched_getaffinity(0)), "CPU affinity"))
    limits += [Limit(max(1, math.ceil(share)), name) for share, name in _quotas(root)]
    limits += [Limit(value, f"{name}={os.environ[name]}") for name in VARIABLES if (value := _variable(name))]
    return min(limits, key=lambda limit: limit.value)


def available_cores() -> int:
    """Return how many cores this process may use."""
    return cores().value


def memory(root: Path = _ROOT) -> Limit | None:
    """Return how many bytes this process can still allocate and what sets this limit; None if that is unknown."""
    limits = [*_machine_memory(root), *_group_memory(root), *_own_memory(root)]
    return min(limits, key=lambda limit: limit.value, default=None)


def _variable(name: str) -> int:
    """Return the number of threads that an environment variable sets, or 0; of a list such as "4,2" the first."""
    text = os.environ.get(name, "").partition(",")[0].strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0


def _quotas(root: Path) -> Iterator[tuple[float, str]]:
    """Yield how many cores each control group allows, as CPU time per time, and the name of its file."""
    for group in _groups(root, "cpu"):
        quota, period = _number(group / "cpu.cfs_quota_us"), _number(group / "cpu.cfs_period_us")  # version 1
        name = "cpu.cfs_quota_us of its cgroup"
        words = _text(group / "cpu.max").split()  # version 2: "150000 100000" or "max 100000"
        if len(words) == 2 and all(map(str.isdigit, words)):
            quota, period = map(int, words)
            name = "cpu.max of its cgroup"
        if quota and period and quota > 0:  # -1: no limit
            yield quota / period, name


def _machine_memory(root: Path) -> Iterator[Limit]:
    """Yield what Linux calls available memory: free memory, and caches that can be freed at once."""
    if found := re.search(r"^MemAvailable:\s*(\d+) kB", _text(root / "proc/meminfo"), re.MULTILINE):
        yield Limit(int(found[1]) * 1024, "the machine")


def _group_memory(root: Path) -> Iterator[Limit]:
    """Yield what each limit of each control group leaves. Cached files do not count as used: they are freed first."""
    for group in _groups(root, "memory"):
        used = _number(group / "memory.current") or _number(group / "memory.usage_in_bytes") or 0
        stat = dict(re.findall(r"^(\w+) (\d+)$", _text(group / "memory.stat"), re.MULTILINE))
        used = max(0, used - int(stat.get("total_inactive_file") or stat.get("inactive_file") or 0))
        for name in ("memory.max", "memory.high", "memory.limit_in_bytes"):
            limit = _number(group / name)
            if limit is not None:
                yield Limit(max(0, limit - used), f"{name} of its cgroup")


def _own_memory(root: Path) -> Iterator[Limit]:
    """Yield what ``ulimit`` leaves of the address space and the data segment."""
    try:
        import resource
    except ImportError:  # Windows
        return
    pages = _text(root / "proc/self/statm").split()
    if len(pages) < 6:  # not Linux: the used memory is unknown, and the limits are not enforced
        return
    for number, name, used in ((resource.RLIMIT_AS, "ulimit -v", 0), (resource.RLIMIT_DATA, "ulimit -d", 5)):
        limit = resource.getrlimit(number)[0]
        if limit != resource.RLIM_INFINITY:
            yield Limit(max(0, limit - int(pages[used]) * resource.getpagesize()), name)


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Yield the folders of this process's control groups for ``controller``, from the innermost to the outermost.

    Inside a container, the path may be that of the host and not exist; then the outermost group is the container's.
    """
    mounts = root / "sys/fs/cgroup"
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if names == "":  # version 2, alone or beside version 1
            mount = mounts / "unified" if (mounts / "unified").is_dir() else mounts
        elif controller in names.split(","):
            mount = mounts / controller
        else:
            continue
        inside = Path(path.lstrip("/"))
        for folder in (inside, *inside.parents):
            if ".." not in folder.parts and (mount / folder).is_dir():
                yield mount / folder


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, ValueError):
        return ""


def _number(path: Path) -> int | None:
    """Return the number in a file, or None if it holds something else, such as "max"."""
    try:
        return int(_text(path))
    except ValueError:
        return None
