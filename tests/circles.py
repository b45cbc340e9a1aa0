"""Checks of complex states and of points on a circle, as functions that ``test_circle.py`` sees fail."""

from __future__ import annotations

import derivatives
import naive
import nets
import numpy as np
from tolerances import HOLOMORPHIC, ORACLE, ORDER, relative_error

from eqnp.dynamics import Phases
from eqnp.estimators import estimate
from eqnp.holomorphic import ComplexNetwork, complex_dl_dtheta, complex_dphi_dtheta
from eqnp.ops.pairs import from_pair, to_pair
from eqnp.stencils import Stencil, circle
from eqnp.step import step, vector_field

PHASES = Phases(400, 400, 1e-14)
BETA = 0.3 + 0.4j


def complex_states(case, seed=3):
    """Return random states off the real axis."""
    generator = np.random.default_rng(seed)
    return [s + 1j * generator.uniform(-0.5, 0.5, s.shape) for s in case.random_states(seed)]


def complex_numbers(shape, seed):
    generator = np.random.default_rng(seed)
    return generator.standard_normal(shape) + 1j * generator.standard_normal(shape)


def phi(case, states, parameters=None):
    """Return Phi summed over samples, straight from the index formula, in complex arithmetic."""
    if parameters is not None:
        case = nets.replace(case, parameters=parameters)
    return naive.primitive_function(derivatives.oracle_connections(case, len(states)), case.x, states).sum()


def loss(case, states, parameters=None):
    return case.network.loss_value(parameters or case.parameters, states, case.target).sum()


def check_complex_step(case):
    """F is the complex derivative of Phi, the nudge that of beta l, and a step their sigma, in all layers."""
    states, prepared = complex_states(case), ComplexNetwork(case.prepare())
    pairs = [to_pair(s) for s in states]
    found = [from_pair(u) for u in vector_field(prepared, pairs)]
    nudge = from_pair(prepared.nudge(pairs, BETA, case.target))
    for n, u in enumerate(found):
        along = complex_numbers(u.shape, n)

        def moved(t, function, n=n, along=along):
            return function(case, [s + t * along if i == n else s for i, s in enumerate(states)])

        derivatives.assert_derivative((u * along).sum(), derivatives.difference(lambda t: moved(t, phi), 0.0, 1.0))
    expected = BETA * derivatives.difference(lambda t: moved(t, loss), 0.0, 1.0)
    derivatives.assert_derivative((nudge * along).sum(), expected)
    found[-1] = found[-1] - nudge
    after = step(prepared, pairs, BETA, case.target)
    for sigma, u, pair in zip(case.network.activations, found, after, strict=True):
        assert relative_error(from_pair(pair), sigma.value(u)) <= ORACLE[np.float64]


def check_complex_gradient(case):
    """The real part of c dPhi/dtheta and of c dl/dtheta, of all parameters, against differences of Phi and l."""
    states, prepared, c = complex_states(case), case.prepare(), 0.7 - 1.3j
    by_phi = complex_dphi_dtheta(prepared, states, c, range(len(case.network.edges)))
    by_loss = complex_dl_dtheta(prepared, states, c, case.target)
    assert set(by_phi) | set(by_loss) == set(case.parameters)
    for function, gradient in ((phi, by_phi), (loss, by_loss)):
        for name, g in gradient.items():
            along = np.random.default_rng(9).standard_normal(g.shape)

            def moved(t, name=name, along=along, function=function):
                return function(case, states, case.parameters | {name: case.parameters[name] + t * along})

            derivatives.assert_derivative((g * along).sum(), (c * derivatives.difference(moved, 0.0, 1.0)).real)


def error_of(case, stencil, exact):
    """Return |estimate - exact| / |exact| over all parameters."""
    arguments = (case.network, case.parameters, case.x, case.target, stencil, PHASES)
    found = estimate(*arguments, joint=True, masks=case.masks).gradient
    assert set(found) == set(exact)
    return norm({name: found[name] - g for name, g in exact.items()}) / norm(exact)


def norm(gradient):
    return np.sqrt(sum((g**2).sum() for g in gradient.values()))


def check_circle_order(case, radius=0.1, counts=(2, 4, 8)):
    """Halving the radius divides the bias of N points by 2^N, until only rounding is left of it."""
    exact = derivatives.implicit(case).gradient
    for count in counts:
        large, small = (error_of(case, circle(r, count), exact) for r in (radius, radius / 2))
        assert small <= 0.02, (count, small)
        negligible = count == 8 and large <= 1e-8
        assert negligible or abs(large / small - 2**count) <= ORDER * 2**count, (count, large, small)


def check_circle_is_exact(case, radius, count):
    """Many points at a finite radius give the exact gradient."""
    assert error_of(case, circle(radius, count), derivatives.implicit(case).gradient) <= HOLOMORPHIC


def whole_circle(beta, points):
    """Return all N points, straight from the definition, as complex numbers."""
    turns = [np.exp(2j * np.pi * k / points) for k in range(points)]
    return Stencil("whole circle", tuple((complex(beta * u), complex(np.conj(u) / (points * beta))) for u in turns))
