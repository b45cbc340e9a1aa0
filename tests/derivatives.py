"""The derivative checks of connections, Phi and estimators, as functions that ``test_mutations.py`` sees fail."""

from __future__ import annotations

import checks
import naive
import nets
import numpy as np
from tolerances import ADJOINT, DIRECTIONAL, ORACLE, ORDER, relative_error

from eqnp.architecture import ConvLayer, DenseLayer
from eqnp.connections import connect
from eqnp.dynamics import relax
from eqnp.estimators import estimate
from eqnp.stencils import Stencil, one_sided, symmetric

STEP = 1e-5
CONNECTIONS = {
    "dense": ((5,), DenseLayer(4)),
    "dense on an image": ((3, 2, 2), DenseLayer(4)),
    "max": ((7, 5, 2), ConvLayer(3, (3, 2), 1, 1, "max")),
    "average": ((6, 7, 2), ConvLayer(3, (2, 3), 1, 0, "average")),
    "none": ((6, 7, 2), ConvLayer(3, (3, 3), 2, 1, "none")),
    "max, strided": ((9, 8, 1), ConvLayer(2, (2, 2), 2, 2, "max")),
}


def difference(function, at, along):
    """Return the central difference of ``function`` along a direction."""
    return (function(at + STEP * along) - function(at - STEP * along)) / (2 * STEP)


def assert_derivative(actual, expected):
    assert relative_error(np.asarray(actual), np.asarray(expected)) <= DIRECTIONAL, (actual, expected)


def check_connection(below, layer):
    """The four maps are each other's derivatives, as the docstrings of ``Connection`` say."""
    connection = connect(layer, below)
    shape = (layer.units,) if isinstance(layer, DenseLayer) else (layer.channels,)
    if isinstance(layer, DenseLayer):
        w = checks.numbers((int(np.prod(below)), layer.units), 1)
    else:
        w = checks.numbers((*layer.kernel, below[-1], layer.channels), 1)
    b, s = checks.numbers(shape, 2), checks.numbers((2, *below), 3)
    d, winner = connection.drive(w, b, s)
    v = checks.numbers(d.shape, 4)
    ds, dw, db = (checks.numbers(a.shape, 5 + i) for i, a in enumerate((s, w, b)))

    def drive(w, b, s):
        return checks.inner(connection.drive(w, b, s)[0], v)

    feedback = connection.feedback(w, v, winner)
    g_w, g_b = connection.weight_gradient(s, v, winner)
    assert_derivative(checks.inner(feedback, ds), difference(lambda s: drive(w, b, s), s, ds))
    assert_derivative(checks.inner(g_w, dw), difference(lambda w: drive(w, b, s), w, dw))
    assert_derivative(checks.inner(g_b, db), difference(lambda b: drive(w, b, s), b, db))
    # the feedback's adjoint in v is the drive at its winners; at its own winners and with the bias that is the drive
    checks.assert_adjoint(
        lambda v: connection.feedback(w, v, winner), lambda s: connection.drive_at_winners(w, s, winner), v, s
    )
    checks.assert_close(connection.drive_at_winners(w, s, winner) + b, d)


def check_phi(case):
    """Phi against loops; dPhi/ds and dPhi/dtheta against central differences of Phi."""
    states, prepared = case.random_states(), case.prepare()

    def phi(parameters, states):
        return case.network.primitive_function(parameters, case.x, states).sum()

    connections = [oracle_connection(case, n) for n in range(len(states))]
    expected = naive.primitive_function(connections, case.x, states)
    assert (
        relative_error(case.network.primitive_function(case.parameters, case.x, states), expected) <= ORACLE[np.float64]
    )
    for n, dphi in enumerate([d.copy() for d in prepared.vector_field(states)]):
        along = checks.numbers(states[n].shape, n)

        def moved(t, n=n, along=along):
            return phi(case.parameters, [s + t * along if i == n else s for i, s in enumerate(states)])

        assert_derivative(checks.inner(dphi, along), difference(moved, 0.0, 1.0))
    gradient = prepared.dphi_dtheta(states)
    assert set(gradient) == {name for name in case.parameters if name.startswith("forward")}
    for name, dphi in gradient.items():
        along = checks.numbers(dphi.shape, 9)

        def moved(t, name=name, along=along):
            return phi(case.parameters | {name: case.parameters[name] + t * along}, states)

        assert_derivative(checks.inner(dphi, along), difference(moved, 0.0, 1.0))


