"""The configuration of a run: one frozen dataclass per TOML table, every key with its type, default, range and meaning.

``eqnp.runs.configfile`` reads, overrides and writes it. ``eqnp.architecture`` checks what depends on shapes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from eqnp.errors import ConfigurationError
from eqnp.inputs import SCHEDULES
from eqnp.runs.datakeys import check_data
from eqnp.runs.spelling import show
from eqnp.shown import shown

LARGEST_WHOLE = 2**31 - 1  # larger sizes overflow, larger counts never end
LONGEST_NAME = 200  # bytes of a configuration's name; with the time of a run it must be the name of a folder
OF_CONVOLUTIONS = ("kernel", "stride", "padding", "pool")  # keys of a layer or a skip
ACTIVATION_NAMES = (
    "half_hard_sigmoid",
    "hard_sigmoid",
    "centered_hard_sigmoid",
    "sigmoid",
    "tanh",
    "relu",
    "relu6",
    "linear",
)


def key(
    default: Any,
    meaning: str,
    *,
    choices: Sequence[str] = (),
    low: float | None = None,
    above: float | None = None,
    high: int = LARGEST_WHOLE,
) -> Any:
    """Declare a key: its default, its meaning, and which values are accepted.

    Accepted is one of ``choices``, or a number that is at least ``low``, more than ``above`` and, if whole, at most
    ``high``.
    """
    return field(
        default=default, metadata={"meaning": meaning, "choices": choices, "low": low, "above": above, "high": high}
    )


@dataclass(frozen=True)
class Data:
    """The samples and how they are preprocessed."""

    name: str = key(
        "mnist-small",
        "dataset; npz, folder: your own, see docs/data.md; arrays: given in Python, by `eqnp.train(data=...)`",
        choices=("mnist-small", "mnist", "fashion-mnist", "kmnist", "cifar10", "cifar100", "npz", "folder", "arrays"),
    )
    folder: str = key(
        "",
        "folder to search first; empty: only the usual places; with data.name = folder: the one with train and test",
    )
    file: str = key("", "npz: the file with x_train, y_train, x_test and y_test")
    resize: tuple[int, int] = key(
        (0, 0), "folder: size to which images are resized, a number or [H, W]; 0: they must have one size", low=0
    )
    shape: tuple[int, ...] = key(
        (), "npz, folder, arrays: shape of a sample, [H, W, C] or [D]; the start of a run sets it", low=1
    )
    classes: tuple[str, ...] = key(
        (), "npz, folder: names of the classes, in the order of their labels; the start of a run sets them"
    )
    normalisation: str = key(
        "unit",
        "unit: pixels / 255; published: as in the paper's code for this dataset; standard: also minus the mean and "
        "divided by the deviation, of each channel of the training samples; none: floats, unchanged",
        choices=("unit", "published", "standard", "none"),
    )
    mean: tuple[float, ...] = key(
        (), "standard: mean of each channel (of pixels / 255, or of floats); the start of a run sets it"
    )
    deviation: tuple[float, ...] = key(
        (), "standard: standard deviation of each channel; the start of a run sets it", above=0
    )
    flip: bool = key(False, "mirror a random half of the training images")
    crop: int = key(0, "edge padding in pixels for random crops of the training images; 0: no crops", low=0)
    randaugment: int = key(
        0, "operations of RandAugment on every training image, after the flip and before the crop; 0: none", low=0
    )
    magnitude: int = key(9, "randaugment: strength of its operations, at most 30", low=0, high=30)
    train_samples: int = key(0, "use only the first N training samples; 0: all", low=0)
    test_samples: int = key(0, "use only the first N test samples; 0: all", low=0)
    validation: float = key(
        0.0,
        "validation set, held out from the training samples, by which best.h5 is chosen; below 1: a fraction of them; "
        "from 1: a number of samples; 0: none",
        low=0,
    )


@dataclass(frozen=True)
class Skip:
    """A further connection into a layer: a convolution to the same channels, or dense into a dense layer."""

    source: int = key(-1, "the layer that it comes from, counted from 1; 0: the input", low=-1)
    kernel: tuple[int, int] = key((1, 1), "kernel size of a convolution, a number or [KH, KW]", low=1)
    stride: int = key(1, "stride of a convolution", low=1)
    padding: int = key(0, "zero padding around the input of a convolution", low=0)
    pool: str = key("none", "2x2 pooling after a convolution", choices=("max", "average", "none"))
    dense: bool = key(False, "into a convolution: connect every unit with every unit instead")
    gain: float = key(0.0, "gain of the initial weight; 0: model.gain", low=0)


@dataclass(frozen=True)
class Layer:
    """One layer: a convolution with pooling, or a dense layer. Either ``conv`` or ``dense`` is given."""

    conv: int = key(0, "output channels of a convolution", low=0)
    dense: int = key(0, "units of a dense layer", low=0)
    kernel: tuple[int, int] = key((3, 3), "kernel size of a convolution, a number or [KH, KW]", low=1)
    stride: int = key(1, "stride of a convolution", low=1)
    padding: int = key(0, "zero padding around the input of a convolution", low=0)
    pool: str = key("none", "2x2 pooling after a convolution", choices=("max", "average", "none"))
    keep: float = key(1.0, "dropout: probability that a unit of the layer is kept, at most 1; 1: no dropout", above=0)
    activation: str = key("", "activation function of the layer; empty: model.activation", choices=ACTIVATION_NAMES)
    gain: float = key(0.0, "gain of the initial weight; 0: model.gain", low=0)
    source: int = key(-1, "the layer that drives it, counted from 1, 0: the input; -1: the one just below", low=-1)
    skips: tuple[Skip, ...] = key((), "further connections from lower layers, one inline table each")


@dataclass(frozen=True)
class Model:
    """The network."""

    kind: str = key(
        "symmetric",
        "symmetric: one weight for both directions; vector-field: distinct forward and backward weights",
        choices=("symmetric", "vector-field"),
    )
    feedback_winners: str = key(
        "own",
        "vector-field: where the feedback unpools; own: at the maxima under the backward weights, as published; "
        "forward: at the maxima under the forward weights, which is faster, but the states then may never settle",
        choices=("own", "forward"),
    )
    activation: str = key("half_hard_sigmoid", "activation function sigma of every neuron", choices=ACTIVATION_NAMES)
    loss: str = key(
        "cross_entropy_readout",
        "squared_error: output units in the system; cross_entropy: on linear output units in the system; "
        "cross_entropy_readout: softmax readout outside the system",
        choices=("squared_error", "cross_entropy", "cross_entropy_readout"),
    )
    initialisation: str = key(
        "uniform",
        "initial weights; uniform: in +-gain / sqrt(fan_in); kaiming: in +-gain sqrt(3 / fan_in)",
        choices=("uniform", "kaiming"),
    )
    gain: float = key(1.0, "gain of the initial weights of layers and skips that have no gain of their own", above=0)
    bias_gain: float = key(1.0, "initial biases are uniform in +-gain bias_gain / sqrt(fan_in)", low=0)
    dropout_scaling: str = key(
        "weights",
        "how dropout compensates for masked units; weights: weights to the layer above are divided by keep, in both "
        "directions; states: the layer's states are divided by keep, as in a branch of the published code",
        choices=("weights", "states"),
    )
    feedback: float = key(
        1.0,
        "how strong feedback from above is, for every layer that it goes down, at most 1; 1: as strong as the drives, "
        "as published; the smaller, the fewer sweeps a phase needs (docs/feedback.md)",
        above=0,
    )
    layers: tuple[Layer, ...] = key((), "the layers from the input up, one inline table each")


@dataclass(frozen=True)
class Dynamics:
    """The free and nudged phases."""

    T1: int = key(20, "steps of the free phase", low=1)
    T2: int = key(8, "steps of each nudged phase; bptt: last steps of the free phase that it differentiates", low=1)
    beta: float = key(0.5, "ep: nudging strength", above=0)
    points: int = key(4, "circle: number of points, even; beta is the radius; the bias is of order beta^points", low=2)
    tolerance: float = key(0.0, "stop a phase early when its residual is at most this; 0: never", low=0)
    check_every: int = key(
        0, "with a tolerance, check the residual every N steps; 0: every step on a CPU, every 10 on a GPU", low=0
    )
    schedule: str = key(
        "synchronous",
        "synchronous: update all layers at once, as published; even-odd: every second layer, then the others; with "
        "skips, group by group, so that no two layers of a group are connected; up-down: one after the other, in the "
        "free phase from the input up, in the nudged phases from the output down",
        choices=SCHEDULES,
    )
    omega: float = key(
        1.0,
        "relaxation factor, below 2: a state moves omega times the distance to its target; 1: as published; above 1: "
        "over-relaxed, converges in fewer sweeps (with even-odd); below 1: damped",
        above=0,
    )


@dataclass(frozen=True)
class Training:
    """The training algorithm and how it is computed."""

    algorithm: str = key(
        "ep", "ep: Equilibrium Propagation; bptt: backpropagation through time", choices=("ep", "bptt")
    )
    estimator: str = key(
        "symmetric",
        "ep: values of beta and coefficients; circle: complex values, for sigmoid, tanh and linear without max-pooling",
        choices=("symmetric", "one-sided", "random-sign", "four-point", "circle"),
    )
    nudging: str = key(
        "plain",
        "ep, vector-field: dynamics of the nudged phases; plain: those of the free phase, as published; asymmetric: "
        "with both weights swapped around the free state, which gives the exact gradient (asymmetric EP)",
        choices=("plain", "asymmetric"),
    )
    common_update: bool = key(
        False,
        "vector-field: forward and backward weights get the same update, which aligns them if there is a weight decay "
        "(KP-VF)",
    )
    epochs: int = key(5, "passes over the training samples", low=0)
    batch_size: int = key(50, "samples per weight update", low=1)
    seed: int = key(0, "seed of initial weights, sample order, augmentation and random signs", low=0, high=2**63 - 1)
    dtype: str = key("float32", "floating-point precision", choices=("float32", "float64"))
    memory_gb: float = key(
        0.0,
        "bptt: GB for the states of a batch; states that do not fit are computed twice; 0: half of the free memory",
        low=0,
    )
    convolution: str = key(
        "auto",
        "algorithm of the convolutions, for the layers that it supports; auto: the fastest for each layer",
        choices=("auto", "direct", "merged", "winograd-2x2", "winograd-4x4"),
    )
    kernels: str = key(
        "cuda",
        "on a GPU; cuda: eqnp's own CUDA kernels; simple: the same array operations as on a CPU, for comparison",
        choices=("cuda", "simple"),
    )
    products: str = key(
        "auto",
        "on a CPU, how Winograd convolutions multiply their stacks of matrices; mkl: Intel oneMKL; slabs: NumPy, in "
        "slices that suit OpenBLAS on AVX-512; numpy: NumPy, unsliced; auto: mkl on Intel CPUs if installed, else the "
        "faster of slabs and numpy",
        choices=("auto", "numpy", "slabs", "mkl"),
    )
    tf32: bool = key(
        False, "on a GPU, multiply in TF32 in convolutions: faster; use it only if `eqnp check` still agrees"
    )
    threads: int = key(
        0, "CPU threads of each process, each with a shard of every batch; 0: chosen from network and cores", low=0
    )
    shards: int = key(
        0,
        "number of shards into which every batch is cut and whose gradients are added in order; results depend on it "
        "in the last digits, but not on the numbers of threads and processes; 0: one a thread, with several processes "
        "one for each thread of all, which the start of the run then sets",
        low=0,
    )
    patience: int = key(
        0, "stop once the error that chooses best.h5 has not been lower for N epochs in a row; 0: never", low=0
    )
    label_smoothing: float = key(
        0.0, "in training, targets are (1 - e) times one-hot plus e / classes, e below 1; 0: no smoothing", low=0
    )
    max_minutes: float = key(0.0, "stop N minutes after this start or resume, with the state saved; 0: never", low=0)
    check_every: int = key(
        0,
        "measure the angle between the estimate and the exact gradient after every N epochs, on 20 training samples; "
        "takes as long as some hundred steps to settle them; 0: never",
        low=0,
    )


@dataclass(frozen=True)
class Optimizer:
    """The optimiser."""

    name: str = key("sgd", "optimiser", choices=("sgd", "adam"))
    rates: float | tuple[float, ...] = key(0.1, "learning rate, or one per layer (weights and biases)", low=0)
    weight_decay: float | tuple[float, ...] = key(0.0, "weight decay, or one per layer (weights and biases)", low=0)
    momentum: float = key(0.0, "sgd: momentum, below 1", low=0)
    nesterov: bool = key(False, "sgd with momentum: Nesterov's momentum, as in PyTorch")
    beta1: float = key(0.9, "adam: decay rate of the mean of gradients, below 1", low=0)
    beta2: float = key(0.999, "adam: decay rate of the mean of squared gradients, below 1", low=0)
    epsilon: float = key(1e-8, "adam: added to the square root in the denominator", above=0)
    clip_norm: float = key(
        0.0,
        "scale the gradient of a batch so that its norm, over all parameters together and before weight decay, is at "
        "most this; 0: no clipping",
        low=0,
    )
    schedule: str = key(
        "constant",
        "learning-rate schedule; cosine: falls from epoch to epoch; one-cycle: rises during the warm-up, then falls by "
        "a cosine, both from update to update",
        choices=("constant", "cosine", "one-cycle"),
    )
    warmup: float = key(
        0.0, "the learning rate rises linearly, from update to update, for the first N epochs; 0: no warm-up", low=0
    )
    T_max: int = key(
        0, "cosine, one-cycle: epochs until the learning rate is minimum_rate, where it stays; 0: all epochs", low=0
    )
    minimum_rate: float = key(0.0, "cosine, one-cycle: the final learning rate", low=0)
    average: float = key(
        0.0,
        "decay rate per update, below 1, of a moving average of the weights (EMA), which is then what is evaluated and "
        "used; 0: no average",
        low=0,
    )


@dataclass(frozen=True)
class Config:
    """The configuration of a whole run."""

    name: str = key("run", "name of the run and of its folder")
    description: str = key("", "one line about the run")
    data: Data = field(default_factory=Data)
    model: Model = field(default_factory=Model)
    dynamics: Dynamics = field(default_factory=Dynamics)
    training: Training = field(default_factory=Training)
    optimizer: Optimizer = field(default_factory=Optimizer)


def check(config: Config) -> None:
    """Check that the keys are consistent with each other.

    Raises:
        ConfigurationError: the first inconsistency, with its key.
    """
    layers, optimizer = config.model.layers, config.optimizer
    if not layers:
        raise ConfigurationError("model.layers: give at least one layer, for example layers = [{ dense = 10 }]")
    for n, layer in enumerate(layers):
        if bool(layer.conv) == bool(layer.dense):
            raise ConfigurationError(f"model.layers.{n}: give either conv (channels) or dense (units)")
        plain = Layer(dense=layer.dense)
        if layer.dense and any(getattr(layer, each) != getattr(plain, each) for each in OF_CONVOLUTIONS):
            raise ConfigurationError(f"model.layers.{n}: kernel, stride, padding and pool belong to conv, not to dense")
        for k, skip in enumerate(layer.skips):
            if skip.source < 0:
                raise ConfigurationError(f"model.layers.{n}.skips.{k}.source: give the layer that it comes from")
        if layer.keep > 1:
            raise ConfigurationError(f"model.layers.{n}.keep: {layer.keep} is not a probability; give at most 1")
    for what in ("rates", "weight_decay"):
        values = getattr(optimizer, what)
        if isinstance(values, tuple) and len(values) != len(layers):
            raise ConfigurationError(
                f"optimizer.{what}: {len(values)} values for {len(layers)} layers; give one number or one per layer"
            )
    if config.model.dropout_scaling != "weights" and all(layer.keep == 1 for layer in layers):
        raise ConfigurationError("model.dropout_scaling: needs dropout; set keep of a layer below 1")
    if config.dynamics.omega >= 2:
        raise ConfigurationError(f"dynamics.omega: {config.dynamics.omega} is not below 2; states would not converge")
    if config.data.validation >= 1 and not config.data.validation.is_integer():
        raise ConfigurationError(
            f"data.validation: {config.data.validation} is neither a fraction below 1 nor a whole number of samples"
        )
    check_data(config.data)
    _check_kind(config)
    for what in ("momentum", "beta1", "beta2", "average"):
        if getattr(optimizer, what) >= 1:
            raise ConfigurationError(f"optimizer.{what}: {getattr(optimizer, what)} is not below 1")
    if config.training.label_smoothing >= 1:
        raise ConfigurationError(f"training.label_smoothing: {config.training.label_smoothing} is not below 1")
    length = optimizer.T_max or max(config.training.epochs, 1)
    if optimizer.schedule == "one-cycle" and optimizer.warmup >= length:
        raise ConfigurationError(
            f"optimizer.warmup: {optimizer.warmup:g} epochs are not below the {length} epochs of the whole one-cycle; "
            "lower it, or give optimizer.T_max, the epochs of the one-cycle"
        )
    if optimizer.momentum and optimizer.name != "sgd":
        raise ConfigurationError(f"optimizer.momentum: only for sgd; with {optimizer.name} set it to 0")
    if optimizer.nesterov and not optimizer.momentum:
        raise ConfigurationError("optimizer.nesterov: only for sgd with optimizer.momentum above 0")
    if not config.name or any(c in config.name for c in "/\\\0") or config.name.startswith("."):
        raise ConfigurationError(f"name: {show(config.name)} cannot be the name of a folder")
    if shown(config.name) != config.name or len(config.name.encode("utf-8", "replace")) > LONGEST_NAME:
        raise ConfigurationError(
            f"name: {show(config.name)} names the run folder: give at most {LONGEST_NAME} bytes, without control "
            "characters"
        )


def _check_kind(config: Config) -> None:
    """Check that keys for vector fields, float32 and BPTT are set only where they have an effect."""
    if config.model.kind == "symmetric":
        if config.training.common_update:
            raise ConfigurationError("training.common_update: needs model.kind = vector-field")
        if config.model.feedback_winners != "own":
            raise ConfigurationError("model.feedback_winners: needs model.kind = vector-field")
    _check_nudging(config)
    is_circle = config.training.estimator == "circle"
    if config.dynamics.points != Dynamics.points and not is_circle:
        raise ConfigurationError("dynamics.points: needs training.estimator = circle")
    if is_circle and config.training.algorithm == "bptt":
        raise ConfigurationError("training.estimator: circle is of ep; with training.algorithm = bptt leave it out")
    if config.training.tf32 and config.training.dtype != "float32":
        raise ConfigurationError("training.tf32: needs training.dtype = float32")
    for what, only in (("schedule", "synchronous"), ("omega", 1)):
        if config.training.algorithm == "bptt" and getattr(config.dynamics, what) != only:
            raise ConfigurationError(f"dynamics.{what}: bptt supports only synchronous steps with omega = 1")
    if config.training.algorithm == "bptt" and config.dynamics.T2 > config.dynamics.T1:
        raise ConfigurationError(
            f"dynamics.T2: bptt differentiates at most dynamics.T1 = {config.dynamics.T1} steps, "
            f"not {config.dynamics.T2}"
        )


def require_trainable(config: Config) -> None:
    """Check what only training needs, so that runs of older versions can still be read.

    Raises:
        ConfigurationError: BPTT has a tolerance.
    """
    if config.training.algorithm == "bptt" and config.dynamics.tolerance:
        raise ConfigurationError(
            "dynamics.tolerance: bptt differentiates all of its T1 steps; add --set dynamics.tolerance=0"
        )


def _check_nudging(config: Config) -> None:
    """Check that asymmetric nudging is set only where it has an effect."""
    if config.training.nudging == "plain":
        return
    where = "training.nudging: asymmetric"
    if config.model.kind == "symmetric":
        raise ConfigurationError(f"{where} needs model.kind = vector-field; with symmetric weights it changes nothing")
    if config.training.algorithm == "bptt":
        raise ConfigurationError(f"{where} needs training.algorithm = ep; bptt has no nudged phases")
    if config.training.common_update:
        raise ConfigurationError(
            f"{where} gives each weight its own exact gradient, which training.common_update replaces; set one of them"
        )
