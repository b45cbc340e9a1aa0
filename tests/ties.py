"""Windows that tie in exact arithmetic, and what the forms of a convolution make of them.

Run as a program it checks them once, so that a test can do so under another kernel of OpenBLAS.
"""

from __future__ import annotations

import sys
from itertools import product

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from eqnp.backends.backend import to_host
from eqnp.backends.workspace import Workspace
from eqnp.connections.forms import FORMS, connect, suits
from eqnp.connections.layers import ConvLayer
from eqnp.ops import prepare_ties, reach, tie_margin

WEIGHTS = ("random", "positive", "constant", "blocks", "alternate")
STATES = ("saturated", "flat", "sparse", "uneven")
LAYERS = (
    ((10, 12, 32), ConvLayer(24, (3, 3), padding=1, pool="max")),
    ((13, 9, 8), ConvLayer(7, (5, 5), padding=2, pool="max")),
    ((12, 11, 64), ConvLayer(16, (3, 3), stride=2, padding=1, pool="max")),
    ((9, 14, 1), ConvLayer(16, (5, 3), pool="max")),
)


def make_weights(kind, shape, generator, dtype):
    """Return weights (KH, KW, C, K) of random, equal, alternating or blockwise sign."""
    w = generator.uniform(0, 1, shape) / np.sqrt(np.prod(shape[:3]))
    if kind == "random":
        w = 2 * w - w.max()
    if kind == "constant":
        w[...] = 0.1
    if kind == "blocks":
        w[:, :, shape[2] // 2 :] *= -1
    if kind == "alternate":
        w[:, :, ::2] *= -1
    return w.astype(dtype)


def make_states(kind, shape, generator, dtype):
    """Return states (N, H, W, C) that are the same at many places, or at all."""
    samples, h, w, c = shape
    one = generator.uniform(0, 1, (samples, 1, 1, c))
    if kind == "saturated":
        one[...] = 1
    if kind == "sparse":
        one *= generator.random(one.shape) < 0.1
    s = np.broadcast_to(0.1 * one if kind == "uneven" else one, shape).copy()
    if kind == "uneven":  # small and flat beside large and rough
        s[:, h // 2 :, w // 2 :] = generator.uniform(0, 1, s[:, h // 2 :, w // 2 :].shape)
    return s.astype(dtype)


def windows(s, layer):
    """Return the inputs of the four outputs of every pooling window: (N, P, 2, Q, 2, C KH KW)."""
    d, step = layer.padding, layer.stride
    padded = np.pad(s, ((0, 0), (d, d), (d, d), (0, 0)))
    patches = sliding_window_view(padded, layer.kernel, axis=(1, 2))[:, ::step, ::step]
    n, h, w = patches.shape[:3]
    p, q = h // 2, w // 2
    return patches[:, : 2 * p, : 2 * q].reshape(n, p, 2, q, 2, -1)


def exactly_tied(s, layer):
    """Return which windows hold four equal patches, which tie in exact arithmetic: (N, P, Q)."""
    patches = windows(s, layer)
    return (patches == patches[:, :, :1, :, :1]).all(axis=(2, 4, 5))


def check_exact_ties(dtype, form, put=np.asarray, means=None, layers=LAYERS):
    """Windows of four equal patches choose the first place, whatever weights and states are."""
    for (below, layer), kind, state in product(layers, WEIGHTS, STATES):
        if not suits(form, layer):
            continue
        generator = np.random.default_rng(1)
        w = make_weights(kind, (*layer.kernel, below[2], layer.channels), generator, dtype)
        s = make_states(state, (3, *below), generator, dtype)
        connection = connect(layer, below, form, means)
        found = to_host(connection.winners(connection.prepare(put(w)), put(s)))
        assert not found[exactly_tied(s, layer)].any(), (form, layer, kind, state, np.dtype(dtype).name)


def check_true_gaps(dtype, form, put=np.asarray, means=None):
    """A place whose output is larger by more than two margins in exact arithmetic wins. (Float64 stands for exact.)"""
    for below, layer in LAYERS:
        if not suits(form, layer):
            continue
        generator = np.random.default_rng(2)
        w = make_weights("random", (*layer.kernel, below[2], layer.channels), generator, dtype)
        s = generator.uniform(0, 1, (20, *below)).astype(dtype)
        connection = connect(layer, below, form, means)
        found = to_host(connection.winners(connection.prepare(put(w)), put(s)))
        flat = w.transpose(2, 0, 1, 3).reshape(-1, layer.channels)  # patches are (C, KH, KW)
        u = windows(s, layer).astype(np.float64) @ flat.astype(np.float64)  # (N, P, 2, Q, 2, K)
        u = u.transpose(0, 1, 3, 2, 4, 5).reshape(*found.shape[:3], 4, layer.channels)
        chosen = np.take_along_axis(u, found[:, :, :, None].astype(int), axis=3)[:, :, :, 0]
        margin = margin_of(connection, s, w)
        assert (u.max(axis=3) - chosen <= 2 * margin).all(), (form, layer)
        assert (2 * margin < 1e-2 * np.abs(u).max()).all()


def margin_of(connection, s, w):
    """Return the margin of every window (N, P, Q, K), those of a tile repeated."""
    tiling = getattr(connection, "tiling", None)
    ties = prepare_ties(w, *connection.reach, points=tiling.t if tiling else 0)
    margin = tie_margin(reach(s, ties), ties.spread, Workspace())
    p, q = connection.above[:2]
    times = -(-p // margin.shape[1])
    return margin.repeat(times, axis=1).repeat(times, axis=2)[:, :p, :q]


def main():
    for dtype, form in product((np.float32, np.float64), FORMS[1:]):
        check_exact_ties(dtype, form)


if __name__ == "__main__":
    sys.exit(main())
