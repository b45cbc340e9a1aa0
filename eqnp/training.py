"""Training: a batch is estimate, average, update; an epoch is its batches; a State is all that a run needs to resume.

Units: errors in percent, losses per sample, times in seconds. N is the number of samples of a batch.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Protocol

import numpy as np

from eqnp import watching
from eqnp.backends.backend import Array, to_host
from eqnp.backends.sharding import Map, started_pool
from eqnp.backends.world import Alone, World
from eqnp.blame import origin
from eqnp.dynamics import Relaxation, relax
from eqnp.errors import DivergedError
from eqnp.inputs import require_labels
from eqnp.learner import PARAMETERS, Learner
from eqnp.losses import one_hot, predict, smooth
from eqnp.optim import AVERAGE
from eqnp.prepared import PreparedNetwork, PreparedWeights

ENOUGH = 20  # samples of a batch in which units that are all at a bound are no accident


class Batches(Protocol):
    """Batches as functions of (epoch, index, first sample), so that a resumed run needs no replay."""

    samples: int  # per epoch
    batch_size: int  # the last batch of an epoch may be smaller
    count: int

    def batch(self, epoch: int, index: int, first: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return inputs (N, ...) and integer labels (N,), starting at sample ``first`` of the epoch's order.

        Where several processes train, a further argument ``part``, a slice of the batch's samples, asks for those only.
        """


@dataclass(frozen=True)
class Tally:
    """Running sums over samples: loss, mistakes, the largest residual of a free phase, and the steps of the phases."""

    samples: int = 0
    loss_sum: float = 0.0
    mistakes: int = 0
    residual: float = 0.0
    free_steps: int = 0  # of all samples together
    nudged_steps: int = 0  # those of one nudged phase, or the mean of several

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.samples + other.samples,
            self.loss_sum + other.loss_sum,
            self.mistakes + other.mistakes,
            float(np.maximum(self.residual, other.residual)),  # unlike max() it keeps NaN
            self.free_steps + other.free_steps,
            self.nudged_steps + other.nudged_steps,
        )

    def numbers(self) -> list[float]:
        """Return all sums as float64, which is exact below 2^53."""
        return [float(getattr(self, each.name)) for each in fields(self)]

    @classmethod
    def of(cls, numbers: Sequence[float]) -> Tally:
        """Return the tally of which ``numbers`` are the sums."""
        samples, loss, mistakes, residual, free, nudged = map(float, numbers)
        return cls(int(samples), loss, int(mistakes), residual, int(free), int(nudged))

    def is_guessing(self, classes: int) -> bool:
        """Return whether hardly more labels were right than by guessing one of ``classes``."""
        return self.mistakes >= 0.9 * (1 - 1 / classes) * self.samples

    @property
    def loss(self) -> float:
        """The mean loss of a sample."""
        return self.loss_sum / max(self.samples, 1)

    @property
    def error(self) -> float:
        """The share of mistakes, in percent."""
        return 100.0 * self.mistakes / max(self.samples, 1)


@dataclass(frozen=True)
class State:
    """The state of a run: parameters, optimiser, the epoch, how many of its batches are done, and sums over samples.

    The next batch starts at sample ``position`` of the epoch's order, whatever the sizes of the batches before it.
    Its random numbers are those of batch number ``batch``.
    """

    parameters: dict[str, Array]
    optimizer: dict[str, Any]
    epoch: int = 0
    batch: int = 0
    tally: Tally = field(default_factory=Tally)
    seconds: float = 0.0  # of training in this epoch
    best_error: float = math.inf  # the lowest so far, on the validation set if there is one, otherwise on the test set
    best_epoch: int = 0  # the number of epochs after which it was reached; 0: unknown
    measured: Mapping[str, float] = field(default_factory=dict)  # of the last batch of an epoch, until its end

    @property
    def position(self) -> int:
        """The number of samples of the epoch that are done."""
        return self.tally.samples

    @property
    def begun(self) -> bool:
        """Whether a batch has been trained."""
        return bool(self.epoch or self.batch)

    @property
    def evaluated(self) -> dict[str, Array]:
        """The parameters that are evaluated and used: their average over updates if there is one, else the last."""
        average: dict[str, Array] | None = self.optimizer.get(AVERAGE)
        return self.parameters if average is None else average


