"""Every operation against its loop form, its adjoint, and itself with a workspace."""

from __future__ import annotations

import checks
import numpy as np
import pytest

from eqnp import ops
from eqnp.backends.backend import to_host
from eqnp.backends.workspace import Workspace
from eqnp.losses import CrossEntropy, SquaredError, one_hot, predict
from eqnp.ops.activations import ACTIVATIONS

DTYPES = [np.float64, np.float32]


@pytest.mark.parametrize("dtype", DTYPES)
def test_dense(backend, dtype):
    checks.check_dense(backend.xp, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", checks.CONVOLUTIONS, ids=str)
def test_conv(backend, case, dtype):
    checks.check_conv(case, backend.xp, dtype)


def test_conv_against_scipy():
    checks.check_conv_against_scipy()


@pytest.mark.parametrize("shape", checks.POOLED, ids=str)
def test_pooling(backend, shape):
    checks.check_max_pool(shape, backend.xp)
    checks.check_average_pool(shape, backend.xp)


def test_ties_go_to_the_first(backend):
    checks.check_ties(backend.xp)


@pytest.mark.parametrize("activation", ACTIVATIONS.values(), ids=lambda a: a.name)
def test_activation(activation):
    checks.check_activation(activation)


@pytest.mark.parametrize("activation", ACTIVATIONS.values(), ids=lambda a: a.name)
def test_activation_writes_to_out_and_keeps_the_dtype(activation):
    u = checks.numbers((3, 5), 0, np.float32)
    before, out = u.copy(), np.empty_like(u)
    assert activation.value(u, out=out) is out
    np.testing.assert_array_equal(u, before)
    np.testing.assert_array_equal(out, activation.value(u))
    assert out.dtype == activation.derivative(u).dtype == np.float32


def test_at_a_kink_the_derivative_is_the_one_from_inside():
    np.testing.assert_array_equal(
        ACTIVATIONS["half_hard_sigmoid"].derivative(np.array([-1e-9, 0, 2, 2.1])), [0, 0.5, 0.5, 0]
    )
    np.testing.assert_array_equal(
        ACTIVATIONS["centered_hard_sigmoid"].derivative(np.array([-0.6, -0.5, 0.5])), [0, 1, 1]
    )
    np.testing.assert_array_equal(ACTIVATIONS["relu6"].derivative(np.array([-1e-9, 0, 6, 6.1])), [0, 1, 1, 0])
    np.testing.assert_array_equal(ACTIVATIONS["relu"].derivative(np.array([-1e-9, 0, 1e9])), [0, 1, 1])


@pytest.mark.parametrize("activation", ACTIVATIONS.values(), ids=lambda a: a.name)
def test_an_activation_keeps_nan_and_its_range(backend, activation):
    u = np.array([np.nan, -np.inf, -1e4, -0.3, 0.3, 5.0, 1e4, np.inf], np.float32)
    for value in (activation.value(backend.asarray(u)), activation.value(backend.asarray(u), out=backend.asarray(u))):
        s = to_host(value)
        np.testing.assert_array_equal(np.isnan(s), np.isnan(u))
        assert s[1:].min() == activation.low and s[1:].max() == activation.high
    outside = backend.asarray(u)
    activation.clip(outside)
    np.testing.assert_array_equal(to_host(outside), np.clip(u, activation.low, activation.high))


def test_which_activations_are_bounded():
    assert {a.name for a in ACTIVATIONS.values() if not a.bounded} == {"relu", "linear"}


def test_activations_do_not_overflow():
    for activation in ACTIVATIONS.values():
        assert np.isfinite(activation.value(np.array([-1e4, 1e4], np.float32))).all()


@pytest.mark.parametrize("loss", checks.LOSSES, ids=lambda loss: type(loss).__name__)
def test_loss(loss):
    checks.check_loss(loss)


def test_losses_by_hand():
    y = one_hot(np.array([1]), 3, np.float64)
    np.testing.assert_array_equal(y, [[0, 1, 0]])
    assert SquaredError().value(np.array([[1.0, 0.0, 2.0]]), y) == [3.0]
    assert CrossEntropy().value(np.array([[0.0, 0.0, 0.0]]), y) == pytest.approx(np.log(3))
    assert CrossEntropy().value(np.array([[1e4, 0.0, 0.0]]), y) == [1e4]
    assert predict(np.array([[0, 2, 1], [5, 2, 1]])).tolist() == [1, 0]


@pytest.mark.parametrize("case", checks.CONVOLUTIONS, ids=str)
def test_a_workspace_changes_nothing(case):
    """One workspace through different shapes and back gives what a fresh one gives, bit for bit."""
    space = Workspace()
    for each in (case, checks.CONVOLUTIONS[0], case, case):
        x, w, y, stride, padding = checks.conv_case(each)
        for function, arguments in (
            (ops.conv2d, (x, w, stride, padding)),
            (ops.conv2d_transpose, (y, w, x.shape[1:3], stride, padding)),
            (ops.conv2d_weight_gradient, (x, y, w.shape[:2], stride, padding)),
        ):
            before = [a.copy() for a in (x, w, y)]
            np.testing.assert_array_equal(function(*arguments, space=space), function(*arguments))
            for a, b in zip((x, w, y), before, strict=True):
                np.testing.assert_array_equal(a, b)


def test_a_workspace_changes_nothing_in_pooling():
    space = Workspace()
    for shape in (*checks.POOLED, *checks.POOLED):
        u = checks.numbers(shape, 5)
        (p, winner), (q, other) = ops.max_pool(u, space), ops.max_pool(u)
        np.testing.assert_array_equal(p, q)
        np.testing.assert_array_equal(winner, other)
        size = shape[1:3]
        np.testing.assert_array_equal(ops.max_unpool(q, other, size, space), ops.max_unpool(q, other, size))
        np.testing.assert_array_equal(ops.average_unpool(q, size, Workspace()), ops.average_unpool(q, size))


def test_views_are_accepted():
    """A flipped or strided input is what its values say, not what its memory says."""
    x, w, *_ = checks.conv_case(checks.CONVOLUTIONS[0])
    flipped = x[:, :, ::-1]
    np.testing.assert_array_equal(ops.conv2d(flipped, w), ops.conv2d(flipped.copy(), w))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", checks.WINOGRAD, ids=str)
def test_winograd(backend, case, dtype):
    checks.check_winograd(case, backend.xp, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", checks.STRIDED, ids=str)
def test_a_convolution_with_a_stride_by_winograd(backend, case, dtype):
    checks.check_strided(case, backend.xp, dtype)


def test_the_multiplications_of_a_tile():
    assert ops.Tiling(4, 3, "none", (16, 16), 1).entries == 36
    assert ops.Tiling(4, 3, "none", (16, 16), 1, stride=2).entries == 85
    assert ops.Tiling(2, 5, "none", (16, 16), 2, stride=2).entries == 52


def test_a_workspace_changes_nothing_in_winograd():
    space = Workspace()
    for case in (*checks.WINOGRAD, *checks.WINOGRAD):
        x, _, tiling, kernel = checks.winograd_case(case)
        (p, winner), (q, other) = (checks.winograd_drive(x, kernel, tiling, s) for s in (space, None))
        np.testing.assert_array_equal(p, q)
        np.testing.assert_array_equal(winner, other)
        back, expected = (checks.winograd_feedback(p, winner, kernel, tiling, s) for s in (space, None))
        np.testing.assert_array_equal(back, expected)
        dw, expected = (checks.winograd_weights(x, p, winner, tiling, s) for s in (space, None))
        np.testing.assert_array_equal(dw, expected)


@pytest.mark.parametrize(("m", "r"), [(2, 3), (4, 3), (2, 5), (4, 5), (3, 2), (2, 7)])
def test_toom_cook(m, r):
    checks.check_toom_cook(m, r)


def test_a_workspace_shares_a_buffer_among_sizes_but_not_zeros():
    space, like = Workspace(), np.zeros(1, np.float32)
    large = space.take("a", (4, 6), like)
    large[...] = 1
    assert np.shares_memory(space.take("a", (3, 5), like), large)
    assert space.take("a", (3, 5), like, dtype=np.float64).dtype == np.float64
    border = space.take_zeros("a", (4, 6), like)
    assert not np.shares_memory(border, large) and not border.any()
    assert space.take_zeros("a", (4, 6), like) is border and space.take_zeros("a", (6, 4), like) is not border
