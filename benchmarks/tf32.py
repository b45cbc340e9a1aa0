"""Products of convolutions in TF32 on a CPU: factors are rounded as tensor cores of a GPU round them."""

from __future__ import annotations

import numpy as np

from eqnp.backends.workspace import Workspace
from eqnp.connections.contract import Winner
from eqnp.connections.conv_pool import ConvPoolConnection, Direct
from eqnp.networks import Network


def to_tf32(a: np.ndarray) -> np.ndarray:
    """Return float32 numbers rounded to the nearest with 10 bits of mantissa instead of 23."""
    return ((a.view(np.uint32) + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(np.float32)


class Tf32Connection(ConvPoolConnection):
    """P(w * s) + b with the factors of every product rounded. Columns are copies, so their source is rounded."""

    def prepare(self, w: np.ndarray) -> Direct:
        return super().prepare(to_tf32(w))

    def _norms(self, w: Direct, s: np.ndarray, space: Workspace) -> np.ndarray:
        return super()._norms(w, to_tf32(s), space)

    def _drive(
        self,
        w: Direct,
        b: np.ndarray | None,
        s: np.ndarray,
        space: Workspace,
        out: np.ndarray,
        winner: Winner,
        norms: np.ndarray | None,
    ) -> None:
        super()._drive(w, b, to_tf32(s), space, out, winner, norms)

    def _feedback(self, w: Direct, v: np.ndarray, winner: Winner, space: Workspace) -> np.ndarray:
        return super()._feedback(w, to_tf32(v), winner, space)

    def _drive_at_winners(self, w: Direct, s: np.ndarray, winner: Winner, space: Workspace, out: np.ndarray) -> None:
        super()._drive_at_winners(w, to_tf32(s), winner, space, out)

    def _weight_gradient(self, s: np.ndarray, v: np.ndarray, winner: Winner, space: Workspace) -> np.ndarray:
        return super()._weight_gradient(to_tf32(s), to_tf32(v), winner, space)


def in_tf32(network: Network) -> Network:
    """Return the network, which uses the direct form, with its convolutions in TF32."""
    network.connections = tuple(
        Tf32Connection(each.below, each.layer) if isinstance(each, ConvPoolConnection) else each
        for each in network.connections
    )
    return network
