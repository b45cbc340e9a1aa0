"""Points on a circle (holomorphic EP): complex states, their gradients, the order in the radius, what is refused."""

from __future__ import annotations

import re

import circles
import derivatives
import nets
import numpy as np
import pytest
from commands import SMALL_OPTIONS, assert_fails, overrides, run, train_small
from tolerances import ADJOINT, ORACLE, ORDER, relative_error

from eqnp import contrasts, holomorphic
from eqnp.connections.forms import FORMS
from eqnp.dynamics import Phase, Phases, relax
from eqnp.errors import ConfigurationError
from eqnp.estimators import estimate
from eqnp.holomorphic import ComplexNetwork, require_holomorphic
from eqnp.losses import CrossEntropy, Loss
from eqnp.networks import SymmetricNetwork
from eqnp.ops.activations import ACTIVATIONS
from eqnp.ops.pairs import from_pair, to_conjugate_pair, to_pair
from eqnp.stencils import Stencil, circle, symmetric

SMOOTH = [name for name, sigma in ACTIVATIONS.items() if sigma.holomorphic]
NETS = pytest.mark.parametrize(("shape", "loss"), [(shape, loss) for shape in nets.HOLOMORPHIC for loss in nets.LOSSES])
BENT = {"activation": "tanh", "gain": 0.5}
# With squared error a nudged output unit has a branch point near |beta| = 1/2; cross-entropy reaches further.
RADIUS = {"squared_error": 0.2, "cross_entropy": 0.4, "cross_entropy_readout": 1.0}


def make(shape="average", loss="cross_entropy", **more):
    return nets.make(shape, loss, **(BENT | more))


# ---- complex arrays


def test_pairs():
    z = circles.complex_numbers((3, 2, 4), 0)
    assert to_pair(z).shape == (6, 2, 4) and to_pair(z).dtype == np.float64
    np.testing.assert_array_equal(from_pair(to_pair(z)), z)
    np.testing.assert_array_equal(from_pair(to_conjugate_pair(z)), np.conj(z))
    real = z.real.astype(np.float32)
    assert from_pair(to_pair(real)).dtype == np.complex64
    np.testing.assert_array_equal(from_pair(to_pair(real)), real)


@pytest.mark.parametrize("name", SMOOTH)
def test_a_holomorphic_activation_has_its_complex_derivative(name):
    sigma, u, along = ACTIVATIONS[name], *(circles.complex_numbers((50,), seed) for seed in (0, 1))
    expected = derivatives.difference(lambda t: sigma.value(u / 2 + t * along), 0.0, 1.0)
    derivatives.assert_derivative((sigma.derivative(u / 2) * along).sum(), expected.sum())
    real = np.linspace(-3, 3, 7)
    np.testing.assert_allclose(sigma.value(real + 0j), sigma.value(real), atol=1e-15)
    out = np.empty_like(u)
    np.testing.assert_array_equal(sigma.value(u, out=out), sigma.value(u))


def test_the_others_are_not():
    assert set(SMOOTH) == {"sigmoid", "tanh", "linear"}


def test_the_softmax_of_complex_logits_does_not_overflow_and_is_that_of_real_ones():
    o, y = circles.complex_numbers((5, 4), 0), np.eye(4)[[0, 1, 2, 3, 0]]
    loss = CrossEntropy()
    np.testing.assert_allclose(loss.gradient(o.real + 0j, y), loss.gradient(o.real, y), atol=1e-15)
    far = loss.gradient(o + 1e5, y)
    np.testing.assert_allclose(far, loss.gradient(o, y), atol=1e-10)


# ---- the derivatives


@NETS
def test_a_complex_step_is_the_holomorphic_one(shape, loss):
    for activation in SMOOTH:
        circles.check_complex_step(make(shape, loss, activation=activation))


@NETS
def test_complex_gradients(shape, loss):
    circles.check_complex_gradient(make(shape, loss))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", ["average", "every edge, averaged"])
