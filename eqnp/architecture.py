"""What a network is made of: frozen specs, the shapes that follow from them, and initial parameters.

A network of L layers has states s^1 .. s^L and L connections. Connection n leads from s^n to s^{n+1}, with s^0 = x.
With a readout the last dense layer is not a state: it is outside the dynamical system.

Parameters are a flat dictionary: ``forward.n.weight``, ``forward.n.bias`` for connection n, ``readout.weight``,
``readout.bias``. A vector field also has ``backward.n.weight`` for n = 1, 2, ..., with the shape of the forward weight
of the same connection. Conv weights are (KH, KW, C, K), dense weights (in, out).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from eqnp.connections.layers import POOLS, ConvLayer, DenseLayer, Layer, Shape
from eqnp.errors import ConfigurationError
from eqnp.inputs import FLOATS, whole
from eqnp.losses import Loss
from eqnp.ops.activations import ACTIVATIONS, Activation
from eqnp.ops.conv import output_size

LARGEST_ARRAY = 2**40  # numbers per sample: more than any memory holds, few enough for NumPy's sizes with all samples
LOSSES = ("squared_error", "cross_entropy", "cross_entropy_readout")
DROPOUT_SCALINGS = ("weights", "states")


@dataclass(frozen=True)
class Architecture:
    """A chain of layers on an input of shape (H, W, C) or (D,), its activation and its loss.

    ``loss`` is ``squared_error``, ``cross_entropy`` (on linear output units) or ``cross_entropy_readout`` (the last
    dense layer is a softmax readout outside the dynamical system). ``vector_field``: separate backward weights.
    ``activation`` and ``loss`` may also be an ``Activation`` and a ``Loss`` of your own; such a loss has no readout.
    ``dropout_scaling``: what is scaled to compensate for masked units, ``weights`` or ``states`` (``eqnp.dropout``).

    Raises:
        ConfigurationError: the layers do not fit each other; the message names the layer and the sizes.
        ValueError: an activation of your own does not write to ``out``.
    """

    input_shape: Shape
    layers: tuple[Layer, ...]
    activation: str | Activation = "half_hard_sigmoid"
    loss: str | Loss = "squared_error"
    vector_field: bool = False
    dropout_scaling: str = "weights"

    def __post_init__(self) -> None:
        self._take_sequences()
        _require_known("activation", self.activation, ACTIVATIONS, Activation)
        if isinstance(self.activation, Activation):
            self.activation.require_out()
        _require_known("loss", self.loss, LOSSES, Loss)
        _require_known("dropout_scaling", self.dropout_scaling, DROPOUT_SCALINGS)
        if not self.layers or not isinstance(self.layers[-1], DenseLayer):
            raise ConfigurationError("model.layers: the last layer must be dense, it holds the classes")
        if self.readout and len(self.layers) < 2:
            raise ConfigurationError(
                "model.layers: a readout stands on a layer of neurons; give one more layer, or another model.loss"
            )
        for n, layer in enumerate(self.layers):
            _require_sizes(f"model.layers.{n}", layer)
            if not 0 < layer.keep <= 1:
                raise ConfigurationError(f"model.layers.{n} ({layer}): keep {layer.keep} is not above 0 and at most 1")
        if self.layers[-1].keep != 1:
            raise ConfigurationError(f"model.layers.{len(self.layers) - 1}: the output layer has no dropout; drop keep")
        _ = self.layer_shapes  # raises if sizes do not fit

    def _take_sequences(self) -> None:
        """Turn the input shape and the layers into tuples, and check their types."""
        for what in ("input_shape", "layers"):
            if not isinstance(getattr(self, what), Sequence):
                raise ConfigurationError(f"{what}: {getattr(self, what)!r} is no tuple or list")
            object.__setattr__(self, what, tuple(getattr(self, what)))
        if len(self.input_shape) not in (1, 3) or not all(_is_size(size, 1) for size in self.input_shape):
            raise ConfigurationError(
                f"input_shape: {self.input_shape} is neither (H, W, C) nor (D,), whole numbers above 0"
            )
        for n, layer in enumerate(self.layers):
            if not isinstance(layer, Layer):
                raise ConfigurationError(f"model.layers.{n}: {layer!r} is neither a ConvLayer nor a DenseLayer")

    @property
    def readout(self) -> bool:
        """Whether the last dense layer is a readout outside the dynamical system."""
        return self.loss == "cross_entropy_readout"

    @property
    def classes(self) -> int:
        """The number of output units."""
        return self.layer_shapes[-1][0]

    @cached_property
    def layer_shapes(self) -> tuple[Shape, ...]:
        """Shapes of all layers above the input without the sample axis, the readout's logits last."""
        shapes = [self.input_shape]
        for n, layer in enumerate(self.layers):
            shapes.append(_next_shape(n, layer, shapes[-1]))
        return tuple(shapes[1:])

    @property
    def state_shapes(self) -> tuple[Shape, ...]:
        """Shapes of the states s^1 .. s^L without the sample axis."""
        return self.layer_shapes[:-1] if self.readout else self.layer_shapes

    @property
    def keep(self) -> tuple[float, ...]:
        """The keep-probability of dropout of the states s^1 .. s^L."""
        return tuple(layer.keep for layer in self.layers[: len(self.state_shapes)])

    @property
    def backward_names(self) -> tuple[str, ...]:
        """The backward weights' prefixes, ``backward.1``, ...: none in a symmetric network."""
        return tuple(f"backward.{n}" for n in range(1, len(self.state_shapes))) if self.vector_field else ()

    @property
    def connection_names(self) -> tuple[str, ...]:
        """The parameters' prefixes in order: ``forward.0``, ``forward.1``, ..., and ``readout`` if there is one."""
        names = [f"forward.{n}" for n in range(len(self.state_shapes))]
        return (*names, "readout") if self.readout else tuple(names)

    def parameter_shapes(self) -> dict[str, Shape]:
        """Return the shape of every parameter by name."""
        shapes: dict[str, Shape] = {}
        below = (self.input_shape, *self.layer_shapes)
        for name, layer, shape in zip(self.connection_names, self.layers, below, strict=False):
            if isinstance(layer, ConvLayer):
                shapes[f"{name}.weight"] = (*layer.kernel, shape[-1], layer.channels)
                shapes[f"{name}.bias"] = (layer.channels,)
            else:
                shapes[f"{name}.weight"] = (math.prod(shape), layer.units)
                shapes[f"{name}.bias"] = (layer.units,)
        for name in self.backward_names:
            shapes[f"{name}.weight"] = shapes[f"{forward_partner(name)}.weight"]
        return shapes

    def initial_parameters(
        self, generator: np.random.Generator, gain: float = 1.0, dtype: np.typing.DTypeLike = np.float32
    ) -> dict[str, np.ndarray]:
        """Draw weights and biases uniformly from +-gain / sqrt(fan_in), PyTorch's default at gain 1.

        The result is by name, with the shapes of ``parameter_shapes``. The backward weights are drawn last, with the
        fan_in of their forward weights. The published code does this for convolutions; for dense layers it takes the
        number of units of the layer above instead.

        Raises:
            ValueError: ``dtype`` is neither float32 nor float64.
        """
        if np.dtype(dtype) not in FLOATS:
            raise ValueError(f"dtype {np.dtype(dtype)}: parameters are float32 or float64")
        parameters = {}
        shapes = self.parameter_shapes()
        for key, shape in shapes.items():
            fan_in = math.prod(shapes[f"{key.rpartition('.')[0]}.weight"][:-1])
            bound = gain / math.sqrt(fan_in)
            parameters[key] = generator.uniform(-bound, bound, shape).astype(dtype)
        return parameters


