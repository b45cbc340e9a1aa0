"""Checks that hold for every operation, as functions, so that ``test_mutations.py`` can see them fail.

Inputs are shuffled evenly spaced numbers: no two are equal, so no pooling window ties by accident.
"""

from __future__ import annotations

import naive
import numpy as np
import scipy.signal
from tolerances import ADJOINT, DIRECTIONAL, ORACLE, WINOGRAD_FORM, relative_error

from eqnp import ops
from eqnp.backends.backend import array_module, to_host
from eqnp.backends.workspace import Workspace
from eqnp.losses import CrossEntropy, SquaredError, one_hot
from eqnp.ops.toom_cook import toom_cook

# (N, H, W, C), (KH, KW), K, stride, padding: odd and non-square sizes, kernels that are not square
CONVOLUTIONS = [
    ((2, 7, 5, 3), (3, 2), 4, 1, 0),
    ((1, 6, 9, 2), (3, 3), 3, 1, 1),
    ((3, 8, 7, 1), (2, 5), 2, 2, 2),
    ((2, 11, 8, 2), (4, 3), 3, 3, 1),
    ((1, 5, 5, 4), (5, 5), 2, 1, 0),
    ((2, 4, 6, 2), (1, 1), 3, 2, 0),
]
POOLED = [(2, 6, 4, 3), (1, 7, 5, 2), (3, 2, 9, 1), (2, 3, 3, 2)]


def numbers(shape, seed=0, dtype=np.float64):
    """Return evenly spaced numbers in -1 .. 1, shuffled: no two are equal."""
    size = int(np.prod(shape))
    return np.random.default_rng(seed).permutation(np.linspace(-1, 1, size)).reshape(shape).astype(dtype)


def inner(a, b) -> float:
    return float(np.sum(to_host(a).astype(np.float64) * to_host(b).astype(np.float64)))


def assert_adjoint(forward, adjoint, v, u, dtype=np.float64):
    """<A v, u> = <v, A^T u>."""
    left, right = inner(forward(v), u), inner(v, adjoint(u))
    scale = np.linalg.norm(to_host(v)) * np.linalg.norm(to_host(u))
    assert abs(left - right) <= ADJOINT[dtype] * scale, (left, right)


def assert_close(actual, expected, dtype=np.float64):
    assert actual.shape == expected.shape
    assert relative_error(to_host(actual), expected) <= ORACLE[dtype]


def conv_case(case, xp=np, dtype=np.float64):
    shape, kernel, k, stride, padding = case
    size = ops.output_size(shape[1:3], kernel, stride, padding)
    x = numbers(shape, 1, dtype)
    w = numbers((*kernel, shape[3], k), 2, dtype)
    y = numbers((shape[0], *size, k), 3, dtype)
    return xp.asarray(x), xp.asarray(w), xp.asarray(y), stride, padding


def check_dense(xp=np, dtype=np.float64):
    s, w, v = (xp.asarray(numbers(shape, i, dtype)) for i, shape in enumerate([(5, 7), (7, 3), (5, 3)]))
    assert_close(ops.dense(s, w), np.einsum("nd,dk->nk", to_host(s), to_host(w)), dtype)
    assert_adjoint(lambda s: ops.dense(s, w), lambda v: ops.dense_transpose(v, w), s, v, dtype)
    assert_adjoint(lambda w: ops.dense(s, w), lambda v: ops.dense_weight_gradient(s, v), w, v, dtype)


def check_conv(case, xp=np, dtype=np.float64):
    x, w, y, stride, padding = conv_case(case, xp, dtype)
    conv = (stride, padding)
    assert_close(ops.conv2d(x, w, *conv), naive.conv2d(to_host(x), to_host(w), *conv), dtype)
    size, kernel = x.shape[1:3], w.shape[:2]
    assert_adjoint(lambda x: ops.conv2d(x, w, *conv), lambda y: ops.conv2d_transpose(y, w, size, *conv), x, y, dtype)
    assert_adjoint(
        lambda w: ops.conv2d(x, w, *conv), lambda y: ops.conv2d_weight_gradient(x, y, kernel, *conv), w, y, dtype
    )
    col = ops.columns(x, kernel, *conv)
    c = xp.asarray(numbers(col.shape, 4, dtype))
    assert_adjoint(lambda x: ops.columns(x, kernel, *conv), lambda c: ops.gather_columns(c, size, *conv), x, c, dtype)


