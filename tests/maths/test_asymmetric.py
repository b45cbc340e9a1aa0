"""Asymmetric nudging: the exact gradient of a vector field with any weights, and what it costs."""

from __future__ import annotations

import sys
from collections import Counter

import checks
import derivatives
import nets
import numpy as np
import pytest
from learners import batch, learner
from tolerances import SETTLED, relative_error

from eqnp import asymmetric, contrasts, ops
from eqnp.asymmetric import turn, turned_colours
from eqnp.backends.sharding import serial_map
from eqnp.connections.conv_pool import ConvPoolConnection
from eqnp.connections.dense import DenseConnection
from eqnp.contrasts import asymmetric_contrast, common_contrast, vector_field_contrast
from eqnp.dynamics import Phase, Phases, relax, sweep_order
from eqnp.estimators import estimate
from eqnp.reference import implicit_gradient
from eqnp.stencils import four_point, one_sided, symmetric
from eqnp.step import Memory, step, sweep
from eqnp.training import initial_state, train_batch

OWN, FORWARD = KINDS = nets.KINDS[1:]
NETS = pytest.mark.parametrize(("shape", "loss"), nets.NETS)
FEW = pytest.mark.parametrize(
    ("shape", "loss"), [("max", "cross_entropy_readout"), ("deep dense", "squared_error"), ("strided", "cross_entropy")]
)
DROPOUT = pytest.mark.parametrize("dropout", ["weights", "states"])


@NETS
def test_a_step_and_its_adjoint(shape, loss):
    for kind in nets.KINDS:
        derivatives.check_jvp(nets.make(shape, loss, "tanh", kind=kind, gain=0.7))


@DROPOUT
@FEW
def test_a_step_and_its_adjoint_with_dropout(shape, loss, dropout):
    derivatives.check_jvp(nets.make(shape, loss, "tanh", kind=OWN, gain=0.7, dropout=dropout))


@NETS
def test_the_field_is_the_definition(shape, loss):
    derivatives.check_asymmetric_field(nets.make_settling(shape, loss, kind=OWN))


@NETS
def test_the_order_of_every_stencil(shape, loss):
    derivatives.check_asymmetric_order(nets.make_settling(shape, loss, kind=OWN))


@DROPOUT
@FEW
def test_the_order_with_dropout(shape, loss, dropout):
    derivatives.check_asymmetric_order(nets.make_settling(shape, loss, kind=FORWARD, dropout=dropout))


@pytest.mark.parametrize("kind", KINDS)
@NETS
def test_every_weight_gets_its_exact_gradient(shape, loss, kind):
    """The plain estimate is far from it."""
    case = nets.make_settling(shape, loss, kind=kind)
    _, exact = derivatives.check_asymmetric(case)
    phases = Phases(3000, 3000, 1e-15)
    plain = estimate(case.network, case.parameters, case.x, case.target, symmetric(1e-4), phases).gradient
    backward = [name for name in exact.gradient if name.startswith("backward.")]
    assert len(backward) == sum(bool(edge.lower) for edge in case.network.edges)
    assert all(relative_error(plain[name], exact.gradient[name]) > 0.05 for name in backward)


@pytest.mark.parametrize("joint", [False, True], ids=["apart", "jointly"])
@DROPOUT
@FEW
def test_the_exact_gradient_with_dropout(shape, loss, dropout, joint):
    derivatives.check_asymmetric(nets.make_settling(shape, loss, kind=OWN, dropout=dropout), joint=joint)


CLIPS = ("hard_sigmoid", "half_hard_sigmoid", "centered_hard_sigmoid", "relu", "relu6")


DAMPED = ("even-odd", 0.8)


def make_activated(activation, loss):
    """Return a case that settles; units of clips are at both ends of the range. Own winners may go round for ever."""
    for seed in range(30):
        case = nets.make("max", loss, activation, kind=OWN, gain=0.9 if activation in CLIPS else 0.5, seed=seed)
        for name in case.parameters:
            if name.endswith(".bias") and activation in CLIPS:
                case.parameters[name] += checks.numbers(case.parameters[name].shape, 4) * 0.8
        prepared = case.prepare()
        if relax(prepared, prepared.zero_states(), Phase(3000, 1e-15, *DAMPED)).residual <= 1e-14:
            return case
    raise AssertionError("no seed settles")


@pytest.mark.parametrize("activation", [*CLIPS, "sigmoid", "tanh", "linear"])
@pytest.mark.parametrize("loss", nets.LOSSES)
def test_every_activation(activation, loss):
    """Units that are saturated or inactive at the free state have D = 0, and stay where they are."""
    case = make_activated(activation, loss)
    result, _ = derivatives.check_asymmetric(case, beta=1e-6, way=DAMPED)
    sigma = case.network.activations[0]
    clipped = np.concatenate([((s == sigma.low) | (s == sigma.high)).ravel() for s in result.free.states[:-1]])
    assert (0 < clipped.mean() < 1) == (activation in CLIPS)


