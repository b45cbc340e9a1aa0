"""Weak feedback: the weighted energy, exact gradients of every estimator, and backpropagation as its limit."""

from __future__ import annotations

from dataclasses import replace

import derivatives
import nets
import numpy as np
import pytest
from tolerances import relative_error

import eqnp.derivatives
from eqnp import contrasts
from eqnp.analysis.energy import energy
from eqnp.architecture import Architecture
from eqnp.connections.layers import DenseLayer
from eqnp.contrasts import common_contrast, vector_field_contrast
from eqnp.dynamics import Phase, Phases, relax
from eqnp.errors import ConfigurationError
from eqnp.estimators import estimate
from eqnp.networks import SymmetricNetwork
from eqnp.prepared import PreparedNetwork
from eqnp.reference import implicit_gradient
from eqnp.runs.layouts import to_published
from eqnp.stencils import circle, symmetric

WEAK = {"feedback": 0.4}
CASES = [(shape, "cross_entropy_readout") for shape in nets.SHAPES] + [("deep dense", "squared_error")]
OWN = "own winners"


@pytest.mark.parametrize(("shape", "loss"), CASES)
def test_phi_has_the_energy_weights_and_a_step_is_its_derivative_without_them(shape, loss):
    case = nets.make(shape, loss, **WEAK)
    derivatives.check_phi(case)
    derivatives.check_step(case)


@pytest.mark.parametrize(("shape", "loss"), CASES)
def test_the_order_of_the_estimators(shape, loss):
    derivatives.check_order(nets.make(shape, loss, **WEAK))


@pytest.mark.parametrize("dropout", ["weights", "states"])
def test_the_order_with_dropout(dropout):
    derivatives.check_order(nets.make("deep dense", "cross_entropy_readout", dropout=dropout, **WEAK))


@pytest.mark.parametrize("kind", nets.KINDS)
@pytest.mark.parametrize("shape", ["deep dense", "branches", "strided"])
def test_backpropagation_through_time_and_its_limit(shape, kind):
    derivatives.check_bptt(nets.make(shape, "cross_entropy_readout", "tanh", kind=kind, **WEAK))
    derivatives.check_implicit(nets.make_settling(shape, "cross_entropy_readout", kind=kind, **WEAK))


def test_ep_equals_bptt_step_by_step():
    derivatives.check_steps(nets.make("deep dense", "squared_error", "tanh", gain=0.5, **WEAK))


@pytest.mark.parametrize("contrast", [vector_field_contrast, common_contrast])
def test_vector_fields_with_tied_weights_learn_as_the_symmetric_network_does(contrast):
    """Each of its two gradients, and twice their mean, is the symmetric network's: both weights are the same there."""
    given = {"gain": 0.3, **WEAK}
    tied = nets.make("deep dense", "cross_entropy_readout", "tanh", kind=OWN, tied=True, **given)
    shared = nets.make("deep dense", "cross_entropy_readout", "tanh", **given)
    shared.parameters = {name: tied.parameters[name] for name in shared.parameters}
    shared.x, shared.target = tied.x, tied.target
    beta = symmetric(1e-3)
    found = [
        estimate(c.network, c.parameters, c.x, c.target, beta, Phases(900, 900, 1e-16), contrast=of).gradient
        for c, of in ((tied, contrast), (shared, None))
    ]
    for name, g in found[1].items():
        backward = name.replace("forward", "backward") if name.startswith("forward") else ""
        both = found[0][name] + found[0].get(backward, 0)
        expected = 2 * g if contrast is common_contrast and backward in found[0] else g
        assert relative_error(both, expected) <= 1e-4, name


@pytest.mark.parametrize("shape", ["deep dense", "max", "branches"])
def test_asymmetric_nudging_stays_exact(shape):
    case = nets.make_settling(shape, "cross_entropy_readout", kind=OWN, **WEAK)
    derivatives.check_asymmetric(case)


def test_points_on_a_circle_stay_exact():
    case = nets.make("average", "squared_error", "tanh", gain=0.5, **WEAK)
    result = estimate(case.network, case.parameters, case.x, case.target, circle(0.1, 8), Phases(800, 800, 1e-16))
    exact = implicit_gradient(case.prepare(), result.free.states, case.target, 2000, 1e-16)
    for name, g in exact.gradient.items():
        assert relative_error(result.gradient[name], g) <= 1e-5, name


def test_it_is_the_network_with_full_feedback_in_other_units():
    """With s_n = t_n / a_n, a_n = sqrt(c_n), a linear network is one of full feedback with weights W a_j / a_i."""
    case = nets.make("deep dense", "squared_error", "linear", gain=0.5, **WEAK)
    architecture = case.network.architecture
    a = [1.0, *(np.sqrt(architecture.energy_weight(n)) for n in (1, 2, 3, 4))]
    scales = {e.bias: a[e.upper] for e in architecture.edges}
    scales |= {f"{e.name}.weight": a[e.upper] / a[e.lower] for e in architecture.edges}
    full = SymmetricNetwork(replace(architecture, feedback=1.0))
    parameters = {name: p * scales[name] for name, p in case.parameters.items()}
    phases = Phases(2000, 2000, 1e-15)
    weak = estimate(case.network, case.parameters, case.x, case.target, symmetric(0.3), phases)
    other = estimate(full, parameters, case.x, case.target, symmetric(0.3), phases)
    for n, (s, t) in enumerate(zip(weak.free.states, other.free.states, strict=True), start=1):
        assert relative_error(s * a[n], t) <= 1e-12
    for name, g in weak.gradient.items():
        assert relative_error(g, other.gradient[name] * scales[name]) <= 1e-10, name


