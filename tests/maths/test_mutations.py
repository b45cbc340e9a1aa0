"""Breaks a sign, a factor or a place in every op, derivative and estimator, and sees the checks fail."""

from __future__ import annotations

import checks
import derivatives
import nets
import numpy as np
import pytest
import ties

import eqnp.derivatives
from eqnp import asymmetric, contrasts, ops, reference
from eqnp.asymmetric import TurnedLink
from eqnp.connections.conv_pool import ConvPoolConnection
from eqnp.connections.dense import DenseConnection
from eqnp.connections.merged import MergedConnection
from eqnp.links import Link
from eqnp.losses import CrossEntropy, SquaredError
from eqnp.networks import Network
from eqnp.ops import activations
from eqnp.prepared import PreparedNetwork
from eqnp.stencils import Stencil


def scaled(factor):
    """Return a mutation: the result, or the first of several, times a factor."""

    def mutate(original):
        def broken(*args, **kwargs):
            result = original(*args, **kwargs)
            if isinstance(result, tuple):
                return (result[0] * factor, *result[1:])
            if isinstance(result, dict):
                return {name: a * factor for name, a in result.items()}
            return result * factor

        return broken

    return mutate


def weights_scaled(factor):
    """Return a mutation: prepared weights times a factor."""

    def mutate(original):
        def broken(self, w):
            kernel = original(self, w)
            return kernel._replace(w=factor * kernel.w)

        return broken

    return mutate


def blocks_scaled(factor):
    """Return a mutation: every block that is yielded times a factor."""
    return lambda original: lambda *args: ((block, a * factor) for block, a in original(*args))


def flipped_kernel_of_result(original):
    """The gradient of a true convolution's weights where those of a cross-correlation are meant."""
    return lambda *args, **kwargs: original(*args, **kwargs)[::-1, ::-1]


def flipped_kernel(original):
    """A true convolution where a cross-correlation is meant, and the other way round."""
    return lambda x, w, *args, **kwargs: original(x, w[::-1, ::-1], *args, **kwargs)


def other_place(original):
    """The winner's neighbour."""
    return lambda p, winner, *args, **kwargs: original(p, winner ^ 1, *args, **kwargs)


def last_of_a_tie(original):
    """Ties go to the last entry."""

    def broken(u, space=None):
        p, winner = original(u[:, ::-1, ::-1], space)
        return p[:, ::-1, ::-1], 3 - winner[:, ::-1, ::-1]

    return broken


def shifted(original):
    """Rows and columns swapped on the way back."""
    return lambda col, *args, **kwargs: original(np.ascontiguousarray(col[:, :, :, ::-1]), *args, **kwargs)


def check_odd_conv():
    checks.check_conv(checks.CONVOLUTIONS[0])


def first_row_negated(a):
    return np.concatenate([-a[:1], a[1:]])


def broken_field(name, way=None):
    """One array of a transformed kernel with a wrong sign in its first row; ``way`` names that of a transform."""

    def mutate(original):
        def broken(*args):
            kernel = original(*args)
            field = getattr(kernel, name)
            if way is None:
                return kernel._replace(**{name: first_row_negated(field)})
            return kernel._replace(**{name: field._replace(**{way: first_row_negated(getattr(field, way))})})

        return broken

    return mutate


def broken_parts(name):
    """The weights of one group of entries."""

    def mutate(original):
        def broken(*args):
            kernel = original(*args)
            parts = list(kernel.parts)
            parts[2] = parts[2]._replace(**{name: first_row_negated(getattr(parts[2], name))})
            return kernel._replace(parts=parts)

        return broken

    return mutate


def broken_component(axis, way):
    """The transform of the second component along an axis."""

    def mutate(original):
        def broken(*args):
            kernel = original(*args)
            first, second = getattr(kernel, axis)
            wrong = second.matrix._replace(**{way: first_row_negated(getattr(second.matrix, way))})
            return kernel._replace(**{axis: [first, second._replace(matrix=wrong)]})

        return broken

    return mutate


def check_strided():
    checks.check_strided(checks.STRIDED[0])


def check_exact_ties():
    ties.check_exact_ties(np.float32, "winograd-4x4", layers=ties.LAYERS[1:2])