@FEW
def test_step_by_step_it_is_bptt(shape, loss):
    """Each nudged step's update is BPTT's contribution of the mirrored step, for any weights."""
    case = nets.make_settling(shape, loss, kind=OWN)
    derivatives.check_steps(case, contrast=asymmetric_contrast)
    with pytest.raises(AssertionError):
        derivatives.check_steps(case)


# ---- symmetric networks, stencils, free phases that have not settled


@NETS
def test_in_a_symmetric_network_it_changes_nothing(shape, loss):
    for case in (nets.make_settling(shape, loss), nets.make_settling(shape, loss, kind=OWN, tied=True)):
        prepared, free = case.prepare(), case.settle().states
        network, start = turn(prepared, free)
        for beta in (0.05, -0.05):
            plain, own = (relax(net, s, 7, beta, case.target).states for net, s in ((prepared, free), (network, start)))
            for a, b in zip(own, plain, strict=True):
                np.testing.assert_allclose(a, b, rtol=0, atol=SETTLED * abs(beta))


@pytest.mark.parametrize("make", [one_sided, symmetric, four_point])
@pytest.mark.parametrize("joint", [False, True], ids=["apart", "jointly"])
def test_jointly_is_apart(make, joint):
    case = nets.make("every edge", "cross_entropy_readout", kind=OWN)
    given = (case.network, case.parameters, case.x, case.target, make(0.1), Phases(20, 10))
    apart, together = (estimate(*given, joint=j, contrast=asymmetric_contrast).gradient for j in (False, joint))
    for name, g in apart.items():
        assert relative_error(together[name], g) <= SETTLED, name


def test_an_unsettled_free_phase_leaves_no_share_of_one_over_beta():
    """The free state of the nudged phases is at rest, so one- and two-sided estimates tend to the same."""
    case = nets.make("max", "cross_entropy_readout", "tanh", kind=OWN, gain=0.7)
    phases, found = Phases(4, 400), {}
    for make in (one_sided, symmetric):
        result = estimate(
            case.network, case.parameters, case.x, case.target, make(1e-5), phases, contrast=asymmetric_contrast
        )
        assert result.free.residual > 1e-3
        found[make] = result.gradient
    exact = implicit_gradient(case.prepare(), result.free.states, case.target, 4000, 1e-15).gradient
    for name, g in found[symmetric].items():
        assert relative_error(found[one_sided][name], g) <= 1e-3, name
        assert relative_error(g, exact[name]) <= 0.05, name  # at a state that has not settled


def test_the_estimate_of_untied_weights_does_not_depend_on_the_kind_of_contrast_where_nothing_switches():
    """F is linear in the backward weights and states, so the plain contrast of asymmetric phases is the same."""
    case = nets.make_settling("max", "cross_entropy_readout", kind=OWN)
    prepared, free = case.prepare(), case.settle().states
    network, start = turn(prepared, free)
    terms = [(5.0 * np.sign(b), b, relax(network, start, 40, b, case.target).states) for b in (0.01, -0.01)]
    own, plain = (c(prepared, start, terms, case.target) for c in (asymmetric_contrast, vector_field_contrast))
    for name, g in own.items():
        assert relative_error(plain[name], g) <= SETTLED, name


# ---- whether it settles


def test_a_net_that_goes_round_in_circles_settles_damped():
    case = nets.spinning()
    assert case.settle(300).residual > 1
    derivatives.check_asymmetric(case, way=("synchronous", 0.5))


WAYS = [("up-down", 1.0), ("synchronous", 0.7), ("even-odd", 1.0), ("even-odd", 0.8), ("even-odd", 1.2)]


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("shape", ["deep dense", "max", "branches", "every edge"])
def test_schedules_and_omegas_have_the_same_nudged_states(shape, way):
    case = nets.make_settling(shape, "cross_entropy_readout", kind=FORWARD)
    network, start = turn(case.prepare(), case.settle().states)
    plain, other = (
        relax(network, start, Phase(2000, 1e-15, *each), 0.1, case.target) for each in (("synchronous", 1.0), way)
    )
    assert other.residual <= 1e-14
    for a, b in zip(other.states, plain.states, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=SETTLED)


def eigenvalues(network, states, schedule, is_nudged):
    """Return the sizes of the eigenvalues of a step or sweep of a linear net, from the largest down."""
    sizes = [s[0].size for s in states]

    def moved(flat):
        parts = np.split(flat, np.cumsum(sizes)[:-1])
        given = [p.reshape(s.shape) for p, s in zip(parts, states, strict=True)]
        _, winners = network.drives(given)
        if schedule == "synchronous":
            new = step(network, given)
        else:
            new = sweep(network, sweep_order(network.colours, schedule, is_nudged), Memory(winners), given)
        return np.concatenate([n.ravel() for n in new])

    zero = moved(np.zeros(sum(sizes)))
    matrix = np.stack([moved(e) - zero for e in np.eye(sum(sizes))], axis=1)
    return np.sort(np.abs(np.linalg.eigvals(matrix)))[::-1]


