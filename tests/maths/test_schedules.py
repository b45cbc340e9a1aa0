"""Even/odd sweeps, over-relaxed or not: layer by layer, to steady states and gradients of the net, in fewer steps."""

from __future__ import annotations

from weakref import ref

import nets
import numpy as np
import pytest

from eqnp.architecture import Architecture
from eqnp.connections.layers import DenseLayer
from eqnp.derivatives import step_jvp, step_vjp
from eqnp.dynamics import Phase, Phases, relax, residual
from eqnp.estimators import estimate
from eqnp.networks import SymmetricNetwork
from eqnp.ops.activations import ACTIVATIONS, LINEAR
from eqnp.ops.moves import Move
from eqnp.prepared import PreparedNetwork
from eqnp.stencils import symmetric
from eqnp.step import step

SWEEPS = pytest.mark.parametrize("schedule", ["even-odd", "up-down"])
OMEGA = pytest.mark.parametrize("omega", [1.0, 1.6, 0.5])
DROPOUT = pytest.mark.parametrize("dropout", [False, "weights", "states"], ids=["", "dropout", "scaled states"])


def bounds(case, n):
    """Return the range of the states s^{n+1}, which dropout may scale."""
    architecture, sigma = case.network.architecture, case.network.activations[n]
    scale = architecture.keep[n] if architecture.dropout_scaling == "states" else 1
    return sigma.low / scale, sigma.high / scale


def naive_sweep(case, states, beta, target, omega, schedule="even-odd"):
    """Layers one by one, each as a whole synchronous step would move it, in the order of the schedule."""
    new = [s.copy() for s in states]
    up = [[n] for n in range(len(new))]
    up_down = up if target is None else up[::-1]
    for layers in up_down if schedule == "up-down" else case.network.colours:
        for n in layers:
            goal = step(case.prepare(), new, beta, target)[n]
            nudged = target is not None and n + 1 == len(new)
            mask = 1 if case.masks is None or case.masks[n] is None else case.masks[n]
            far = min(omega, 1) if nudged else omega
            new[n] = mask * np.clip(new[n] + far * (goal - new[n]), *bounds(case, n))
    return new


@DROPOUT
@OMEGA
@SWEEPS
@pytest.mark.parametrize("kind", nets.KINDS)
@pytest.mark.parametrize(("shape", "loss"), nets.NETS)
def test_sweeps_against_layer_by_layer(shape, loss, kind, schedule, dropout, omega):
    case = nets.make(shape, loss, "half_hard_sigmoid", gain=2.0, kind=kind, dropout=dropout)
    for beta, target in ((0.0, None), (0.3, case.target)):
        states = case.random_states()
        swept = relax(case.prepare(), states, Phase(5, 0.0, schedule, omega), beta, target).states
        for _ in range(5):
            states = naive_sweep(case, states, beta, target, omega, schedule)
        for a, b in zip(swept, states, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-12)


@DROPOUT
@pytest.mark.parametrize("schedule", ["synchronous", "even-odd", "up-down"])
@pytest.mark.parametrize("kind", nets.KINDS)
@pytest.mark.parametrize(("shape", "loss"), nets.NETS)
def test_a_phase_from_zeros_is_one_from_states_that_are_zero(shape, loss, kind, schedule, dropout):
    """The feedback that is left out would have been zero: the same numbers."""
    case = nets.make(shape, loss, "half_hard_sigmoid", gain=2.0, kind=kind, dropout=dropout)
    for steps in (1, 3):
        phase = Phase(steps, 0.0, schedule, 1.6)
        known, given = (relax(case.prepare(), start, phase) for start in (None, case.prepare().zero_states()))
        assert known.residual == given.residual
        for a, b in zip(known.states, given.states, strict=True):
            np.testing.assert_array_equal(a, b)


def test_one_sweep_up_is_a_forward_pass_and_one_sweep_down_reaches_every_layer():
    case = nets.make("deep dense", "squared_error", "linear", gain=0.5)
    prepared = case.prepare()
    up = relax(prepared, None, Phase(1, schedule="up-down")).states
    forward = case.x.reshape(len(case.x), -1)
    for n, s in enumerate(up):
        forward = forward @ case.parameters[f"forward.{n}.weight"] + case.parameters[f"forward.{n}.bias"]
        np.testing.assert_allclose(s, forward, atol=1e-12)
    settled = relax(prepared, up, Phase(300, 1e-14, "up-down")).states
    moved = {}
    for schedule in ("even-odd", "up-down"):
        nudged = relax(prepared, settled, Phase(1, schedule=schedule), 0.5, case.target).states
        moved[schedule] = [bool(abs(a - b).max() > 1e-9) for a, b in zip(nudged, settled, strict=True)]
    assert all(moved["up-down"])
    assert moved["even-odd"][-1] and not moved["even-odd"][0]


