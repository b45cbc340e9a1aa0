"""Which form of a convolution a layer gets: by the estimated time of a step through it, or by name.

The estimate counts multiplications, with two more kinds of work in their measure: those of transforms, which are small
products, cost a little more, and a number moved costs what ``move`` of them cost. On the layers of the
presets it finds a CPU's fastest form, or one within a few percent of it: benchmarks/results/forms.md.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from eqnp.backends.device import Device
from eqnp.backends.products import Products
from eqnp.connections.contract import Connection
from eqnp.connections.conv_pool import ConvPoolConnection
from eqnp.connections.cuda import CudaConvPool, CudaDense, CudaMerged, CudaWinograd
from eqnp.connections.dense import DenseConnection
from eqnp.connections.layers import ConvLayer, Layer, Shape
from eqnp.connections.merged import MergedConnection
from eqnp.connections.winograd import WinogradConnection
from eqnp.ops.winograd import POINTS

FORMS = ("auto", "direct", "merged", "winograd-2x2", "winograd-4x4")
Means: TypeAlias = Device | Products | None  # what computes, besides the functions of the arrays' own module


class Prices(NamedTuple):
    """What other work costs, in multiplications of a large product."""

    move: float  # to write a number and read it again
    transform: float  # a multiplication of a transform
    products_move: bool  # whether all t^2 products of a tile go through memory, not only its outputs


CPU = Prices(move=24, transform=1.25, products_move=False)
# An H200 by its data sheet: 27 float32 multiplications in the time that a number takes to memory, and again back. Our
# kernels transform in registers, but the products before and after them are calls of their own.
GPU = Prices(move=54, transform=0, products_move=True)


def connect(layer: Layer, below: Shape, form: str = "auto", means: Means = None) -> Connection:
    """Return the connection from a state of shape ``below`` (no sample axis) to ``layer``.

    ``form`` is that of convolutions it suits; the others are computed directly. ``auto`` takes the fastest. Where
    ``means`` is a device it is computed by eqnp's CUDA kernels, otherwise by the functions of the arrays' own module,
    Winograd's large products by those that are given.
    """
    if not isinstance(layer, ConvLayer):
        device = _device_of(means)
        return DenseConnection(below) if device is None else CudaDense(below, device)
    if form == "auto":
        form = fastest(layer, below, means)
    return _make(form if suits(form, layer) else "direct", layer, below, means)


def fastest(layer: ConvLayer, below: Shape, means: Means = None) -> str:
    """Return the form of the least estimated cost, which is what ``auto`` takes.

    Where products are rounded more than their type, none is Winograd's: it would tell apart outputs that are equal.
    """
    device = _device_of(means)
    exact = device is None or device.exact
    forms = [name for name in FORMS[1:] if suits(name, layer) and (exact or not name.startswith("winograd"))]
    return min(forms, key=lambda name: cost(name, layer, below, CPU if device is None else GPU))


def suits(form: str, layer: ConvLayer) -> bool:
    """Return whether a form can compute a layer."""
    if form == "merged":
        return layer.pool == "average"
    if form.startswith("winograd"):
        r = layer.kernel[0]
        return layer.kernel == (r, r) and r > 1 and layer.stride == 1 and _m(form) + r - 1 in POINTS
    return True


def cost(form: str, layer: ConvLayer, below: Shape, prices: Prices = CPU) -> float:
    """Return the estimated cost of a drive and a feedback of one sample, in multiplications."""
    connection = _make(form, layer, below)
    c, k = below[2], layer.channels
    if isinstance(connection, WinogradConnection):
        tiling, (h, w) = connection.tiling, below[:2]
        t, tiles, outputs = tiling.t, tiling.count, tiling.outputs
        transforms = tiling.counts[0] * t * w * c * (h + tiling.counts[1] * t) + tiles * outputs * t * k * (t + outputs)
        moved = tiles * (t**2 * c + (t**2 if prices.products_move else outputs**2) * k)
        return 2 * (tiles * t**2 * c * k + prices.transform * transforms + prices.move * moved)
    p, q = connection.conv_size
    columns = connection.kernel[0] * connection.kernel[1] * c
    return 2 * p * q * (columns * k + prices.move * (columns + k))


def _make(form: str, layer: ConvLayer, below: Shape, means: Means = None) -> ConvPoolConnection:
    device = _device_of(means)
    if device is not None:
        if form.startswith("winograd"):
            return CudaWinograd(below, layer, _m(form), device=device)
        return (CudaMerged if form == "merged" else CudaConvPool)(below, layer, device=device)
    if form.startswith("winograd"):
        products = means if isinstance(means, Products) else None
        return WinogradConnection(below, layer, _m(form), products=products)
    return (MergedConnection if form == "merged" else ConvPoolConnection)(below, layer)


def _device_of(means: Means) -> Device | None:
    return None if isinstance(means, Products) else means


def _m(form: str) -> int:
    return int(form[-1])
