"""The derivatives: dPhi/dtheta, and the adjoint of one step (its VJP), by states and by parameters.

Each is made of the four maps of a connection with their roles swapped. With delta the cotangent of F,

    drive    d_n(s^n):       by s^n       feedback of delta^{n+1} through the forward weights
                             by w_f       weight_gradient(s^n, delta^{n+1})
    feedback f_n(s^{n+1}):   by s^{n+1}   drive_at_winners of delta^n through the feedback's weights
                             by w_b       weight_gradient(delta^n, s^{n+1})

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
    back = [array_module(s).zeros_like(s) for s in states]
    gradient = input_gradient(network, delta[0]) if by_parameters else {}
    for n in range(1, len(states)):
        back[n - 1] += network.links[n].drive_vjp(delta[n], winners[n])
        back[n] += network.links[n].feedback_vjp(delta[n - 1], places[n])
        if by_parameters:
            gradient |= forward_gradient(network, n, states[n - 1], delta[n], winners[n])
            accumulate(gradient, feedback_gradient(network, n, delta[n - 1], states[n], places[n]))
    return back, gradient


def dphi_dtheta(network: PreparedNetwork, states: States, connections: Sequence[int] | None = None) -> Gradient:
    """Return dPhi/dw and dPhi/db at ``states``, each (N, ...), for all or the given ``connections``."""
    _, winners = network.drives(states)
    gradient: Gradient = {}
    for n in range(len(states)) if connections is None else connections:
        gradient |= forward_gradient(network, n, network.below(n, states), states[n], winners[n])
    return gradient


def input_gradient(network: PreparedNetwork, s1: Array) -> Gradient:
    """Return dPhi/dw and dPhi/db of connection 0, which are linear in s^1 (N, ...) since the input is static."""
    return forward_gradient(network, 0, network.x, s1, network.input_winner)


def forward_gradient(network: PreparedNetwork, n: int, s: Array, v: Array, winner: Winner) -> Gradient:
    """Return the derivatives of v . d_n(s), s below and v above, by the forward weights and the bias."""
    dw, db = network.links[n].weight_gradient(s, v, winner)
    return {f"forward.{n}.weight": dw, f"forward.{n}.bias": db}


def feedback_gradient(network: PreparedNetwork, n: int, s: Array, v: Array, winner: Winner) -> Gradient:
    """Return the derivative of s . f_n(v), s below and v above, by the weights of the feedback."""
    dw, _ = network.links[n].weight_gradient(s, v, winner)
    return {network.network.feedback_name(n): dw}
