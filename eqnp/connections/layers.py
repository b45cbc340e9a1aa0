"""The specs of layers, from which ``eqnp.architecture`` builds a network.

Layer n of a network, counted from 1, is driven by the layer just below it; layer 0 is the input. ``source`` names
another lower layer instead, and ``skips`` are further connections from lower layers, each with a weight of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from eqnp.inputs import whole
from eqnp.ops.activations import Activation

POOLS = ("max", "average", "none")

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Skip:
    """A further connection into a layer, from layer ``source``; 0 is the input.

    It leads to the same units as the layer's own connection: into a convolution it is a convolution to the same
    channels, with a kernel, stride, padding and pooling of its own, or with ``dense`` connects all units with all; into
    a dense layer it is dense. ``gain``: of its initial weight, None for that of the network.
    """

    source: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    padding: int = 0
    pool: str = "none"
    dense: bool = False
    gain: float | None = None

    if TYPE_CHECKING:  # the argument may be a number, the field is always (KH, KW)

        def __init__(
            self,
            source: int,
            kernel: tuple[int, int] | int = 1,
            stride: int = 1,
            padding: int = 0,
            pool: str = "none",
            dense: bool = False,
            gain: float | None = None,
        ) -> None: ...

    def __post_init__(self) -> None:
        object.__setattr__(self, "kernel", _pair(self.kernel))


@dataclass(frozen=True)
class ConvLayer:
    """P(w * s + b): a convolution to ``channels``, then optionally a 2x2 pooling with stride 2.

    ``kernel`` is (KH, KW); a number stands for a square kernel. ``keep``: the probability with which dropout keeps a
    unit. ``activation``, a name or an ``Activation``, and ``gain``, of the initial weight, are None where they are
    those of the network. ``source`` and ``skips``: see the module. ``Architecture`` checks all values.
    """

    channels: int
    kernel: tuple[int, int]
    stride: int = 1
    padding: int = 0
    pool: str = "none"
    keep: float = 1.0
    activation: str | Activation | None = None
    gain: float | None = None
    source: int | None = None
    skips: tuple[Skip, ...] = ()

    if TYPE_CHECKING:  # the argument may be a number, the field is always (KH, KW)

        def __init__(
            self,
            channels: int,
            kernel: tuple[int, int] | int,
            stride: int = 1,
            padding: int = 0,
            pool: str = "none",
            keep: float = 1.0,
            activation: str | Activation | None = None,
            gain: float | None = None,
            source: int | None = None,
            skips: tuple[Skip, ...] = (),
        ) -> None: ...

    def __post_init__(self) -> None:
        object.__setattr__(self, "kernel", _pair(self.kernel))
        _take_list(self)

    def __str__(self) -> str:
        kernel = self.kernel if isinstance(self.kernel, tuple) else (self.kernel,)
        stride = "" if self.stride == 1 else f" / {self.stride}"
        return f"conv {self.channels}, {'x'.join(map(str, kernel))}{stride}{_joined(self)}"


@dataclass(frozen=True)
class DenseLayer:
    """s w + b: every unit is connected to all units of the layer below, flattened in (H, W, C) order.

    The other fields are as in ``ConvLayer``.
    """

    units: int
    keep: float = 1.0
    activation: str | Activation | None = None
    gain: float | None = None
    source: int | None = None
    skips: tuple[Skip, ...] = ()

    def __post_init__(self) -> None:
        _take_list(self)

    def __str__(self) -> str:
        return f"dense {self.units}{_joined(self)}"


Layer = ConvLayer | DenseLayer


def _joined(layer: Layer) -> str:
    """Return from which layers a layer is driven, beside the one just below it, as text."""
    own = "" if layer.source is None else f" from {layer.source}"
    sources = [str(skip.source) for skip in layer.skips if isinstance(skip, Skip)]
    return own + (f" + {', '.join(sources)}" if sources else "")


def _take_list(layer: Layer) -> None:
    """Turn a list of skips into a tuple, since specs are compared and hashed."""
    if isinstance(layer.skips, list):
        object.__setattr__(layer, "skips", tuple(layer.skips))


def _pair(kernel: object) -> object:
    """Return a kernel as (KH, KW) if it is a number or a list; all else as it is, for ``Architecture`` to refuse."""
    number = whole(kernel)
    if number is not None:
        return (number, number)
    return tuple(kernel) if isinstance(kernel, list) else kernel
