"""Complex states: nudging by a complex beta, which points on a circle need (``eqnp.stencils.circle``).

Phi = sum of s^j . d(s^i) has no conjugates. With a holomorphic sigma and loss the step

    s <- sigma(dPhi/ds - beta dl/ds)

is therefore holomorphic in s and in beta, and so is its steady state s_beta, inside the circle that reaches the nearest
singularity. docs/circle.md derives from this that the estimate of N points is exact to O(beta^N).

Weights and inputs are real, and everything but sigma and the nudge is linear in s. So a complex state (N, ...) is kept
as a pair (``eqnp.ops.pairs``), a real state of 2 N samples, and the same connections compute its drives and feedbacks.
Only the bias is not linear: it is added to the real parts alone. A complex step costs what two real ones do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from eqnp.backends.backend import Array, array_module
from eqnp.connections.contract import Winner
from eqnp.connections.layers import ConvLayer
from eqnp.errors import ConfigurationError
from eqnp.networks import Gradient, Network, Parameters, States, VectorFieldNetwork
from eqnp.ops.dense import dense, dense_transpose, dense_weight_gradient, flatten
from eqnp.ops.pairs import complex_dtype, from_pair, to_conjugate_pair, to_pair
from eqnp.prepared import Beta, Moves, PreparedNetwork

_INSTEAD = "or a real estimator such as symmetric"


def require_holomorphic(network: Network) -> None:
    """Check that the steady state of a network is a holomorphic function of beta, and its gradient one of Phi.

    Raises:
        ConfigurationError: a layer or the loss is not holomorphic, or there is no Phi; the message says what to change.
    """
    if isinstance(network, VectorFieldNetwork):
        raise ConfigurationError(
            "a vector field has no Phi, so points on a circle do not make its gradient exact; take a symmetric "
            f"network, {_INSTEAD}"
        )
    for n, sigma in enumerate(network.activations, start=1):
        if not sigma.holomorphic:
            raise ConfigurationError(
                f"the activation {sigma.name} of layer {n} is not holomorphic, which points on a circle need; take "
                f"sigmoid, tanh or linear, {_INSTEAD}"
            )
    for edge in network.edges:
        if isinstance(edge.layer, ConvLayer) and edge.layer.pool == "max":
            raise ConfigurationError(
                f"{edge.where}: a maximum is not holomorphic, which points on a circle need; take average pooling or a "
                f"stride of 2, {_INSTEAD}"
            )
    if not network.loss.holomorphic:
        raise ConfigurationError(
            f"the loss {type(network.loss).__name__} is not holomorphic, which points on a circle need; take "
            f"squared_error or cross_entropy, {_INSTEAD}"
        )


class ComplexNetwork(PreparedNetwork):
    """A prepared network with complex states, as pairs: every state, drive and nudge is real (2 N, ...).

    ``x`` and targets have N samples. It shares weights and drives of the input with ``prepared``, but no buffers.

    Raises:
        ConfigurationError: the network is not holomorphic.
    """

    def __init__(self, prepared: PreparedNetwork) -> None:
        require_holomorphic(prepared.network)
        self.network, self.x, self.parameters = prepared.network, prepared.x, prepared.parameters
        self.colours, self._weights = prepared.colours, prepared._weights
        self.masks = prepared.masks and [m if m is None else _twice(m) for m in prepared.masks]
        self._make_buffers()
        self.from_input = {e: (to_pair(d), None) for e, (d, _) in prepared.from_input.items()}

    def zero_states(self) -> list[Array]:
        """Return pairs of zeros (2 N, ...) for every state."""
        return [to_pair(s) for s in super().zero_states()]

    def require_states(self, states: States) -> None:
        """Check that ``states`` are pairs (2 N, ...) for the samples of x."""
        super().require_states([s[: len(s) // 2] for s in states])

    def drive(self, e: int, states: States, unchanged: bool = False) -> tuple[Array, Winner]:
        """Return the drive along edge ``e``, a pair (2 N, ...), and no winners. The bias is real."""
        d, _ = super().drive(e, states)
        if e not in self.from_input and (bias := self._biases[e]) is not None:
            d[: len(self.x)] += bias
        return d, None

    def nudge(self, states: States, beta: Beta, target: Array | None) -> Array | None:
        """Return beta dl/ds^L, a pair (2 N, ...), for a target (N, K); None in a free phase."""
        if target is None:
            return None
        g = self.network.loss.gradient(complex_outputs(self.network, self.parameters, states), target)
        g *= beta
        pair = to_pair(g)
        if self.network.architecture.readout:
            pair = dense_transpose(pair, self.parameters["readout.weight"])
        return pair.reshape(states[-1].shape)

    def move(
        self,
        n: int,
        states: States,
        drives: Sequence[Array],
        places: Mapping[int, Winner],
        nudge: Array | None,
        moves: Moves,
    ) -> Array:
        """Return state n, a pair (2 N, ...), moved as ``PreparedNetwork.move`` does.

        sigma has no range in the complex plane, so over-relaxed states are not clipped.
        """
        omega = self._omega(n, moves, nudge)
        u = self._sum(n, states, drives, places)
        if nudge is not None and n + 1 == len(states):
            u -= nudge
        shape = (len(self.x), *u.shape[1:])
        z = from_pair(u, self._space.take("complex", shape, u, complex_dtype(u.dtype)))
        self.network.activations[n].value(z, out=z)
        out = array_module(u).empty_like(u) if moves.out is None else moves.out[n]
        out[: len(z)], out[len(z) :] = z.real, z.imag
        if omega != 1:
            old = self._before_mask(n, states[n])
            out -= old
            out *= omega
            out += old
        self._mask_layer(n, out)
        if moves.sizes is not None:
            moves.sizes.append(abs(out - states[n]).max())
        return out

    def _make_buffers(self) -> None:
        super()._make_buffers()
        self._biases = [link.bias for link in self.links]
        for link in self.links:
            link.bias = None


def complex_outputs(network: Network, parameters: Parameters, states: States) -> Array:
    """Return the complex outputs o (N, K) for ``states`` as pairs (2 N, ...): output units, or s^L w_out + b_out."""
    if not network.architecture.readout:
        return from_pair(states[-1])
    o = from_pair(dense(flatten(states[-1]), parameters["readout.weight"]))
    o += parameters["readout.bias"]
    return o


def complex_dphi_dtheta(prepared: PreparedNetwork, states: States, c: complex, edges: Sequence[int]) -> Gradient:
    """Return the real part of c dPhi/dtheta for some ``edges``, at complex ``states``, each (N, ...).

    dPhi/dw = B(s, v) is bilinear in the states s below and v above. With s = a + i b and c v = p + i q

        Re B(s, c v) = B(a, p) - B(b, q)

    is one real weight gradient over 2 N samples: of the pair of s and the conjugate pair of c v. The bias is driven by
    1, which has no imaginary part, so its derivative is the sum of p.
    """
    gradient: Gradient = {}
    for e in edges:
        edge = prepared.network.edges[e]
        weight = prepared.network.architecture.energy_weight(edge.upper)
        below, above = prepared.below(e, states), c * weight * prepared.above(e, states)
        turned = to_conjugate_pair(above)
        gradient[f"{edge.name}.weight"] = prepared.links[e].weight_gradient(to_pair(below), turned, None)
        if edge.bias:
            gradient[edge.bias] = turned[: len(below)].sum(axis=tuple(range(turned.ndim - 1)))
    return gradient


def complex_dl_dtheta(prepared: PreparedNetwork, states: States, c: complex, target: Array) -> Gradient:
    """Return the real part of c dl/dtheta at complex ``states``, each (N, ...), for a target (N, K): the readout's."""
    network = prepared.network
    if not network.architecture.readout:
        return {}
    last = to_pair(states[-1])
    g = network.loss.gradient(complex_outputs(network, prepared.parameters, [last]), target)
    turned = to_conjugate_pair(c * g)
    return {
        "readout.weight": dense_weight_gradient(flatten(last), turned),
        "readout.bias": turned[: len(target)].sum(axis=0),
    }


def _twice(a: Array) -> Array:
    return array_module(a).concatenate([a, a])