def initial_state(learner: Learner, gain: float, dtype: str) -> State:
    """Draw parameters from the run's seed, on the host, and start the optimiser."""
    generator = np.random.default_rng([learner.seed, PARAMETERS])
    drawn = learner.network.architecture.initial_parameters(generator, gain, dtype)
    parameters = {name: learner.backend.asarray(p) for name, p in drawn.items()}
    return State(parameters, learner.update.init(parameters))


@dataclass(frozen=True)
class Share:
    """What a process has of a batch of ``samples``: those from sample ``first`` on. Alone it has all."""

    world: World
    samples: int
    first: int = 0

    def shards(self, learner: Learner) -> tuple[list[slice], int]:
        """Return this process's shards, as slices of the samples that it has, and the number of all shards."""
        whole = learner.shards(self.samples)
        own = whole[self.world.share(len(whole))]
        return [slice(each.start - self.first, each.stop - self.first) for each in own], len(whole)

    @classmethod
    def of(cls, world: World, learner: Learner, samples: int) -> tuple[Share, slice]:
        """Return this process's share of a batch, as small as can be, and which of its samples that is."""
        whole = learner.shards(samples)
        own = whole[world.share(len(whole))]
        part = slice(own[0].start, own[-1].stop) if own else slice(0, 0)
        return cls(world, samples, part.start), part


def train_batch(
    learner: Learner,
    state: State,
    x: np.ndarray,
    labels: np.ndarray,
    run: Map,
    measure: bool = False,
    share: Share | None = None,
    time: float | None = None,
) -> State:
    """Return the state after one update on a batch x (N, ...), labels (N,); its sums are added.

    ``measure`` also measures the update (``eqnp.watching``), which changes no number of it. ``share`` says that x and
    labels are a part of the batch, of which other processes have the rest (None: they are the batch). ``time``, in
    epochs, sets the learning rate; None: the start of the epoch.

    Raises:
        DivergedError: the loss or a state is no longer finite, or the loss is above ``largest_sensible``, or, if it
            is measured, the network can no longer learn; the state passed in is still valid.
        ValueError: a label is not one of the classes.
    """
    share = share or Share(Alone(), len(x))
    samples, part = share.samples, slice(share.first, share.first + len(x))
    stencil = learner.stencil(state.epoch, state.batch)
    masks = learner.masks(state.epoch, state.batch, samples, x.dtype, part)
    weights = PreparedWeights(learner.network, state.parameters, dropout=masks is not None)

    def work(shard: slice) -> tuple[dict[str, Array], list[float]]:
        xs, target, ys = on_backend(learner, x[shard], labels[shard])
        if learner.smoothing:
            target = smooth(target, learner.smoothing)
        own = masks and [None if m is None else learner.backend.asarray(m[shard]) for m in masks]
        result = learner.gradient(weights, xs, target, stencil, own)
        counts = watching.units_at_bounds(learner.network, result.free.states, own) if measure else []
        tally = _tally(result.loss, result.outputs, ys, result.free, result.nudged)
        return result.gradient, tally.numbers() + watching.numbers(counts)

    where = f"at epoch {state.epoch + 1}, batch {state.batch + 1}"

    def blame() -> str:  # by all processes, which see the same sums
        found = ""
        if len(x):
            xs = learner.backend.asarray(x)
            own = masks and [None if m is None else learner.backend.asarray(m) for m in masks]
            found = origin(state.parameters, PreparedNetwork(learner.network, weights, xs, own), learner.phases.free)
        return next(filter(None, share.world.of_all(found)), "")

    shards, count = share.shards(learner)
    results = run(work, shards)
    columns = len(fields(Tally)) + (watching.NUMBERS * len(learner.network.activations) if measure else 0)
    numbers = np.array([row for _, row in results], np.float64).reshape(-1, columns)
    gradient, rows = share.world.combine([g for g, _ in results], numbers, count, state.parameters)
    del results
    tally = _tally_of(rows)
    _require_sensible(learner, where, tally, "", x.dtype, blame)
    for g in gradient.values():
        g /= samples
    norms = watching.norms(gradient) if measure else {}  # before the optimiser overwrites it
    time = state.epoch if time is None else time
    parameters, optimizer = learner.update.take(gradient, state.optimizer, state.parameters, time)
    after = replace(state, parameters=parameters, optimizer=optimizer, batch=state.batch + 1, tally=state.tally + tally)
    if not measure:
        return after
    updates = watching.relative_updates(parameters, state.parameters)
    counts = [watching.counts_of(row[len(fields(Tally)) :]) for row in rows]
    _require_alive(learner, where, after.tally, samples, watching.dead_state(learner.network, norms, counts), x.dtype)
    return replace(after, measured=watching.columns(norms, updates, counts))


