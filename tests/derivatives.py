"""The derivative checks of connections, Phi and estimators, as functions that ``test_mutations.py`` sees fail."""

from __future__ import annotations

from dataclasses import replace

import checks
import naive
import nets
import numpy as np
from tolerances import ADJOINT, ASYMMETRIC, DIRECTIONAL, ORACLE, ORDER, relative_error

from eqnp.analysis.diagnostics import ep_steps
from eqnp.connections.forms import connect
from eqnp.connections.layers import ConvLayer, DenseLayer
from eqnp.contrasts import asymmetric_contrast, default_contrast, nudged_network
from eqnp.derivatives import dphi_dtheta, field_jvp, field_vjp, step_jvp, step_vjp
from eqnp.dynamics import Phases, Relaxation, relax
from eqnp.estimators import estimate
from eqnp.reference import Trajectory, backpropagate, bptt_gradient, implicit_gradient, trajectory
from eqnp.stencils import Stencil, four_point, one_sided, symmetric
from eqnp.step import step, vector_field

STEP = 1e-5
CONNECTIONS = {
    "dense": ((5,), DenseLayer(4)),
    "dense on an image": ((3, 2, 2), DenseLayer(4)),
    "max": ((7, 5, 2), ConvLayer(3, (3, 2), 1, 1, "max")),
    "average": ((6, 7, 2), ConvLayer(3, (2, 3), 1, 0, "average")),
    "none": ((6, 7, 2), ConvLayer(3, (3, 3), 2, 1, "none")),
    "max, strided": ((9, 8, 1), ConvLayer(2, (2, 2), 2, 2, "max")),
    "merged": ((8, 7, 2), ConvLayer(3, (3, 3), 1, 1, "average"), "merged"),
    "merged, strided": ((11, 9, 2), ConvLayer(3, (3, 2), 2, 1, "average"), "merged"),
    "winograd 2x2": ((7, 8, 2), ConvLayer(3, (3, 3), 1, 1, "max"), "winograd-2x2"),
    "winograd 2x2, wide padding": ((5, 4, 2), ConvLayer(3, (3, 3), 1, 2, "max"), "winograd-2x2"),
    "winograd 2x2, no padding": ((6, 9, 1), ConvLayer(2, (3, 3), 1, 0, "max"), "winograd-2x2"),
    "winograd 4x4": ((9, 8, 2), ConvLayer(3, (3, 3), 1, 1, "max"), "winograd-4x4"),
    "winograd 4x4, 5x5": ((9, 12, 2), ConvLayer(3, (5, 5), 1, 0, "max"), "winograd-4x4"),
    "winograd 4x4, average": ((9, 8, 2), ConvLayer(3, (3, 3), 1, 1, "average"), "winograd-4x4"),
    "winograd 4x4, none": ((7, 6, 2), ConvLayer(3, (3, 3), 1, 1, "none"), "winograd-4x4"),
}


def difference(function, at, along):
    """Return the central difference of ``function`` along a direction."""
    return (function(at + STEP * along) - function(at - STEP * along)) / (2 * STEP)


def assert_derivative(actual, expected):
    assert abs(actual - expected) <= DIRECTIONAL * max(1.0, abs(expected)), (actual, expected)


def check_connection(below, layer, convolution="direct"):
    """The four maps are each other's derivatives, as the docstrings of ``Connection`` say."""
    connection = connect(layer, below, convolution)
    shape = (layer.units,) if isinstance(layer, DenseLayer) else (layer.channels,)
    if isinstance(layer, DenseLayer):
        w = checks.numbers((int(np.prod(below)), layer.units), 1)
    else:
        w = checks.numbers((*layer.kernel, below[-1], layer.channels), 1)
    b, s = checks.numbers(shape, 2), checks.numbers((3, *below), 3)
    prepare = connection.prepare
    d, winner = connection.drive(prepare(w), b, s)
    v = checks.numbers(d.shape, 4)
    ds, dw, db = (checks.numbers(a.shape, 5 + i) for i, a in enumerate((s, w, b)))

    def drive(w, b, s):
        return checks.inner(connection.drive(prepare(w), b, s)[0], v)

    feedback = connection.feedback(prepare(w), v, winner)
    g_w, g_b = connection.weight_gradient(s, v, winner), connection.bias_gradient(v)
    assert_derivative(checks.inner(feedback, ds), difference(lambda s: drive(w, b, s), s, ds))
    assert_derivative(checks.inner(g_w, dw), difference(lambda w: drive(w, b, s), w, dw))
    assert_derivative(checks.inner(g_b, db), difference(lambda b: drive(w, b, s), b, db))
    # the feedback's adjoint in v is the drive at its winners; at its own winners and with the bias that is the drive
    checks.assert_adjoint(
        lambda v: connection.feedback(prepare(w), v, winner),
        lambda s: connection.drive_at_winners(prepare(w), s, winner),
        v,
        s,
    )
    checks.assert_close(connection.drive_at_winners(prepare(w), s, winner) + b, d)


