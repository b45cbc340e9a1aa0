"""The choice of the form that computes a layer: by name, or the form with the smallest estimated time of a step.

The estimate is in multiplications of a large product. A multiplication of a transform, which is a small product, costs
a little more, and a number that is written to memory and read again costs as much as ``move`` multiplications. For the
layers of the presets, the estimate finds the fastest form on a CPU, or one within a few percent of it:
benchmarks/results/forms.md.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from eqnp.backends.device import Device
from eqnp.backends.products import Products
from eqnp.connections.contract import Connection
from eqnp.connections.conv_pool import ConvPoolConnection
from eqnp.connections.cuda import CudaConvPool, CudaDense, CudaMerged
from eqnp.connections.cuda_winograd import CudaWinograd
from eqnp.connections.dense import DenseConnection
from eqnp.connections.layers import ConvLayer, Layer, Shape
from eqnp.connections.merged import MergedConnection
from eqnp.connections.winograd import StridedConnection, WinogradConnection
from eqnp.ops.ties import MULTIPLES
from eqnp.ops.toom_cook import POINTS

FORMS = ("auto", "direct", "merged", "winograd-2x2", "winograd-4x4")
Means: TypeAlias = Device | Products | None  # what computes, besides the arrays' module


class Prices(NamedTuple):
    """The cost of other work, in multiplications of a large product."""

    move: float  # cost of writing a number to memory and reading it again
    transform: float  # cost of a multiplication of a transform
    products_move: bool  # whether all t^2 products of a tile go through memory, or only its outputs


CPU = Prices(move=24, transform=1.25, products_move=False)
# From the data sheet of the H200: 27 float32 multiplications take as long as one write, and as long as one read. eqnp's
# own kernels transform in registers, but the products before and after them are separate calls.
GPU = Prices(move=54, transform=0, products_move=True)


def connect(
    layer: Layer, below: Shape, form: str = "auto", means: Means = None, above: Shape | None = None
) -> Connection:
    """Return the connection from a state of shape ``below`` (without sample axis) to ``layer``.

    ``above``: the shape of the state above, if a dense connection leads to one that is not (K,).

    ``form`` is used for the convolutions that it suits; the others use the direct form. ``auto`` uses the fastest form.
    If ``means`` is a device, eqnp's own CUDA kernels compute the connection. Otherwise the arrays' module does, and
    ``means`` may be the ``Products`` for the large products of the Winograd forms.
    """
    if not isinstance(layer, ConvLayer):
        device, above = _device_of(means), above or (layer.units,)
        return DenseConnection(below, above) if device is None else CudaDense(below, above, device)
    if form == "auto":
        form = fastest(layer, below, means)
    return _make(form if suits(form, layer, means) else "direct", layer, below, means)


def fastest(layer: ConvLayer, below: Shape, means: Means = None) -> str:
    """Return the form with the smallest estimated cost, which ``auto`` uses.

    With products in TF32 it is no Winograd form, whose larger rounding errors would separate outputs that are equal.
    """
    device = _device_of(means)
    exact = device is None or device.exact
    forms = [name for name in FORMS[1:] if suits(name, layer, means) and (exact or not name.startswith("winograd"))]
    return min(forms, key=lambda name: cost(name, layer, below, CPU if device is None else GPU))


def suits(form: str, layer: ConvLayer, means: Means = None) -> bool:
    """Return whether ``form`` can compute ``layer`` by ``means``."""
    if form == "merged":
        return layer.pool == "average"
    if form.startswith("winograd"):
        r, s, is_max = layer.kernel[0], layer.stride, layer.pool == "max"
        if layer.kernel != (r, r) or r <= s or (s > 1 and (is_max or _device_of(means) is not None)):
            return False
        t = _m(form) + -(-r // s) - 1
        return t in POINTS and (not is_max or t in MULTIPLES)
    return True


def cost(form: str, layer: ConvLayer, below: Shape, prices: Prices = CPU) -> float:
    """Return the estimated cost of a drive and a feedback, in multiplications per sample."""
    connection = _make(form, layer, below)
    c, k = below[2], layer.channels
    if isinstance(connection, WinogradConnection):
        tiling, (h, w) = connection.tiling, below[:2]
        t, tiles, outputs = tiling.t, tiling.count, tiling.outputs
        transforms = tiling.counts[0] * t * w * c * (h + layer.stride * tiling.counts[1] * t)
        transforms += tiles * outputs * t * k * (t + outputs)
        moved = tiles * (tiling.entries * c + (t**2 if prices.products_move else outputs**2) * k)
        return 2 * (tiles * tiling.entries * c * k + prices.transform * transforms + prices.move * moved)
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
        kind = WinogradConnection if layer.stride == 1 else StridedConnection
        return kind(below, layer, _m(form), products=products)
    return (MergedConnection if form == "merged" else ConvPoolConnection)(below, layer)


def _device_of(means: Means) -> Device | None:
    return None if isinstance(means, Products) else means


def _m(form: str) -> int:
    return int(form[-1])