def _tally_of(rows: np.ndarray) -> Tally:
    """Return the sum of the tallies of shards, whose numbers are the first of each row, in their order."""
    return sum((Tally.of(row[: len(fields(Tally))]) for row in rows), Tally())


def largest_sensible(dtype: np.typing.DTypeLike) -> float:
    """Return 1 / eps: above it a weight or the loss of a sample is meaningless in this dtype.

    With a weight of that size the rounding of the drive is as large as the range of a neuron, 1. With a loss of that
    size the distance of the outputs from the target is below their rounding. Saturated units stay far below it.
    """
    return 1 / float(np.finfo(dtype).eps)


def require_finite(learner: Learner, state: State, tested: Tally = Tally(), split: str = "test") -> None:
    """Check that a state may be saved, and the result ``tested`` of its weights on ``split``.

    The last update is checked here, since no later batch may show its effect.

    Raises:
        DivergedError: a weight or the loss is not finite or above ``largest_sensible``, a residual or a number of the
            optimiser is not finite (Adam's variance, for one, never comes back from there).
    """
    dtype = next(iter(state.parameters.values())).dtype
    where, bound = f"in epoch {state.epoch + 1}, before batch {state.batch + 1}", largest_sensible(dtype)
    for name, p in state.parameters.items():
        if not bool((abs(p) <= bound).all()):
            raise _diverged(learner, f"{where}: {name} is no longer finite, or above 1 / eps = {bound:.1e}", dtype)
    for moment, arrays in state.optimizer.items():
        for name, a in arrays.items() if isinstance(arrays, Mapping) else ():
            if not bool((abs(a) < math.inf).all()):
                raise _diverged(learner, f"{where}: the optimiser's {moment} of {name} is no longer finite", dtype)
    _require_sensible(learner, f"in epoch {state.epoch + 1}", tested, f"{split} ", dtype)


def _require_sensible(
    learner: Learner, where: str, tally: Tally, kind: str, dtype: np.dtype, blame: Callable[[], str] = str
) -> None:
    """Check the sums over a batch or an evaluation; ``blame`` returns which layer is at fault, if it is known."""
    if not math.isfinite(tally.residual):
        what = f"the {kind}residual is {tally.residual}"
    elif not tally.loss <= largest_sensible(dtype):
        what = f"the {kind}loss is {tally.loss:.3g}"
    else:
        return
    found = blame()
    raise _diverged(learner, f"{where}: {what}{f' ({found})' if found else ''}", dtype)


def _require_alive(learner: Learner, where: str, epoch: Tally, samples: int, dead: str, dtype: np.dtype) -> None:
    """Check that the network can still learn, if all units of a state are at a bound in a batch of ``samples``.

    A net that fits its batch exactly has no gradient either, so the whole ``epoch`` must be no better than guessing.
    """
    if dead and samples >= ENOUGH and epoch.is_guessing(learner.network.architecture.classes):
        what = f"every unit of {dead} is at a bound, so no weight below the outputs has a gradient, and it only guesses"
        raise _diverged(learner, f"{where}: {what}", dtype)


def _diverged(learner: Learner, where: str, dtype: np.dtype) -> DivergedError:
    text, key = learner.remedy(dtype)
    return DivergedError(f"diverged {where}; {text}", key)