def test_every_form_of_a_convolution_takes_complex_states(shape, form):
    case = make(shape)
    own = estimate(*arguments(case, circle(0.4, 4))).gradient
    case.network = SymmetricNetwork(case.network.architecture, form)
    for name, g in estimate(*arguments(case, circle(0.4, 4))).gradient.items():
        assert relative_error(g, own[name]) <= 1e-11, name


def arguments(case, stencil, phases=circles.PHASES):
    return case.network, case.parameters, case.x, case.target, stencil, phases


# ---- the estimate


@NETS
def test_the_order_of_a_circle_is_its_number_of_points(shape, loss):
    circles.check_circle_order(make(shape, loss), RADIUS[loss] / 4)


@NETS
def test_many_points_at_a_finite_radius_are_exact(shape, loss):
    circles.check_circle_is_exact(make(shape, loss), RADIUS[loss], 32)


@pytest.mark.parametrize("loss", nets.LOSSES)
def test_they_are_with_sigmoids(loss):
    circles.check_circle_is_exact(make("branches", loss, activation="sigmoid"), RADIUS[loss], 32)


@pytest.mark.parametrize("dropout", ["weights", "states"])
@pytest.mark.parametrize("loss", nets.LOSSES)
def test_with_dropout(loss, dropout):
    circles.check_circle_is_exact(make("deep dense", loss, dropout=dropout), RADIUS[loss] / 2, 32)


@pytest.mark.parametrize("shape", ["average", "every edge, averaged"])
@pytest.mark.parametrize("omega", [0.8, 1.0, 1.3])
def test_sweeps_settle_where_steps_do(shape, omega):
    case = make(shape, "cross_entropy_readout")
    settled = relax(case.prepare(), case.settle().states, Phase(2000, 1e-15), circles.BETA, case.target)
    phase = Phase(2000, 1e-15, "even-odd", omega)
    swept = relax(case.prepare(), case.settle().states, phase, circles.BETA, case.target)
    assert swept.residual <= 1e-14 and settled.residual <= 1e-14
    for a, b in zip(swept.states, settled.states, strict=True):
        assert a.dtype == np.complex128 and a.shape == b.shape
        np.testing.assert_allclose(a, b, atol=1e-13)


@pytest.mark.parametrize("dropout", ["weights", "states"])
def test_dropout_does_not_move_the_states_of_damped_steps(dropout):
    case = make("deep dense", "cross_entropy_readout", dropout=dropout)
    ends = [
        relax(case.prepare(), case.settle().states, Phase(3000, 1e-15, schedule, omega), circles.BETA, case.target)
        for schedule, omega in (("synchronous", 1.0), ("synchronous", 0.7), ("even-odd", 1.2))
    ]
    for end in ends[1:]:
        for a, b in zip(end.states, ends[0].states, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-13)


def test_two_points_are_the_symmetric_estimator():
    assert circle(0.3, 2).points == symmetric(0.3).points
    case = make()
    one, other = (estimate(*arguments(case, made)).gradient for made in (circle(0.3, 2), symmetric(0.3)))
    for name, g in one.items():
        np.testing.assert_array_equal(g, other[name])


@pytest.mark.parametrize("points", [4, 6, 8])
def test_half_of_the_points_are_enough(points):
    """s at the conjugate of beta is the conjugate of s: the points below the real axis need no run of their own."""
    case = make("average", "cross_entropy_readout")
    whole = estimate(*arguments(case, circles.whole_circle(0.6, points)))
    half = estimate(*arguments(case, circle(0.6, points)))
    assert len(whole.nudged) == points and len(half.nudged) == points // 2 + 1
    assert sum(s.states[0].dtype == np.float64 for s in half.nudged) == 2, "the points on the axis are real"
    for name, g in whole.gradient.items():
        assert relative_error(half.gradient[name], g) <= ORACLE[np.float64], name
    for upper, lower in zip(whole.nudged[1:], whole.nudged[:0:-1], strict=True):
        for s, conjugate in zip(upper.states, lower.states, strict=True):
            np.testing.assert_allclose(np.conj(s), conjugate, atol=1e-14)


