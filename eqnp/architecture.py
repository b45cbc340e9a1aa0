"""What a network is made of: frozen specs, the shapes that follow from them, and initial parameters.

A network of L layers has states s^1 .. s^L, and s^0 = x. Its connections are the edges of a graph (``eqnp.graph``).
In a chain, connection n leads from s^n to s^{n+1}; skips join layers further apart. With a readout the last dense layer
is not a state: it is outside the dynamical system.

Parameters are a flat dictionary: ``forward.n.weight`` from layer n to the next one, ``forward.i-j.weight`` from layer i
to layer j, ``forward.n.bias`` of layer n + 1, ``readout.weight``, ``readout.bias``. A vector field also has a
``backward`` weight for every connection that does not start at the input, with the shape of its forward weight. Conv
weights are (KH, KW, C, K), dense weights (in, out).
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from eqnp.connections.layers import ConvLayer, DenseLayer, Layer, Shape, Skip
from eqnp.errors import ConfigurationError
from eqnp.graph import Edge, edges_and_shapes
from eqnp.inputs import FLOATS, whole
from eqnp.losses import Loss
from eqnp.ops.activations import ACTIVATIONS, LINEAR, Activation

LOSSES = ("squared_error", "cross_entropy", "cross_entropy_readout")
DROPOUT_SCALINGS = ("weights", "states")
MOST_WEIGHT = 1e15  # of a layer in the energy: the sum of a gradient in float32 must not overflow
SPREADS = {"uniform": 1.0, "kaiming": math.sqrt(3)}  # half the width of a distribution, in 1 / sqrt(fan_in)


@dataclass(frozen=True)
class Architecture:
    """Layers on an input of shape (H, W, C) or (D,), what joins them, their activation and their loss.

    ``loss`` is ``squared_error``, ``cross_entropy`` (on linear output units) or ``cross_entropy_readout`` (the last
    dense layer is a softmax readout outside the dynamical system). ``vector_field``: separate backward weights.
    ``activation`` and ``loss`` may also be an ``Activation`` and a ``Loss`` of your own; such a loss has no readout.
    ``dropout_scaling``: what is scaled to compensate for masked units, ``weights`` or ``states`` (``eqnp.dropout``).
    ``initialisation`` and ``bias_gain`` are those of ``initial_parameters``. ``feedback``: how strong feedback is for
    every layer that it goes down, above 0 and at most 1 (``eqnp.networks``).

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
    initialisation: str = "uniform"
    bias_gain: float = 1.0
    feedback: float = 1.0

    def __post_init__(self) -> None:
        self._take_sequences()
        _require_known("activation", self.activation, ACTIVATIONS, Activation)
        for activation in (self.activation, *(layer.activation for layer in self.layers)):
            if isinstance(activation, Activation):
                activation.require_out()
        _require_known("loss", self.loss, LOSSES, Loss)
        _require_known("dropout_scaling", self.dropout_scaling, DROPOUT_SCALINGS)
        _require_known("initialisation", self.initialisation, SPREADS)
        if not self.layers or not isinstance(self.layers[-1], DenseLayer):
            raise ConfigurationError("model.layers: the last layer must be dense, it holds the classes")
        if self.readout and len(self.layers) < 2:
            raise ConfigurationError(
                "model.layers: a readout stands on a layer of neurons; give one more layer, or another model.loss"
            )
        for n, layer in enumerate(self.layers):
            _require_layer(f"model.layers.{n}", layer)
        self._require_last(f"model.layers.{len(self.layers) - 1} ({self.layers[-1]})", self.layers[-1])
        self._require_feedback()
        _ = self._graph  # raises if sizes do not fit

    def _require_last(self, where: str, last: Layer) -> None:
        """Check that the last layer has nothing that an output or a readout cannot have."""
        if last.keep != 1:
            raise ConfigurationError(f"{where}: the output layer has no dropout; drop keep")
        own = isinstance(self.loss, Loss) and self.loss.linear_output
        linear = own or self.loss in ("cross_entropy", "cross_entropy_readout")
        if linear and last.activation not in (None, "linear", LINEAR):
            raise ConfigurationError(f"{where}: with this model.loss the output is linear; drop activation")
        if self.readout and (last.skips or last.source is not None):
            raise ConfigurationError(f"{where}: a readout reads the last layer of neurons alone; drop from and skips")

    def _require_feedback(self) -> None:
        """Check that feedback is in its range, and that the energy weight of the first layer fits into float32."""
        if not isinstance(self.feedback, numbers.Real) or not 0 < self.feedback <= 1:
            raise ConfigurationError(f"model.feedback: {self.feedback!r} is not a number above 0 and at most 1")
        object.__setattr__(self, "feedback", float(self.feedback))  # a NumPy number would change the dtype of arrays
        below = max(1, len(self.state_shapes) - 1)  # layers of neurons below the last one
        least = MOST_WEIGHT ** (-1 / below)
        if self.feedback < least:
            raise ConfigurationError(
                f"model.feedback: {self.feedback!r} is too small for {below + 1} layers of neurons, since the energy "
                f"of the first one has a weight of 1 / feedback for each layer above it; take at least {least:.1g}"
            )

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
    def _graph(self) -> tuple[tuple[Edge, ...], tuple[Shape, ...]]:
        return edges_and_shapes(self.input_shape, self.layers)

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """Shapes of the layers 0, 1, ... without the sample axis: the input first, the readout's logits last."""
        return self._graph[1]

    @property
    def layer_shapes(self) -> tuple[Shape, ...]:
        """Shapes of all layers above the input without the sample axis, the readout's logits last."""
        return self.shapes[1:]

    @property
    def edges(self) -> tuple[Edge, ...]:
        """The connections that drive a state, by the layer that they lead to. The readout is none of them."""
        edges = self._graph[0]
        return edges[:-1] if self.readout else edges

    @property
    def is_chain(self) -> bool:
        """Whether every layer is driven by the one just below it alone."""
        return all(edge.lower + 1 == edge.upper and edge.bias for edge in self.edges)

    @property
    def state_shapes(self) -> tuple[Shape, ...]:
        """Shapes of the states s^1 .. s^L without the sample axis."""
        return self.layer_shapes[:-1] if self.readout else self.layer_shapes

    def energy_weight(self, layer: int) -> float:
        """Return c_n, the weight of a layer of neurons in the energy: 1 / ``feedback`` for every layer above it."""
        return self.feedback ** (layer - len(self.state_shapes))

    def weakening(self, edge: Edge) -> float:
        """Return c_j / c_i, by which the feedback along an edge from layer i to layer j is multiplied."""
        return self.feedback ** (edge.upper - edge.lower)

    @property
    def keep(self) -> tuple[float, ...]:
        """The keep-probability of dropout of the states s^1 .. s^L."""
        return tuple(layer.keep for layer in self.layers[: len(self.state_shapes)])

    @property
    def backward_names(self) -> tuple[str, ...]:
        """The backward weights' prefixes, ``backward.1``, ...: none in a symmetric network."""
        return tuple(edge.backward for edge in self.edges if edge.lower) if self.vector_field else ()

    @property
    def connection_names(self) -> tuple[str, ...]:
        """The weights' prefixes in order: ``forward.0``, ``forward.1``, ..., and ``readout`` if there is one."""
        names = tuple(edge.name for edge in self.edges)
        return (*names, "readout") if self.readout else names

    def parameter_shapes(self) -> dict[str, Shape]:
        """Return the shape of every parameter by name."""
        shapes: dict[str, Shape] = {}
        edges, of_layers = self._graph
        for name, edge in zip(self.connection_names, edges, strict=True):
            shapes[f"{name}.weight"] = edge.weight_shape(of_layers[edge.lower])
            if edge.bias:
                bias = "readout.bias" if name == "readout" else edge.bias
                shapes[bias] = shapes[f"{name}.weight"][-1:]
        for name in self.backward_names:
            shapes[f"{name}.weight"] = shapes[f"{forward_partner(name)}.weight"]
        return shapes

    def layer_of(self) -> dict[str, int]:
        """Return, by the name of every parameter, the number from 0 of the layer that its connection leads to."""
        edges = self._graph[0]
        layers = {f"{name}.weight": edge.upper - 1 for name, edge in zip(self.connection_names, edges, strict=True)}
        layers |= {edge.bias: edge.upper - 1 for edge in edges if edge.bias} | {"readout.bias": len(self.layers) - 1}
        return {name: layers[forward_partner(name)] for name in self.parameter_shapes()}

    def initial_parameters(
        self, generator: np.random.Generator, gain: float = 1.0, dtype: np.typing.DTypeLike = np.float32
    ) -> dict[str, np.ndarray]:
        """Draw weights uniformly from +-g r / sqrt(fan_in), g the gain of their connection, or ``gain`` if it has none.

        r = 1 for ``initialisation`` "uniform", which at gain 1 is PyTorch's default; r = sqrt(3) for "kaiming": the
        variance is then g^2 / fan_in (He et al. 2015, arXiv:1502.01852). Biases are uniform in
        +-gain bias_gain / sqrt(fan_in), with the fan_in of their layer's own connection.

        The result is by name, with the shapes of ``parameter_shapes``. The backward weights are drawn last, with the
        fan_in of their forward weights. The published code does this for convolutions; for dense layers it takes the
        number of units of the layer above instead.

        Raises:
            ValueError: ``dtype`` is neither float32 nor float64.
        """
        if np.dtype(dtype) not in FLOATS:
            raise ValueError(f"dtype {np.dtype(dtype)}: parameters are float32 or float64")
        bounds: dict[str, float] = {}
        shapes = self.parameter_shapes()
        for name, edge in zip(self.connection_names, self._graph[0], strict=True):
            root = math.sqrt(math.prod(shapes[f"{name}.weight"][:-1]))
            bounds[f"{name}.weight"] = (gain if edge.gain is None else edge.gain) * SPREADS[self.initialisation] / root
            if edge.bias:
                bounds["readout.bias" if name == "readout" else edge.bias] = gain * self.bias_gain / root
        parameters = {}
        for key, shape in shapes.items():
            bound = bounds[forward_partner(key)]
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