@pytest.mark.parametrize(("shape", "loss"), nets.NETS)
def test_sweeps_settle_in_fewer_steps(shape, loss):
    """To a steady state of the synchronous step; with a maximum there are several, without it is the same one."""
    case = nets.make(shape, loss)
    arguments = (case.network, case.parameters, case.x, case.target, symmetric(0.05))
    both = {name: estimate(*arguments, Phases(500, 500, 1e-14, name)) for name in ("synchronous", "even-odd")}
    sweeps, steps = both["even-odd"], both["synchronous"]
    assert sweeps.free.steps <= steps.free.steps
    assert residual(step(case.prepare(), sweeps.free.states), sweeps.free.states) <= 1e-13
    if shape in ("dense", "deep dense", "average"):
        for a, b in zip(sweeps.free.states, steps.free.states, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-12)
        for name, g in steps.gradient.items():
            np.testing.assert_allclose(sweeps.gradient[name], g, atol=1e-10)


@DROPOUT
@OMEGA
@pytest.mark.parametrize(("shape", "loss"), nets.NETS)
def test_synchronous_steps_go_omega_times_the_way(shape, loss, omega, dropout):
    case = nets.make(shape, loss, "half_hard_sigmoid", gain=2.0, dropout=dropout)
    masks = case.masks or [None] * 9
    for beta, target in ((0.0, None), (0.3, case.target)):
        old = case.random_states()
        old = [s if m is None else m * s for s, m in zip(old, masks, strict=False)]
        goal = step(case.prepare(), old, beta, target)
        relaxed = relax(case.prepare(), old, Phase(1, omega=omega), beta, target)
        for n, (s, new) in enumerate(zip(old, relaxed.states, strict=True)):
            far = min(omega, 1) if target is not None and n + 1 == len(old) else omega
            np.testing.assert_allclose(new, np.clip(s + far * (goal[n] - s), *bounds(case, n)), atol=1e-13)
        assert relaxed.residual == residual(relaxed.states, old)


@pytest.mark.parametrize("omega", [1.0, 1.6])
@pytest.mark.parametrize("schedule", ["synchronous", "even-odd"])
@pytest.mark.parametrize("loss", ["squared_error", "cross_entropy"])
def test_a_net_of_one_layer_keeps_its_drive(loss, schedule, omega):
    """Its only state is driven by the input alone, and that drive stands still."""
    network = SymmetricNetwork(Architecture((6,), (DenseLayer(4),), "hard_sigmoid", loss))
    generator = np.random.default_rng(0)
    parameters = network.architecture.initial_parameters(generator, 2.0, np.float64)
    prepared = PreparedNetwork(network, parameters, generator.random((3, 6)))
    before = prepared.from_input[0][0].copy()
    free = relax(prepared, prepared.zero_states(), Phase(5, 1e-300, schedule, omega))
    relax(prepared, free.states, Phase(5, 0.0, schedule, omega), 0.3, np.eye(4)[:3])
    np.testing.assert_array_equal(prepared.from_input[0][0], before)


@OMEGA
def test_jointly_is_apart(omega):
    case = nets.make("max", "cross_entropy_readout")
    arguments = (case.network, case.parameters, case.x, case.target, symmetric(0.1))
    phases = Phases(9, 5, schedule="even-odd", omega=omega)
    apart, joint = (estimate(*arguments, phases, joint=joint).gradient for joint in (False, True))
    for name, g in apart.items():
        np.testing.assert_allclose(joint[name], g, atol=1e-12)


@pytest.mark.parametrize("shape", ["deep dense", "branches"])
def test_a_sweep_computes_what_a_step_does(monkeypatch, shape):
    """Counted: every drive once, every feedback once, of the three edges that do not start at the input."""
    case = nets.make(shape)
    counts = {}

    def count(name):
        original = getattr(type(case.network.connections[1]), name)

        def counted(self, *args):
            counts[name] = counts.get(name, 0) + 1
            return original(self, *args)

        monkeypatch.setattr(type(case.network.connections[1]), name, counted)

    prepared = case.prepare()
    for name in ("drive", "feedback"):
        count(name)
    found = {}
    for schedule in ("synchronous", "even-odd"):
        for steps in (10, 20):
            counts.clear()
            relax(prepared, prepared.zero_states(), Phase(steps, schedule=schedule))
            found[schedule, steps] = dict(counts)
    for name in ("drive", "feedback"):
        per_step = {s: found[s, 20][name] - found[s, 10][name] for s in ("synchronous", "even-odd")}
        assert per_step["synchronous"] == per_step["even-odd"] == 30