def test_the_stencil_on_its_axis_and_above():
    for points in (2, 4, 6, 16):
        betas, coefficients = (np.array(column) for column in zip(*circle(0.7, points).points, strict=True))
        for m in range(2 * points + 2):
            expected = 0.7 ** (m - 1) if m % points == 1 else 0
            assert abs((coefficients * betas**m).sum().real - expected) <= ADJOINT[np.float64], (points, m)


def test_a_complex_beta_on_the_axis_is_a_real_one():
    case = make("average", "squared_error")
    free = case.settle().states
    real, found = (relax(case.prepare(), free, 7, beta, case.target) for beta in (0.2, 0.2 + 0j))
    for a, b in zip(real.states, found.states, strict=True):
        np.testing.assert_allclose(b, a, atol=1e-15)
    assert found.steps == 7 and found.residual == pytest.approx(real.residual)


def test_a_tiny_imaginary_beta_has_no_bias_and_no_rounding():
    """Im s / beta is a derivative without a difference, so a stencil of one complex point is exact at any tiny beta."""
    tiny = Stencil("imaginary", ((1e-20j, -1e20j),))
    for loss in nets.LOSSES:
        case = make("average", loss)
        exact = derivatives.implicit(case).gradient
        found = estimate(*arguments(case, tiny, Phases(400, 400))).gradient
        for name, g in exact.items():
            assert relative_error(found[name], g) <= ORACLE[np.float64], name


@pytest.mark.parametrize("joint", [False, True])
@pytest.mark.parametrize("dropout", [False, "states"])
def test_jointly_in_shards_and_observed(joint, dropout):
    case = make("deep dense", "cross_entropy_readout", dropout=dropout)
    whole = estimate(*arguments(case, circle(0.5, 6), Phases(20, 10)), masks=case.masks)
    total = {}
    for rows in (slice(0, 1), slice(1, 3)):
        masks = case.masks and [m if m is None else m[rows] for m in case.masks]
        part = (case.network, case.parameters, case.x[rows], case.target[rows], circle(0.5, 6), Phases(20, 10))
        for name, g in estimate(*part, joint=joint, masks=masks).gradient.items():
            total[name] = total.get(name, 0) + g
    for name, g in whole.gradient.items():
        np.testing.assert_allclose(total[name], g, atol=1e-12)


def test_what_is_observed_is_complex():
    case, seen = make(), []
    end = relax(case.prepare(), case.settle().states, 3, 0.2j, case.target, lambda t, s: seen.append((t, s)))
    assert [t for t, _ in seen] == [1, 2, 3]
    for a, b in zip(seen[-1][1], end.states, strict=True):
        np.testing.assert_array_equal(a, b)


def test_float32_stays_float32():
    case = make("average", "cross_entropy_readout")
    p, x, y = ({k: v.astype(np.float32) for k, v in case.parameters.items()}, *map(np.float32, (case.x, case.target)))
    result = estimate(case.network, p, x, y, circle(0.4, 4), Phases(60, 60))
    assert result.nudged[-1].states[0].dtype == np.complex64
    double = estimate(*arguments(case, circle(0.4, 4), Phases(60, 60))).gradient
    for name, g in result.gradient.items():
        assert g.dtype == np.float32 and relative_error(g, double[name]) <= 1e-4, name


# ---- what would be wrong is noticed


def bias_on_both_parts(original):
    def broken(self, e, states):
        d, winner = original(self, e, states)
        if e not in self.from_input and self._biases[e] is not None:
            d[len(self.x) :] += self._biases[e]
        return d, winner

    return broken


def conjugated(points):
    return lambda original: lambda *args: Stencil("broken", points(original(*args).points))


STEPS, GRADIENTS, ORDERS = (
    lambda check=check: check(make("average", "cross_entropy_readout"))
    for check in (circles.check_complex_step, circles.check_complex_gradient, circles.check_circle_order)
)


