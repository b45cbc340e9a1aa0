"""The processes that train one network together: which shards of a batch each has, and how their sums are made.

Every process has the same weights, takes its shards of every batch, and gets the sum over all shards, added from the
first to the last as one process would. So all of them make the same update, and its bits do not depend on how many
processes there are. ``Alone`` is the one process of a plain run. ``eqnp.backends.mpi`` has the others.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from eqnp.backends.backend import Array, Backend
from eqnp.backends.limits import available_cores
from eqnp.backends.sharding import add_gradients

T = TypeVar("T")
Wishes = tuple[float, ...]  # what a process asks of all, such as to stop; numbers of which the largest holds


class World(ABC):
    """The processes of a run, numbered from 0. Process 0 alone writes files and prints."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    """The number of this process among those of its host, from 0."""

    def share(self, shards: int, rank: int | None = None) -> slice:
        """Return which of ``shards`` shards are those of a process, this one by default: blocks, the first largest."""
        rank = self.rank if rank is None else rank
        each, more = divmod(shards, self.size)
        first = rank * each + min(rank, more)
        return slice(first, first + each + (rank < more))

    @abstractmethod
    def combine(
        self, gradients: Sequence[dict[str, Array]], rows: np.ndarray, shards: int, like: Mapping[str, Array]
    ) -> tuple[dict[str, Array], np.ndarray]:
        """Return the sum of the gradients of all shards, in their order, and the rows of numbers of all.

        ``gradients`` are those of this process's shards, overwritten; ``rows`` (own, K) float64 has what else each
        shard came to. ``shards`` is the number of all shards, ``like`` has arrays of the gradient's shapes and dtype,
        in the same order on all processes. Returns the gradient and rows (shards, K).
        """

    @abstractmethod
    def rows(self, rows: np.ndarray, shards: int) -> np.ndarray:
        """Return the rows of numbers of all shards (shards, K), from those of this process (own, K), float64."""

    @abstractmethod
    def spread(self, names: Sequence[str], work: Callable[[str], dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """Return ``work(name)`` for all names, each computed by one process; the values are numbers and arrays."""

    @abstractmethod
    def from_first(self, tree: Any) -> Any:
        """Return what process 0 passes here: nested dictionaries of texts, numbers and host arrays."""

    @abstractmethod
    def of_all(self, text: str) -> list[str]:
        """Return the texts of all processes, by rank."""

    def listen(self, wishes: Callable[[], Wishes]) -> None:
        """Ask ``wishes`` before every exchange from now on; ``agreed`` is what came out."""
        self._wishes = wishes

    @property
    @abstractmethod
    def agreed(self) -> Wishes:
        """The largest of all processes' wishes at the last exchange: the same on all of them."""

    def cores(self) -> int:
        """Return how many cores each process has, the same on all of them."""
        return available_cores()

    def gpu(self) -> int:
        """Return which GPU of its host this process takes."""
        return 0

    @abstractmethod
    def use(self, backend: Backend, tell: Callable[[str], None]) -> None:
        """Prepare exchanges of a backend's arrays; ``tell`` gets a line if they are slower than they could be."""

    @abstractmethod
    def sync(self) -> None:
        """Wait for all processes, and agree."""

    def name(self, rank: int) -> str:
        """Return how messages name a process."""
        return f"rank {rank} of {self.size}"

    _wishes: Callable[[], Wishes] = staticmethod(tuple)


class Alone(World):
    """A single process: nothing is exchanged."""

    def combine(
        self, gradients: Sequence[dict[str, Array]], rows: np.ndarray, shards: int, like: Mapping[str, Array]
    ) -> tuple[dict[str, Array], np.ndarray]:
        """Return the sum of the gradients, and the rows as they are."""
        return add_gradients(gradients), rows

    def rows(self, rows: np.ndarray, shards: int) -> np.ndarray:
        """Return the rows as they are."""
        return rows

    def spread(self, names: Sequence[str], work: Callable[[str], dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """Return ``work(name)`` for all names."""
        return {name: work(name) for name in names}

    def from_first(self, tree: Any) -> Any:
        """Return ``tree``."""
        return tree

    def of_all(self, text: str) -> list[str]:
        """Return the one text."""
        return [text]

    @property
    def agreed(self) -> Wishes:
        """The wishes of this process, now."""
        return self._wishes()

    def use(self, backend: Backend, tell: Callable[[str], None]) -> None:
        """Do nothing."""

    def sync(self) -> None:
        """Do nothing."""