def forward_partner(name: str) -> str:
    """Return the prefix of the matching forward weight: backward.2 -> forward.2; other prefixes are unchanged."""
    return name.replace("backward.", "forward.")


def _require_known(what: str, value: object, known: Iterable[str], own: type | None = None) -> None:
    """Check that ``value`` is one of the ``known`` names, or an object of the class ``own``."""
    if value in known if isinstance(value, str) else own is not None and isinstance(value, own):
        return
    other = f", or give an object of {own.__name__}" if own else ""
    raise ConfigurationError(f"model.{what}: {value!r} is not known; choose one of {', '.join(known)}{other}")


def _is_size(value: object, least: int) -> bool:
    number = whole(value)
    return number is not None and number >= least


def _require_sizes(where: str, layer: Layer) -> None:
    """Check every number of a layer except ``keep``."""
    if isinstance(layer, DenseLayer):
        sizes = {"units": (layer.units, 1)}
    else:
        if not isinstance(layer.kernel, tuple) or len(layer.kernel) != 2:
            raise ConfigurationError(f"{where}: kernel {layer.kernel!r} is neither (KH, KW) nor a whole number")
        sizes = {"channels": (layer.channels, 1), "stride": (layer.stride, 1), "padding": (layer.padding, 0)}
        sizes |= {"kernel height": (layer.kernel[0], 1), "kernel width": (layer.kernel[1], 1)}
    for what, (value, least) in sizes.items():
        if not _is_size(value, least):
            raise ConfigurationError(f"{where}: {what} {value!r} is not a whole number from {least} up")


def _next_shape(n: int, layer: Layer, below: Shape) -> Shape:
    """Return the shape of the layer above ``below``, or raise with the layer's number and the sizes that clash."""
    where = f"model.layers.{n} ({layer})"
    if isinstance(layer, DenseLayer):
        _require_possible(where, math.prod(below) * layer.units)
        return (layer.units,)
    if layer.pool not in POOLS:
        raise ConfigurationError(f"{where}: pool {layer.pool!r} is not known; choose one of {', '.join(POOLS)}")
    if len(below) != 3:
        raise ConfigurationError(f"{where}: it needs an image (H, W, C) below but gets {below}; put conv before dense")
    size = output_size(below[:2], layer.kernel, layer.stride, layer.padding)
    if min(size) < 1:
        raise ConfigurationError(
            f"{where}: a {layer.kernel[0]}x{layer.kernel[1]} kernel with padding {layer.padding} does not fit "
            f"its input of {below[0]}x{below[1]}"
        )
    outputs, patch = math.prod(size), math.prod(layer.kernel) * below[2]
    padded = math.prod(n + 2 * layer.padding for n in below[:2]) * below[2]
    _require_possible(where, max(padded, outputs * patch, outputs * layer.channels, patch * layer.channels))
    if layer.pool == "none":
        return (*size, layer.channels)
    if min(size) < 2:
        raise ConfigurationError(f"{where}: nothing to pool 2x2 in a convolution of size {size[0]}x{size[1]}")
    return (size[0] // 2, size[1] // 2, layer.channels)


def _require_possible(where: str, numbers: int) -> None:
    """Check that the largest array of a layer is possible at all. Whether it fits in memory depends on the machine."""
    if numbers > LARGEST_ARRAY:
        raise ConfigurationError(
            f"{where}: takes an array of {numbers:.1e} numbers; take fewer channels or units, or less padding"
        )