def check_conv_against_scipy():
    """A second, independent oracle: scipy's correlation, channel by channel."""
    x, w = numbers((1, 7, 9, 2), 1), numbers((3, 4, 2, 3), 2)
    expected = np.stack(
        [
            sum(scipy.signal.correlate(x[0, :, :, c], w[:, :, c, k], "valid", method="direct") for c in range(2))
            for k in range(3)
        ],
        axis=-1,
    )
    assert_close(ops.conv2d(x, w)[0], expected)


def check_max_pool(shape, xp=np, dtype=np.float64):
    u = xp.asarray(numbers(shape, 1, dtype))
    p, winner = ops.max_pool(u)
    expected, places = naive.max_pool(to_host(u))
    assert_close(p, expected, dtype)
    assert (to_host(winner) == places).all() and winner.dtype == np.uint8
    v, size = xp.asarray(numbers(p.shape, 2, dtype)), shape[1:3]
    assert_close(ops.max_unpool(v, winner, size), naive.max_unpool(to_host(v), places, size), dtype)
    assert_close(ops.pick_winners(u, winner), expected, dtype)
    assert_adjoint(lambda v: ops.max_unpool(v, winner, size), lambda u: ops.pick_winners(u, winner), v, u, dtype)


def check_ties(xp=np):
    """Equal entries: the first place in row-major order wins, as in the published code."""
    for window, place in {
        (0, 0, 0, 0): 0,
        (0, 1, 1, 0): 1,
        (0, 0, 1, 1): 2,
        (1, 0, 0, 1): 0,
        (0, 1, 0, 1): 1,
        (0, 0, 0, 1): 3,
        (-1, -2, -1, -2): 0,
    }.items():
        u = xp.asarray(np.array(window, np.float64).reshape(1, 2, 2, 1))
        p, winner = ops.max_pool(u)
        assert int(to_host(winner).item()) == place and float(to_host(p).item()) == max(window), window


def check_average_pool(shape, xp=np, dtype=np.float64):
    u = xp.asarray(numbers(shape, 1, dtype))
    p = ops.average_pool(u)
    assert_close(p, naive.average_pool(to_host(u)), dtype)
    v = xp.asarray(numbers(p.shape, 2, dtype))
    assert_adjoint(ops.average_pool, lambda v: ops.average_unpool(v, shape[1:3]), u, v, dtype)


FORMULAS = {
    "sigmoid": lambda u: 1 / (1 + np.exp(-4 * (u - 0.5))),
    "hard_sigmoid": lambda u: np.clip(u, 0, 1),
    "half_hard_sigmoid": lambda u: np.clip(u / 2, 0, 1),
    "centered_hard_sigmoid": lambda u: np.clip(u, -0.5, 0.5),
    "tanh": np.tanh,
    "relu": lambda u: np.where(u > 0, u, 0),
    "relu6": lambda u: np.where(u > 6, 6, np.where(u > 0, u, 0)),
    "linear": lambda u: u,
}
KINKS = (-0.5, 0.0, 0.5, 1.0, 2.0, 6.0)


def check_activation(activation):
    """The value against its formula; the derivative against a central difference, away from the kinks."""
    u = np.linspace(-3, 8, 1099)
    u = u[np.min(np.abs(u[:, None] - np.array(KINKS)), axis=1) > 1e-3]
    assert relative_error(activation.value(u), FORMULAS[activation.name](u)) <= ORACLE[np.float64]
    step = 1e-5
    difference = (activation.value(u + step) - activation.value(u - step)) / (2 * step)
    assert relative_error(activation.derivative(u), difference) <= DIRECTIONAL


def check_loss(loss):
    """dl/do against a central difference along one random direction."""
    o, direction = numbers((4, 10), 1) * 3, numbers((4, 10), 2)
    y = one_hot(np.array([0, 3, 9, 3]), 10, np.float64)
    step = 1e-5
    difference = (loss.value(o + step * direction, y) - loss.value(o - step * direction, y)) / (2 * step)
    assert relative_error((loss.gradient(o, y) * direction).sum(axis=1), difference) <= DIRECTIONAL


