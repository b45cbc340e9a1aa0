"""The move of a state: all the way to where its neighbours drive it, or, relaxed, further or less far.

    s <- clip(s + omega (sigma(u) - s), low, high)         u = drive + feedback - nudge; [low, high] the range of sigma

omega 1 is s <- sigma(u). Above 1 it is over-relaxation, below 1 damping; a steady state is the same with any omega.

Why a free phase of even-odd sweeps may take any omega above 0 and below 2: let the weights be the same both ways and
every layer's sigma(u) = clip(a u, low, high), with low at least 0 where maxima are pooled below it (hard and half hard
sigmoids; a linear output has a = 1 and no bounds). Steady states are stationary points, in the bounds, of the energy

    E = sum over layers of |s|^2 / (2 a) - Phi

As a function of one layer's state Phi is convex: linear terms, and maxima of them times states above that are not
negative. So E is below the parabola with its own slope and the curvature 1 / a, and the layer's move lowers it by at
least (1 / omega - 1 / 2) |s' - s|^2 / a. Layers of one half sweep do not meet. So E falls with every sweep and the
moves become as small as one likes, whatever the weights are, where synchronous steps may go on for ever.

For omega of at least 1 and without maxima this is projected successive over-relaxation, layer by layer (Cryer, SIAM J.
Control 9, 1971).
"""

from __future__ import annotations

from dataclasses import dataclass

from eqnp.backends.backend import Array, array_module
from eqnp.ops.activations import Activation


@dataclass(frozen=True)
class Move:
    """Where one layer's state goes from (``old``) and to (``out``), both (N, ...), and how.

    ``measured``: whether ``take`` returns how far it went.
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

    def take(self, u: Array, block: slice = slice(None)) -> Array | None:
        """Write s' of the samples ``block`` for their u; return max |s' - s|, still on the device, if measured."""
        xp, old, out = array_module(u), self.old[block], self.out[block]
        self.sigma.value(u, out=out)
        if self.omega != 1:
            out -= old
            out *= self.omega
            out += old
            if self.sigma.bounded:
                xp.clip(out, self.sigma.low, self.sigma.high, out=out)
        if not self.measured:
            return None
        moved = out - old
        return xp.abs(moved, out=moved).max()
