"""The graph of a network: its connections as edges between layers, the shapes that they give, and a colouring.

Layer 0 is the input, layers 1, 2, ... hold the states s^1, s^2, .... Every edge leads upwards, from layer i to layer
j > i, and adds s^j . d(s^i) to Phi. In a chain each layer has one edge from below, the layer just below it; skips add
more.

Layers that no edge joins do not occur in each other's drive or feedback, so they may move at once, and the energy still
falls (``eqnp.ops.moves``). ``colours`` parts the layers into sets of this kind; a chain has two, the even and the odd
layers.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from eqnp.connections.layers import POOLS, ConvLayer, DenseLayer, Layer, Shape, Skip
from eqnp.errors import ConfigurationError
from eqnp.inputs import whole
from eqnp.ops.conv import output_size

LARGEST_ARRAY = 2**40  # numbers per sample: more than any memory holds, few enough for NumPy's sizes with all samples


@dataclass(frozen=True)
class Edge:
    """The connection from layer ``lower`` to layer ``upper``, computed as ``layer`` says.

    ``name`` is the prefix of its weight: ``forward.1`` from layer 1 to the next one, ``forward.0-2`` from layer 0 to
    layer 2. A layer has one bias; ``bias`` is its name on the layer's first edge, None on the others. ``where`` names
    the edge in messages, ``gain`` is of the initial weight.
    """

    name: str
    lower: int
    upper: int
    layer: Layer
    bias: str | None
    gain: float | None
    where: str

    @property
    def backward(self) -> str:
        """The prefix of the weight with which a vector field feeds back along this edge: ``backward.1``."""
        return self.name.replace("forward.", "backward.")

    def weight_shape(self, below: Shape) -> Shape:
        """Return the shape of the weight, for a layer below of shape ``below``: (KH, KW, C, K) or (in, out)."""
        if isinstance(self.layer, ConvLayer):
            return (*self.layer.kernel, below[-1], self.layer.channels)
        return (math.prod(below), self.layer.units)


def edges_and_shapes(input_shape: Shape, layers: Sequence[Layer]) -> tuple[tuple[Edge, ...], tuple[Shape, ...]]:
    """Return all edges, by upper layer and then in the order of the specs, and the shapes of layers 0, 1, ....

    Raises:
        ConfigurationError: a layer does not fit what is below it, two edges into it give different shapes, or an edge
            comes from no lower layer.
    """
    shapes: list[Shape] = [input_shape]
    edges: dict[str, Edge] = {}
    for n, layer in enumerate(layers):
        own = _own_edge(n, layer)
        shape = _shape_above(own, shapes[own.lower])
        edges[own.name] = own
        for k, skip in enumerate(layer.skips):
            edge = _skip_edge(n, k, layer, skip, shape)
            found = _shape_above(edge, shapes[edge.lower])
            if found != shape and isinstance(edge.layer, ConvLayer):
                raise ConfigurationError(
                    f"{edge.where}: from layer {edge.lower} it gives {found}, but {own.where} gives {shape} from layer "
                    f"{own.lower}; choose strides, paddings and pooling that agree"
                )
            name = _unused(edge.name, edges)
            edges[name] = replace(edge, name=name)
        shapes.append(shape)
    return tuple(edges.values()), tuple(shapes)


def colours(edges: Sequence[Edge], count: int) -> tuple[tuple[int, ...], ...]:
    """Return the layers 1 .. ``count`` in sets that no edge joins, in the order in which a sweep moves them.

    From layer 1 up, each layer takes the first colour that no joined layer has. A chain gives the even layers, then
    the odd ones.
    """
    joined: dict[int, set[int]] = {n: set() for n in range(1, count + 1)}
    for edge in edges:
        if edge.lower:
            joined[edge.upper].add(edge.lower)
    colour: dict[int, int] = {}
    for n in joined:
        taken = {colour[below] for below in joined[n]}
        colour[n] = next(c for c in range(count) if c not in taken)
    found = range(max(colour.values(), default=-1), -1, -1)
    return tuple(tuple(n for n in colour if colour[n] == c) for c in found)


def _own_edge(n: int, layer: Layer) -> Edge:
    """Return the edge of layer n + 1 that its own spec describes."""
    where, lower = f"model.layers.{n} ({layer})", n if layer.source is None else layer.source
    _require_lower(where, lower, n)
    name = f"forward.{n}" if lower == n else f"forward.{lower}-{n + 1}"
    alone = replace(layer, source=None, skips=())
    return Edge(name, lower, n + 1, alone, f"forward.{n}.bias", layer.gain, where)


def _skip_edge(n: int, k: int, layer: Layer, skip: Skip, shape: Shape) -> Edge:
    """Return the edge of a skip into layer n + 1, of ``shape``."""
    where = f"model.layers.{n}.skips.{k}"
    _require_lower(where, skip.source, n)
    to: Layer = DenseLayer(math.prod(shape))
    if isinstance(layer, ConvLayer) and not skip.dense:
        to = ConvLayer(layer.channels, skip.kernel, skip.stride, skip.padding, skip.pool)
    elif skip != Skip(skip.source, dense=skip.dense, gain=skip.gain):
        raise ConfigurationError(f"{where}: kernel, stride, padding and pool belong to a convolution; it is dense")
    return Edge(f"forward.{skip.source}-{n + 1}", skip.source, n + 1, to, None, skip.gain, where)


def _unused(name: str, names: Collection[str]) -> str:
    """Return ``name``, or with ``.2``, ``.3``, ... if other edges join the same two layers."""
    candidates = (name, *(f"{name}.{k}" for k in range(2, len(names) + 3)))
    return next(candidate for candidate in candidates if candidate not in names)


def _require_lower(where: str, source: object, n: int) -> None:
    number = whole(source)
    if number is None or not 0 <= number <= n:
        below = "0 (the input)" if n == 0 else f"0 (the input) to {n}"
        raise ConfigurationError(f"{where}: from {source!r} is not a lower layer; choose {below}")


def _shape_above(edge: Edge, below: Shape) -> Shape:
    """Return the shape that an edge from a layer of shape ``below`` gives, or raise with the sizes that clash."""
    layer, where = edge.layer, edge.where
    if isinstance(layer, DenseLayer):
        _require_possible(where, math.prod(below) * layer.units)
        return (layer.units,)
    if layer.pool not in POOLS:
        raise ConfigurationError(f"{where}: pool {layer.pool!r} is not known; choose one of {', '.join(POOLS)}")
    if len(below) != 3:
        raise ConfigurationError(f"{where}: it needs an image (H, W, C) below but gets {below}; put conv before dense")
    size = output_size(below[:2], layer.kernel, layer.stride, layer.padding)
    if min(size) < 1:
        raise ConfigurationError(
            f"{where}: a {layer.kernel[0]}x{layer.kernel[1]} kernel with padding {layer.padding} does not fit "
            f"its input of {below[0]}x{below[1]}"
        )
    outputs, patch = math.prod(size), math.prod(layer.kernel) * below[2]
    padded = math.prod(n + 2 * layer.padding for n in below[:2]) * below[2]
    _require_possible(where, max(padded, outputs * patch, outputs * layer.channels, patch * layer.channels))
    if layer.pool == "none":
        return (*size, layer.channels)
    if min(size) < 2:
        raise ConfigurationError(f"{where}: nothing to pool 2x2 in a convolution of size {size[0]}x{size[1]}")
    return (size[0] // 2, size[1] // 2, layer.channels)


def _require_possible(where: str, numbers: int) -> None:
    """Check that the largest array of a layer is possible at all. Whether it fits in memory depends on the machine."""
    if numbers > LARGEST_ARRAY:
        raise ConfigurationError(
            f"{where}: takes an array of {numbers:.1e} numbers; take fewer channels or units, or less padding"
        )