@pytest.mark.parametrize("sigma", ACTIVATIONS.values(), ids=lambda sigma: sigma.name)
def test_a_move_by_hand(sigma):
    u, old = np.array([-3.0, 0.2, 0.8, 5.0, 7.0]), np.array([0.1, 0.3, -0.1, 0.4, 5.5])
    goal = sigma.value(u)
    for omega in (0.5, 1.0, 1.6):
        out = np.empty_like(u)
        assert Move(sigma, old, out, omega).take(u) is None
        expected = np.minimum(np.maximum((1 - omega) * old + omega * goal, sigma.low), sigma.high)
        np.testing.assert_allclose(out, expected, atol=1e-15)
        assert Move(sigma, old, out, omega, measured=True).take(u) == np.abs(out - old).max()
    assert (sigma.value(np.array([-50.0, 50.0])) == np.clip([-50.0, 50.0], sigma.low, sigma.high)).all()


def energy(prepared, states, slopes):
    """Sum of s^2 / (2 a) - Phi: what a free phase of a symmetric net with sigma(u) = clip(a u, low, high) lowers."""
    phi = prepared.network.primitive_function(prepared.parameters, prepared.x, states)
    return sum((s**2).sum() / (2 * a) for s, a in zip(states, slopes, strict=True)) - phi.sum()


@pytest.mark.parametrize(("activation", "slope"), [("half_hard_sigmoid", 0.5), ("hard_sigmoid", 1.0), ("relu6", 1.0)])
@pytest.mark.parametrize("loss", ["cross_entropy_readout", "cross_entropy"])
@pytest.mark.parametrize("shape", nets.SHAPES)
@pytest.mark.parametrize("omega", [0.4, 1.0, 1.6, 1.95])
@SWEEPS
def test_every_sweep_lowers_the_energy(shape, schedule, omega, loss, activation, slope):
    """By at least (1 / omega - 1 / 2) |s' - s|^2 / a, however large the weights are."""
    for gain in (1.0, 30.0):
        case = nets.make(shape, loss, activation, gain)
        prepared, states = case.prepare(), case.random_states()
        slopes = [1.0 if sigma is LINEAR else slope for sigma in case.network.activations]
        before = energy(prepared, states, slopes)
        for _ in range(30):
            new = relax(prepared, states, Phase(1, 0.0, schedule, omega)).states
            moved = sum(((b - s) ** 2).sum() / a for b, s, a in zip(new, states, slopes, strict=True))
            after = energy(prepared, new, slopes)
            assert after <= before - (1 / omega - 1 / 2) * moved + 1e-11 * abs(before)
            before, states = after, new


UNBOUNDED = [(shape, "relu") for shape in nets.SHAPES] + [(shape, "linear") for shape in ("deep dense", "average")]


@pytest.mark.parametrize(("shape", "activation"), UNBOUNDED)
@pytest.mark.parametrize("omega", [0.4, 1.0, 1.6, 1.95])
@SWEEPS
def test_every_sweep_lowers_the_energy_without_bounds(shape, activation, schedule, omega):
    """Also while the states grow without limit, as they do at a gain of 3."""
    for gain in (0.3, 3.0):
        case = nets.make(shape, "squared_error", activation, gain)
        prepared, states = case.prepare(), case.random_states()
        slopes = [1.0] * len(states)
        before = energy(prepared, states, slopes)
        for _ in range(8):
            new = relax(prepared, states, Phase(1, 0.0, schedule, omega)).states
            moved = sum(((b - s) ** 2).sum() for b, s in zip(new, states, strict=True))
            after = energy(prepared, new, slopes)
            assert after <= before - (1 / omega - 1 / 2) * moved + 1e-11 * (abs(before) + moved)
            assert activation == "linear" or min(s.min() for s in new) >= 0
            before, states = after, new


