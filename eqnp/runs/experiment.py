"""From a configuration to a network and a learner, and from the state of a run to a checkpoint and back."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from eqnp.architecture import Architecture
from eqnp.backends.backend import Backend, to_host
from eqnp.backends.limits import available_cores
from eqnp.backends.mkl import MklProducts
from eqnp.backends.products import Products, SlabProducts, best_numpy_products
from eqnp.backends.world import World
from eqnp.connections.forms import Means
from eqnp.connections.layers import ConvLayer, DenseLayer, Layer, Shape, Skip
from eqnp.contrasts import default_contrast
from eqnp.dynamics import Phases
from eqnp.errors import BackendError, CheckpointError, ConfigurationError
from eqnp.learner import BPTT, Learner
from eqnp.networks import Network, SymmetricNetwork, VectorFieldNetwork
from eqnp.optim import SGD, Adam, Optimizer, Update, cosine, one_cycle, warm_up
from eqnp.reference import plan_segments
from eqnp.runs.checkpoint import restore_into
from eqnp.runs.config import Config, Model, Training
from eqnp.runs.config import Layer as LayerConfig
from eqnp.runs.environment import processor
from eqnp.training import State, Tally

GPU_CHECK_EVERY = 10  # reading a residual waits for all work on the GPU


def make_architecture(model: Model, input_shape: Shape, classes: int) -> Architecture:
    """Return the architecture of ``model`` on inputs of ``input_shape``.

    Raises:
        ConfigurationError: layers do not fit the input or each other, or the last one does not have ``classes`` units.
    """
    layers = layers_of(model)
    architecture = Architecture(
        input_shape,
        layers,
        model.activation,
        model.loss,
        model.kind == "vector-field",
        model.dropout_scaling,
        model.initialisation,
        model.bias_gain,
        model.feedback,
    )
    if architecture.classes != classes:
        raise ConfigurationError(
            f"model.layers.{len(layers) - 1} ({layers[-1]}): the data has {classes} classes, "
            f"so the last layer needs {classes} units"
        )
    return architecture


def layers_of(model: Model) -> tuple[Layer, ...]:
    """Return the specs of the layers of ``model``."""
    return tuple(_layer(layer) for layer in model.layers)


def make_learner(
    config: Config, input_shape: Shape, classes: int, backend: Backend, samples: int | None = None
) -> Learner:
    """Return the learner that ``config`` describes, for inputs of ``input_shape`` (H, W, C).

    ``samples`` is the number of training samples, which limits the batch size; None: not known; 0: no training.

    Raises:
        ConfigurationError: layers do not fit, or a key needs another backend.
        BackendError: oneMKL is requested and not installed.
        OutOfMemoryError: the memory for BPTT is too small for one batch.
    """
    architecture = make_architecture(config.model, input_shape, classes)
    training = config.training
    network = make_network(config.model, architecture, training.convolution, _means(training, backend))
    return Learner(
        network=network,
        backend=backend,
        phases=_phases(config, backend),
        estimator=training.estimator,
        beta=config.dynamics.beta,
        points=config.dynamics.points,
        contrast=default_contrast(network, training.common_update, training.nudging),
        bptt=_bptt(config, architecture, backend, samples) if training.algorithm == "bptt" else None,
        update=Update(
            _optimizer(config),
            _rates(config, architecture),
            per_parameter(architecture, config.optimizer.weight_decay),
            config.optimizer.clip_norm,
            config.optimizer.average,
        ),
        seed=training.seed,
        threads=training.threads,
        smoothing=training.label_smoothing,
        cuts=training.shards,
        # Steps of a dense net are so short that calling them costs; those of a convolution better stay in the cache.
        joint=backend.name == "cupy" or not has_convolutions(config.model),
    )


def make_network(model: Model, architecture: Architecture, convolution: str = "auto", means: Means = None) -> Network:
    """Return the network of ``model``, with the named form of convolutions, computed by ``means``."""
    if not architecture.vector_field:
        return SymmetricNetwork(architecture, convolution, means)
    return VectorFieldNetwork(architecture, model.feedback_winners == "own", convolution, means)


def _means(training: Training, backend: Backend) -> Means:
    """Return what computes besides the array module: CUDA kernels on a GPU, or products on a CPU.

    Raises:
        ConfigurationError: a key needs another backend.
        BackendError: oneMKL is requested and not installed.
    """
    device = backend.device if training.kernels == "cuda" else None
    if training.tf32:
        if device is None:
            raise ConfigurationError("training.tf32: needs --backend cupy with training.kernels = cuda")
        return device.with_tf32()
    if backend.name == "numpy":
        return make_products(training.products)
    if training.products not in ("auto", "numpy"):
        raise ConfigurationError(f"training.products: {training.products} needs --backend numpy")
    return device


def make_products(name: str) -> Products:
    """Return how a CPU multiplies stacks of matrices; ``auto``: oneMKL on Intel CPUs, else the faster way with NumPy.

    Raises:
        BackendError: oneMKL is requested and not installed.
    """
    if name == "mkl" or (name == "auto" and "Intel" in processor()):  # on AMD CPUs oneMKL is slower than slabs
        try:
            return MklProducts()
        except BackendError:
            if name == "mkl":
                raise
    if name == "auto":
        name = best_numpy_products()
    return SlabProducts() if name == "slabs" else Products()


def _bptt(config: Config, architecture: Architecture, backend: Backend, samples: int | None) -> BPTT:
    """Return BPTT with as many steps' states kept at once as fit in memory.

    Raises:
        OutOfMemoryError: the available memory is too small even for segments.
    """
    batch = config.training.batch_size if samples is None else min(config.training.batch_size, samples)
    units = sum(math.prod(shape) for shape in architecture.state_shapes)
    available = backend.available_memory()
    memory = config.training.memory_gb * 1e9 or (math.inf if available is None else available / 2)
    step_bytes = batch * units * np.dtype(config.training.dtype).itemsize
    return BPTT(plan_segments(config.dynamics.T2, step_bytes, memory), config.training.common_update)


def default_threads(model: Model, cores: int) -> int:
    """Return the threads for ``training.threads = 0``: one per core, or one for a network without convolutions.

    Steps of a small dense network are too short for two Python threads; its matrix products use all cores instead.
    """
    return cores if has_convolutions(model) else 1


def with_threads(config: Config, world: World | None = None) -> Config:
    """Return the configuration with its number of threads set, so that a resumed run splits batches the same way.

    ``world`` are the processes that share the cores; None: this one alone.
    """
    cores = world.cores if world else available_cores
    threads = config.training.threads or default_threads(config.model, cores())
    return replace(config, training=replace(config.training, threads=threads))


def with_shards(config: Config, world: World, backend: Backend) -> Config:
    """Return the configuration, its threads known, with enough shards for several processes.

    Raises:
        ConfigurationError: ``training.shards`` or the batch size leaves a process without samples.
    """
    training, size = config.training, world.size
    if size == 1:
        return config
    shards = training.shards or size * backend.workers(training.threads)
    for name, count in (("training.shards", shards), ("training.batch_size", training.batch_size)):
        if count < size:
            raise ConfigurationError(f"{name}: {count} for {size} processes; give at least {size}, or start fewer")
    return replace(config, training=replace(training, shards=min(shards, training.batch_size)))


def require_shards(config: Config, world: World, backend: Backend) -> None:
    """Check that every process has a shard of the batches of a run that was started already.

    Raises:
        ConfigurationError: the run cuts its batches into fewer shards.
    """
    training, size = config.training, world.size
    shards = training.shards or backend.workers(training.threads)
    if min(shards, training.batch_size) < size:
        of = "training.shards" if training.shards else "training.threads"
        raise ConfigurationError(
            f"the run cuts its batches of {training.batch_size} samples into {shards} "
            f"{'shard' if shards == 1 else 'shards'} ({of} = {getattr(training, of.partition('.')[2])}), too few for "
            f"{size} processes; start fewer, or add --set training.shards={size}, which changes the last digits"
        )


def has_convolutions(model: Model) -> bool:
    """Return whether any layer is a convolution."""
    return any(layer.conv for layer in model.layers)


def to_content(state: State) -> dict[str, Any]:
    """Return the content of a checkpoint: host arrays, in the shapes of the state, and numbers."""
    return {
        "parameters": _host(state.parameters),
        "optimizer": _host(state.optimizer),
        "progress": {
            "epoch": state.epoch,
            "batch": state.batch,
            "seconds": state.seconds,
            "best_error": state.best_error,
            "best_epoch": state.best_epoch,
            **asdict(state.tally),
        },
    } | ({"measured": dict(state.measured)} if state.measured else {})


def from_content(content: Mapping[str, Any], learner: Learner, template: State) -> State:
    """Return the state in the content of a checkpoint; ``template`` is a new state with the same names and shapes.

    Raises:
        CheckpointError: a name, shape or dtype differs, a weight is not finite, or a number is impossible; the message
            names the first one.
    """
    if isinstance(content.get("progress"), Mapping):  # older checkpoints lack these
        content = {**content, "progress": {"best_epoch": 0, "free_steps": 0, "nudged_steps": 0, **content["progress"]}}
    measured = content.get("measured", {})
    _check_measured(measured)
    content = {name: value for name, value in content.items() if name != "measured"}
    restore_into(to_content(template), content)
    _check_weights(content["parameters"], learner)
    _check_numbers("optimizer", content["optimizer"])
    progress = dict(content["progress"])
    _check_numbers("progress", progress)
    if progress["batch"] > progress["samples"]:  # every batch has at least one sample
        raise _impossible("progress.batch", f"{progress['batch']} after {progress['samples']} samples")
    own = {key: progress.pop(key) for key in ("epoch", "batch", "seconds", "best_error", "best_epoch")}
    return State(
        parameters=_device(content["parameters"], learner.backend),
        optimizer=_device(content["optimizer"], learner.backend),
        tally=Tally(**progress),
        measured=measured,
        **own,
    )


def _check_weights(parameters: Mapping[str, np.ndarray], learner: Learner) -> None:
    for name, values in parameters.items():
        if not np.isfinite(values).all():
            raise CheckpointError(
                f"parameters.{name} is not finite: the run diverged; use the run's other checkpoint, "
                f"or train again: {learner.remedy(values.dtype)[0]}"
            )


def _check_measured(measured: Any) -> None:
    """Check that what was measured of a batch is numbers by name."""
    if not isinstance(measured, Mapping):
        raise _impossible("measured", str(measured))
    for name, value in measured.items():
        if not isinstance(value, float):
            raise _impossible(f"measured.{name}", str(value)[:20])


_LARGEST = {"seconds": 1e9, "best_error": math.inf}  # an error is infinite before the first epoch


def _check_numbers(where: str, content: Mapping[str, Any]) -> None:
    """Check that counts and sums are at least 0 and finite, and that counts fit int64."""
    for name, value in content.items():
        good = True
        if isinstance(value, int):
            good = 0 <= value < 2**63
        elif isinstance(value, float):
            good = 0 <= value <= _LARGEST.get(name, sys.float_info.max)
        if not good:
            raise _impossible(f"{where}.{name}", str(value)[:20])


def _impossible(name: str, value: str) -> CheckpointError:
    return CheckpointError(f"{name} cannot be {value}; use the run's other checkpoint, or train again")


def _layer(layer: LayerConfig) -> Layer:
    graph: dict[str, Any] = {
        "activation": layer.activation or None,
        "gain": layer.gain or None,
        "source": None if layer.source < 0 else layer.source,
        "skips": tuple(
            Skip(skip.source, skip.kernel, skip.stride, skip.padding, skip.pool, skip.dense, skip.gain or None)
            for skip in layer.skips
        ),
    }
    if layer.dense:
        return DenseLayer(layer.dense, layer.keep, **graph)
    return ConvLayer(layer.conv, layer.kernel, layer.stride, layer.padding, layer.pool, layer.keep, **graph)


def _phases(config: Config, backend: Backend) -> Phases:
    d = config.dynamics
    every = d.check_every or (1 if backend.name == "numpy" else GPU_CHECK_EVERY)
    return Phases(d.T1, d.T2, d.tolerance, d.schedule, d.omega, every)


def _optimizer(config: Config) -> Optimizer:
    o = config.optimizer
    return SGD(o.momentum, o.nesterov) if o.name == "sgd" else Adam(o.beta1, o.beta2, o.epsilon)


def _rates(config: Config, architecture: Architecture) -> Callable[[float], dict[str, float]]:
    """Return the learning rate of every parameter as a function of the time in epochs."""
    base = per_parameter(architecture, config.optimizer.rates)
    at = _rate_at(config)
    return lambda time: {name: at(time, rate) for name, rate in base.items()}


def _rate_at(config: Config) -> Callable[[float, float], float]:
    """Return the learning-rate schedule as a function of the time in epochs and the configured rate."""
    o = config.optimizer
    t_max = o.T_max or max(config.training.epochs, 1)
    if o.schedule == "one-cycle":
        return lambda time, rate: one_cycle(time, rate, o.minimum_rate, t_max, o.warmup)
    if o.schedule == "cosine":
        return lambda time, rate: cosine(math.floor(time), rate, o.minimum_rate, t_max) * warm_up(time, o.warmup)
    return lambda time, rate: rate * warm_up(time, o.warmup)


def per_parameter(architecture: Architecture, value: float | tuple[float, ...]) -> dict[str, float]:
    """Return ``value``, one number or one per layer, by parameter name.

    A layer's bias and all weights that lead to it have its value, backward weights too: only then do they align with
    the forward ones.
    """
    values = value if isinstance(value, tuple) else (value,) * len(architecture.layers)
    return {name: float(values[layer]) for name, layer in architecture.layer_of().items()}


def _host(tree: Any) -> Any:
    if isinstance(tree, Mapping):
        return {key: _host(value) for key, value in tree.items()}
    return tree if isinstance(tree, (int, float, str)) else np.asarray(to_host(tree))


def _device(tree: Any, backend: Backend) -> Any:
    if isinstance(tree, Mapping):
        return {key: _device(value, backend) for key, value in tree.items()}
    return tree if isinstance(tree, (int, float, str)) else backend.asarray(tree)
