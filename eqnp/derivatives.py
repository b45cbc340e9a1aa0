"""The derivatives: dPhi/dtheta, and those of one step: J v by states, and its adjoint (VJP) by states and parameters.

Each is made of the four maps of a connection with their roles swapped. With delta the cotangent of F, every edge from
s^i up to s^j gives

    drive    d(s^i):   by s^i   feedback of delta^j through the forward weights
                       by w_f   weight_gradient(s^i, delta^j)
    feedback f(s^j):   by s^j   drive_at_winners of delta^i through the feedback's weights
                       by w_b   weight_gradient(delta^i, s^j)

Gradients are summed over samples and have the shapes of their parameters. They are by the weights in use:
``PreparedNetwork.unscaled`` makes them those by the parameters under dropout.
"""

from __future__ import annotations

from collections.abc import Sequence

from eqnp.backends.backend import Array, array_module
from eqnp.connections.contract import Winner
from eqnp.networks import Gradient, States, accumulate
from eqnp.prepared import PreparedNetwork
from eqnp.step import fields


def step_vjp(
    network: PreparedNetwork, states: States, cotangent: States, by_parameters: bool = True
) -> tuple[list[Array], Gradient]:
    """Return the adjoint of a free step at ``states``: J^T cotangent, each (N, ...), and (ds'/dtheta)^T cotangent.

    ``cotangent`` has the states' shapes. Without ``by_parameters`` the gradient is left out. delta = sigma'(F) m
    cotangent is differentiated along both paths, drive and feedback. Adjoint of J^T cotangent: ``step_jvp``.
    """
    drives, winners = network.drives(states)
    places = network.feedback_winners(states, winners)
    delta = _through_sigma(network, fields(network, states, drives, places), cotangent)
    gradient = field_gradient(network, states, delta, winners, places) if by_parameters else {}
    return field_vjp(network, delta, winners, places), gradient


def step_jvp(network: PreparedNetwork, states: States, tangent: States) -> list[Array]:
    """Return J tangent = m sigma'(F) dF/ds tangent, each (N, ...): how a free step at ``states`` moves with them.

    ``tangent`` has the states' shapes. Adjoint: the states' part of ``step_vjp``.
    """
    drives, winners = network.drives(states)
    places = network.feedback_winners(states, winners)
    winners, places = copied(winners), copied(places)
    u = [un.copy() for un in fields(network, states, drives, places)]
    return _through_sigma(network, u, field_jvp(network, tangent, winners, places))


def field_jvp(network: PreparedNetwork, v: States, winners: Sequence[Winner], places: Sequence[Winner]) -> list[Array]:
    """Return dF/ds v, each (N, ...), at given winners of the drives and ``places`` of the feedback.

    v, of the states' shapes, is driven up by the forward weights and fed back by the backward ones. Adjoint:
    ``field_vjp``.
    """
    out = [array_module(s).zeros_like(s) for s in v]
    for e, edge in enumerate(network.network.edges):
        if edge.lower:
            above, below = edge.upper - 1, edge.lower - 1
            out[above] += network.links[e].drive_at(v[below], winners[e])
            out[below] += network.links[e].feedback(v[above], places[e])
    return out


def field_vjp(
    network: PreparedNetwork, delta: States, winners: Sequence[Winner], places: Sequence[Winner]
) -> list[Array]:
    """Return (dF/ds)^T delta, each (N, ...), at given winners of the drives and ``places`` of the feedback.

    delta, of the states' shapes, travels up by the backward weights and down by the forward ones. Adjoint:
    ``field_jvp``.
    """
    out = [array_module(d).zeros_like(d) for d in delta]
    for e, edge in enumerate(network.network.edges):
        if edge.lower:
            above, below = edge.upper - 1, edge.lower - 1
            out[below] += network.links[e].drive_vjp(delta[above], winners[e])
            out[above] += network.links[e].feedback_vjp(delta[below], places[e])
    return out


def field_gradient(
    network: PreparedNetwork, states: States, delta: States, winners: Sequence[Winner], places: Sequence[Winner]
) -> Gradient:
    """Return (dF/dtheta)^T delta at ``states`` and their winners, all (N, ...), summed over samples."""
    gradient: Gradient = {}
    for e, edge in enumerate(network.network.edges):
        above = edge.upper - 1
        gradient |= forward_gradient(network, e, network.below(e, states), delta[above], winners[e])
        if edge.lower:
            accumulate(gradient, feedback_gradient(network, e, delta[edge.lower - 1], states[above], places[e]))
    return gradient


def copied(winners: Sequence[Winner]) -> list[Winner]:
    """Return winners (N, ...) that stay valid when the network computes others."""
    return [None if winner is None else winner.copy() for winner in winners]


def _through_sigma(network: PreparedNetwork, u: States, v: States) -> list[Array]:
    """Return m sigma'(u) v, each (N, ...)."""
    activations = network.network.activations
    out = [sigma.derivative(un) * vn for sigma, un, vn in zip(activations, u, v, strict=True)]
    network.mask(out)
    return out


def dphi_dtheta(network: PreparedNetwork, states: States, edges: Sequence[int] | None = None) -> Gradient:
    """Return dPhi/dw and dPhi/db at ``states``, each (N, ...), for all or the given ``edges``."""
    gradient: Gradient = {}
    for e in range(len(network.links)) if edges is None else edges:
        below, above = network.below(e, states), network.above(e, states)
        gradient |= forward_gradient(network, e, below, above, network.winner(e, states))
    return weighted(network, gradient)


def weighted(network: PreparedNetwork, gradient: Gradient) -> Gradient:
    """Multiply derivatives of s . F, by parameter name, by the energy weight of the layer with this s, in place.

    c_n F^n is dPhi/ds^n (``eqnp.networks``), so a term s^n . F^n has the weight c_n. The layer is the upper one of an
    edge for its forward weight and its bias, the lower one for its backward weight.
    """
    architecture = network.network.architecture
    if architecture.feedback != 1:
        for edge in network.network.edges:
            for name, layer in (
                (f"{edge.name}.weight", edge.upper),
                (edge.bias, edge.upper),
                (f"{edge.backward}.weight", edge.lower),
            ):
                if name in gradient:
                    gradient[name] *= architecture.energy_weight(layer)
    return gradient


def forward_gradient(network: PreparedNetwork, e: int, s: Array, v: Array, winner: Winner) -> Gradient:
    """Return the derivatives of v . d(s) along edge ``e``, s below and v above, by the forward weights and the bias."""
    edge, link = network.network.edges[e], network.links[e]
    gradient = {f"{edge.name}.weight": link.weight_gradient(s, v, winner)}
    return gradient | ({edge.bias: link.bias_gradient(v)} if edge.bias else {})


def feedback_gradient(network: PreparedNetwork, e: int, s: Array, v: Array, winner: Winner) -> Gradient:
    """Return the derivative of s . f(v) along edge ``e``, s below and v above, by the weights of the feedback."""
    name = network.network.feedback_name(network.network.edges[e])
    return {name: network.links[e].feedback_weight_gradient(s, v, winner)}