def check_true_gaps():
    ties.check_true_gaps(np.float32, "direct")
    ties.check_true_gaps(np.float32, "winograd-4x4")


def swapped_sides(original):
    """Windows of a tile by columns where rows are meant."""
    return lambda tiles, *args: original(tiles.swapaxes(0, 1), *args)


def check_winograd():
    checks.check_winograd(checks.WINOGRAD[1])


def check_connections():
    for case in derivatives.CONNECTIONS.values():
        derivatives.check_connection(*case)


OPS = [
    ("dense", scaled(-1), checks.check_dense),
    ("dense_transpose", scaled(-1), checks.check_dense),
    ("dense_weight_gradient", scaled(2), checks.check_dense),
    ("conv2d", scaled(-1), check_odd_conv),
    ("conv2d", flipped_kernel, check_odd_conv),
    ("conv2d_transpose", scaled(-1), check_odd_conv),
    ("conv2d_transpose", flipped_kernel, check_odd_conv),
    ("conv2d_weight_gradient", scaled(0.5), check_odd_conv),
    ("columns", scaled(-1), check_odd_conv),
    ("gather_columns", shifted, check_odd_conv),
    ("max_pool", scaled(-1), lambda: checks.check_max_pool((2, 6, 4, 3))),
    ("max_pool", last_of_a_tie, checks.check_ties),
    ("max_unpool", other_place, lambda: checks.check_max_pool((2, 6, 4, 3))),
    ("pick_winners", other_place, lambda: checks.check_max_pool((2, 6, 4, 3))),
    ("transform_weights", broken_field("u"), check_winograd),
    ("transform_weights", broken_field("u_back"), check_winograd),
    ("transform_weights", broken_field("rows", "there"), check_winograd),
    ("transform_weights", broken_field("rows", "back"), check_winograd),
    ("transform_weights", broken_field("cols", "there"), check_winograd),
    ("transform_weights", broken_field("cols", "back"), check_winograd),
    ("transform_weights", broken_field("outputs", "there"), check_winograd),
    ("transform_weights", broken_field("outputs", "back"), check_winograd),
    ("transform_strided_weights", broken_parts("u"), check_strided),
    ("transform_strided_weights", broken_parts("u_back"), check_strided),
    ("transform_strided_weights", broken_component("rows", "there"), check_strided),
    ("transform_strided_weights", broken_component("rows", "back"), check_strided),
    ("transform_strided_weights", broken_component("cols", "there"), check_strided),
    ("transform_strided_weights", broken_component("cols", "back"), check_strided),
    ("transform_strided_weights", broken_field("outputs", "there"), check_strided),
    ("transform_strided_weights", broken_field("outputs", "back"), check_strided),
    ("strided_outputs", scaled(-1), check_strided),
    ("strided_inputs", scaled(-1), check_strided),
    ("winograd_weight_products", scaled(-1), check_winograd),
    ("winograd_weight_gradient", scaled(2), check_winograd),
    ("winograd_weight_gradient", flipped_kernel_of_result, check_winograd),
    ("winograd_outputs", scaled(-1), check_winograd),
    ("winograd_inputs", scaled(-1), check_winograd),
    ("winograd_max_pool", scaled(2), check_winograd),
    ("reach", scaled(0), check_exact_ties),
    ("reach", scaled(1e6), check_true_gaps),
    ("winograd_unpool", scaled(-1), check_winograd),
    ("winograd_unpool", other_place, check_winograd),
    ("winograd_pick", scaled(2), check_winograd),
    ("from_tiles", swapped_sides, check_winograd),
    ("to_tiles", scaled(0.5), check_winograd),
    ("average_pool", scaled(4), lambda: checks.check_average_pool((2, 6, 4, 3))),
    ("average_unpool", scaled(4), lambda: checks.check_average_pool((2, 6, 4, 3))),
]


@pytest.mark.parametrize(("name", "mutate", "check"), OPS, ids=lambda v: getattr(v, "__name__", v))
def test_a_broken_op_is_noticed(monkeypatch, name, mutate, check):
    monkeypatch.setattr(ops, name, mutate(getattr(ops, name)))
    with pytest.raises(AssertionError):
        check()


