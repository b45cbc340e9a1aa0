"""The networks: which weights drive a layer from below, which feed back from above, and what the loss depends on.

    Phi(x, s, theta) = sum over edges e = (i -> j) of  s^j . d_e(s^i)  +  sum over layers of  s^j . b_j        s^0 = x
    s               <- sigma(dPhi/ds - beta dl/ds)             all layers at once, from the old states

A symmetric network uses the same weight in both directions. So Phi exists, and its derivative by s^n is the drives from
below plus the feedbacks from above, one for every edge. A vector-field network has the same drives, but separate
weights for the feedback: s <- sigma(F(x, s, theta)), and there is no Phi. ``eqnp.step`` computes both.

Feedback may be weaker than the drives, by a factor g, 0 < g <= 1, for every layer that it goes down
(``Architecture.feedback``). Phi then weights the layers by c_n = g^{n - L}, and everything above holds with

    Phi              = sum over edges of  c_j s^j . d_e(s^i)  +  sum over layers of  c_j s^j . b_j
    s^n             <- sigma((dPhi/ds^n) / c_n - beta dl/ds^n)

since d_e feeds back c_j / c_i = g^{j - i} times as much. The last layer has c_L = 1, so nudging is as without g. The
smaller g is, the closer the free phase is to one forward pass and the nudged phase to one backward pass of
backpropagation (Xie and Seung, Neural Computation 15, 2003). docs/feedback.md has the derivation.

In code, state n counts from 0 and is s^{n+1}; an edge is a number, too, its place in ``Network.edges``.

"The poster", here and in other modules, is the poster and paper "Scaling Equilibrium Propagation to Deep ConvNets by
Drastically Reducing its Gradient Estimator Bias" (Laborieux et al. 2020, arXiv:2006.03824).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from eqnp.architecture import Architecture
from eqnp.backends.backend import Array, array_module
from eqnp.backends.products import Products
from eqnp.backends.workspace import Workspace
from eqnp.connections.contract import inner_product
from eqnp.connections.forms import FORMS, Means, connect
from eqnp.errors import ConfigurationError
from eqnp.graph import Edge, colours
from eqnp.losses import CrossEntropy, Loss, SquaredError
from eqnp.ops.activations import ACTIVATIONS, LINEAR, Activation
from eqnp.ops.dense import dense, dense_transpose, dense_weight_gradient, flatten

Parameters = Mapping[str, Array]
Gradient = dict[str, Array]  # by parameter name, each of its parameter's shape
States = Sequence[Array]  # s^1 .. s^L, each (N, ...)


def accumulate(total: Gradient, more: Gradient) -> None:
    """Add the gradient ``more`` to ``total``. Names that are missing in ``total`` are added to it."""
    for name, g in more.items():
        total[name] = total[name] + g if name in total else g


def _activation(activation: str | Activation) -> Activation:
    return ACTIVATIONS[activation] if isinstance(activation, str) else activation


def _loss(loss: str | Loss) -> Loss:
    if isinstance(loss, Loss):
        return loss
    return SquaredError() if loss == "squared_error" else CrossEntropy()


def _activations(architecture: Architecture, loss: Loss) -> tuple[Activation, ...]:
    """Return the activation of every state: its layer's own, or that of the network; linear where the loss needs it."""
    layers = architecture.layers[: len(architecture.state_shapes)]
    own = [_activation(layer.activation or architecture.activation) for layer in layers]
    linear_output = loss.linear_output and not architecture.readout
    return (*own[:-1], LINEAR if linear_output else own[-1])


