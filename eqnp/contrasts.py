"""Contrasts: how the steady states of a stencil's points become a gradient.

The points are (beta_k, c_k); s_k is the steady state under nudging beta_k, s_* the free one, each (N, ...). Each
function returns the gradient of the loss summed over samples, by parameter name:

    symmetric      - sum of c_k dPhi_{beta_k}/dtheta (s_k),         Phi_beta = Phi - beta l
    vector field   - sum of c_k (dF/dtheta (s_*))^T s_k              forward weights from layer i to j: s_*^i with s_k^j
                                                                     backward weights: s_k^i with s_*^j
    common         the mean of the symmetric contrast with the forward and with the backward winners, the same for both
                   weights: KP-VF (Kolen and Pollack 1994; the poster, "Distinct forward and backward weights")

The readout is outside the dynamical system: its gradient is sum of c_k beta_k dl/dtheta (s_k) in all of them.

In the symmetric contrast beta_k, c_k and s_k may be complex; the gradient is the real part of the sum.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from eqnp.architecture import forward_partner
from eqnp.backends.backend import Array
from eqnp.derivatives import dphi_dtheta, feedback_gradient, forward_gradient
from eqnp.errors import ConfigurationError
from eqnp.holomorphic import complex_dl_dtheta, complex_dphi_dtheta
from eqnp.networks import Gradient, Network, States, VectorFieldNetwork, accumulate
from eqnp.ops.pairs import is_complex
from eqnp.prepared import PreparedNetwork

Terms = Sequence[tuple[complex, complex, States]]  # (c_k, beta_k, s_k)
Contrast = Callable[[PreparedNetwork, States, Terms, Array], Gradient]


def symmetric_contrast(prepared: PreparedNetwork, free: States, terms: Terms, target: Array) -> Gradient:
    """Return - sum of c dPhi_beta/dtheta over ``terms``. Target (N, K).

    The input is the same in all terms, so its connections subtract the states first and correlate once.
    """
    graph = prepared.network
    gradient: Gradient = {}
    for e in graph.from_input:  # linear in the state above, since the input does not move
        difference = _difference(terms, graph.edges[e].upper - 1)
        gradient |= forward_gradient(prepared, e, prepared.x, difference, prepared.from_input[e][1])
    others = [e for e in range(len(graph.edges)) if e not in graph.from_input]
    for c, _, states in terms:
        if is_complex(c) or is_complex(states[0]):
            accumulate(gradient, complex_dphi_dtheta(prepared, states, -c, others))
        else:
            _add_scaled(gradient, dphi_dtheta(prepared, states, others), -c)
    return gradient | _readout(prepared, terms, target)


def vector_field_contrast(prepared: PreparedNetwork, free: States, terms: Terms, target: Array) -> Gradient:
    """Return - (dF/dtheta (s_*))^T sum of c s: the estimator of vector fields (arXiv:2006.03824, section 3.4).

    Target (N, K). Forward weights pool with the winners of the free steady state. Backward weights correlate with the
    nudged states, each with its own winners, as the published code does.
    """
    _, winners = prepared.drives(free)
    gradient: Gradient = {}
    for e, edge in enumerate(prepared.network.edges):
        difference = _difference(terms, edge.upper - 1)
        gradient |= forward_gradient(prepared, e, prepared.below(e, free), difference, winners[e])
    for c, _, states in terms:
        _add_scaled(gradient, _backward(prepared, states, free), -c)
    return gradient | _readout(prepared, terms, target)


def common_contrast(prepared: PreparedNetwork, free: States, terms: Terms, target: Array) -> Gradient:
    """Return one gradient for the forward and the backward weights: the mean of both contrasts at the nudged states.

    Target (N, K). With the same rates eta and decays lambda on both sides their difference only decays: after t updates
    theta_f - theta_b is (1 - eta lambda)^t times its initial value.
    """
    gradient = symmetric_contrast(prepared, free, terms, target)
    backward: Gradient = {}
    for c, _, states in terms:
        _add_scaled(backward, _backward(prepared, states, states), -c)
    gradient |= backward
    average_partners(gradient)
    return gradient


def average_partners(gradient: Gradient) -> None:
    """Replace the gradients of every backward weight and its forward weight by their mean, in place."""
    for name in gradient:
        if name.startswith("backward."):
            mean = gradient[forward_partner(name)]
            mean += gradient[name]
            mean *= 0.5
            gradient[name][...] = mean


def default_contrast(network: Network, common: bool = False) -> Contrast:
    """Return the default contrast of a network; ``common`` is for vector fields, whose weights then align.

    Raises:
        ConfigurationError: ``common`` for a symmetric network.
    """
    if common:
        require_contrast(network, common_contrast)
        return common_contrast
    return vector_field_contrast if isinstance(network, VectorFieldNetwork) else symmetric_contrast


def require_contrast(network: Network, contrast: Contrast) -> None:
    """Check that a contrast of this module fits this kind of network.

    Raises:
        ConfigurationError: it is for the other kind. Its gradient would be wrong, or missing for some weights.
    """
    is_vector_field = isinstance(network, VectorFieldNetwork)
    if contrast in ((symmetric_contrast,) if is_vector_field else (vector_field_contrast, common_contrast)):
        right = "vector_field_contrast or common_contrast" if is_vector_field else "symmetric_contrast"
        raise ConfigurationError(f"{contrast.__name__} is not for a {type(network).__name__}: take {right}")


def _difference(terms: Terms, n: int) -> Array:
    """Return - sum of c s over ``terms``, s being state n; the real part of it."""
    (c, _, states), *others = terms
    total = _real_part(states[n] * -c)
    for c, _, states in others:
        total -= _real_part(c * states[n])
    return total


def _real_part(a: Array) -> Array:
    return a.real.copy() if is_complex(a) else a


def _backward(prepared: PreparedNetwork, lower: States, upper: States) -> Gradient:
    """Return d(s . f(v)) by the backward weight of every edge: s and the winners of ``lower``, v of ``upper``."""
    _, winners = prepared.drives(lower)
    places = prepared.feedback_winners(lower, winners)
    gradient: Gradient = {}
    for e, edge in enumerate(prepared.network.edges):
        if edge.lower:
            gradient |= feedback_gradient(prepared, e, prepared.below(e, lower), prepared.above(e, upper), places[e])
    return gradient


def _readout(prepared: PreparedNetwork, terms: Terms, target: Array) -> Gradient:
    """Return sum of c beta dl/dtheta over ``terms``: only the readout's parameters have any."""
    gradient: Gradient = {}
    for c, beta, states in terms:
        if is_complex(c) or is_complex(states[0]):
            accumulate(gradient, complex_dl_dtheta(prepared, states, c * beta, target))
        elif beta:
            _add_scaled(gradient, prepared.network.dl_dtheta(prepared.parameters, states, target), c * beta)
    return gradient


def _add_scaled(total: Gradient, more: Gradient, coefficient: complex) -> None:
    """Add ``coefficient`` times ``more``, whose arrays are overwritten."""
    for name, term in more.items():
        term *= coefficient
        if name in total:
            total[name] += term
        else:
            total[name] = term