def check_phi(case):
    """Phi against loops; dPhi/ds and dPhi/dtheta against central differences of Phi."""
    states, prepared = case.random_states(), case.prepare()

    def phi(parameters, states):
        return case.network.primitive_function(parameters, case.x, states).sum()

    architecture = case.network.architecture
    if architecture.feedback == 1:
        expected = naive.primitive_function(oracle_connections(case, len(states)), case.x, states)
        actual = case.network.primitive_function(case.parameters, case.x, states)
        assert relative_error(actual, expected) <= ORACLE[np.float64]
    for n, dphi in enumerate([d.copy() for d in vector_field(prepared, states)]):
        along = checks.numbers(states[n].shape, n)

        def moved(t, n=n, along=along):
            return phi(case.parameters, [s + t * along if i == n else s for i, s in enumerate(states)])

        weight = architecture.energy_weight(n + 1)
        assert_derivative(weight * checks.inner(dphi, along), difference(moved, 0.0, 1.0))
    gradient = dphi_dtheta(prepared, states)
    assert set(gradient) == {name for name in case.parameters if name.startswith("forward")}
    for name, dphi in gradient.items():
        along = checks.numbers(dphi.shape, 9)

        def moved(t, name=name, along=along):
            return phi(case.parameters | {name: case.parameters[name] + t * along}, states)

        assert_derivative(checks.inner(dphi, along), difference(moved, 0.0, 1.0))


def oracle_connections(case, states):
    """Return what ``naive.primitive_function`` takes, straight from the specs of the layers."""
    p, found, seen = case.parameters, [], []
    for n, layer in enumerate(case.network.architecture.layers[:states]):
        source = n if layer.source is None else layer.source
        own = (source, n + 1, layer, p[f"forward.{n}.bias"])
        for lower, upper, spec, b in (own, *((skip.source, n + 1, skip, 0.0) for skip in layer.skips)):
            name = f"forward.{n}" if lower == n and spec is layer else f"forward.{lower}-{upper}"
            w = p[f"{name}.weight" if name not in seen else f"{name}.2.weight"]
            seen.append(name)
            kind = "dense" if w.ndim == 2 else "conv"
            rest = () if kind == "dense" else (spec.stride, spec.padding, spec.pool)
            found.append((lower, upper, kind, w, b, *rest))
    return found


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
        other = replace(case, parameters=nets.moved(case.parameters, along, t))
        return summed_loss(other, other.settle().states)

    return difference(settled_loss, 0.0, 1.0)


def summed_loss(case, states):
    """Return the loss of the batch at ``states``, with the weights that the case uses."""
    return case.network.loss_value(case.prepare().parameters, states, case.target).sum()


def pattern(case, states):
    """Return the winners at ``states``; a state on a clip fails here."""
    prepared = case.prepare()
    if case.network.architecture.activation == "hard_sigmoid":
        inside = states[:-1] if case.network.loss.linear_output and not case.network.architecture.readout else states
        inside = [
            s if m is None else s[m == 1] for s, m in zip(inside, case.masks or [None] * len(inside), strict=False)
        ]
        assert all(s.min() > 0 and s.max() < 1 for s in inside), "a unit crossed a clip: the law does not hold there"
    return [None if w is None else w.copy() for w in prepared.drives(states)[1]]


def assert_same_pattern(case, result):
    free = pattern(case, result.free.states)
    for phase in result.nudged:
        for a, b in zip(free, pattern(case, phase.states), strict=True):
            assert a is None or (a == b).all(), "a pool changed its winner: the law does not hold there"


def bias(case, stencil, along, exact, contrast=None):
    """Return how far an estimator is from the exact derivative along a direction."""
    result = estimate(
        case.network,
        case.parameters,
        case.x,
        case.target,
        stencil,
        Phases(2000, 2000, 1e-15),
        contrast=contrast,
        masks=case.masks,
    )
    assert_same_pattern(case, result)
    return nets.dot(result.gradient, along) - exact