def train_epoch(
    learner: Learner, state: State, batches: Batches, run: Map, world: World | None = None
) -> Iterator[State]:
    """Yield the state after every batch from ``state.position`` to the end of its epoch.

    A caller may stop after any batch and resume from the state it got. In a ``world`` of several processes each
    computes its shards, and all get the same states.
    """
    world = world or Alone()
    for x, labels, share in _ahead(learner, batches, world, state.epoch, state.batch, state.position):
        is_last = state.position + share.samples >= batches.samples
        time = state.epoch + state.position / batches.samples
        state = train_batch(learner, state, x, labels, run, measure=is_last, share=share, time=time)
        yield state


def batches_left(batches: Batches, position: int) -> int:
    """Return the number of batches from sample ``position`` to the end of an epoch."""
    return len(range(position, batches.samples, batches.batch_size))


def _ahead(
    learner: Learner, batches: Batches, world: World, epoch: int, index: int = 0, position: int = 0
) -> Iterator[tuple[np.ndarray, np.ndarray, Share]]:
    """Yield this process's share of the batches of an epoch from sample ``position``, numbered from ``index``.

    For a GPU, the host prepares the next batch while the device computes.
    """
    places = [*enumerate(range(position, batches.samples, batches.batch_size), start=index)]

    def make(number: int, first: int) -> tuple[np.ndarray, np.ndarray, Share]:
        samples = min(batches.batch_size, batches.samples - first)
        share, part = Share.of(world, learner, samples)
        some: dict[str, Any] = {} if world.size == 1 else {"part": part}
        return *batches.batch(epoch, number, first, **some), share

    if learner.backend.name == "numpy":
        yield from (make(*place) for place in places)
        return
    with started_pool(1) as (pool, started):
        if not started:
            yield from (make(*place) for place in places)
            return
        waiting = deque(pool.submit(make, *place) for place in places[:1])
        for following in [*places[1:], None][: len(places)]:
            batch = waiting.popleft().result()
            if following is not None:
                waiting.append(pool.submit(make, *following))
            yield batch


def next_epoch(state: State) -> State:
    """Return the state at the start of the next epoch."""
    return replace(state, epoch=state.epoch + 1, batch=0, tally=Tally(), seconds=0.0, measured={})


def evaluate(
    learner: Learner,
    parameters: Mapping[str, Array],
    batches: Batches,
    run: Map,
    progress: Callable[[int], None] = lambda index: None,
    world: World | None = None,
) -> Tally:
    """Return loss, mistakes and the largest residual over all batches, after a free phase on each.

    In a ``world`` of several processes each computes its shards, and all get the same result.
    """
    network, total, world = learner.network, Tally(), world or Alone()
    weights = PreparedWeights(network, parameters)

    def work(shard: slice) -> list[float]:
        xs, target, ys = on_backend(learner, x[shard], labels[shard])
        prepared = PreparedNetwork(network, weights, xs)
        free = relax(prepared, None, learner.phases.free)
        outputs = network.outputs(parameters, free.states)
        return _tally(network.loss.value(outputs, target), outputs, ys, free).numbers()

    for index, batch in enumerate(_ahead(learner, batches, world, 0)):
        x, labels, share = batch
        shards, count = share.shards(learner)
        own = np.array(run(work, shards), np.float64).reshape(-1, len(fields(Tally)))
        total = sum(map(Tally.of, world.rows(own, count)), total)
        progress(index + 1)
    return total


def on_backend(learner: Learner, x: np.ndarray, labels: np.ndarray) -> tuple[Array, Array, Array]:
    """Return inputs, one-hot targets and labels on the learner's backend."""
    require_labels(labels, learner.network.architecture.classes)  # on the host, where reading values is cheap
    xs, ys = learner.backend.asarray(x), learner.backend.asarray(labels)
    return xs, one_hot(ys, learner.network.architecture.classes, xs.dtype), ys


def _tally(loss: Array, outputs: Array, labels: Array, free: Relaxation, nudged: Sequence[Relaxation] = ()) -> Tally:
    mistakes, n = int(to_host((predict(outputs) != labels).sum())), len(labels)
    steps = sum(n * phase.steps for phase in nudged) // max(len(nudged), 1)
    return Tally(n, float(to_host(loss.sum())), mistakes, free.residual, n * free.steps, steps)