@pytest.mark.parametrize("activation", ["relu", "linear"])
@pytest.mark.parametrize("omega", [1.0, 1.6, 1.95])
def test_states_without_bounds_stay_finite_for_small_weights_alone(activation, omega):
    """Enough is: the spectral norms of the weights to other states sum to less than 1 for every layer."""
    for norm, settles in ((0.45, True), (3.0, False)):
        case = nets.make("deep dense", "squared_error", activation)
        for n in (1, 2, 3):
            w = abs(case.parameters[f"forward.{n}.weight"])
            case.parameters[f"forward.{n}.weight"] = w * norm / np.linalg.norm(w, 2)
        found = relax(case.prepare(), case.random_states(), Phase(2000 if settles else 50, 1e-12, "even-odd", omega))
        assert (found.residual <= 1e-12) is settles
        assert (max(abs(s).max() for s in found.states) > 1e6) is not settles


def test_over_relaxed_sweeps_settle_in_fewer():
    """Where the residual falls slowly: strong weights, but not so strong that all units stand at a clip."""
    for shape in ("deep dense", "max", "average"):
        case = nets.make(shape, "cross_entropy_readout", "half_hard_sigmoid", 2.5)
        steps = [
            relax(case.prepare(), case.random_states(), Phase(5000, 1e-12, "even-odd", omega)).steps
            for omega in (1.0, 1.3)
        ]
        assert steps[1] < steps[0], (shape, steps)


@pytest.mark.parametrize("kind", nets.KINDS)
@pytest.mark.parametrize("T2", [1, 3])
@pytest.mark.parametrize("dropout", [False, "states"])
@pytest.mark.parametrize("shape", ["deep dense", "max", "every edge"])
def test_drives_that_are_known_change_no_number(shape, kind, T2, dropout):
    """Nudged sweeps down begin with drives of the last free sweep up: as if every phase had a network of its own."""
    case = nets.make(shape, "cross_entropy_readout", "half_hard_sigmoid", 2.0, kind=kind, dropout=dropout)
    phases = Phases(3, T2, schedule="up-down")
    found = estimate(case.network, case.parameters, case.x, case.target, symmetric(0.3), phases, masks=case.masks)
    free = relax(case.prepare(), case.prepare().zero_states(), phases.free).states
    for s, own in zip(free, found.free.states, strict=True):
        np.testing.assert_array_equal(s, own)
    for beta, nudged in zip((0.3, -0.3), found.nudged, strict=True):
        alone = relax(case.prepare(), free, phases.nudged, beta, case.target).states
        for s, own in zip(alone, nudged.states, strict=True):
            np.testing.assert_array_equal(s, own)


def test_a_known_drive_is_that_of_the_same_array_alone():
    case = nets.make("max")
    prepared, states = case.prepare(), case.random_states()
    link = prepared.links[1]
    first = link.drive(states[0])
    assert link.drive(states[0], unchanged=True)[0] is first[0]
    other = states[0] + 1
    expected = case.prepare().links[1].drive(other)[0]
    np.testing.assert_array_equal(link.drive(other, unchanged=True)[0], expected)
    link.winners(states[0])
    np.testing.assert_array_equal(link.drive(other, unchanged=True)[1], case.prepare().links[1].drive(other)[1])


@pytest.mark.parametrize("differentiate", [step_vjp, step_jvp])
def test_derivatives_between_phases_change_no_number(differentiate):
    """They write to the buffers of the drives, which a nudged sweep must not take for drives then."""
    case = nets.make("deep dense", "cross_entropy_readout", "half_hard_sigmoid", 2.0)
    free, nudged = Phase(3, schedule="up-down"), Phase(1, schedule="up-down")
    prepared = case.prepare()
    states = relax(prepared, None, free).states
    differentiate(prepared, states, [np.ones_like(s) for s in states])
    found = relax(prepared, states, nudged, 0.3, case.target, unchanged=True).states
    for s, alone in zip(found, relax(case.prepare(), states, nudged, 0.3, case.target).states, strict=True):
        np.testing.assert_array_equal(s, alone)


@pytest.mark.parametrize("schedule", ["synchronous", "even-odd"])
def test_a_phase_keeps_no_states_but_its_last_ones(schedule):
    """Those of the step before are as large, and not needed."""
    prepared, seen = nets.make("max").prepare(), []
    relaxed = relax(
        prepared, None, Phase(4, schedule=schedule), observe=lambda t, states: seen.append([*map(ref, states)])
    )
    assert all(each() is s for each, s in zip(seen[3], relaxed.states, strict=True))
    assert not any(each() is not None for each in seen[2])