def oracle_connection(case, n):
    layer, p = case.network.architecture.layers[n], case.parameters
    w, b = p[f"forward.{n}.weight"], p[f"forward.{n}.bias"]
    if isinstance(layer, DenseLayer):
        return ("dense", w, b)
    return ("conv", w, b, layer.stride, layer.padding, layer.pool)


def check_loss_derivatives(case):
    """dl/ds and dl/dtheta of the whole network against central differences."""
    states, network = case.random_states(), case.network

    def loss(parameters, last):
        return network.loss_value(parameters, [*states[:-1], last], case.target).sum()

    along = checks.numbers(states[-1].shape, 1)
    dl_ds = network.dl_ds(case.parameters, states, case.target)
    assert_derivative(checks.inner(dl_ds, along), difference(lambda s: loss(case.parameters, s), states[-1], along))
    for name, dl in network.dl_dtheta(case.parameters, states, case.target).items():
        along = checks.numbers(dl.shape, 2)
        moved = difference(
            lambda p, name=name: loss(case.parameters | {name: p}, states[-1]), case.parameters[name], along
        )
        assert_derivative(checks.inner(dl, along), moved)


def exact_derivative(case, along):
    """Return d/dt of the loss at the steady state of theta + t along, by settling again on both sides."""

    def settled_loss(t):
        other = nets.Case(case.network, nets.moved(case.parameters, along, t), case.x, case.target)
        states = other.settle().states
        return other.network.loss_value(other.parameters, states, case.target).sum()

    return difference(settled_loss, 0.0, 1.0)


def pattern(case, states):
    """Return the winners at ``states``; a state on a clip fails here."""
    prepared = case.prepare()
    if case.network.architecture.activation == "hard_sigmoid":
        inside = states[:-1] if case.network.loss.linear_output and not case.network.architecture.readout else states
        assert all(s.min() > 0 and s.max() < 1 for s in inside), "a unit crossed a clip: the law does not hold there"
    return [None if w is None else w.copy() for w in prepared.drives(states)[1]]


def assert_same_pattern(case, result):
    free = pattern(case, result.free.states)
    for phase in result.nudged:
        for a, b in zip(free, pattern(case, phase.states), strict=True):
            assert a is None or (a == b).all(), "a pool changed its winner: the law does not hold there"


def bias(case, stencil, along, exact):
    """Return how far an estimator is from the exact derivative along a direction."""
    result = estimate(case.network, case.parameters, case.x, case.target, stencil, 2000, 2000, tolerance=1e-15)
    assert_same_pattern(case, result)
    return nets.dot(result.gradient, along) - exact


def check_order(case, beta=0.05):
    """Halving beta halves the one-sided bias and quarters the symmetric one; both are small against the gradient."""
    along = nets.direction(case.parameters)
    exact = exact_derivative(case, along)
    for stencil, ratio in ((one_sided, 2), (symmetric, 4)):
        large, small = (bias(case, stencil(b), along, exact) for b in (beta, beta / 2))
        assert abs(large / small - ratio) <= ORDER * ratio, (stencil.__name__, large, small, exact)
        assert abs(small) <= 0.1 * abs(exact), (stencil.__name__, small, exact)


def check_moments(stencil: Stencil):
    """The coefficients sum to 0, and with beta to 1."""
    betas, coefficients = (np.array(column) for column in zip(*stencil.points, strict=True))
    assert abs(coefficients.sum()) <= ADJOINT[np.float64] * abs(coefficients).sum()
    assert abs((coefficients * betas).sum() - 1) <= ADJOINT[np.float64]


def check_step(case):
    """A step is sigma(dPhi/ds - beta dl/ds), layer by layer, all from the old states."""
    states, beta = case.random_states(), 0.3
    prepared = case.prepare()
    u = [d.copy() for d in prepared.vector_field(states)]
    u[-1] -= beta * case.network.dl_ds(case.parameters, states, case.target)
    expected = [sigma.value(un) for sigma, un in zip(case.network.activations, u, strict=True)]
    for actual, wanted in zip(prepared.step(states, beta, case.target), expected, strict=True):
        np.testing.assert_array_equal(actual, wanted)
    once = relax(case.prepare(), states, 1, beta, case.target)
    for actual, wanted in zip(once.states, expected, strict=True):
        np.testing.assert_array_equal(actual, wanted)
