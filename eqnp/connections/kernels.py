"""CUDA kernels as a connection calls them, and the state update that all connections on a device share."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import numpy as np

from eqnp.backends.backend import Array
from eqnp.backends.device import Device, Kernel
from eqnp.backends.workspace import Workspace
from eqnp.connections.contract import Addends, Prepared, Winner
from eqnp.ops.moves import Move


class Kernels:
    """The kernels of one source for one connection, compiled at their first call."""

    def __init__(self, device: Device, source: str, sizes: Mapping[str, float | str]) -> None:
        self.device, self.source, self.sizes = device, source, dict(sizes)
        self._kernels: dict[tuple[str, np.dtype, str, float], Kernel] = {}

    def get(self, name: str, dtype: np.dtype, sigma: str = "linear", omega: float = 1.0) -> Kernel:
        """Return the kernel ``name`` for arrays of ``dtype``; a state update uses ``sigma`` and ``omega``."""
        key = (name, dtype, sigma, omega)
        if key not in self._kernels:
            real = {np.dtype(np.float32): "float", np.dtype(np.float64): "double"}[dtype]
            macros = {
                "REAL": real,
                "SIGMA": sigma,
                "SIGMA_RANGE": f"{sigma}_range",
                "OMEGA": repr(float(omega)),
            } | self.sizes
            self._kernels[key] = self.device.kernel(self.source, name, macros)
        return self._kernels[key]

    def update(
        self,
        name: str,
        move: Move,
        arguments: tuple[Array | None, ...],
        space: Workspace,
        *sizes: int,
    ) -> Array | None:
        """Call a kernel that ends with a state update, with (*arguments, old, out, moved, *sizes).

        Return max |s' - s|, a 0-dimensional array of the device, if the move is measured, else None.
        """
        out, old = move.out, move.old if move.needs_old else None
        moved = space.take("moved", (self.device.threads(out.size),), out) if move.measured else None
        kernel = self.get(name, out.dtype, move.sigma.name, move.omega)
        kernel(out.size, *arguments, old, out, moved, *sizes)
        return None if moved is None else moved.max()


# The arrays that a state update adds, beside the feedback that it computes; all but the first may be None.
Three = tuple[Array, Array | None, Array | None]
# A state update: the source, the name of the kernel, its first and its last arguments.
StateUpdate = tuple[Kernels, str, tuple[Array | None, ...], tuple[int, ...]]


class UpdateByKernel:
    """Common to all connections on a device: state updates in one pass."""

    device: Device

    @cached_property
    def _update(self) -> Kernels:
        return Kernels(self.device, "update", {})

    def update(
        self,
        w: Prepared,
        v: Array,
        winner: Winner,
        others: Addends,
        move: Move,
        space: Workspace,
    ) -> Array | None:
        """Move the state below with u = dPhi/ds plus ``others``."""
        kernels, name, arguments, sizes = self._state_update(w, v, winner, _three(others, space), space)
        return kernels.update(name, move, arguments, space, *sizes)

    def _state_update(self, w: Prepared, v: Array, winner: Winner, others: Three, space: Workspace) -> StateUpdate:
        """Return the kernel that updates the state below with u = dPhi/ds plus ``others``, and its arguments."""
        raise NotImplementedError

    def update_last(self, drives: Addends, nudge: Array | None, move: Move, space: Workspace) -> Array | None:
        """Move a state that gets no feedback with u = its ``drives`` - nudge."""
        return self._update.update("update", move, (None, nudge, *_three(drives, space)), space)


def _three(addends: Addends, space: Workspace) -> Three:
    """Return one to three arrays, None for those that are missing. If there are more, the last ones are added first."""
    a, b, *others = (*addends, None, None)[: max(3, len(addends))]
    if len(others) == 1:
        return a, b, others[0]
    total = space.take("further addends", a.shape, a)
    total[...] = others[0]
    for other in others[1:]:
        total += other
    return a, b, total