@pytest.mark.parametrize("name", activations.ACTIVATIONS)
@pytest.mark.parametrize(("which", "factor"), [("value", -1), ("derivative", -1), ("derivative", 2)])
def test_a_broken_activation_is_noticed(name, which, factor):
    good = activations.ACTIVATIONS[name]
    parts = {"value": good.value, "derivative": good.derivative}
    parts[which] = scaled(factor)(parts[which])
    with pytest.raises(AssertionError):
        checks.check_activation(activations.Activation(name, good.formula, **parts))


def check_case(case):
    derivatives.check_phi(case)
    derivatives.check_loss_derivatives(case)
    derivatives.check_step(case)


def dropped():
    return nets.make(*DEEP, dropout=True)


def backwards(original):
    """The step's adjoint with the sign of the cotangent wrong."""

    def broken(self, states, cotangent):
        back, gradient = original(self, states, cotangent)
        return [-b for b in back], gradient

    return broken


def only_states(original):
    """The mask on states but not on cotangents."""
    calls = []

    def broken(self, arrays):
        calls.append(1)
        if len(calls) % 2:
            original(self, arrays)

    return broken


def elsewhere(original):
    """The feedback unpools at the winners' neighbours, another one every time."""
    calls = []

    def broken(*args):
        calls.append(1)
        winner = original(*args)
        return None if winner is None else winner ^ np.uint8(len(calls) % 2)

    return broken


def not_swapped(original):
    """Up by the forward weights, down by the backward ones, as in the free phase."""

    def broken(self, link, *args):
        original(self, link, *args)
        self.up, self.down = link.up, link.down

    return broken


def swapped_winners(original):
    """The way up at the winners of the drive, the way down at those of the feedback."""
    return lambda self, link, winner, place, constant: original(self, link, place, winner, constant)


def without_constant(original):
    return lambda self, link, winner, place, constant: original(self, link, winner, place, None)


def not_transposed(original):
    """A in place of its transpose."""
    return eqnp.derivatives.field_jvp


def all_scaled(factor):
    """Return a mutation: every array of a list times a factor."""
    return lambda original: lambda *args: [a * factor for a in original(*args)]


def check_asymmetric():
    case = nets.make_settling(*MAX, kind=OWN)
    derivatives.check_asymmetric_field(case)
    derivatives.check_asymmetric(case)


def check_asymmetric_dropped():
    derivatives.check_asymmetric(nets.make_settling(*MAX, kind=OWN, dropout=True))


def check_jvp():
    derivatives.check_jvp(nets.make(*MAX, *CURVED, kind=OWN))


