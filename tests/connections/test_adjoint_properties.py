"""The maps of a connection are adjoint to each other, on shapes that Hypothesis draws."""

from __future__ import annotations

import numpy as np
import pytest
from checks import inner
from tolerances import ADJOINT, WINOGRAD_FORM

pytest.importorskip("hypothesis")

from hypothesis import given, reject
from hypothesis import strategies as st

from eqnp.connections.forms import FORMS, connect, suits
from eqnp.connections.layers import ConvLayer, DenseLayer
from eqnp.connections.winograd import WinogradConnection


@st.composite
def conv_layers(draw):
    """Return (layer, shape below, samples) whose output is not empty."""
    size = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    kernel = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    stride, padding = draw(st.integers(1, 3)), draw(st.integers(0, 2))
    pool = draw(st.sampled_from(["max", "average", "none"]))
    layer = ConvLayer(draw(st.integers(1, 4)), kernel, stride, padding, pool)
    places = [(n + 2 * padding - k) // stride + 1 for n, k in zip(size, kernel, strict=True)]
    if min(places) < (1 if pool == "none" else 2):
        reject()
    return layer, (*size, draw(st.integers(1, 3))), draw(st.integers(1, 3))


def assert_maps_are_adjoint(connection, weights, below, samples, seed, tolerance):
    """<D s, v> = <s, F v> and <D s, v> = <w, dw>, D being the drive without bias at the winners of w * s."""
    generator = np.random.default_rng(seed)
    w, s = generator.uniform(-1, 1, weights), generator.uniform(-1, 1, (samples, *below))
    prepared = connection.prepare(w)
    winner = connection.winners(prepared, s)
    driven = np.array(connection.drive_at_winners(prepared, s, winner))
    v = generator.uniform(-1, 1, driven.shape)
    back = connection.feedback(prepared, v, winner)
    dw = connection.weight_gradient(s, v, winner)
    assert back.shape == s.shape and dw.shape == w.shape
    scale = np.linalg.norm(w) * np.linalg.norm(s) * np.linalg.norm(v)
    assert abs(inner(driven, v) - inner(s, back)) <= tolerance * scale
    assert abs(inner(driven, v) - inner(w, dw)) <= tolerance * scale


@pytest.mark.parametrize("form", FORMS[1:])
@given(case=conv_layers(), seed=st.integers(0, 2**32))
def test_a_convolution_with_pooling(form, case, seed):
    layer, below, samples = case
    if not suits(form, layer):
        form = "direct"
    weights = (*layer.kernel, below[2], layer.channels)
    tolerance = (WINOGRAD_FORM if form.startswith("winograd") else ADJOINT)[np.float64]
    connection = connect(layer, below, form)
    assert_maps_are_adjoint(connection, weights, below, samples, seed, tolerance)
    if isinstance(connection, WinogradConnection) and layer.stride == 1:
        connection.by_tiles = True  # although there are few channels
        assert_maps_are_adjoint(connection, weights, below, samples, seed, tolerance)


@given(
    below=st.lists(st.integers(1, 6), min_size=1, max_size=3).filter(lambda shape: len(shape) != 2).map(tuple),
    units=st.integers(1, 20),
    samples=st.integers(1, 5),
    seed=st.integers(0, 2**32),
)
def test_a_dense_layer(below, units, samples, seed):
    weights = (int(np.prod(below)), units)
    assert_maps_are_adjoint(connect(DenseLayer(units), below), weights, below, samples, seed, ADJOINT[np.float64])
