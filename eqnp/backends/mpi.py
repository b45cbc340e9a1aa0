"""Several processes under MPI: sums in a fixed order, and an end of all when one fails. Only this module has mpi4py.

Every wait polls, so a signal reaches Python meanwhile, no core is kept busy for a slower process, and the failure of
another process ends the wait: a process that fails sends a notice to all others, and process 0, which has the state of
the run, saves it, prints the one line and ends all of them.
"""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from eqnp.backends.backend import Array, Backend, to_host
from eqnp.backends.flat import Layout, from_bytes, padded, to_bytes
from eqnp.backends.nccl import Devices
from eqnp.backends.notices import Notices
from eqnp.backends.peers import Peers, this_process
from eqnp.backends.sharding import add_gradients
from eqnp.backends.world import Wishes, World
from eqnp.errors import BackendError

INSTALL = "pip install mpi4py mpich"
PAUSE = 5e-4  # seconds between two looks at an exchange, at most
LISTEN_SECONDS, LOOK_SECONDS = 2e-3, 1.0  # of a wait before notices are looked for; between looks for dead processes
GATHER_BYTES = 2**16  # up to this, one exchange with more bytes takes no longer than two with fewer


def load_mpi() -> Any:
    """Return mpi4py's module ``MPI``, initialised.

    Raises:
        BackendError: mpi4py or the MPI library is not installed.
    """
    try:
        return importlib.import_module("mpi4py.MPI")
    except (ImportError, RuntimeError) as error:  # RuntimeError: the library behind mpi4py is not found
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise BackendError(
            f"several processes need mpi4py and an MPI library ({reason}): `{INSTALL}`, or those of your cluster; "
            "or --distributed none for independent processes"
        ) from None