ORDERS = ((one_sided, 2), (symmetric, 4))
ALL_ORDERS = (*ORDERS, (four_point, 16))


def check_order(case, contrast=None, exact=exact_derivative, orders=ORDERS, beta=0.04):
    """Halving beta divides the bias by 2, 4 or 16; it is small against the gradient.

    Of order 4, the bias of some cases is so small that rounding is all there is of it.
    """
    along = nets.direction(case.parameters, 11 if case.network.architecture.is_chain else 18)
    expected = exact(case, along)
    for stencil, ratio in orders:
        large, small = (bias(case, stencil(b), along, expected, contrast) for b in (beta, beta / 2))
        assert abs(small) <= 0.1 * abs(expected), (stencil.__name__, small, expected)
        negligible = ratio == 16 and abs(large) <= 1e-9 * abs(expected)
        assert negligible or abs(large / small - ratio) <= ORDER * ratio, (stencil.__name__, large, small, expected)


def implicit_derivative(case, along):
    """Return the derivative of the settled loss along a direction by implicit differentiation."""
    return nets.dot(implicit(case).gradient, along)


def implicit(case):
    result = implicit_gradient(case.prepare(), case.settle().states, case.target, 2000, 1e-15)
    assert result.residual <= 1e-14
    return result


def check_implicit(case):
    """Implicit differentiation is the derivative of the loss at the steady state; BPTT tends to it."""
    along = nets.direction(case.parameters)
    exact = implicit(case)
    assert_derivative(nets.dot(exact.gradient, along), exact_derivative(case, along))
    prepared = case.prepare()
    through_all = bptt_gradient(prepared, trajectory(prepared, 600, 300), case.target)
    for name, g in exact.gradient.items():
        assert relative_error(through_all[name], g) <= DIRECTIONAL, name


def check_bptt(case, T=5):
    """BPTT through all steps of a short, unsettled phase against central differences of its loss, all parameters."""
    prepared = case.prepare()
    gradient = bptt_gradient(prepared, trajectory(prepared, T, T), case.target)
    assert set(gradient) == set(case.parameters)

    def unrolled_loss(parameters):
        other = replace(case, parameters=parameters)
        prepared = other.prepare()
        return summed_loss(other, relax(prepared, prepared.zero_states(), T).states)

    for name, g in gradient.items():
        along = checks.numbers(g.shape, 7)

        def moved(t, name=name, along=along):
            return unrolled_loss(case.parameters | {name: case.parameters[name] + t * along})

        assert_derivative(checks.inner(g, along), difference(moved, 0.0, 1.0))


def check_truncation(case, T1=12, T2=4):
    """Segments change nothing, and BPTT through the last T2 steps is the sum of its last T2 contributions."""
    prepared = case.prepare()
    whole = [g for _, g in backpropagate(prepared, trajectory(prepared, T1, T1), case.target)]
    for segment in (0, 1, 3, T2):
        part = bptt_gradient(prepared, trajectory(prepared, T1, T2, segment), case.target)
        for name, g in part.items():
            expected = prepared.unscaled({name: sum(step[name] for step in whole[:T2])})[name]
            assert relative_error(g, expected) <= ORACLE[np.float64], (segment, name)


def check_steps(case, beta=1e-4, T2=6, contrast=None):
    """EP's update of every nudged step against BPTT's contribution of the mirrored one; they sum to the estimate."""
    prepared, free = case.prepare(), case.settle().states
    path = Trajectory([free], [T2], [free] * T2, Relaxation(free, 0.0, 0))
    mirrored = [g for _, g in backpropagate(prepared, path, case.target)]
    steps = list(ep_steps(prepared, free, case.target, symmetric(beta), T2, contrast))
    for t, (ep, bptt) in enumerate(zip(steps, mirrored, strict=True)):
        bptt = prepared.unscaled({name: g.copy() for name, g in bptt.items()})
        for name, g in bptt.items():
            scale = max(np.abs(other[name]).max() for other in mirrored)
            assert np.abs(ep[name] - g).max() <= 1e-5 * scale, (t, name)  # beta^2, and rounding over beta
    contrast = contrast or default_contrast(case.network)
    network, start = nudged_network(contrast, prepared, free)
    phases = [relax(network, start, T2, b, case.target).states for b in (beta, -beta)]
    terms = [(0.5 / beta, beta, phases[0]), (-0.5 / beta, -beta, phases[1])]
    total = prepared.unscaled(contrast(prepared, free, terms, case.target))
    for name, g in total.items():
        assert relative_error(sum(step[name] for step in steps), g) <= 1e-6, name


