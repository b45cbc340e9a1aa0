"""The derivatives: dPhi/dtheta, and the adjoint of one step (its VJP), by states and by parameters.

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
    cotangent is differentiated along both paths, drive and feedback.
    """
    drives, winners = network.drives(states)
    places = network.feedback_winners(states, winners)
    u = fields(network, states, drives, places)
    activations = network.network.activations
    delta = [sigma.derivative(un) * c for sigma, un, c in zip(activations, u, cotangent, strict=True)]
    network.mask(delta)
    back, gradient = [array_module(s).zeros_like(s) for s in states], dict[str, Array]()
    for e, edge in enumerate(network.network.edges):
        above = edge.upper - 1
        if by_parameters:
            gradient |= forward_gradient(network, e, network.below(e, states), delta[above], winners[e])
        if not edge.lower:
            continue
        below = edge.lower - 1
        back[below] += network.links[e].drive_vjp(delta[above], winners[e])
        back[above] += network.links[e].feedback_vjp(delta[below], places[e])
        if by_parameters:
            accumulate(gradient, feedback_gradient(network, e, delta[below], states[above], places[e]))
    return back, gradient


def dphi_dtheta(network: PreparedNetwork, states: States, edges: Sequence[int] | None = None) -> Gradient:
    """Return dPhi/dw and dPhi/db at ``states``, each (N, ...), for all or the given ``edges``."""
    gradient: Gradient = {}
    for e in range(len(network.links)) if edges is None else edges:
        _, winner = network.drive(e, states)
        gradient |= forward_gradient(network, e, network.below(e, states), network.above(e, states), winner)
    return gradient


def forward_gradient(network: PreparedNetwork, e: int, s: Array, v: Array, winner: Winner) -> Gradient:
    """Return the derivatives of v . d(s) along edge ``e``, s below and v above, by the forward weights and the bias."""
    edge = network.network.edges[e]
    dw, db = network.links[e].weight_gradient(s, v, winner)
    return {f"{edge.name}.weight": dw} | ({edge.bias: db} if edge.bias else {})


def feedback_gradient(network: PreparedNetwork, e: int, s: Array, v: Array, winner: Winner) -> Gradient:
    """Return the derivative of s . f(v) along edge ``e``, s below and v above, by the weights of the feedback."""
    dw, _ = network.links[e].weight_gradient(s, v, winner)
    return {network.network.feedback_name(network.network.edges[e]): dw}