class MpiWorld(World):
    """The processes of ``mpi``'s COMM_WORLD. ``calls`` and ``received`` count exchanges and the bytes that came in."""

    def __init__(self, mpi: Any) -> None:
        self._mpi, self._comm = mpi, mpi.COMM_WORLD.Dup()
        self._notices = Notices(mpi, mpi.COMM_WORLD.Dup(), self.name)
        self._peers = Peers((), 0)
        self.rank, self.size = self._comm.Get_rank(), self._comm.Get_size()
        self.calls, self.received = 0, 0
        self._agreed: Wishes = ()
        self._devices: Devices | None = None
        self._space: dict[str, np.ndarray] = {}
        self._ended, self._longest, self._left = time.monotonic(), 0.0, False
        self._peers = Peers(self.of_all(this_process()), self.rank)
        self.local_rank = self._peers.local_rank

    # ---- what a World does

    def combine(
        self, gradients: Sequence[dict[str, Array]], rows: np.ndarray, shards: int, like: Mapping[str, Array]
    ) -> tuple[dict[str, Array], np.ndarray]:
        """Return the sum of the gradients of all shards, in their order, and the rows of numbers of all."""
        layout, own = Layout(like), list(gradients)
        if self.rank == 0 and own:
            own = [add_gradients(own)]  # the sum begins with these shards
        if self._devices is not None:
            rows = self.rows(rows, shards)
            return self._devices.sum(own, layout, [self._terms(r, shards) for r in range(self.size)], self._poll), rows
        on_device = not all(isinstance(a, np.ndarray) for a in like.values())
        if on_device:
            own = [{name: to_host(g) for name, g in each.items()} for each in own]
        terms = sum(self._terms(r, shards) for r in range(self.size))
        few = terms <= 2 or terms * layout.size * layout.dtype.itemsize <= GATHER_BYTES
        flat, rows = (self._gathered if few else self._scattered)(own, rows, shards, layout)
        total = layout.read(flat)
        if on_device:
            asarray = self._backend.asarray
            total = {name: asarray(g) for name, g in total.items()}
        return total, rows

    def rows(self, rows: np.ndarray, shards: int) -> np.ndarray:
        """Return the rows of numbers of all shards, from those of this process."""
        parts = self._parts("rows", [8 * n for n in self._head_sizes(rows, shards)])
        parts[self.rank][:] = self._head(rows)
        self._all_gather(parts)
        return self._agree(parts, rows.shape[1])

    def spread(self, names: Sequence[str], work: Callable[[str], dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """Return ``work(name)`` for all names, each computed by one process."""
        own = {name: work(name) for name in names[self.share(len(names))]}
        return {name: value for part in self._all_bytes(to_bytes(own)) for name, value in from_bytes(part).items()}

    def from_first(self, tree: Any) -> Any:
        """Return what process 0 passes here."""
        content = np.frombuffer(to_bytes(tree), np.uint8) if self.rank == 0 else np.empty(0, np.uint8)
        size = np.array([len(content)], np.int64)
        self._wait(self._comm.Ibcast(size.view(np.uint8)))
        content = content.copy() if self.rank == 0 else np.empty(int(size[0]), np.uint8)
        self._wait(self._comm.Ibcast(content))
        return tree if self.rank == 0 else from_bytes(content.tobytes())

    def of_all(self, text: str) -> list[str]:
        """Return the texts of all processes, by rank."""
        return [part.decode() for part in self._all_bytes(text.encode())]

    def listen(self, wishes: Callable[[], Wishes]) -> None:
        """Ask ``wishes`` before every exchange from now on."""
        super().listen(wishes)
        self._agreed = (0.0,) * len(wishes())

    @property
    def agreed(self) -> Wishes:
        """The largest of all processes' wishes at the last exchange."""
        return self._agreed

    def sync(self) -> None:
        """Wait for all processes, and agree."""
        self.rows(np.empty((0, 0)), 0)

    def cores(self) -> int:
        """Return how many cores each process has, the same on all of them."""
        return self._peers.cores()

    def gpu(self) -> int:
        """Return which GPU of its host this process takes."""
        return self._peers.gpu()

    def use(self, backend: Backend, tell: Callable[[str], None]) -> None:
        """Prepare exchanges of a backend's arrays: by NCCL if each process has a GPU of its own."""
        self._backend = backend
        if backend.name != "cupy":
            return
        why = Devices.missing(backend)
        place = f"{self._peers.machine} {'' if why else Devices.place(backend)}"
        answers = self.of_all(json.dumps([why, place]))
        reasons = [reason for reason, _ in map(json.loads, answers) if reason]
        if not reasons and len({place for _, place in map(json.loads, answers)}) < self.size:
            reasons = ["processes share a GPU"]
        if reasons:
            tell(f"gradients are summed through the host: {reasons[0]}")
            return
        key = self.from_first(Devices.key(backend) if self.rank == 0 else None)
        self._devices = Devices(backend, self.size, self.rank, key)

    def name(self, rank: int) -> str:
        """Return how messages name a process: with its host."""
        return self._peers.name(rank) if len(self._peers) else super().name(rank)

    # ---- sums

    def _terms(self, rank: int, shards: int) -> int:
        """Return how many gradients a process contributes: one for each shard, process 0 the sum of its own."""
        share = self.share(shards, rank)
        own: int = share.stop - share.start
        return min(1, own) if rank == 0 else own

    def _gathered(
        self, own: list[dict[str, Array]], rows: np.ndarray, shards: int, layout: Layout
    ) -> tuple[np.ndarray, np.ndarray]:
        """Sum by one exchange: every process gets the gradients of all and adds them."""
        heads, size, item = self._head_sizes(rows, shards), layout.size, layout.dtype.itemsize
        terms = [self._terms(rank, shards) for rank in range(self.size)]
        parts = self._parts("gradients", [8 * n + padded(k * size * item) for n, k in zip(heads, terms, strict=True)])
        pairs = [_split(part, n, k, size, layout.dtype) for part, n, k in zip(parts, heads, terms, strict=True)]
        head, mine = pairs[self.rank]
        head.view(np.uint8)[:] = self._head(rows)
        for gradient, flat in zip(own, mine, strict=True):
            layout.write(gradient, flat)
        self._all_gather(parts)
        total = _sum([term for _, each in pairs for term in each])
        return total, self._agree([head.view(np.uint8) for head, _ in pairs], rows.shape[1])

    def _scattered(
        self, own: list[dict[str, Array]], rows: np.ndarray, shards: int, layout: Layout
    ) -> tuple[np.ndarray, np.ndarray]:
        """Sum by two exchanges: every process adds its part of the parameters, then gets the others' sums.

        The bytes that a process gets do not grow with the number of processes, unlike those of ``_gathered``.
        """
        heads, dtype, item = self._head_sizes(rows, shards), layout.dtype, layout.dtype.itemsize
        terms = [self._terms(rank, shards) for rank in range(self.size)]
        edges = [layout.size * rank // self.size for rank in range(self.size + 1)]
        widths = [b - a for a, b in pairwise(edges)]
        head, here = self._head(rows), widths[self.rank]
        sent = self._parts("sent", [len(head) + padded(len(own) * width * item) for width in widths])
        flats = np.empty((len(own), layout.size), dtype)
        for gradient, flat in zip(own, flats, strict=True):
            layout.write(gradient, flat)
        for part, a, b in zip(sent, edges[:-1], edges[1:], strict=True):
            first, mine = _split(part, len(head) // 8, len(own), b - a, dtype)
            first.view(np.uint8)[:] = head
            mine[:] = flats[:, a:b]
        parts = self._parts("received", [8 * n + padded(k * here * item) for n, k in zip(heads, terms, strict=True)])
        self._all_to_all(sent, parts)
        pairs = [_split(part, n, k, here, dtype) for part, n, k in zip(parts, heads, terms, strict=True)]
        sums = self._parts("sums", [width * item for width in widths])
        sums[self.rank].view(dtype)[:] = _sum([term for _, each in pairs for term in each])
        self._all_gather(sums)
        total = np.concatenate(sums).view(dtype)
        return total, self._agree([head.view(np.uint8) for head, _ in pairs], rows.shape[1])

    def _head(self, rows: np.ndarray) -> np.ndarray:
        """Return the wishes and rows of this process, as bytes of float64."""
        return np.concatenate([np.array(self._wishes(), np.float64), rows.reshape(-1)]).view(np.uint8)

    def _head_sizes(self, rows: np.ndarray, shards: int) -> list[int]:
        """Return how many numbers every process's head has."""
        shares = [self.share(shards, rank) for rank in range(self.size)]
        return [len(self._agreed) + (share.stop - share.start) * rows.shape[1] for share in shares]

    def _agree(self, heads: Sequence[np.ndarray], columns: int) -> np.ndarray:
        """Note what all wish, and return the rows (shards, columns) of all, from the heads' bytes."""
        count, numbers = len(self._agreed), [head.view(np.float64) for head in heads]
        self._agreed = tuple(max(float(each[k]) for each in numbers) for k in range(count))
        rows = np.concatenate([each[count:] for each in numbers])
        return rows.reshape(-1, columns) if columns else rows.reshape(0, 0)

    # ---- exchanges

    def _parts(self, name: str, sizes: Sequence[int]) -> _Parts:
        """Return parts of these sizes, in memory that is kept from one exchange of this name to the next."""
        if name not in self._space or len(self._space[name]) < sum(sizes):
            self._space[name] = np.empty(sum(sizes), np.uint8)
        return _Parts(self._space[name], sizes)

    def _all_gather(self, parts: _Parts) -> None:
        """Fill parts, of which this process has its own, with those of all."""
        request = self._comm.Iallgatherv(self._mpi.IN_PLACE, parts.message(self._mpi.BYTE))
        self._wait(request, parts.others(self.rank))

    def _all_to_all(self, sent: _Parts, received: _Parts) -> None:
        """Send every process its part of ``sent``, and fill ``received`` with what each has sent."""
        byte = self._mpi.BYTE
        request = self._comm.Ialltoallv(sent.message(byte), received.message(byte))
        self._wait(request, received.others(self.rank))

    def _all_bytes(self, content: bytes) -> list[bytes]:
        """Return what all processes pass here, by rank."""
        sizes = np.zeros(self.size, np.int64)
        sizes[self.rank] = len(content)
        self._all_gather(_Parts(sizes.view(np.uint8), [8] * self.size))
        parts = _Parts(np.empty(int(sizes.sum()), np.uint8), [int(size) for size in sizes])
        parts[self.rank][:] = np.frombuffer(content, np.uint8)
        self._all_gather(parts)
        return [part.tobytes() for part in parts]

    def _wait(self, request: Any, received: int = 0) -> None:
        """Wait until an exchange is done.

        Raises:
            RankError: another process failed.
        """
        self.calls, self.received = self.calls + 1, self.received + received
        self._poll(request.Test)

    def _poll(self, done: Callable[[], bool]) -> None:
        """Wait until ``done()``, and look after the other processes meanwhile.

        Raises:
            RankError: another process failed.
        """
        began = looked = time.monotonic()
        self._longest = max(self._longest, began - self._ended)
        while not done():
            now = time.monotonic()
            if now - began > LISTEN_SECONDS:
                self._notices.require_none()
            if now - looked > LOOK_SECONDS:
                looked = now
                if (gone := self._peers.gone()) is not None:
                    self._notices.note_end(gone)
            time.sleep(min(PAUSE, (now - began) / 50))
        self._ended = time.monotonic()

    def leave(self, error: BaseException) -> None:
        """Tell all other processes that this one ends by ``error``, and let all end."""
        if not self._left:
            self._left = True
            self._notices.leave(error, 2 * self._longest)


class _Parts(list[np.ndarray]):
    """Adjacent parts of an array of bytes, one for each process."""

    def __init__(self, whole: np.ndarray, sizes: Sequence[int]) -> None:
        self._whole, self._sizes, self._places = whole, sizes, [0, *accumulate(sizes)]
        super().__init__(whole[a:b] for a, b in pairwise(self._places))

    def message(self, kind: Any) -> list[Any]:
        """Return the parts as mpi4py takes them."""
        return [self._whole, (self._sizes, self._places[:-1]), kind]

    def others(self, rank: int) -> int:
        """Return the bytes of all parts but one."""
        return sum(self._sizes) - self._sizes[rank]


def _sum(terms: Sequence[np.ndarray]) -> np.ndarray:
    """Return the sum of arrays, from the first to the last, in new memory."""
    total = terms[0].copy()
    for term in terms[1:]:
        total += term
    return total


def _split(part: np.ndarray, numbers: int, terms: int, size: int, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """Return what bytes hold: ``numbers`` numbers of a head, and the gradients (terms, size) behind it."""
    first, last = 8 * numbers, 8 * numbers + terms * size * dtype.itemsize
    return part[:first], part[first:last].view(dtype).reshape(terms, size)