def dropped():
    test_with_dropout("cross_entropy", "weights")


def damped():
    test_dropout_does_not_move_the_states_of_damped_steps("states")


MUTATIONS = [
    (ComplexNetwork, "drive", bias_on_both_parts, STEPS),
    (holomorphic, "from_pair", lambda f: lambda *a: np.conj(f(*a)), STEPS),
    (holomorphic, "complex_outputs", lambda f: lambda *a: np.conj(f(*a)), STEPS),
    (CrossEntropy, "gradient", lambda f: lambda self, o, y, out=None: np.conj(f(self, o, y)), STEPS),
    (CrossEntropy, "gradient", lambda f: lambda self, o, y, out=None: abs(f(self, o, y)) + 0j, STEPS),
    (holomorphic, "dense_transpose", lambda f: lambda v, w: -f(v, w), STEPS),
    (holomorphic, "to_conjugate_pair", lambda f: to_pair, GRADIENTS),
    (holomorphic, "to_conjugate_pair", lambda f: lambda z: -f(z), GRADIENTS),
    (holomorphic, "to_pair", lambda f: to_conjugate_pair, GRADIENTS),
    (holomorphic, "complex_outputs", lambda f: lambda *a: np.conj(f(*a)), GRADIENTS),
    (holomorphic, "dense_weight_gradient", lambda f: lambda s, v: f(s[::-1], v), GRADIENTS),
    (ComplexNetwork, "nudge", lambda f: lambda self, s, b, y: f(self, s, b and np.conj(b), y), STEPS),
    (ComplexNetwork, "_before_mask", lambda f: lambda self, n, s: s, damped),
    (holomorphic, "_twice", lambda f: lambda a: np.concatenate([a, 0 * a]), dropped),
    (contrasts, "complex_dphi_dtheta", lambda f: lambda p, s, c, e: f(p, s, np.conj(c), e), ORDERS),
    (contrasts, "complex_dl_dtheta", lambda f: lambda p, s, c, y: f(p, s, 1j * c, y), ORDERS),
    (contrasts, "_real_part", lambda f: lambda a: f(np.conj(1j * a) if np.iscomplexobj(a) else a), ORDERS),
    (circles, "circle", conjugated(lambda p: tuple((b, np.conj(c)) for b, c in p)), ORDERS),
    (circles, "circle", conjugated(lambda p: tuple((b, c / 2 if np.iscomplexobj(b) else c) for b, c in p)), ORDERS),
    (circles, "circle", conjugated(lambda p: p[:2]), ORDERS),
]


@pytest.mark.parametrize(("owner", "name", "mutate", "check"), MUTATIONS)
def test_a_wrong_sign_conjugate_or_transpose_is_noticed(monkeypatch, owner, name, mutate, check):
    check()
    monkeypatch.setattr(owner, name, mutate(getattr(owner, name)))
    with pytest.raises((AssertionError, ValueError)):
        check()


# ---- what is refused


class OwnLoss(Loss):
    def value(self, o, y):
        return abs(o - y).sum(axis=1)

    def gradient(self, o, y, out=None):
        return np.sign(o - y)


@pytest.mark.parametrize(
    ("case", "words"),
    [
        (nets.make("dense"), ["hard_sigmoid of layer 1 is not holomorphic", "take sigmoid, tanh or linear"]),
        (nets.make("dense", activation="relu"), ["relu of layer 1"]),
        (nets.make("max", activation="tanh"), ["model.layers.0 (conv 3, 3x2)", "a maximum", "average pooling"]),
        (nets.make("every edge", activation="tanh"), ["maximum is not holomorphic"]),
        (nets.make("average", activation="tanh", kind="own winners"), ["vector field", "take a symmetric network"]),
        (nets.make("average", OwnLoss(), activation="tanh"), ["the loss OwnLoss is not holomorphic"]),
    ],
)
def test_a_network_that_is_not_holomorphic_is_refused(case, words):
    for attempt in (
        lambda: require_holomorphic(case.network),
        lambda: estimate(*arguments(case, circle(0.1, 4))),
        lambda: relax(case.prepare(), case.prepare().zero_states(), 3, 0.1j, case.target),
    ):
        with pytest.raises(ConfigurationError) as error:
            attempt()
        for word in words:
            assert word in str(error.value), error.value
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("points", [0, 1, 3, 5, -2, 2.0, 4.5, "four", None])
def test_points_odd_or_below_two(points):
    with pytest.raises(ValueError, match=r"points = .*: must be an even whole number, at least 2"):
        circle(0.1, points)


