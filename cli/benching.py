"""The measurements of ``eqnp bench``, and their text."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from eqnp.analysis.measuring import free_phases, interleave, peak_memory
from eqnp.api.processes import join
from eqnp.api.report import clock
from eqnp.api.session import Session
from eqnp.backends.backend import Backend
from eqnp.backends.world import Alone, World
from eqnp.cli.options import Place
from eqnp.data import SAMPLES, found, noise, validation_count
from eqnp.runs.config import Config
from eqnp.runs.configfile import load
from eqnp.runs.environment import describe_environment
from eqnp.runs.experiment import with_shards, with_threads
from eqnp.runs.storage import write_atomic
from eqnp.training import Share, train_batch


def measure(
    source: str | None,
    overrides: tuple[str, ...],
    place: Place,
    runs: int,
    steps: int,
    seconds: float,
    progress: Callable[[str], None],
    world: World | None = None,
) -> dict[str, Any]:
    """Return the results, nested by name as in the JSON file. Times are in seconds, sizes in MB.

    Several processes of a ``world`` measure together: each computes its shards, and a time ends when the last is done.
    """
    world = world or Alone()
    backend = place.open(world)
    config = with_shards(with_threads(load(source, overrides), world), world, backend)
    session, samples = _session(config, backend)
    join(world, session)
    world.use(backend, lambda text: None)
    learner, batches, state = session.learner, session.training_batches(), session.initial_state()
    x, labels = batches.batch(0, 0)
    share, part = Share.of(world, learner, len(x))

    def over(late: bool) -> bool:
        """Return whether the time of process 0 is over."""
        return bool(world.from_first(late))

    with session.map() as run:
        phases = free_phases(learner, state.parameters, backend.asarray(x[part]), steps, run, share)
        step = interleave(phases, runs, 1, seconds, lambda name, k: progress(f"steps, {name}  run {k}/{runs}"), over)
        del phases  # and its buffers

        def update() -> None:
            train_batch(learner, state, x[part], labels[part], run, share=share)
            backend.synchronize()

        work = {"batch": update, "input": lambda: batches.batch(0, 0, part=part)}
        # The steps were the warm-up, so the first batch counts.
        times = interleave(work, runs, 0, seconds, lambda name, k: progress(f"{name}  run {k + 1}/{runs}"), over)
    count = -(-samples // config.training.batch_size)
    return {
        "name": config.name,
        "layers": " - ".join(map(str, learner.network.architecture.layers)),
        "inputs": session.dataset.source if session.dataset.source == "noise" else session.dataset.name,
        "samples": samples,
        "batch_size": len(x),
        "threads": config.training.threads,
        "processes": world.size,
        "shards": len(learner.shards(len(x))),
        "algorithm": config.training.algorithm,
        "T1": learner.phases.T1,
        "T2": learner.phases.T2,
        "schedule": learner.phases.schedule,
        "omega": learner.phases.omega,
        "steps": {name: [t / steps for t in each] for name, each in step.items()},
        "steps_of_a_run": steps,
        **times,
        "batches": count,
        "epoch_estimated": count * (median(times["batch"]) + median(times["input"])),
        "peak_memory": peak_memory(backend),
        "environment": describe_environment(backend.name),
    }


def _session(config: Config, backend: Backend) -> tuple[Session, int]:
    """Return a session on the dataset, or on random data if it is not found, and its number of samples."""
    d = config.data
    if d.folder or d.file or d.name not in SAMPLES or found(d.name):
        session = Session.start(config, backend)
        return session, session.count("train")
    samples = d.train_samples or SAMPLES[d.name] - validation_count(d.validation, SAMPLES[d.name])
    session = Session.on(config, backend, noise(d.name, min(config.training.batch_size, samples)))
    return session, samples


def bench_table(content: dict[str, Any]) -> str:
    """Return the results as text that fits 80 columns."""
    machine = content["environment"]
    inputs = content["inputs"]
    lines = [
        textwrap.fill(f"{content['name']}: {content['layers']}", 80),
        f"on {'random data (dataset not found)' if inputs == 'noise' else inputs}, "
        f"batch {content['batch_size']}, {_workers(content)}, {machine['backend']}",
        textwrap.fill(str(machine.get("gpu", machine["blas"])), 80),
        "",
        f"{'':<20}{'median':>10}  (min to max)",
    ]
    for name, times in content["steps"].items():
        lines.append(f"{'step, ' + name:<20}{_spread(times)} of {content['steps_of_a_run']} steps")
    lines += [
        f"{content['algorithm'].upper() + ' batch':<20}{_spread(content['batch'])}, "
        f"T1 {content['T1']}, T2 {content['T2']}",
        f"{'input of a batch':<20}{_spread(content['input'])}",
        f"{'epoch, estimated':<20}{clock(content['epoch_estimated']):>10}  {content['batches']} batches, "
        "without evaluation",
    ]
    if content["peak_memory"] is not None:
        where = "in CuPy's pool" if machine["backend"] == "cupy" else "of this process"
        lines.append(f"{'peak memory':<20}{content['peak_memory']:>7.0f} MB  {where}")
    return "\n".join(lines)


def _workers(content: dict[str, Any]) -> str:
    """Return how many threads compute, and in how many processes if there are several."""
    threads = f"threads {content['threads']}"
    return threads if content["processes"] == 1 else f"{content['processes']} processes with {threads} each"


def _spread(times: list[float]) -> str:
    """Return the median, minimum, maximum and number of times in seconds, as text."""
    unit, scale = ("ms", 1e3) if median(times) < 1 else ("s ", 1)
    shown = [f"{scale * t:#.3g}".rstrip(".") for t in (median(times), min(times), max(times))]
    return f"{shown[0]:>7} {unit}  ({shown[1]} to {shown[2]}), {len(times)} run" + "s" * (len(times) > 1)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write the results to a JSON file, completely or not at all."""
    write_atomic(path, (json.dumps(content, indent=2) + "\n").encode())
