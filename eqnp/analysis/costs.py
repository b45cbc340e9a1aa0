"""What a network costs: multiplications of a step and of a gradient, over a list of its connections.

A FLOP is one multiplication or one addition, and a product of D terms takes 2 D of them. Products and convolutions are
counted as they are in the direct form; Winograd's forms need fewer. What is smaller is left out: activations, pooling,
sums of states, the optimiser.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from eqnp.backends.device import Device
from eqnp.connections.contract import Connection
from eqnp.connections.conv_pool import ConvPoolConnection
from eqnp.connections.forms import CPU, FORMS, GPU, cost, suits
from eqnp.connections.layers import ConvLayer, DenseLayer, Layer, Shape
from eqnp.connections.merged import MergedConnection
from eqnp.connections.winograd import WinogradConnection
from eqnp.contrasts import asymmetric_contrast, common_contrast
from eqnp.dynamics import sweep_order
from eqnp.learner import Learner
from eqnp.networks import Network
from eqnp.ops.pairs import is_complex


@dataclass(frozen=True)
class ConnectionCost:
    """A connection from layer ``lower`` up to layer ``upper``; layer 0 is the input.

    ``below`` and ``above`` are the shapes of the two layers, without the sample axis. ``connection`` is None for the
    readout, which is outside the dynamics.
    """

    name: str
    lower: int
    upper: int
    layer: Layer
    below: Shape
    above: Shape
    connection: Connection | None

    @property
    def products(self) -> int:
        """Multiplications of its drive, per sample; its feedback and its weight gradient take as many."""
        if isinstance(self.layer, DenseLayer):
            return math.prod(self.below) * math.prod(self.above)
        assert isinstance(self.connection, ConvPoolConnection)
        return math.prod(self.connection.conv_size) * math.prod(self.layer.kernel) * self.below[-1] * self.above[-1]

    @property
    def pools_maxima(self) -> bool:
        """Whether it takes maxima, which have winners."""
        return isinstance(self.layer, ConvLayer) and self.layer.pool == "max"


def connections_of(network: Network) -> list[ConnectionCost]:
    """Return the connections of a network, the readout last."""
    architecture, shapes = network.architecture, network.architecture.shapes
    found = [
        ConnectionCost(
            edge.name, edge.lower, edge.upper, edge.layer, shapes[edge.lower], shapes[edge.upper], connection
        )
        for edge, connection in zip(network.edges, network.connections, strict=True)
    ]
    if not architecture.readout:
        return found
    top = len(architecture.layers)
    last = ConnectionCost("readout", top - 1, top, architecture.layers[-1], shapes[top - 1], shapes[top], None)
    return [*found, last]


def form_of(connection: Connection | None) -> str:
    """Return the name of the form in which a convolution is computed (``training.convolution``); "" for others."""
    if isinstance(connection, WinogradConnection):
        return f"winograd-{connection.tiling.m}x{connection.tiling.m}"
    if isinstance(connection, ConvPoolConnection):
        return "merged" if isinstance(connection, MergedConnection) else "direct"
    return ""


def form_costs(edge: ConnectionCost, device: Device | None = None) -> dict[str, float]:
    """Return the estimated cost of every form that suits a convolution, relative to that of the direct form."""
    if not isinstance(edge.layer, ConvLayer):
        return {}
    prices = CPU if device is None else GPU
    costs = {name: cost(name, edge.layer, edge.below, prices) for name in FORMS[1:] if suits(name, edge.layer)}
    return {name: each / costs["direct"] for name, each in costs.items()}


@dataclass(frozen=True)
class Costs:
    """The FLOPs per sample of a learner's steps and gradients."""

    learner: Learner

    @property
    def step(self) -> int:
        """Of a free step: every drive and every feedback between states."""
        return 2 * self._step

    @property
    def nudged_step(self) -> int:
        """Of a nudged step: also the readout's logits, and what the loss feeds back through it."""
        return 2 * (self._step + 2 * self._readout)

    @property
    def winners(self) -> int:
        """The part of a step that finds the winners of the backward weights."""
        return 2 * self._own_winners

    @property
    def evaluation(self) -> int:
        """Of a free phase and its outputs, if it takes all its steps."""
        return 2 * (self._input + self._free() + self._readout)

    @property
    def gradient(self) -> int:
        """Of a gradient by the learner's algorithm, if every phase takes all its steps."""
        products = self._bptt() if self.learner.bptt is not None else self._ep()
        return 2 * (self._input + products + self._readout)

    # ---- in multiplications per sample

    @property
    def _edges(self) -> Sequence[ConnectionCost]:
        return connections_of(self.learner.network)

    @property
    def _input(self) -> int:
        return sum(each.products for each in self._edges if each.lower == 0 and each.connection is not None)

    @property
    def _inner(self) -> int:
        """Of one drive of every connection between two states."""
        return sum(each.products for each in self._edges if each.lower > 0 and each.connection is not None)

    @property
    def _readout(self) -> int:
        return sum(each.products for each in self._edges if each.connection is None)

    @property
    def _winners(self) -> int:
        """Of one search for the winners between states: a drive of every connection with a maximum."""
        return sum(each.products for each in self._edges if each.lower > 0 and each.pools_maxima)

    @property
    def _own_winners(self) -> int:
        """Of the search for the winners of the backward weights."""
        return self._winners if self.learner.network.own_winners else 0

    @property
    def _step(self) -> int:
        return 2 * self._inner + self._own_winners

    def _free(self) -> int:
        """Of the free phase. In its first sweep, from zeros, no layer hears one above that has not moved yet."""
        network, phases, edges = self.learner.network, self.learner.phases, self._edges
        products = phases.T1 * self._step
        if phases.schedule == "synchronous":
            return products
        silent = [edges[e] for e in network.lower_first(sweep_order(network.colours, phases.schedule, False))]
        return products - sum(each.products * (1 + (network.own_winners and each.pools_maxima)) for each in silent)

    def _nudged(self) -> int:
        """Of a nudged phase: also the winners that its first sweep begins with, and the readout of every step."""
        network, phases, edges = self.learner.network, self.learner.phases, self._edges
        products = phases.T2 * (self._step + 2 * self._readout)
        if self.learner.contrast is asymmetric_contrast:
            return products - phases.T2 * self._own_winners  # all winners are those of the free state
        if phases.schedule == "synchronous":
            return products
        first = network.first_winners(sweep_order(network.colours, phases.schedule, True))
        return products + sum(edges[e].products for e in first if edges[e].pools_maxima)

    def _known(self, phases: int) -> int:
        """Of the drives that real nudged ``phases`` need not compute: they begin with those of the last sweep up."""
        learner = self.learner
        together = learner.joint and phases > 1
        if learner.phases.schedule != "up-down" or learner.contrast is asymmetric_contrast or together:
            return 0
        return self._inner * (phases if learner.phases.T2 == 1 else min(phases, 1))

    def _ep(self) -> int:
        points = self.learner.stencil(0, 0).points
        nudged = sum(1 + is_complex(beta) for beta, _ in points if beta != 0)  # a complex state is two real ones
        inner = self._inner
        relaxing = self._free() + nudged * self._nudged() - self._known(sum(not is_complex(b) for b, _ in points if b))
        contrast = self._input + nudged * 2 * self._readout
        by_weights = self._winners + inner  # a weight gradient, and the winners that it needs
        if not self.learner.network.vector_field:
            pairs = sum(is_complex(beta) for beta, _ in points)  # a complex weight gradient is that of a pair
            return relaxing + contrast + (len(points) - pairs) * by_weights + pairs * 2 * inner
        if self.learner.contrast is common_contrast:
            return relaxing + contrast + 2 * len(points) * by_weights
        if self.learner.contrast is asymmetric_contrast:
            # Before the nudged phases, a step and an adjoint. Both weights at the free state.
            turning = 4 * inner + self._own_winners
            return relaxing + contrast + turning + self._winners + self._own_winners + 2 * inner
        return relaxing + contrast + (1 + len(points)) * by_weights

    def _bptt(self) -> int:
        phases, bptt, inner = self.learner.phases, self.learner.bptt, self._inner
        assert bptt is not None
        T2, segment = phases.T2, bptt.segment or phases.T2
        lengths = [min(segment, T2 - done) for done in range(0, T2, segment)]
        again = sum(length - 1 for length in lengths[:-1])
        # a drive, a feedback, their adjoints, and a weight gradient of both
        adjoint = 6 * inner + self._own_winners + self._input
        return (phases.T1 + again) * self._step + T2 * adjoint + 4 * self._readout
