"""The energy that a symmetric network lowers while it settles.

    E = sum over layers of c G(s) - Phi,      G'(s) = sigma^{-1}(s)

so that E is stationary where s = sigma((dPhi/ds) / c); c is the layer's weight in Phi, 1 if feedback is not weakened.
For sigma(u) = clip(a u, low, high): G(s) = |s|^2 / (2 a). With a nudge the network lowers E + beta l.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from eqnp.backends.backend import Array, array_module
from eqnp.networks import Network, Parameters, States, SymmetricNetwork
from eqnp.ops.activations import Activation

Potential = Callable[[Array], Array]


def energy(network: Network, parameters: Parameters, x: Array, states: States) -> Array | None:
    """Return E of every sample (N,) at ``states``, each (N, ...); x is (N, ...).

    None if there is no energy: in a vector field, or if ``potential`` does not know an activation.
    """
    potentials = [potential(activation) for activation in network.activations]
    if not isinstance(network, SymmetricNetwork) or any(each is None for each in potentials):
        return None
    total = -network.primitive_function(parameters, x, states)
    for n, (of, s) in enumerate(zip(potentials, states, strict=True)):
        assert of is not None
        total = total + network.architecture.energy_weight(n + 1) * of(s).reshape(len(s), -1).sum(axis=1)
    return total


def potential(activation: Activation) -> Potential | None:
    """Return G of an activation, elementwise, with G' = sigma^{-1} up to the clips; None if it is not known."""
    if activation.name == "sigmoid":
        return _sigmoid
    if activation.name == "tanh":
        return _tanh
    slope = _slope(activation)
    return None if slope is None else lambda s: s * s / (2 * slope)


def _slope(activation: Activation) -> float | None:
    """Return a > 0 if sigma(u) = clip(a u, low, high), else None."""
    u = np.linspace(-8, 8, 1601)  # with 0
    values = activation.value(u.copy())
    slope = float(activation.value(np.array([1e-3]))[0] / 1e-3)
    piecewise = np.clip(slope * u, activation.low, activation.high)
    return slope if slope > 0 and np.allclose(values, piecewise, rtol=1e-6, atol=1e-9) else None


def _sigmoid(s: Array) -> Array:
    """Return s / 2 + (s log s + (1 - s) log(1 - s)) / 4, for sigma(u) = 1 / (1 + exp(-4 (u - 1/2)))."""
    return s / 2 + (_entropy(s) + _entropy(1 - s)) / 4


def _tanh(s: Array) -> Array:
    """Return s atanh(s) + log(1 - s^2) / 2, which is ((1 + s) log(1 + s) + (1 - s) log(1 - s)) / 2."""
    return (_entropy(1 + s) + _entropy(1 - s)) / 2


def _entropy(p: Array) -> Array:
    """Return p log p, 0 at p = 0."""
    xp = array_module(p)
    return p * xp.log(xp.maximum(p, np.finfo(p.dtype).tiny))
