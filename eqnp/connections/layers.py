"""The specs of layers, from which ``eqnp.architecture`` builds a network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from eqnp.inputs import whole

POOLS = ("max", "average", "none")

Shape = tuple[int, ...]


@dataclass(frozen=True)
class ConvLayer:
    """P(w * s + b): a convolution to ``channels``, then optionally a 2x2 pooling with stride 2.

    ``kernel`` is (KH, KW); a number stands for a square kernel. ``Architecture`` checks all values.
    """

    channels: int
    kernel: tuple[int, int]
    stride: int = 1
    padding: int = 0
    pool: str = "none"
    keep: float = 1.0  # probability with which dropout keeps a unit of the layer

    if TYPE_CHECKING:  # the argument may be a number, the field is always (KH, KW)

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
    """w s + b: every unit is connected to all units of the layer below, flattened in (H, W, C) order."""

    units: int
    keep: float = 1.0

    def __str__(self) -> str:
        return f"dense {self.units}"


Layer = ConvLayer | DenseLayer
