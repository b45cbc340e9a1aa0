"""The specs of layers: what a connection leads to. ``eqnp.architecture`` makes a network of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from eqnp.inputs import whole

POOLS = ("max", "average", "none")

Shape = tuple[int, ...]


@dataclass(frozen=True)
class ConvLayer:
    """P(w * s + b): a convolution to ``channels``, then a 2x2 pooling with stride 2 or none.

    ``kernel`` is (KH, KW); a number makes a square one. ``Architecture`` checks all values.
    """

    channels: int
    kernel: tuple[int, int]
    stride: int = 1
    padding: int = 0
    pool: str = "none"
    keep: float = 1.0  # probability by which dropout keeps a unit of the layer

    if TYPE_CHECKING:  # what may be given is wider than the type of the field

        def __init__(
            self,
            channels: int,
            kernel: tuple[int, int] | int,
            stride: int = 1,
            padding: int = 0,
            pool: str = "none",
            keep: float = 1.0,
        ) -> None: ...

    def __post_init__(self) -> None:
        number = whole(self.kernel)
        if number is not None:
            object.__setattr__(self, "kernel", (number, number))
        elif isinstance(self.kernel, list):
            object.__setattr__(self, "kernel", tuple(self.kernel))

    def __str__(self) -> str:
        kernel = self.kernel if isinstance(self.kernel, tuple) else (self.kernel,)
        return f"conv {self.channels}, {'x'.join(map(str, kernel))}"


@dataclass(frozen=True)
class DenseLayer:
    """w s + b: every unit sees the whole layer below, flattened in (H, W, C) order."""

    units: int
    keep: float = 1.0

    def __str__(self) -> str:
        return f"dense {self.units}"


Layer = ConvLayer | DenseLayer
