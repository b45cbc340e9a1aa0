"""Which form of a convolution a layer gets: by the estimated time of a step through it, or by name.

The estimate counts multiplications, with two more kinds of work in their measure: transforms are products that reach
half the rate of the large ones, and a number moved costs what ``MOVE`` multiplications cost. On the layers of the
presets it finds the fastest form, or one within a few percent of it: benchmarks/results/forms.md.
"""

from __future__ import annotations

from eqnp.architecture import Architecture, ConvLayer, Layer, Shape
from eqnp.connections import Connection, DenseConnection
from eqnp.convolutions import ConvPoolConnection, MergedConnection, WinogradConnection
from eqnp.ops.winograd import POINTS

FORMS = ("auto", "direct", "merged", "winograd-2x2", "winograd-4x4")

MOVE = 12
TRANSFORM = 2


def connect(layer: Layer, below: Shape, form: str = "auto") -> Connection:
    """Return the connection from a state of shape ``below`` (no sample axis) to ``layer``.

    ``form`` is that of convolutions it suits; the others are computed directly. ``auto`` takes the fastest.
    """
    if not isinstance(layer, ConvLayer):
        return DenseConnection(below)
    if form == "auto":
        form = fastest(layer, below)
    return _make(form if suits(form, layer) else "direct", layer, below)


def fastest(layer: ConvLayer, below: Shape) -> str:
    """Return the form of the least estimated cost, which is what ``auto`` takes."""
    return min((name for name in FORMS[1:] if suits(name, layer)), key=lambda name: cost(name, layer, below))


def connect_all(architecture: Architecture, form: str = "auto") -> tuple[Connection, ...]:
    """Return the connections between the states, from the input up; the readout is none of them."""
    below = (architecture.input_shape, *architecture.state_shapes)
    layers = architecture.layers[: len(architecture.state_shapes)]
    return tuple(connect(layer, shape, form) for layer, shape in zip(layers, below, strict=False))


def suits(form: str, layer: ConvLayer) -> bool:
    """Return whether a form can compute a layer."""
    if form == "merged":
        return layer.pool == "average"
    if form.startswith("winograd"):
        r = layer.kernel[0]
        return layer.kernel == (r, r) and r > 1 and layer.stride == 1 and _m(form) + r - 1 in POINTS
    return True


def cost(form: str, layer: ConvLayer, below: Shape) -> float:
    """Return the estimated cost of a drive and a feedback of one sample, in multiplications."""
    connection = _make(form, layer, below)
    c, k = below[2], layer.channels
    if isinstance(connection, WinogradConnection):
        tile = connection.tile
        p, q = -(-connection.above[0] // tile.side), -(-connection.above[1] // tile.side)
        t2, outputs = tile.t**2, tile.places * tile.side**2
        products = t2 * c * k + TRANSFORM * t2 * (t2 * c + outputs * k)
        return 2 * p * q * (products + MOVE * (t2 * c + outputs * k))
    p, q = connection.conv_size
    columns = connection.kernel[0] * connection.kernel[1] * c
    return 2 * p * q * (columns * k + MOVE * (columns + k))


def _make(form: str, layer: ConvLayer, below: Shape) -> ConvPoolConnection:
    if form.startswith("winograd"):
        return WinogradConnection(below, layer, _m(form))
    return MergedConnection(below, layer) if form == "merged" else ConvPoolConnection(below, layer)


def _m(form: str) -> int:
    return int(form[-1])
