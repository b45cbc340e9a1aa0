"""A drawing of a network: its layers from the input up, and an arrow for every connection."""

from __future__ import annotations

from typing import Any

from eqnp.analysis.plots import new_figure
from eqnp.architecture import Architecture
from eqnp.connections.layers import ConvLayer
from eqnp.graph import Edge, colours

SHADES = ("#D9E6F2", "#F6E3C5", "#DCEFD8", "#EFDDE9")  # of the colours of a sweep; more colours repeat them
SIDE, HIGH, BEND = 0.75, 0.5, 0.5  # where the arcs of skips begin, height of a box, curvature of an arc


def plot_network(architecture: Architecture) -> Any:
    """Return a matplotlib figure of an architecture: boxes with the shapes of the layers, arrows with the connections.

    Layers with the same shade have the same colour: a sweep moves them at once. Arcs are skips.

    Raises:
        BackendError: matplotlib is not installed.
    """
    shapes = architecture.shapes
    figure, axes = new_figure(1, 1, 4.2, 0.62 * len(shapes) + 0.3)
    axis = axes[0, 0]
    axis.set_axis_off()
    groups = colours(architecture.edges, len(architecture.state_shapes))
    shade = {n: SHADES[k % len(SHADES)] for k, group in enumerate(groups) for n in group}
    for n, shape in enumerate(shapes):
        name = "x" if n == 0 else "readout" if n > len(architecture.state_shapes) else f"s{n}"
        _box(axis, n, f"{name}:  {' x '.join(map(str, shape))}", shade.get(n, "white"))
    for edge in architecture.edges:
        _arrow(axis, edge)
    if architecture.readout:
        axis.annotate(
            "", (0, len(shapes) - 1 - HIGH / 2), (0, len(shapes) - 2 + HIGH / 2), arrowprops={"arrowstyle": "->"}
        )
    longest = max((edge.upper - edge.lower for edge in architecture.edges if not edge.bias), default=0)
    axis.set_xlim(-SIDE - 0.2, SIDE + 0.3 + 0.45 * longest + 0.6)
    axis.set_ylim(-HIGH, len(shapes) - 1 + HIGH)
    return figure


def _box(axis: Any, n: int, text: str, color: str) -> None:
    box = {"boxstyle": "round,pad=0.35", "facecolor": color, "edgecolor": "black", "linewidth": 0.8}
    axis.text(0, n, text, ha="center", va="center", fontsize=8, bbox=box)


def _arrow(axis: Any, edge: Edge) -> None:
    """Draw an edge: straight to the next layer, an arc on the right past other layers or beside an edge."""
    steps, style = edge.upper - edge.lower, {"arrowstyle": "->", "shrinkA": 0, "shrinkB": 0}
    if steps == 1 and edge.bias:
        axis.annotate("", (0, edge.upper - HIGH / 2), (0, edge.lower + HIGH / 2), arrowprops=style)
        axis.text(0.08, edge.lower + 0.5, _what(edge), fontsize=6.5, va="center")
        return
    bend = {"connectionstyle": f"arc3,rad={BEND}", "linestyle": "--"}
    axis.annotate("", (SIDE, edge.upper), (SIDE, edge.lower), arrowprops=style | bend)
    axis.text(SIDE + 0.27 * steps + 0.08, edge.lower + steps / 2, _what(edge), fontsize=6.5, va="center")


def _what(edge: Edge) -> str:
    """Return a connection as text: kernel, stride and pooling, or "dense"."""
    layer = edge.layer
    if not isinstance(layer, ConvLayer):
        return "dense"
    stride = f" / {layer.stride}" if layer.stride > 1 else ""
    pool = "" if layer.pool == "none" else f", {layer.pool} 2x2"
    return "x".join(map(str, layer.kernel)) + stride + pool