@pytest.mark.parametrize("schedule", ["synchronous", "even-odd", "up-down"])
@pytest.mark.parametrize("shape", ["deep dense", "residual", "branches"])
def test_nudged_phases_settle_as_fast_as_the_free_one(shape, schedule):
    """Steps have the free steps' eigenvalues; sweeps too, as they take the layers in reverse."""
    case = nets.make(shape, "squared_error", "linear", kind=OWN, gain=1.0, samples=1)
    prepared, states = case.prepare(), case.random_states()
    network, _ = turn(prepared, states)
    free, nudged = (
        eigenvalues(each, states, schedule, is_nudged) for each, is_nudged in ((prepared, False), (network, True))
    )
    np.testing.assert_allclose(nudged, free, atol=1e-6)  # multiple eigenvalues are known to a root of rounding


def test_sweeps_take_the_colours_in_reverse_from_that_of_the_nudged_layer():
    assert turned_colours(((1, 3), (0, 2)), 3) == ((1, 3), (0, 2))
    assert turned_colours(((1, 3), (0, 2)), 2) == ((0, 2), (1, 3))
    assert turned_colours(((2,), (1, 3), (0,)), 3) == ((1, 3), (2,), (0,))
    for shape in nets.SHAPES:
        case = nets.make(shape, "squared_error", kind=OWN)
        network, _ = turn(case.prepare(), case.random_states())
        assert sorted(network.colours) == sorted(case.network.colours)
        assert len(case.network.activations) - 1 in network.colours[0]


# ---- cost, and training


MAPS = ("drive", "drive_at_winners", "feedback", "update", "winners", "weight_gradient", "prepare")


def calls(monkeypatch, work):
    """Return how often ``work`` calls each map of a connection; calls inside another map are left out."""
    counts, inside = Counter(), []

    def counted(name, original):
        def call(*args, **options):
            if not inside:
                counts[name] += 1
            inside.append(name)
            try:
                return original(*args, **options)
            finally:
                inside.pop()

        return call

    with monkeypatch.context() as patch:
        for kind in (ConvPoolConnection, DenseConnection):
            for name in MAPS:
                patch.setattr(kind, name, counted(name, getattr(kind, name)))
        work()
    return counts