def check_moments(stencil: Stencil):
    """The coefficients sum to 0, and with beta to 1."""
    betas, coefficients = (np.array(column) for column in zip(*stencil.points, strict=True))
    assert abs(coefficients.sum()) <= ADJOINT[np.float64] * abs(coefficients).sum()
    assert abs((coefficients * betas).sum() - 1) <= ADJOINT[np.float64]


def check_step(case):
    """A step is sigma(dPhi/ds - beta dl/ds), layer by layer, all from the old states."""
    states, beta = case.random_states(), 0.3
    prepared = case.prepare()
    u = [d.copy() for d in vector_field(prepared, states)]
    u[-1] -= beta * case.network.dl_ds(case.parameters, states, case.target)
    expected = [sigma.value(un) for sigma, un in zip(case.network.activations, u, strict=True)]
    close = 0.0 if case.network.architecture.is_chain else ORACLE[np.float64]  # skips are added in another order
    for actual, wanted in zip(step(prepared, states, beta, case.target), expected, strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=close, atol=0)
    once = relax(case.prepare(), states, 1, beta, case.target)
    for actual, wanted in zip(once.states, expected, strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=close, atol=0)


# ---- asymmetric nudging


def check_jvp(case):
    """J v is how a step moves, by a central difference, and the adjoint of the J^T v of ``step_vjp``."""
    prepared, states = case.prepare(), case.random_states()
    v, u = ([checks.numbers(s.shape, seed + n) for n, s in enumerate(states)] for seed in (1, 51))
    forward = step_jvp(prepared, states, v)
    back, _ = step_vjp(prepared, states, u, by_parameters=False)
    sides = [sum(float(checks.inner(a, b)) for a, b in zip(*pair, strict=True)) for pair in ((forward, u), (v, back))]
    assert abs(sides[0] - sides[1]) <= ADJOINT[np.float64] * max(1.0, abs(sides[0]))
    moved = [
        [new.copy() for new in step(prepared, [s + t * STEP * vn for s, vn in zip(states, v, strict=True)])]
        for t in (1, -1)
    ]
    for a, b, expected in zip(*moved, forward, strict=True):
        assert np.abs((a - b) / (2 * STEP) - expected).max() <= DIRECTIONAL * max(1.0, np.abs(expected).max())


def check_asymmetric_field(case, distance=1e-4):
    """The field of the nudged phase is F(s) + (A^T - A)(s - s_*), the definition, where no pool switches."""
    prepared, free = case.prepare(), case.settle().states
    network, start = nudged_network(asymmetric_contrast, prepared, free)
    _, winners = prepared.drives(free)
    places = [None if w is None else w.copy() for w in prepared.feedback_winners(free, winners)]
    winners = [None if w is None else w.copy() for w in winners]
    away = [distance * checks.numbers(s.shape, n) for n, s in enumerate(free)]
    states = [s + d for s, d in zip(start, away, strict=True)]
    field = [u.copy() for u in vector_field(prepared, states)]
    turned = [a - b for a, b in zip(*(f(prepared, away, winners, places) for f in (field_vjp, field_jvp)), strict=True)]
    actual = vector_field(network, states)
    for own, plain, change in zip(actual, field, turned, strict=True):
        assert np.abs(own - plain - change).max() <= ORACLE[np.float64] * np.abs(plain).max()


def check_asymmetric(case, beta=1e-4, way=("synchronous", 1.0), joint=False):
    """At a small beta the symmetric estimate is the exact gradient of every parameter, backward weights included."""
    phases = Phases(3000, 3000, 1e-15, *way)
    given = (case.network, case.parameters, case.x, case.target, symmetric(beta), phases)
    result = estimate(*given, joint=joint, contrast=asymmetric_contrast, masks=case.masks)
    assert result.free.residual <= 1e-14
    exact = implicit_gradient(case.prepare(), result.free.states, case.target, 4000, 1e-15, way[1])
    assert exact.residual <= 1e-13
    assert set(result.gradient) == set(case.parameters) == set(exact.gradient)
    for name, g in exact.gradient.items():
        assert relative_error(result.gradient[name], g) <= ASYMMETRIC, name
    return result, exact


def check_asymmetric_order(case):
    """The bias falls by 2, 4 and 16 as beta is halved, for any weights."""
    check_order(case, asymmetric_contrast, implicit_derivative, ALL_ORDERS)
