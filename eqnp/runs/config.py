"""The configuration of a run: one frozen dataclass per TOML table, every key with its type, default, range and meaning.

``eqnp.runs.configfile`` reads, overrides and writes it. What depends on shapes is checked in ``eqnp.architecture``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from eqnp.errors import ConfigurationError

LARGEST_WHOLE = 2**31 - 1  # beyond it sizes overflow and counts never end
ACTIVATION_NAMES = ("half_hard_sigmoid", "hard_sigmoid", "centered_hard_sigmoid", "sigmoid", "tanh")


def key(
    default: Any,
    meaning: str,
    *,
    choices: Sequence[str] = (),
    low: float | None = None,
    above: float | None = None,
    high: int = LARGEST_WHOLE,
) -> Any:
    """Declare a key: default, meaning, and what is accepted.

    That is one of ``choices``; at least ``low``; more than ``above``; of whole numbers at most ``high``.
    """
    return field(
        default=default, metadata={"meaning": meaning, "choices": choices, "low": low, "above": above, "high": high}
    )


@dataclass(frozen=True)
class Data:
    """Which samples, and what is done to them."""

    name: str = key(
        "mnist-small",
        "dataset; arrays: given in Python, by `eqnp.train(data=...)`",
        choices=("mnist-small", "mnist", "fashion-mnist", "cifar10", "arrays"),
    )
    shape: tuple[int, ...] = key(
        (), "arrays: shape of a sample, [H, W, C] or [D]; `eqnp.train(data=...)` sets it", low=1
    )
    folder: str = key("", "folder to look in first; empty: only the usual places")
    normalisation: str = key(
        "unit",
        "unit: pixels / 255; published: as the paper's code for the dataset; none: arrays of floats, as they are",
        choices=("unit", "published", "none"),
    )
    flip: bool = key(False, "mirror half of the training images")
    crop: int = key(0, "pixels of edge padding for random crops of the training images; 0: none", low=0)
    train_samples: int = key(0, "use only the first of the training samples; 0: all", low=0)
    test_samples: int = key(0, "use only the first of the test samples; 0: all", low=0)
    validation: float = key(
        0.0,
        "hold out training samples, and choose best.h5 by them; below 1: that share of them; else so many; 0: none",
        low=0,
    )


@dataclass(frozen=True)
class Layer:
    """One connection: a convolution with a pooling, or a dense layer. Either ``conv`` or ``dense`` is given."""

    conv: int = key(0, "channels of a convolution", low=0)
    dense: int = key(0, "units of a dense layer", low=0)
    kernel: tuple[int, int] = key((3, 3), "kernel of a convolution, a number or [KH, KW]", low=1)
    stride: int = key(1, "stride of a convolution", low=1)
    padding: int = key(0, "zeros around the input of a convolution", low=0)
    pool: str = key("none", "2x2 pooling after a convolution", choices=("max", "average", "none"))
    keep: float = key(1.0, "dropout: probability by which a unit of the layer is kept, at most 1; 1: none", above=0)


@dataclass(frozen=True)
class Model:
    """The network."""

    kind: str = key(
        "symmetric",
        "symmetric: one weight both ways; vector-field: distinct forward and backward weights",
        choices=("symmetric", "vector-field"),
    )
    feedback_winners: str = key(
        "own",
        "vector-field: where the feedback unpools; own: at the winners of the backward weights, as published; "
        "forward: at those of the drive, which is cheaper",
        choices=("own", "forward"),
    )
    activation: str = key("half_hard_sigmoid", "sigma of every neuron", choices=ACTIVATION_NAMES)
    loss: str = key(
        "cross_entropy_readout",
        "squared_error; cross_entropy on linear output units; cross_entropy_readout: softmax outside the system",
        choices=("squared_error", "cross_entropy", "cross_entropy_readout"),
    )
    gain: float = key(1.0, "initial weights and biases are uniform in +-gain / sqrt(fan_in)", above=0)
    dropout_scaling: str = key(
        "weights",
        "what makes up for units that dropout masks; weights: those that leave the layer upwards are divided by keep, "
        "both ways; states: the layer's states are divided by keep, as in a branch of the published code",
        choices=("weights", "states"),
    )
    layers: tuple[Layer, ...] = key((), "the connections from the input up, one inline table each")


@dataclass(frozen=True)
class Dynamics:
    """The phases."""

    T1: int = key(20, "steps of the free phase", low=1)
    T2: int = key(8, "steps of each nudged phase; bptt: of the free phase's end that it goes back through", low=1)
    beta: float = key(0.5, "ep: strength of the nudging", above=0)
    tolerance: float = key(0.0, "a phase ends early once its residual is at most this; 0: never", low=0)
    check_every: int = key(
        0, "with a tolerance, how many steps there are to a look at the residual; 0: 1 on a CPU, 10 on a GPU", low=0
    )
    schedule: str = key(
        "synchronous",
        "synchronous: all layers at once, as published; even-odd: every second layer, then the others",
        choices=("synchronous", "even-odd"),
    )
    omega: float = key(
        1.0,
        "a state moves omega times the way to where it is driven, below 2; 1: as published; above: over-relaxed, "
        "settles in fewer sweeps (for even-odd); below: damped",
        above=0,
    )


@dataclass(frozen=True)
class Training:
    """The run."""

    algorithm: str = key(
        "ep", "ep: Equilibrium Propagation; bptt: backpropagation through time", choices=("ep", "bptt")
    )
    estimator: str = key(
        "symmetric", "ep: stencil in beta", choices=("symmetric", "one-sided", "random-sign", "four-point")
    )
    common_update: bool = key(
        False, "vector-field: forward and backward weights share one update, which aligns them (KP-VF)"
    )
    epochs: int = key(5, "passes over the training samples", low=0)
    batch_size: int = key(50, "samples per update", low=1)
    seed: int = key(0, "seed of weights, order of samples, augmentation and random signs", low=0, high=2**63 - 1)
    dtype: str = key("float32", "type of all numbers", choices=("float32", "float64"))
    memory_gb: float = key(
        0.0,
        "bptt: memory for the states of a batch, computed twice where too little; 0: half of what is free",
        low=0,
    )
    convolution: str = key(
        "auto",
        "how convolutions are computed, where a form suits; auto: the fastest for each layer",
        choices=("auto", "direct", "merged", "winograd-2x2", "winograd-4x4"),
    )
    kernels: str = key(
        "cuda",
        "on a GPU; cuda: by kernels of eqnp's own; simple: by the same array operations as on a CPU, for comparison",
        choices=("cuda", "simple"),
    )
    products: str = key(
        "auto",
        "on a CPU, what multiplies the stacks of matrices of Winograd's forms; mkl: Intel's oneMKL; slabs: NumPy, cut "
        "for OpenBLAS on AVX-512; numpy: NumPy, whole; auto: mkl on a CPU of Intel's if it is there, else "
        "the faster of the two",
        choices=("auto", "numpy", "slabs", "mkl"),
    )
    tf32: bool = key(
        False, "on a GPU, products of convolutions in TF32: faster, and only where `eqnp check` still agrees"
    )
    threads: int = key(0, "CPU threads, each with a share of every batch; 0: what suits the net and the cores", low=0)


@dataclass(frozen=True)
class Optimizer:
    """The update of the weights."""

    name: str = key("sgd", "optimiser", choices=("sgd", "adam"))
    rates: float | tuple[float, ...] = key(0.1, "learning rate, or one per layer (weights and biases)", low=0)
    weight_decay: float | tuple[float, ...] = key(0.0, "weight decay, or one per layer (weights and biases)", low=0)
    momentum: float = key(0.0, "momentum of sgd, below 1", low=0)
    beta1: float = key(0.9, "adam: decay of the mean, below 1", low=0)
    beta2: float = key(0.999, "adam: decay of the variance, below 1", low=0)
    epsilon: float = key(1e-8, "adam: added to the root", above=0)
    schedule: str = key("constant", "how the rate moves, epoch by epoch", choices=("constant", "cosine"))
    T_max: int = key(0, "cosine: epochs until the rate is minimum_rate, where it stays; 0: all epochs", low=0)
    minimum_rate: float = key(0.0, "cosine: the last rate", low=0)


@dataclass(frozen=True)
class Config:
    """A whole run."""

    name: str = key("run", "name of the run, and of its folder")
    description: str = key("", "one line about it")
    data: Data = field(default_factory=Data)
    model: Model = field(default_factory=Model)
    dynamics: Dynamics = field(default_factory=Dynamics)
    training: Training = field(default_factory=Training)
    optimizer: Optimizer = field(default_factory=Optimizer)


def check(config: Config) -> None:
    """Check what one key alone cannot tell.

    Raises:
        ConfigurationError: the first thing that does not fit, by its key.
    """
    layers, optimizer = config.model.layers, config.optimizer
    if not layers:
        raise ConfigurationError("model.layers: give at least one layer, for example layers = [{ dense = 10 }]")
    for n, layer in enumerate(layers):
        if bool(layer.conv) == bool(layer.dense):
            raise ConfigurationError(f"model.layers.{n}: give either conv (channels) or dense (units)")
        if layer.dense and layer != Layer(dense=layer.dense, keep=layer.keep):
            raise ConfigurationError(f"model.layers.{n}: kernel, stride, padding and pool belong to conv, not to dense")
        if layer.keep > 1:
            raise ConfigurationError(f"model.layers.{n}.keep: {layer.keep} is not a probability, at most 1")
    for what in ("rates", "weight_decay"):
        values = getattr(optimizer, what)
        if isinstance(values, tuple) and len(values) != len(layers):
            raise ConfigurationError(
                f"optimizer.{what}: {len(values)} values for {len(layers)} layers; give one number or one per layer"
            )
    if config.model.dropout_scaling != "weights" and all(layer.keep == 1 for layer in layers):
        raise ConfigurationError("model.dropout_scaling: belongs to dropout; set keep of a layer below 1")
    if config.dynamics.omega >= 2:
        raise ConfigurationError(f"dynamics.omega: {config.dynamics.omega} is not below 2: states would not settle")
    if config.data.validation >= 1 and not config.data.validation.is_integer():
        raise ConfigurationError(
            f"data.validation: {config.data.validation} is neither a share below 1 nor a whole number of samples"
        )
    _check_arrays(config)
    _check_kind(config)
    for what in ("momentum", "beta1", "beta2"):
        if getattr(optimizer, what) >= 1:
            raise ConfigurationError(f"optimizer.{what}: {getattr(optimizer, what)} is not below 1")
    if optimizer.momentum and optimizer.name != "sgd":
        raise ConfigurationError("optimizer.momentum: belongs to sgd; adam has beta1 and beta2")
    if any(c < " " for c in config.data.folder):
        raise ConfigurationError(
            f"data.folder: {config.data.folder!r} has control characters in it, which a backslash makes inside double "
            "quotes; give the path without quotes or inside single ones"
        )
    if not config.name or any(c in config.name for c in "/\\\0") or config.name.startswith("."):
        raise ConfigurationError(f"name: {config.name!r} cannot be the name of a folder")


def _check_arrays(config: Config) -> None:
    """Check that the data's name, shape and normalisation belong together."""
    d = config.data
    if d.name == "arrays" and len(d.shape) not in (1, 3):
        raise ConfigurationError(
            "data.name: arrays are given in Python, eqnp.train(..., data=...); name a dataset here"
        )
    if d.name != "arrays" and d.shape:
        raise ConfigurationError("data.shape: belongs to data.name = arrays")
    if d.name != "arrays" and d.normalisation == "none":
        raise ConfigurationError("data.normalisation: none belongs to data.name = arrays, of floats")
    if len(d.shape) == 1 and (d.flip or d.crop):
        raise ConfigurationError("data.flip and data.crop: belong to images, not to samples of shape (D,)")


def _check_kind(config: Config) -> None:
    """Check that options of vector fields and of BPTT are not given to what has no use for them."""
    if config.model.kind == "symmetric":
        if config.training.common_update:
            raise ConfigurationError("training.common_update: belongs to model.kind = vector-field")
        if config.model.feedback_winners != "own":
            raise ConfigurationError("model.feedback_winners: belongs to model.kind = vector-field")
    if config.training.tf32 and config.training.dtype != "float32":
        raise ConfigurationError("training.tf32: belongs to training.dtype = float32")
    for what, only in (("schedule", "synchronous"), ("omega", 1)):
        if config.training.algorithm == "bptt" and getattr(config.dynamics, what) != only:
            raise ConfigurationError(f"dynamics.{what}: bptt goes back through synchronous steps with omega 1 alone")
    if config.training.algorithm == "bptt" and config.dynamics.T2 > config.dynamics.T1:
        raise ConfigurationError(
            f"dynamics.T2: bptt goes back through at most dynamics.T1 = {config.dynamics.T1} steps, "
            f"not {config.dynamics.T2}"
        )
