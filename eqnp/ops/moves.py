"""The update of a state, called a move, with the relaxation factor omega.

    s <- clip(s + omega (sigma(u) - s), low, high)         u = drive + feedback - nudge; [low, high] the range of sigma

With omega = 1 this is s <- sigma(u). omega > 1 is over-relaxation, omega < 1 is damping. The steady states are the same
for every omega.

A free phase of even-odd sweeps converges for every omega with 0 < omega < 2, under these assumptions: the weights are
symmetric, each layer has sigma(u) = clip(a u, low, high) with a finite or infinite low and high (hard and half hard
sigmoids, relu, relu6, linear), low >= 0 for the layer above a max-pooling, and E has a lower bound. Steady states are
then stationary points, within the bounds, of the energy

    E = sum over layers of |s|^2 / (2 a) - Phi

As a function of one layer's state, Phi is convex: it is a sum of linear terms, and of maxima of linear terms times
states above, which are not negative. So E lies below the parabola that has the same value and slope at s and the
curvature 1 / a, and the move of the layer lowers E by at least (1 / omega - 1 / 2) |s' - s|^2 / a. The layers that a
sweep moves at once have one colour (``eqnp.graph``): no connection joins them, so they do not interact. So E falls with
every sweep, for any weights and any graph, and the moves tend to 0 if E has a lower bound. Sweeps up or down move one
layer at a time, so the same holds for them. With weakened feedback a layer's terms in E have its energy weight
(``eqnp.networks``), and so does what its move lowers E by. Synchronous steps have no such guarantee: they may oscillate
forever.

E has a lower bound if the range of every layer is bounded (relu6), or of all except layers that do not interact, such
as a linear output. Between neighbouring layers of relu or linear, Phi grows with the square of the states, and E has a
lower bound only if Phi stays below |s|^2 / 2. It is enough that for every layer the spectral norms of the weights
between its states and other states sum to less than 1. With larger weights E may fall forever: the states grow until
they overflow. A smaller gain helps, or relu6.

For omega >= 1 and without maxima this is projected successive over-relaxation, layer by layer (Cryer, SIAM J. Control
9, 1971).
"""

from __future__ import annotations

from dataclasses import dataclass

from eqnp.backends.backend import Array, array_module
from eqnp.backends.blocks import WHOLE, part_of
from eqnp.ops.activations import Activation


@dataclass(frozen=True)
class Move:
    """One layer's move: from the state ``old`` to the state ``out``, both (N, ...), with ``sigma`` and ``omega``.

    ``measured`` says whether ``take`` returns the size of the move.
    """

    sigma: Activation
    old: Array
    out: Array
    omega: float = 1.0
    measured: bool = False

    @property
    def needs_old(self) -> bool:
        """Whether the old state is read."""
        return self.omega != 1 or self.measured

    def take(self, u: Array, block: slice = WHOLE) -> Array | None:
        """Write s' for the samples ``block``, given their u (B, ...). Return max |s' - s| if measured, else None.

        The result is a 0-dimensional array of the device, so nothing is copied to the host.
        """
        xp, old, out = array_module(u), part_of(self.old, block), part_of(self.out, block)
        self.sigma.value(u, out=out)
        if self.omega != 1:
            out -= old
            out *= self.omega
            out += old
            self.sigma.clip(out)
        if not self.measured:
            return None
        moved = out - old
        return xp.abs(moved, out=moved).max()