@pytest.mark.parametrize("beta", [complex("nan"), complex(0, float("inf"))])
def test_a_complex_beta_must_be_finite(beta):
    case = make()
    with pytest.raises(ValueError, match="must be finite"):
        relax(case.prepare(), case.prepare().zero_states(), 3, beta, case.target)
    with pytest.raises(ValueError, match="finite"):
        Stencil("own", ((beta, 1.0),))
    with pytest.raises(ValueError, match="needs a target"):
        relax(case.prepare(), case.prepare().zero_states(), 3, 0.1j)


SMOOTH_NET = overrides("model.activation=tanh", "model.layers=[{conv=3,kernel=5,pool='average'},{dense=10}]")
CIRCLE = overrides("training.estimator=circle")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ([], ["training.estimator = circle", "half_hard_sigmoid of layer 1", "take sigmoid, tanh or linear"]),
        (["model.activation=tanh"], ["training.estimator = circle", "model.layers.0", "average pooling"]),
        (["model.kind=vector-field"], ["training.estimator = circle", "vector field"]),
        (["dynamics.points=3"], ["dynamics.points = 3", "even"]),
        (["dynamics.points=1"], ["dynamics.points", "from 2 to"]),
        (["training.algorithm=bptt"], ["training.estimator", "bptt"]),
        (["dynamics.points=6", "training.estimator=random-sign"], ["dynamics.points", "training.estimator = circle"]),
    ],
    ids=" ".join,
)
def test_bad_combinations_are_one_line(capsys, tmp_path, settings, words):
    assert_fails(train_small(capsys, tmp_path / "run", *CIRCLE, *overrides(*settings)), 2, *words)
    assert not (tmp_path / "run").exists()


# ---- commands


def test_a_circle_trains_resumes_and_says_its_points(capsys, tmp_path):
    result = train_small(capsys, tmp_path / "run", *SMOOTH_NET, *CIRCLE, *overrides("dynamics.points=6"))
    assert result.code == 0 and "circle estimator of 6 points" in " ".join(result.err.split())
    assert run(capsys, "train", "--resume", tmp_path / "run", *overrides("training.epochs=3")).code == 0
    assert run(capsys, "evaluate", tmp_path / "run").code == 0


def test_check_fits_the_orders_of_a_holomorphic_network(capsys):
    more = ("--samples", "0:4", *overrides("dynamics.beta=0.5"))
    result = run(capsys, "check", "digits", *SMALL_OPTIONS, *SMOOTH_NET, *CIRCLE, *more)
    assert result.code == 0, result.err
    text = " ".join(result.out.split())
    assert "circle of 4 points" in text and "theory 2 4 8" in text
    (slopes,) = [line for line in result.out.split("holomorphic EP")[1].splitlines() if line.startswith("slope")]
    cells = re.findall(r"[\d.]+ \+- [\d.]+|below rounding|\d above rounding", slopes)
    assert len(cells) == 3 and "+-" in cells[0] and "+-" in cells[1]
    for cell, order in zip(cells, (2, 4, 8), strict=True):
        if "+-" in cell:
            assert float(cell.split("+-")[0]) == pytest.approx(order, abs=order * ORDER)
    plain = run(capsys, "check", "digits", *SMALL_OPTIONS, "--samples", "0:4")
    assert "holomorphic" not in plain.out
