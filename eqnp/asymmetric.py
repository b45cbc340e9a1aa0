"""Asymmetric Equilibrium Propagation: nudged phases of a vector field that give its exact gradient.

Forward and backward weights of a vector field differ, so the derivative A = dF/ds (s_*) is not symmetric, and the plain
nudged phase answers to the wrong matrix. Scurria et al. ("Equilibrium Propagation for Non-Conservative Systems", 2026,
arXiv:2602.03670) add (A^T - A)(s - s_*) to F. Between switches of the pools F is linear, F(s) = F(s_*) + A (s - s_*),
so the nudged phase is

    F_a(s) = F(s_*) + A^T (s - s_*)                      s <- m sigma(F_a(s) - beta dl/ds)

A drives deviations from the free state up by the forward weights, and feeds them back by the backward weights. A^T has
the roles swapped: deviations travel up by the backward weights and down by the forward ones, at the winners of s_*.
A step is that of the plain phase with the two weights of every link swapped, and F(s_*) - A^T s_* in place of the drive
of the input. It computes the same maps, except that winners are given and need not be found.

Why this is exact. Let D = sigma'(F(s_*)) and M = diag(m). The free state obeys s_* = m sigma(F(s_*)), so by implicit
differentiation

    dl/dtheta = (dF/dtheta)^T D M (I - A^T D M)^{-1} dl/ds

Every s_beta obeys s_beta = m sigma(F_a(s_beta) - beta dl/ds(s_beta)), and s_0 = s_*. Differentiated at beta = 0 this is
v = M D (A^T v - dl/ds) with v = ds_beta/dbeta, so

    v = - (I - M D A^T)^{-1} M D dl/ds = - D M (I - A^T D M)^{-1} dl/ds,        dl/dtheta = - (dF/dtheta)^T v

The plain phase has A instead of A^T here. F_a is linear, and sigma and the loss are smooth between kinks, so s_beta is
a smooth function of beta as long as no unit crosses a clip. A stencil then gives v up to its own order, O(beta) for
one-sided, O(beta^2) for symmetric and O(beta^4) for four-point; dF/dtheta is taken at s_* and adds no bias. A unit that
is clipped at s_* has D = 0 and stays where it is, as it does in implicit differentiation. Pools cannot switch.

Does it settle? M D A^T and the free step's J = M D A have the same eigenvalues, so synchronous nudged steps settle
exactly as fast as the last free steps do, with any omega. Sweeps: if the free phase moves the colours 1, 2, .., k, one
free sweep is a product of k factors. Its transpose has them in reverse, and is, up to a change of variables, the nudged
sweep that moves k, .., 2, 1. So nudged sweeps go through the colours in reverse, beginning with that of the nudged
layer (a cyclic shift keeps the eigenvalues). For two colours, as in a chain, every order is as good.

Untied weights have no energy, so the free phase may go round in circles, and the nudged phases then do too. Damping
(omega < 1) turns circles into spirals that end. If the free phase stops before it has settled, the phases are taken
around one more free step, m sigma(F(s)): then beta = 0 is at rest, and the estimate stays finite as beta goes to 0.
"""

from __future__ import annotations

from collections.abc import Sequence

from eqnp.backends.backend import Array, array_module
from eqnp.connections.contract import Winner
from eqnp.derivatives import copied, field_vjp
from eqnp.links import Link
from eqnp.networks import States
from eqnp.prepared import PreparedNetwork
from eqnp.step import fields


class TurnedLink(Link):
    """A link with its two weights swapped, at given winners: up by the backward weights, down by the forward ones.

    ``place``: the winners of the feedback; ``winner``: those of the drive, both at the free state. ``constant``, of
    the shape of the state above, is added to what the link drives up, in place of a bias.
    """

    def __init__(self, link: Link, winner: Winner, place: Winner, constant: Array | None) -> None:
        super().__init__(
            link.connection,
            link.down,
            None,
            link.up,
            link.space.scratch,
            up_factor=link.down_factor,
            down_factor=link.up_factor,
        )
        self.winner, self.place, self.constant = winner, place, constant

    def drive(self, s: Array, unchanged: bool = False) -> tuple[Array, Winner]:
        """Return (df/dv)^T s, of the shape of v, plus the constant; and where the way down puts its values."""
        d = self.drive_at(s, self.place)
        if self.constant is not None:
            d += self.constant
        return d, self.winner

    def winners(self, s: Array) -> Winner:
        """Return where the way down puts its values, whatever s is."""
        return self.winner

    def feedback_winners(self, s: Array) -> Winner:
        """Return the same, for a network whose feedback has winners of its own."""
        return self.winner


def turn(prepared: PreparedNetwork, free: States, times: int = 1) -> tuple[PreparedNetwork, list[Array]]:
    """Return the network whose steps are s <- m sigma(F_a(s) - beta dl/ds), and its free state s_* = m sigma(F(free)).

    ``free`` are the states s^1 .. s^L at the end of a free phase, each (N, ...). With ``times``, the network and its
    free state hold every sample that often, one set after the other: (N times, ...).
    """
    drives, winners = prepared.drives(free)
    places = prepared.feedback_winners(free, winners)
    constant = [u.copy() for u in fields(prepared, free, drives, places)]
    winners, places = copied(winners), copied(places)
    start = [sigma.value(u) for sigma, u in zip(prepared.network.activations, constant, strict=True)]
    prepared.mask(start)
    for c, back in zip(constant, field_vjp(prepared, start, winners, places), strict=True):
        c -= back  # F(s_*) - A^T s_*
    if times > 1:
        prepared = prepared.repeated(times)
        start, constant = ([_repeat(a, times) for a in each] for each in (start, constant))
        winners, places = ([w if w is None else _repeat(w, times) for w in each] for each in (winners, places))
    return _turned(prepared, winners, places, constant), start


def _turned(
    prepared: PreparedNetwork, winners: Sequence[Winner], places: Sequence[Winner], constant: States
) -> PreparedNetwork:
    """Return the network with every link turned. One edge into each state carries its ``constant``."""
    graph, links, from_input = prepared.network, list(prepared.links), dict(prepared.from_input)
    for n, edges in enumerate(graph.into):
        carrier = next((e for e in edges if e in from_input), edges[0])
        for e in edges:
            if e not in from_input:
                own = constant[n] if e == carrier else None
                links[e] = TurnedLink(links[e], winners[e], places[e], own)
            elif e == carrier:
                from_input[e] = constant[n], None
            else:  # the input's drives are in the constant
                from_input[e] = array_module(constant[n]).zeros_like(constant[n]), None
    return prepared.with_links(links, from_input, turned_colours(graph.colours, len(graph.into) - 1))


def turned_colours(colours: tuple[tuple[int, ...], ...], last: int) -> tuple[tuple[int, ...], ...]:
    """Return the colours in reverse, shifted so that they begin with that of state ``last``, which is nudged."""
    back = colours[::-1]
    first = next(k for k, colour in enumerate(back) if last in colour)
    return back[first:] + back[:first]


def _repeat(a: Array, times: int) -> Array:
    return array_module(a).concatenate([a] * times)
