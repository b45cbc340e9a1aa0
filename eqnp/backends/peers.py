"""The processes of a run as the launcher placed them: their hosts, cores and GPUs, and whether they still exist."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from typing import Any

from eqnp.backends.limits import available_cores
from eqnp.backends.system import system_link, system_text


def this_process() -> str:
    """Return what the other processes should know of this one."""
    boot, namespace = system_text("proc/sys/kernel/random/boot_id").strip(), system_link("proc/self/ns/pid")
    return json.dumps(
        {
            "host": platform.node(),
            "machine": f"{platform.node()} {boot} {namespace}",  # in which a process number is unique
            "pid": os.getpid(),
            "cores": available_cores(),
            "bound": sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [],
            "gpus": os.environ.get("CUDA_VISIBLE_DEVICES", ""),
        }
    )


class Peers:
    """All processes, by rank, from the ``texts`` that ``this_process`` gave in each; ``rank`` is this one."""

    def __init__(self, texts: Sequence[str], rank: int) -> None:
        self._all: list[dict[str, Any]] = [json.loads(text) for text in texts]
        self.rank = rank
        self._near = [r for r, each in enumerate(self._all) if each["machine"] == self._all[rank]["machine"]]

    def __len__(self) -> int:
        return len(self._all)

    @property
    def local_rank(self) -> int:
        """The number of this process among those of its host."""
        return self._near.index(self.rank)

    @property
    def machine(self) -> str:
        """The host of this process, so that no other has this text."""
        return str(self._all[self.rank]["machine"])

    def name(self, rank: int) -> str:
        """Return how messages name a process: by its rank and its host."""
        return f"rank {rank} of {len(self._all)} on {self._all[rank]['host']}"

    def cores(self) -> int:
        """Return how many cores each process has: those of its host shared out, unless each is bound to its own.

        The smallest number of all hosts, so it is the same on all processes.
        """
        shares: list[int] = []
        for machine in {each["machine"] for each in self._all}:
            group = [each for each in self._all if each["machine"] == machine]
            least, bound = min(each["cores"] for each in group), [set(each["bound"]) for each in group]
            apart = all(bound) and len(set.union(*bound)) == sum(map(len, bound))
            shares.append(least if apart else max(1, least // len(group)))
        return min(shares)

    def gpu(self) -> int:
        """Return the GPU of this process: its number on the host, or 0 if the launcher shows each process its own."""
        shown = [self._all[rank]["gpus"] for rank in self._near]
        return 0 if all(shown) and len(set(shown)) == len(shown) > 1 else self.local_rank

    def gone(self) -> int | None:
        """Return the rank of a process of this host that ended; None if all exist.

        For launchers that do not end all processes with one.
        """
        for rank in self._near:
            try:
                os.kill(self._all[rank]["pid"], 0)
            except ProcessLookupError:
                return rank
            except OSError:  # a process of another user
                pass
        return None