def _require_layer(where: str, layer: Layer) -> None:
    """Check every field of a layer and of its skips but what depends on other layers."""
    _require_sizes(where, layer)
    if not 0 < layer.keep <= 1:
        raise ConfigurationError(f"{where} ({layer}): keep {layer.keep} is not above 0 and at most 1")
    if layer.activation is not None:
        _require_known("activation", layer.activation, ACTIVATIONS, Activation)
    if not isinstance(layer.skips, Sequence) or not all(isinstance(skip, Skip) for skip in layer.skips):
        raise ConfigurationError(f"{where} ({layer}): skips {layer.skips!r} are not Skip objects")
    for k, skip in enumerate(layer.skips):
        _require_convolution(f"{where}.skips.{k}", skip)
    for what, gain in ((where, layer.gain), *((f"{where}.skips.{k}", s.gain) for k, s in enumerate(layer.skips))):
        if gain is not None and not 0 < gain < math.inf:
            raise ConfigurationError(f"{what}: gain {gain!r} is not a number above 0")


def _require_sizes(where: str, layer: Layer) -> None:
    """Check every number of a layer's own connection."""
    if isinstance(layer, DenseLayer):
        _require_numbers(where, {"units": (layer.units, 1)})
    else:
        _require_numbers(where, {"channels": (layer.channels, 1)})
        _require_convolution(where, layer)


def _require_convolution(where: str, layer: ConvLayer | Skip) -> None:
    """Check kernel, stride and padding."""
    if not isinstance(layer.kernel, tuple) or len(layer.kernel) != 2:
        raise ConfigurationError(f"{where}: kernel {layer.kernel!r} is neither (KH, KW) nor a whole number")
    sizes = {"stride": (layer.stride, 1), "padding": (layer.padding, 0)}
    sizes |= {"kernel height": (layer.kernel[0], 1), "kernel width": (layer.kernel[1], 1)}
    _require_numbers(where, sizes)


def _require_numbers(where: str, sizes: Mapping[str, tuple[object, int]]) -> None:
    for what, (value, least) in sizes.items():
        if not _is_size(value, least):
            raise ConfigurationError(f"{where}: {what} {value!r} is not a whole number from {least} up")
