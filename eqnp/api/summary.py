"""The summary of a configuration before it is trained: layers, connections, sizes, FLOPs, memory and time."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from eqnp.analysis.calibration import memory_of_update, time_of_update
from eqnp.analysis.costs import ConnectionCost, Costs, connections_of, form_costs, form_of
from eqnp.api.fitting import fitted, read_dataset
from eqnp.api.run import outline_of
from eqnp.api.session import Session
from eqnp.api.titles import method, steps
from eqnp.backends.backend import Backend
from eqnp.connections.layers import Layer
from eqnp.data import SAMPLES, Dataset, validation_count
from eqnp.data.published import DATASETS
from eqnp.runs.config import Config
from eqnp.runs.experiment import with_threads


def summarize(config: Config, backend: Backend, measure: bool = True) -> dict[str, Any]:
    """Return what a run with ``config`` has and costs, nested by name.

    Sizes are in bytes, times in seconds, FLOPs per sample. With ``measure`` a few updates on random inputs are made,
    in a second or two, for ``time`` and ``memory``. Counts of samples are None for arrays that are given in Python.

    Raises:
        ConfigurationError: layers do not fit the data or each other.
        DataError: the dataset is one whose shape is known by reading it, and it is not found.
    """
    config, outline, counts = _outline(with_threads(config))
    session = Session.on(config, backend, outline, trains=False)
    learner, architecture = session.learner, session.learner.network.architecture
    shapes = architecture.parameter_shapes()
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    batch = min(config.training.batch_size, counts["train"] or config.training.batch_size)
    item, costs = np.dtype(config.training.dtype).itemsize, Costs(learner)
    result: dict[str, Any] = {
        "name": config.name,
        "description": config.description,
        "data": {"name": outline.name, "classes": architecture.classes} | counts,
        "layers": [list(architecture.input_shape), *map(list, architecture.layer_shapes)],
        "connections": [_connection(edge, sizes, session) for edge in connections_of(learner.network)],
        "parameters": sum(sizes.values()),
        "parameter_bytes": sum(sizes.values()) * item,
        "state_bytes": batch * sum(map(math.prod, architecture.state_shapes)) * item,
        "batch_size": batch,
        "dtype": config.training.dtype,
        "threads": config.training.threads,
        "backend": backend.name,
        "method": method(config, learner.bptt),
        "steps": steps(learner),
        "flops": {name: getattr(costs, name) for name in ("step", "nudged_step", "winners", "gradient", "evaluation")},
        "epochs": config.training.epochs,
        "updates": counts["train"] and -(-counts["train"] // config.training.batch_size),
    }
    return result | (_measured(session, result) if measure else {})


def _connection(edge: ConnectionCost, sizes: dict[str, int], session: Session) -> dict[str, Any]:
    """Return a connection; its FLOPs are those of a drive and a feedback, or of a drive if nothing is fed back."""
    learner, backward = session.learner, edge.name.replace("forward.", "backward.")
    drives = 1 if edge.lower == 0 or edge.connection is None else 2
    costs = form_costs(edge, learner.backend.device)
    wanted = session.config.training.convolution
    return {
        "name": edge.name,
        "lower": edge.lower,
        "upper": edge.upper,
        "operation": _operation(edge.layer),
        "parameters": sum(size for name, size in sizes.items() if name.rpartition(".")[0] in {edge.name, backward}),
        "flops": 2 * drives * edge.products,
        "form": form_of(edge.connection),
        "form_costs": costs,
        "form_by": "" if not costs else "auto" if wanted == "auto" else "unfit" if wanted not in costs else "name",
    }


def _operation(layer: Layer) -> str:
    pool, keep = getattr(layer, "pool", "none"), layer.keep
    return f"{layer}{f', {pool} pooling' if pool != 'none' else ''}{f', keep {keep:g}' if keep < 1 else ''}"


def _measured(session: Session, result: dict[str, Any]) -> dict[str, Any]:
    """Return the memory and the seconds of an update, and from them those of an epoch and a run, if it has a size."""
    config, learner, samples = session.config, session.learner, result["batch_size"]
    architecture = learner.network.architecture
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (samples, *architecture.input_shape), np.uint8)
    labels = generator.integers(0, architecture.classes, samples)
    data = Session.on(config, learner.backend, _dataset(session.dataset, pixels, labels), trains=True)
    state, batches = data.initial_state(), data.training_batches()

    def batch(count: int) -> tuple[np.ndarray, np.ndarray]:
        x, y = batches.batch(0, 0)
        return x[:count], y[:count]

    with data.map() as run:
        memory = memory_of_update(data.learner, state, batch, samples, run)
        update, whole = time_of_update(data.learner, state, batch, samples, run)
    times: dict[str, Any] = {"update": update, "whole_update_measured": whole}
    counts, flops = result["data"], result["flops"]
    if counts["train"]:
        judged = counts["judged"] * update / samples * flops["evaluation"] / flops["gradient"]
        times["epoch"] = result["updates"] * update + judged
        times["run"] = config.training.epochs * times["epoch"]
    return {"memory": memory, "available_memory": learner.backend.available_memory(), "time": times}


def _dataset(outline: Dataset, images: np.ndarray, labels: np.ndarray) -> Dataset:
    return Dataset(outline.name, images, labels, images, labels, outline.classes, "noise")


def _outline(config: Config) -> tuple[Config, Dataset, dict[str, int | None]]:
    """Return the configuration, fitted to data of the user; a dataset for its shape and classes; numbers of samples.

    The numbers are those of samples to train on and to choose by.
    """
    d = config.data
    if d.name == "arrays":
        return config, outline_of(config), {"train": None, "judged": None}
    if d.name not in SAMPLES:
        dataset = read_dataset(config)
        judges = dataset.test_labels if dataset.validation_labels is None else dataset.validation_labels
        return fitted(config, dataset), dataset, {"train": len(dataset.train_labels), "judged": len(judges)}
    train, test = DATASETS[d.name].counts or (0, 0)
    held = validation_count(d.validation, train)
    train = min(d.train_samples or train, train - held)
    return config, outline_of(config), {"train": train, "judged": held or min(d.test_samples or test, test)}
