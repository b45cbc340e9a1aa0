"""Contrasts: how the steady states of a stencil's points become a gradient.

The points are (beta_k, c_k); s_k is the steady state under nudging beta_k, s_* the free one, each (N, ...). Each
function returns the gradient of the loss summed over samples, by parameter name:

    symmetric      - sum of c_k dPhi_{beta_k}/dtheta (s_k),         Phi_beta = Phi - beta l
    vector field   - sum of c_k (dF/dtheta (s_*))^T s_k              forward weights from layer i to j: s_*^i with s_k^j
                                                                     backward weights: s_k^i with s_*^j
    asymmetric     - (dF/dtheta (s_*))^T sum of c_k s_k              the same for both weights, at the winners of s_*;
                                                                     s_k of asymmetric phases (``eqnp.asymmetric``)
    common         the mean of the symmetric contrast with the forward and with the backward winners, the same for both
                   weights: KP-VF (Kolen and Pollack 1994; the poster, "Distinct forward and backward weights")

With weak feedback every term has the energy weight of its layer (``eqnp.networks``), except in the asymmetric contrast.
The readout is outside the dynamical system: its gradient is sum of c_k beta_k dl/dtheta (s_k) in all of them.

In the symmetric contrast beta_k, c_k and s_k may be complex; the gradient is the real part of the sum.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from eqnp.architecture import forward_partner
from eqnp.asymmetric import turn
from eqnp.backends.backend import Array, array_module
from eqnp.derivatives import dphi_dtheta, feedback_gradient, field_gradient, forward_gradient, weighted
from eqnp.errors import ConfigurationError
from eqnp.holomorphic import complex_dl_dtheta, complex_dphi_dtheta
from eqnp.networks import Gradient, Network, States, VectorFieldNetwork, accumulate
from eqnp.ops.pairs import is_complex
from eqnp.prepared import PreparedNetwork

Terms = Sequence[tuple[complex, complex, States]]  # (c_k, beta_k, s_k)
Contrast = Callable[[PreparedNetwork, States, Terms, Array], Gradient]
NUDGINGS = ("plain", "asymmetric")  # how nudged phases move, ``eqnp.asymmetric``


def symmetric_contrast(prepared: PreparedNetwork, free: States, terms: Terms, target: Array) -> Gradient:
    """Return - sum of c dPhi_beta/dtheta over ``terms``. Target (N, K).

    The input is the same in all terms, so its connections subtract the states first and correlate once.
    """
    graph = prepared.network
    gradient: Gradient = {}
    for e in graph.from_input:  # linear in the state above, since the input does not move
        difference = _difference(terms, graph.edges[e].upper - 1)
        gradient |= forward_gradient(prepared, e, prepared.x, difference, prepared.from_input[e][1])
    weighted(prepared, gradient)
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
    winners = prepared.winners(free)
    gradient: Gradient = {}
    for e, edge in enumerate(prepared.network.edges):
        difference = _difference(terms, edge.upper - 1)
        gradient |= forward_gradient(prepared, e, prepared.below(e, free), difference, winners[e])
    for c, _, states in terms:
        _add_scaled(gradient, _backward(prepared, states, free), -c)
    return weighted(prepared, gradient) | _readout(prepared, terms, target)


def asymmetric_contrast(prepared: PreparedNetwork, free: States, terms: Terms, target: Array) -> Gradient:
    """Return - (dF/dtheta (s_*))^T sum of c s, the exact gradient as beta goes to 0, for any weights. Target (N, K).

    The nudged phases of this contrast are those of ``eqnp.asymmetric``. Both weights of an edge take the winners of
    the free steady state, since dF/dtheta is a derivative at that state. In ``vector_field_contrast`` the backward
    weights have the winners of every nudged state, which differ where a pool switches.
    """
    winners = prepared.winners(free)
    places = prepared.feedback_winners(free, winners)
    difference = [_difference(terms, n) for n in range(len(free))]
    return field_gradient(prepared, free, difference, winners, places) | _readout(prepared, terms, target)


def common_contrast(prepared: PreparedNetwork, free: States, terms: Terms, target: Array) -> Gradient:
    """Return one gradient for the forward and the backward weights: the mean of both contrasts at the nudged states.

    Target (N, K). Each of the two contrasts is the gradient of a weight that both share, so for weights that agree the
    result is the sum of their exact gradients (``add_partners``). With the same rates eta and decays lambda on both
    sides their difference only decays: after t updates of SGD without momentum theta_f - theta_b is (1 - eta lambda)^t
    times its initial value.
    """
    gradient = symmetric_contrast(prepared, free, terms, target)
    backward: Gradient = {}
    for c, _, states in terms:
        _add_scaled(backward, _backward(prepared, states, states), -c)
    gradient |= weighted(prepared, backward)
    average_partners(gradient)
    return gradient


def average_partners(gradient: Gradient) -> None:
    """Replace the gradients of every backward weight and its forward weight by their mean, in place."""
    add_partners(gradient)
    for name, g in gradient.items():
        if name.startswith("backward."):
            g *= 0.5
            gradient[forward_partner(name)][...] = g


def add_partners(gradient: Gradient) -> None:
    """Replace the gradients of every backward weight and its forward weight by their sum, in place.

    That is the gradient of a weight which both share, and so what ``common_contrast`` estimates once both agree.
    """
    for name in gradient:
        if name.startswith("backward."):
            total = gradient[forward_partner(name)]
            total += gradient[name]
            gradient[name][...] = total


def as_learned(contrast: Contrast | None, gradient: Gradient) -> None:
    """Make of an exact ``gradient`` what weights learn from by a ``contrast``: with the common one both get the sum."""
    if contrast is common_contrast:
        add_partners(gradient)


def default_contrast(network: Network, common: bool = False, nudging: str = "plain") -> Contrast:
    """Return the default contrast of a network, for phases of ``nudging``, one of ``NUDGINGS``.

    ``common`` and asymmetric nudging are for vector fields: with the first the two weights align, with the second they
    get the exact gradient.

    Raises:
        ConfigurationError: ``common`` or asymmetric nudging for a symmetric network, or both together.
        ValueError: ``nudging`` is unknown.
    """
    if nudging not in NUDGINGS:
        raise ValueError(f"nudging: {nudging!r} is not known; choose one of {', '.join(NUDGINGS)}")
    if nudging == "asymmetric" and common:
        raise ConfigurationError("nudging: asymmetric gives each weight its own exact gradient; leave common out")
    if nudging == "plain" and not common:
        return vector_field_contrast if isinstance(network, VectorFieldNetwork) else symmetric_contrast
    contrast = common_contrast if common else asymmetric_contrast
    require_contrast(network, contrast)
    return contrast


def require_contrast(network: Network, contrast: Contrast) -> None:
    """Check that a contrast of this module fits this kind of network.

    Raises:
        ConfigurationError: it is for the other kind. Its gradient would be wrong, or missing for some weights.
    """
    is_vector_field = isinstance(network, VectorFieldNetwork)
    of_fields = (vector_field_contrast, common_contrast, asymmetric_contrast)
    if contrast in ((symmetric_contrast,) if is_vector_field else of_fields):
        right = "vector_field_contrast, common_contrast or asymmetric_contrast" if is_vector_field else ""
        raise ConfigurationError(
            f"{contrast.__name__} is not for a {type(network).__name__}: take {right or 'symmetric_contrast'}"
        )


def nudged_network(
    contrast: Contrast, prepared: PreparedNetwork, free: States, times: int = 1
) -> tuple[PreparedNetwork, list[Array]]:
    """Return the network of the nudged phases that ``contrast`` is for, and the states that they start from.

    ``free`` are s^1 .. s^L at the end of the free phase, each (N, ...). With ``times``, the network and the states hold
    every sample that often, one set after the other. Phases are plain for every contrast but ``asymmetric_contrast``.
    """
    if contrast is asymmetric_contrast:
        return turn(prepared, free, times)
    if times == 1:
        return prepared, list(free)
    return prepared.repeated(times), [array_module(s).concatenate([s] * times) for s in free]


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
    winners = () if prepared.network.own_winners else prepared.winners(lower)
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