OWN = "own winners"
TIED = {"kind": OWN, "tied": True}
CURVED = ("tanh", 0.7)
MAX = ("max", "cross_entropy_readout")
DEEP = ("deep dense", "squared_error")
METHODS = [
    (DenseConnection, "drive", scaled(-1), check_connections),
    (DenseConnection, "feedback", scaled(-1), check_connections),
    (DenseConnection, "weight_gradient", scaled(-1), check_connections),
    (DenseConnection, "bias_gradient", scaled(-1), check_connections),
    (DenseConnection, "drive_at_winners", scaled(2), check_connections),
    (ConvPoolConnection, "drive", scaled(-1), check_connections),
    (ConvPoolConnection, "feedback", scaled(-1), check_connections),
    (ConvPoolConnection, "weight_gradient", scaled(-1), check_connections),
    (ConvPoolConnection, "bias_gradient", scaled(0.25), check_connections),
    (ConvPoolConnection, "drive_at_winners", scaled(-1), check_connections),
    (MergedConnection, "prepare", weights_scaled(4), check_connections),
    (MergedConnection, "_weight_gradient", scaled(4), check_connections),
    (SquaredError, "gradient", scaled(-1), lambda: checks.check_loss(SquaredError())),
    (CrossEntropy, "gradient", scaled(-1), lambda: checks.check_loss(CrossEntropy())),
    (DenseConnection, "feedback_blocks", blocks_scaled(-1), lambda: check_case(nets.make(*DEEP))),
    (ConvPoolConnection, "feedback_blocks", blocks_scaled(0.5), lambda: derivatives.check_order(nets.make(*MAX))),
    (eqnp.derivatives, "forward_gradient", scaled(-1), lambda: check_case(nets.make(*MAX))),
    (contrasts, "_difference", scaled(-1), lambda: derivatives.check_order(nets.make(*MAX))),
    (contrasts, "dphi_dtheta", scaled(-1), lambda: derivatives.check_order(nets.make(*DEEP))),
    (reference, "step_vjp", backwards, lambda: derivatives.check_bptt(nets.make(*MAX, *CURVED))),
    (DenseConnection, "drive_at_winners", scaled(-1), lambda: derivatives.check_bptt(nets.make(*DEEP, *CURVED))),
    (ConvPoolConnection, "drive_at_winners", scaled(-1), lambda: derivatives.check_bptt(nets.make(*MAX, *CURVED))),
    (eqnp.derivatives, "feedback_gradient", scaled(-1), lambda: derivatives.check_bptt(nets.make(*DEEP, *CURVED))),
    (contrasts, "feedback_gradient", scaled(2), lambda: derivatives.check_order(nets.make(*MAX, **TIED))),
    (contrasts, "forward_gradient", scaled(2), lambda: derivatives.check_order(nets.make(*MAX, **TIED))),
    (PreparedNetwork, "unscaled", lambda _: lambda self, g: g, lambda: derivatives.check_order(dropped())),
    (PreparedNetwork, "mask", only_states, lambda: derivatives.check_bptt(dropped())),
    (ConvPoolConnection, "winners", elsewhere, lambda: derivatives.check_implicit(nets.make(*MAX, kind=OWN))),
    (TurnedLink, "__init__", not_swapped, check_asymmetric),
    (TurnedLink, "__init__", swapped_winners, check_asymmetric),
    (TurnedLink, "__init__", without_constant, check_asymmetric),
    (asymmetric, "field_vjp", not_transposed, check_asymmetric),
    (asymmetric, "field_vjp", all_scaled(-1), check_asymmetric),
    (contrasts, "field_gradient", scaled(-1), check_asymmetric),
    (contrasts, "_difference", scaled(-1), check_asymmetric),
    (PreparedNetwork, "mask", only_states, check_asymmetric_dropped),
    (Link, "drive_at", scaled(-1), check_asymmetric),
    (Link, "drive_at", scaled(-1), check_jvp),
    (eqnp.derivatives, "field_jvp", all_scaled(-1), check_jvp),
    (eqnp.derivatives, "field_vjp", all_scaled(-1), check_jvp),
    (Network, "dl_ds", scaled(-1), lambda: check_case(nets.make(*MAX))),
    (Network, "dl_ds", scaled(-1), lambda: derivatives.check_order(nets.make(*DEEP))),
    (Network, "dl_dtheta", scaled(-1), lambda: check_case(nets.make(*MAX))),
    (Network, "dl_dtheta", scaled(2), lambda: derivatives.check_order(nets.make(*MAX))),
]


@pytest.mark.parametrize(("owner", "name", "mutate", "check"), METHODS, ids=lambda v: getattr(v, "__name__", v))
def test_a_broken_derivative_is_noticed(monkeypatch, owner, name, mutate, check):
    monkeypatch.setattr(owner, name, mutate(getattr(owner, name)))
    with pytest.raises(AssertionError):
        check()


@pytest.mark.parametrize(
    "points",
    [
        lambda b: ((b, 1 / b), (-b, -1 / b)),  # a factor 2
        lambda b: ((b, -0.5 / b), (-b, 0.5 / b)),  # the sign
        lambda b: ((b, 1 / b), (0.0, -0.5 / b)),  # does not sum to 0
    ],
)
def test_a_broken_stencil_is_noticed(monkeypatch, points):
    def broken(beta):
        return Stencil("broken", points(beta))

    with pytest.raises(AssertionError):
        derivatives.check_moments(broken(0.1))
    with pytest.raises(AssertionError):
        derivatives.check_order(nets.make(*DEEP), orders=((broken, 4),))


def test_an_estimator_without_the_loss_of_the_readout_is_noticed(monkeypatch):
    """The readout learns from -beta dl/dtheta alone."""
    monkeypatch.setattr(Network, "dl_dtheta", lambda *args: {})
    with pytest.raises((AssertionError, KeyError)):
        derivatives.check_order(nets.make(*MAX))