class Network(ABC):
    """Layers and the edges between them. It holds no weights and no states: both are arguments.

    Raises:
        ConfigurationError: the architecture is for the other kind of network, or ``convolution`` is unknown.
    """

    own_winners = False
    """Whether the feedback uses its own winners instead of those of the drive."""

    vector_field: bool
    """Whether the architecture must have backward weights."""

    def __init__(self, architecture: Architecture, convolution: str = "auto", means: Means = None) -> None:
        if architecture.vector_field != self.vector_field:
            right = "VectorFieldNetwork" if architecture.vector_field else "SymmetricNetwork"
            raise ConfigurationError(
                f"{type(self).__name__}: an architecture with vector_field={architecture.vector_field} is for a {right}"
            )
        if convolution not in FORMS:
            raise ConfigurationError(f"convolution: {convolution!r} is not known; choose one of {', '.join(FORMS)}")
        self.architecture = architecture
        self.loss = _loss(architecture.loss)
        self.activations = _activations(architecture, self.loss)
        if any(sigma not in ACTIVATIONS.values() for sigma in self.activations) and not isinstance(means, Products):
            means = None  # kernels of a GPU know the activations of eqnp alone; array operations know every one
        self.edges: tuple[Edge, ...] = architecture.edges
        shapes, states = architecture.shapes, range(len(architecture.state_shapes))
        self.connections = tuple(
            connect(edge.layer, shapes[edge.lower], convolution, means, shapes[edge.upper]) for edge in self.edges
        )
        self.into = tuple(tuple(e for e, edge in enumerate(self.edges) if edge.upper == n + 1) for n in states)
        """For every state, the edges that drive it, the one with its bias first."""
        self.out_of = tuple(tuple(e for e, edge in enumerate(self.edges) if edge.lower == n + 1) for n in states)
        """For every state, the edges along which it gets feedback."""
        self.from_input = tuple(e for e, edge in enumerate(self.edges) if not edge.lower)
        """The edges that start at the input: their drives never change."""
        self.colours = tuple(tuple(n - 1 for n in layers) for layers in colours(self.edges, len(states)))
        """The states in sets that no edge joins, in the order in which a sweep moves them."""

    @abstractmethod
    def feedback_name(self, edge: Edge) -> str:
        """Return the name of the weights with which the layer above an edge feeds back to the layer below it."""

    def first_winners(self, order: Sequence[Sequence[int]]) -> list[int]:
        """Return the edges whose winners a phase of sweeps needs at its start, if states move in this ``order``.

        Their lower state moves before the upper one, whose drive finds new winners. None if the feedback finds its own.
        """
        return [] if self.own_winners else self.lower_first(order)

    def lower_first(self, order: Sequence[Sequence[int]]) -> list[int]:
        """Return the edges between states of which the lower one moves before the upper one in this ``order``."""
        when = {n + 1: k for k, layers in enumerate(order) for n in layers}
        return [e for e, edge in enumerate(self.edges) if edge.lower and when[edge.lower] < when[edge.upper]]

    def zero_states(self, x: Array) -> list[Array]:
        """Return the states at the start of a free phase: zeros (N, ...) for the samples of x (N, ...)."""
        xp = array_module(x)
        return [xp.zeros((x.shape[0], *shape), dtype=x.dtype) for shape in self.architecture.state_shapes]

    def outputs(self, parameters: Parameters, states: States, space: Workspace | None = None) -> Array:
        """Return the outputs o (N, K) for states (N, ...): the output units, or the logits s^L w_out + b_out."""
        if not self.architecture.readout:
            return states[-1]
        s, w = flatten(states[-1]), parameters["readout.weight"]
        logits = dense(s, w, out=(space or Workspace()).take("logits", (len(s), w.shape[1]), s))
        logits += parameters["readout.bias"]
        return logits

    def loss_value(self, parameters: Parameters, states: States, target: Array) -> Array:
        """Return the loss of every sample (N,) at ``states``, each (N, ...); target (N, K) one-hot."""
        return self.loss.value(self.outputs(parameters, states), target)

    def dl_ds(self, parameters: Parameters, states: States, target: Array, space: Workspace | None = None) -> Array:
        """Return dl/ds^L (N, ...) for a target (N, K): dl/do, or dl/do w_out^T if o is a readout of s^L."""
        space = space or Workspace()
        o = self.outputs(parameters, states, space)
        dl_do = self.loss.gradient(o, target, out=space.take("dl/do", o.shape, o))
        if not self.architecture.readout:
            return dl_do
        w, s = parameters["readout.weight"], states[-1]
        dl_ds = dense_transpose(dl_do, w, out=space.take("dl/ds", (len(s), len(w)), s))
        return dl_ds.reshape(s.shape)

    def dl_dtheta(self, parameters: Parameters, states: States, target: Array) -> Gradient:
        """Return dl/dtheta at fixed states, summed over samples. Only the readout has any; target (N, K)."""
        if not self.architecture.readout:
            return {}
        dl_do = self.loss.gradient(self.outputs(parameters, states), target)
        return {
            "readout.weight": dense_weight_gradient(flatten(states[-1]), dl_do),
            "readout.bias": dl_do.sum(axis=0),
        }


class SymmetricNetwork(Network):
    """The network of the poster's first part: one weight for both directions.

    So Phi exists, and a step is s <- sigma(dPhi/ds).
    """

    vector_field = False

    def feedback_name(self, edge: Edge) -> str:
        """Return the name of the forward weight."""
        return f"{edge.name}.weight"

    def primitive_function(self, parameters: Parameters, x: Array, states: States) -> Array:
        """Return Phi for every sample (N,); x and the states are each (N, ...)."""
        layers, phi = (x, *states), 0.0
        for edge, connection in zip(self.edges, self.connections, strict=True):
            w, b = parameters[f"{edge.name}.weight"], parameters[edge.bias] if edge.bias else None
            d, _ = connection.drive(connection.prepare(w), b, layers[edge.lower])
            phi = phi + self.architecture.energy_weight(edge.upper) * inner_product(layers[edge.upper], d)
        return phi


class VectorFieldNetwork(Network):
    """The network with separate forward and backward weights (Scellier et al. 2018, arXiv:1808.04873).

        F^n(s) = d_{n-1}(s^{n-1}; w_f) + w_b~ * P^{-1}(s^{n+1})

    ``own_winners``: P^{-1} puts a value at the winner of w_b * s^n, as the published code does. Otherwise it is put at
    the winner of w_f * s^n, which the drive has already found: cheaper, and the literal reading of the poster.
    """

    vector_field = True

    def __init__(
        self,
        architecture: Architecture,
        own_winners: bool = True,
        convolution: str = "auto",
        means: Means = None,
    ) -> None:
        super().__init__(architecture, convolution, means)
        self.own_winners = own_winners

    def feedback_name(self, edge: Edge) -> str:
        """Return the name of the backward weight, which has the shape and layout of the forward weight."""
        return f"{edge.backward}.weight"