LOSSES = [SquaredError(), CrossEntropy()]

# (N, H, W, C), K, padding, m, r, pool: windows at odd edges, one window only, padding wider than the kernel's
WINOGRAD = [
    ((2, 7, 9, 3), 4, 1, 2, 3, "max"),
    ((1, 8, 6, 2), 5, 0, 4, 3, "max"),
    ((3, 5, 4, 1), 2, 2, 4, 3, "max"),
    ((2, 4, 4, 3), 3, 0, 2, 3, "max"),
    ((1, 3, 3, 2), 2, 1, 4, 3, "max"),
    ((2, 9, 12, 2), 3, 0, 4, 5, "max"),
    ((1, 7, 8, 2), 3, 2, 2, 5, "max"),
    ((2, 9, 7, 2), 3, 1, 4, 3, "average"),
    ((2, 7, 6, 2), 3, 1, 4, 3, "none"),
    ((2, 5, 7, 2), 3, 3, 2, 3, "none"),
    ((2, 8, 8, 128), 128, 1, 4, 3, "max"),  # entries of whole pages
]


STRIDED = [  # shape, k, padding, m, r, stride, pool
    ((2, 8, 8, 3), 4, 1, 4, 3, 2, "none"),
    ((2, 9, 12, 4), 5, 1, 2, 3, 2, "none"),
    ((1, 7, 6, 2), 3, 0, 4, 3, 2, "none"),
    ((2, 10, 9, 3), 2, 2, 4, 5, 2, "none"),
    ((2, 11, 9, 3), 2, 1, 4, 4, 2, "average"),
    ((2, 12, 13, 2), 3, 2, 2, 5, 3, "average"),
    ((2, 13, 14, 3), 4, 1, 4, 4, 3, "none"),
]


def check_strided(case, xp=np, dtype=np.float64):
    """Against the direct form, and adjoint to each other."""
    shape, k, padding, m, r, stride, pool = case
    x, w = xp.asarray(numbers(shape, 1, dtype)), xp.asarray(numbers((r, r, shape[3], k), 2, dtype))
    tiling = ops.Tiling(m, r, pool, shape[1:3], padding, stride)
    kernel = ops.transform_strided_weights(w, tiling)
    y = ops.strided_outputs(x, kernel, tiling).copy()
    out = xp.zeros((shape[0], *tiling.above, k), dtype=dtype)
    ops.from_tiles(y, out)
    u = ops.conv2d(x, w, stride, padding)
    assert_winograd(out, to_host(u if pool == "none" else ops.average_pool(u)), dtype)
    space = Workspace()
    v = xp.asarray(numbers(out.shape, 3, dtype))
    back = ops.strided_inputs(ops.to_tiles(v, tiling, "v", space), kernel, tiling, space)
    g = v if pool == "none" else ops.average_unpool(v, u.shape[1:3])
    assert_winograd(back, to_host(ops.conv2d_transpose(g, w, tiling.size, stride, padding)), dtype)
    assert_adjoint(
        lambda x: ops.strided_outputs(x, kernel, tiling).copy(),
        lambda g: ops.strided_inputs(g, kernel, tiling),
        x,
        xp.asarray(numbers(y.shape, 4, dtype)),
        dtype,
    )


def winograd_case(case, xp=np, dtype=np.float64):
    shape, k, padding, m, r, pool = case
    x, w = xp.asarray(numbers(shape, 1, dtype)), xp.asarray(numbers((r, r, shape[3], k), 2, dtype))
    tiling = ops.Tiling(m, r, pool, shape[1:3], padding)
    return x, w, tiling, ops.transform_weights(w, tiling)


def winograd_drive(x, kernel, tiling, space=None):
    """Return the pooled convolution and its winners, None but for a maximum."""
    y = ops.winograd_outputs(x, kernel, tiling, space)
    shape = (x.shape[0], *tiling.above, kernel.u.shape[2])
    xp = array_module(x)
    out, winner = xp.zeros(shape, dtype=x.dtype), None
    if tiling.pool == "max":
        best, found = ops.winograd_max_pool(y, ops.reach(x, kernel.ties), kernel, space)
        winner = xp.zeros(shape, dtype=xp.uint8)
        ops.from_tiles(found, winner)
    else:
        best = y
    ops.from_tiles(best, out)
    return out, winner