@pytest.mark.parametrize("schedule", ["synchronous", "even-odd", "up-down"])
@pytest.mark.parametrize("shape", ["max", "strided", "every edge"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_nudged_step_computes_the_maps_of_a_plain_one(monkeypatch, kind, shape, schedule):
    """One way up for a drive, one way down for a feedback, and no search for winners."""
    case = nets.make(shape, "cross_entropy_readout", kind=kind)
    prepared, states = case.prepare(), case.random_states()
    network, _ = turn(prepared, states)

    def steps(net, count):
        return lambda: relax(net, states, Phase(count, 0.0, schedule), 0.1, case.target)

    def of_a_step(net):
        more, fewer = (calls(monkeypatch, steps(net, count)) for count in (5, 4))
        return more - fewer

    plain, own = of_a_step(prepared), of_a_step(network)
    edges = sum(bool(edge.lower) for edge in case.network.edges)
    assert plain["drive"] == own["drive_at_winners"] == edges
    assert plain["update"] + plain["feedback"] == own["update"] + own["feedback"] == edges
    assert own["winners"] == own["drive"] == own["weight_gradient"] == own["prepare"] == 0
    assert (plain["winners"] > 0) == (kind == OWN)


def counted_norms(monkeypatch, work):
    """Return how often ``work`` computes the norms of the margins of ties."""
    calls, original = [], ops.reach
    with monkeypatch.context() as patch:
        patch.setattr(ops, "reach", lambda *args: calls.append(1) or original(*args))
        work()
    return len(calls)


@pytest.mark.parametrize("schedule", ["synchronous", "even-odd", "up-down"])
@pytest.mark.parametrize("form", ["direct", "winograd-2x2"])
@pytest.mark.parametrize("kind", nets.KINDS)
def test_norms_are_computed_once_a_step(monkeypatch, kind, form, schedule):
    """The drive and the feedback's own winners need the same norms of the same state."""
    case = nets.make("every edge", "cross_entropy_readout", kind=kind)
    case.network = type(case.network)(case.network.architecture, convolution=form)
    prepared, states = case.prepare(), case.random_states()
    pools = sum(bool(e.lower) and getattr(e.layer, "pool", "none") == "max" for e in case.network.edges)
    more, fewer = (
        counted_norms(monkeypatch, lambda count=count: relax(prepared, states, Phase(count, 0.0, schedule)))
        for count in (5, 4)
    )
    assert more - fewer == pools > 0


@pytest.mark.parametrize("form", ["direct", "winograd-2x2", "winograd-4x4"])
def test_known_norms_change_no_bit(form):
    case = nets.make("max", kind=OWN, samples=7)
    case.network = type(case.network)(case.network.architecture, convolution=form)
    states, other = case.random_states(), case.random_states(5)
    link = case.prepare().links[1]
    alone = link.feedback_winners(states[0]).copy()
    for before in (states[0], other[0]):  # the norms of another state are not taken
        link.drive(before)
        np.testing.assert_array_equal(link.feedback_winners(states[0]), alone)
    d, winner = (a.copy() for a in link.drive(states[0]))
    expected, found = link.connection.drive(link.up, link.bias, states[0])
    np.testing.assert_array_equal(d, expected)
    np.testing.assert_array_equal(winner, found)


SETTINGS = ["model.kind=vector-field", "training.nudging=asymmetric"]


def test_threads_change_only_the_sum():
    found = []
    for threads in (1, 3):
        made = learner([*SETTINGS, "model.layers.1.keep=0.8", f"training.threads={threads}"], dtype="float64")
        state = train_batch(made, initial_state(made, 1.5, "float64"), *batch(9, np.float64), serial_map)
        found.append(state.parameters)
    for name, p in found[0].items():
        assert relative_error(found[1][name], p) <= SETTLED, name


def test_the_key_chooses_the_contrast():
    assert learner(SETTINGS).contrast is asymmetric_contrast
    assert learner(SETTINGS[:1]).contrast is vector_field_contrast
    assert learner([*SETTINGS[:1], "training.common_update=true"]).contrast is common_contrast


def test_the_free_phase_is_not_changed():
    case = nets.make("max", "cross_entropy_readout", kind=OWN)
    given = (case.network, case.parameters, case.x, case.target, symmetric(0.1), Phases(6, 3))
    plain, own = (estimate(*given, contrast=c) for c in (None, asymmetric_contrast))
    for a, b in zip(plain.free.states, own.free.states, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(plain.loss, own.loss)


def test_dropped_units_stay_at_zero():
    case = nets.make("max", "cross_entropy_readout", kind=OWN, dropout=True)
    given = (case.network, case.parameters, case.x, case.target, symmetric(0.5), Phases(9, 5))
    for phase in estimate(*given, contrast=asymmetric_contrast, masks=case.masks).nudged:
        for s, mask in zip(phase.states, case.masks, strict=True):
            assert not s[mask == 0].any() and s[mask == 1].any()


# ---- what would be wrong is noticed


def at_the_given_state(original):
    """The nudged phases start at the end of the free phase, which may not have settled."""

    def broken(prepared, free, times=1):
        network, _ = original(prepared, free, times)
        return network, [np.concatenate([s] * times) for s in free] if times > 1 else [s.copy() for s in free]

    return broken


def input_counted_twice(original):
    """The drives of the input are in the constant, and are driven again."""

    def broken(prepared, winners, places, constant):
        network = original(prepared, winners, places, constant)
        first = {min(edges) for edges in prepared.network.into}
        network.from_input = {e: network.from_input[e] if e in first else d for e, d in prepared.from_input.items()}
        return network

    return broken


def other_order(original):
    """Samples of every set in reverse."""
    return lambda a, times: np.concatenate([a[::-1]] * times)


MUTATIONS = [
    ("turn", at_the_given_state, test_an_unsettled_free_phase_leaves_no_share_of_one_over_beta),
    ("_turned", input_counted_twice, lambda: test_the_field_is_the_definition("every edge", "cross_entropy")),
    ("_repeat", other_order, lambda: test_jointly_is_apart(symmetric, True)),
    ("turned_colours", lambda _: lambda colours, last: colours, lambda: settles_as_fast("residual")),
    ("turned_colours", lambda _: lambda colours, last: colours[::-1], lambda: settles_as_fast("residual")),
]


def settles_as_fast(shape):
    test_sweeps_take_the_colours_in_reverse_from_that_of_the_nudged_layer()
    test_nudged_phases_settle_as_fast_as_the_free_one(shape, True)


@pytest.mark.parametrize(("name", "mutate", "check"), MUTATIONS, ids=lambda v: getattr(v, "__name__", v))
def test_a_wrong_turn_is_noticed(monkeypatch, name, mutate, check):
    check()
    broken = mutate(getattr(asymmetric, name))
    for module in (asymmetric, contrasts, derivatives, sys.modules[__name__]):
        if hasattr(module, name):
            monkeypatch.setattr(module, name, broken)
    with pytest.raises(AssertionError):
        check()