def test_the_limit_of_weak_feedback_is_backpropagation():
    """The distance from the gradient of the network without any feedback falls in proportion to the feedback."""
    found = []
    for feedback in (0.02, 0.01):
        case = nets.make("deep dense", "squared_error", "tanh", gain=0.5, feedback=feedback)
        free = case.settle()
        exact = implicit_gradient(case.prepare(), free.states, case.target, 2000, 1e-16).gradient
        forward = backpropagated(case)
        found.append(max(relative_error(exact[name], g) for name, g in forward.items()))
    assert found[0] < 0.1 and abs(found[0] / found[1] - 2) < 0.1


def backpropagated(case):
    """Return the gradient of a dense tanh network without feedback, by backpropagation, biases left out."""
    p, states, slopes = case.parameters, [case.x.reshape(len(case.x), -1)], []
    count = len(case.network.activations)
    for n in range(count):
        u = states[-1] @ p[f"forward.{n}.weight"] + p[f"forward.{n}.bias"]
        states.append(np.tanh(u))
        slopes.append(1 - np.tanh(u) ** 2)
    delta, gradient = states[-1] - case.target, {}
    for n in reversed(range(count)):
        delta = delta * slopes[n]
        gradient[f"forward.{n}.weight"] = states[n].T @ delta
        delta = delta @ p[f"forward.{n}.weight"].T
    return gradient


@pytest.mark.parametrize("schedule", ["even-odd", "up-down"])
@pytest.mark.parametrize("omega", [0.5, 1.0, 1.9])
@pytest.mark.parametrize("shape", ["deep dense", "max", "every edge"])
def test_every_sweep_lowers_the_weighted_energy(shape, schedule, omega):
    case = nets.make(shape, "cross_entropy", "hard_sigmoid", 10.0, **WEAK)
    prepared, states = case.prepare(), case.random_states()
    weights = [case.network.architecture.energy_weight(n + 1) for n in range(len(states))]
    before = energy(case.network, case.parameters, case.x, states).sum()
    for _ in range(20):
        new = relax(prepared, states, Phase(1, 0.0, schedule, omega)).states
        moved = sum(c * ((b - s) ** 2).sum() for c, b, s in zip(weights, new, states, strict=True))
        after = energy(case.network, case.parameters, case.x, new).sum()
        assert after <= before - (1 / omega - 1 / 2) * moved + 1e-11 * abs(before)
        before, states = after, new


def test_weak_feedback_settles_in_fewer_sweeps():
    steps = []
    for feedback in (1.0, 0.5, 0.1):
        case = nets.make("max", "cross_entropy_readout", "half_hard_sigmoid", 2.0, feedback=feedback)
        steps.append(relax(case.prepare(), None, Phase(5000, 1e-10, "up-down")).steps)
    assert steps[0] > steps[1] > steps[2]


def without_factor(function):
    """The derivative by the feedback's weights as if the feedback were not weakened."""
    return lambda network, e, s, v, winner: {
        name: g / network.network.architecture.weakening(network.network.edges[e])
        for name, g in function(network, e, s, v, winner).items()
    }


WRONG = [
    (eqnp.derivatives, "weighted", lambda _: lambda network, g: g, lambda c: derivatives.check_order(c)),
    (contrasts, "weighted", lambda _: lambda network, g: g, lambda c: derivatives.check_order(c)),
    (Architecture, "energy_weight", lambda f: lambda self, n: 1 / f(self, n), lambda c: derivatives.check_order(c)),
    (Architecture, "weakening", lambda f: lambda self, e: 1 / f(self, e), lambda c: derivatives.check_order(c)),
    (eqnp.derivatives, "feedback_gradient", without_factor, lambda c: derivatives.check_implicit(c)),
    (PreparedNetwork, "unscaled", lambda _: lambda self, g: {n: 2 * a for n, a in g.items()}, derivatives.check_order),
]


@pytest.mark.parametrize(("owner", "name", "mutate", "check"), WRONG, ids=lambda v: getattr(v, "__name__", v))
def test_a_wrong_factor_is_noticed(monkeypatch, owner, name, mutate, check):
    case = nets.make("deep dense", "cross_entropy_readout", **WEAK)
    check(case)
    monkeypatch.setattr(owner, name, mutate(getattr(owner, name)))
    with pytest.raises(AssertionError):
        check(case)


@pytest.mark.parametrize("feedback", [0.0, -0.5, 1.5, float("nan"), "0.5", None])
def test_what_is_no_weak_feedback(feedback):
    with pytest.raises(ConfigurationError, match=r"model\.feedback"):
        Architecture((4,), (DenseLayer(3),), feedback=feedback)


def test_a_numpy_number_changes_no_dtype():
    """The weights of the energy are powers of it, and multiply arrays of float32."""
    assert type(Architecture((4,), (DenseLayer(3),), feedback=np.float64(0.5)).feedback) is float


def test_weights_of_the_energy_that_would_overflow():
    layers = (DenseLayer(3),) * 5
    Architecture((4,), layers, feedback=1e-3)
    with pytest.raises(ConfigurationError, match=r"model\.feedback: 1e-11 is too small for 4 layers .* at least 1e-05"):
        Architecture((4,), layers, loss="cross_entropy_readout", feedback=1e-11)


def test_the_published_code_has_no_weak_feedback():
    case = nets.make("max", "cross_entropy_readout", **WEAK)
    with pytest.raises(ConfigurationError, match=r"model\.feedback"):
        to_published(case.network.architecture, case.parameters)