def winograd_feedback(v, winner, kernel, tiling, space=None):
    space = space or Workspace()
    y = ops.to_tiles(v, tiling, "v", space)
    if winner is not None:
        y = ops.winograd_unpool(y, ops.to_tiles(winner, tiling, "winner", space), space)
    return ops.winograd_inputs(y, kernel, tiling, space)


def winograd_weights(x, v, winner, tiling, space=None):
    space = space or Workspace()
    y = ops.to_tiles(v, tiling, "v", space)
    if winner is not None:
        y = ops.winograd_unpool(y, ops.to_tiles(winner, tiling, "winner", space), space)
    products = ops.winograd_weight_products(x, y, ops.tile_transforms(tiling, x), tiling, space)
    return ops.winograd_weight_gradient(products, tiling)


def check_winograd(case, xp=np, dtype=np.float64):
    """Against the direct form, adjoint to each other, and with ties as there."""
    x, w, tiling, kernel = winograd_case(case, xp, dtype)
    size, pool, padding = tiling.size, tiling.pool, tiling.padding
    p, winner = winograd_drive(x, kernel, tiling)
    u = ops.conv2d(x, w, 1, padding)
    expected, places = ops.max_pool(u) if pool == "max" else (ops.average_pool(u) if pool == "average" else u, None)
    assert_winograd(p, to_host(expected), dtype)
    if pool == "max":
        assert (to_host(winner) == to_host(places)).all() and winner.dtype == np.uint8
    v = xp.asarray(numbers(p.shape, 3, dtype))
    back = winograd_feedback(v, winner, kernel, tiling)
    unpooled = v
    if pool != "none":
        unpooled = ops.max_unpool(v, places, u.shape[1:3]) if pool == "max" else ops.average_unpool(v, u.shape[1:3])
    assert_winograd(back, to_host(ops.conv2d_transpose(unpooled, w, size, 1, padding)), dtype)
    dw = winograd_weights(x, v, winner, tiling)
    assert_winograd(dw, to_host(ops.conv2d_weight_gradient(x, unpooled, w.shape[:2], 1, padding)), dtype)
    y = ops.winograd_outputs(x, kernel, tiling)
    g = xp.asarray(numbers(y.shape, 4, dtype))
    assert_adjoint(
        lambda x: ops.winograd_outputs(x, kernel, tiling).copy(),
        lambda g: ops.winograd_inputs(g, kernel, tiling),
        x,
        g,
        dtype,
    )
    if pool == "max":
        found = ops.winograd_max_pool(y, ops.reach(x, kernel.ties), kernel)[1]
        t = xp.asarray(numbers(found.shape, 5, dtype))
        assert_adjoint(lambda t: ops.winograd_unpool(t, found), lambda y: ops.winograd_pick(y, found), t, g, dtype)
        check_winograd_ties(x, w, tiling, xp, dtype)


def check_winograd_ties(x, w, tiling, xp, dtype):
    """States that are the same at all places tie, exactly where sums of few digits tie in the direct form."""
    few_digits = xp.asarray(np.round(8 * to_host(w)).astype(dtype) / 8)
    kernel = ops.transform_weights(few_digits, tiling)
    for same in (0, 0.5, 0.75):
        flat = x * 0 + xp.asarray(np.asarray(same, dtype))
        _, winner = winograd_drive(flat, kernel, tiling)
        _, places = ops.max_pool(ops.conv2d(flat, few_digits, 1, tiling.padding))
        assert (to_host(winner) == to_host(places)).all()


def assert_winograd(actual, expected, dtype):
    assert actual.shape == expected.shape
    assert relative_error(to_host(actual), expected) <= WINOGRAD_FORM[dtype]


def check_toom_cook(m, r):
    """One axis in exact points: A^T [(G w) . (B^T d)] is the correlation of d with w."""
    a, g, b = toom_cook(m, r)
    d, w = numbers((m + r - 1,), 1), numbers((r,), 2)
    assert_winograd(a @ ((g @ w) * (b @ d)), np.correlate(d, w, "valid"), np.float64)
