"""2x2 pooling with stride 2, its inverse P^{-1}, and their adjoints.

Letters: N samples, (H, W) size before and (P, Q) = (H // 2, W // 2) after pooling, C channels. A last odd row or column
belongs to no window: it is dropped going up and zero coming back.

A window's four places are numbered in row-major order, 0 1 / 2 3. ``winner`` (uint8) is the place of the maximum, the
first one when several are equal; a free phase starts from zeros, where every window ties. ``eqnp.ops.ties`` says which
values count as equal.
"""

from __future__ import annotations

from collections.abc import Iterator

from eqnp.backends.backend import Array, array_module
from eqnp.backends.workspace import Workspace

Size = tuple[int, int]


def _places(size: Size) -> Iterator[tuple[int, tuple[slice, slice, slice]]]:
    """Yield (place, where) for the four places of all windows of an array (N, H, W, C)."""
    h, w = size[0] // 2 * 2, size[1] // 2 * 2
    for place in range(4):
        i, j = divmod(place, 2)
        yield place, (slice(None), slice(i, h, 2), slice(j, w, 2))


def max_pool(u: Array, space: Workspace | None = None, margin: Array | None = None) -> tuple[Array, Array]:
    """Return the maximum of every window and its place: (N, H, W, C) -> p, winner, both (N, P, Q, C).

    With a ``margin`` (N, P, Q, C) a later place wins only by more than that (``eqnp.ops.ties``), and u is written over.
    At fixed winners the map is linear: ``pick_winners``, whose adjoint is ``max_unpool``.
    """
    n, h, w, c = u.shape
    p, q = h // 2, w // 2
    windows = u[:, : 2 * p, : 2 * q].reshape(n, p, 2, q, 2, c).transpose(2, 4, 0, 1, 3, 5)
    return max_of_windows(windows, space or Workspace(), margin)


def max_of_windows(u: Array, space: Workspace, margin: Array | None = None) -> tuple[Array, Array]:
    """Return the maximum of every window and which place has it first: (2, 2, ...) -> (...), uint8 (...).

    The first axes are the rows and columns of a window. A later place wins only by more than ``margin`` (..., K); then
    u is written over.
    """
    xp = array_module(u)
    left, right = u[:, 0], u[:, 1]
    rows = xp.maximum(left, right, out=space.take("of rows", left.shape, u))
    # "greater", never "greater or equal", so ties go to the first.
    right_wins = _is_greater(right, left, "right wins", space, margin)
    p = xp.maximum(rows[0], rows[1], out=space.take("pooled", rows[0].shape, u))
    lower = _is_greater(rows[1], rows[0], "lower", space, margin)
    # a row's place, + 2 where it is the lower: in whole numbers, which are faster than a choice
    winner = xp.add(right_wins[1], 2, out=space.take("winner", p.shape, u, dtype=xp.uint8))
    winner *= lower
    return p, xp.maximum(winner, right_wins[0], out=winner)


def _is_greater(a: Array, b: Array, name: str, space: Workspace, margin: Array | None) -> Array:
    """Return 1 where a - margin > b, else 0, as uint8. With a margin a is written over."""
    xp = array_module(a)
    if margin is not None:
        a -= margin
    return xp.greater(a, b, out=space.take(name, a.shape, a, dtype=bool)).view(xp.uint8)


def max_unpool(p: Array, winner: Array, size: Size, space: Workspace | None = None) -> Array:
    """Return P^{-1}(p): every value at the winner of its window, zero elsewhere: (N, P, Q, C) -> (N, H, W, C).

    Adjoint: ``pick_winners``.
    """
    space = space or Workspace()
    n, c = p.shape[0], p.shape[-1]
    u = space.take_zeros("unpooled", (n, *size, c), p)  # the odd last row and column are never written: they stay zero
    xp = array_module(p)
    for place, where in _places(size):
        u[where] = xp.multiply(p, winner == place, out=space.take("placed", p.shape, p))
    return u


def pick_winners(u: Array, winner: Array) -> Array:
    """Return the value of u at every window's winner: (N, H, W, C) -> (N, P, Q, C). The adjoint of ``max_unpool``."""
    xp = array_module(u)
    p = xp.zeros_like(u, shape=winner.shape)
    for place, where in _places(u.shape[1:3]):
        p += u[where] * (winner == place)
    return p


def average_pool(u: Array, space: Workspace | None = None) -> Array:
    """Return the mean of every window: (N, H, W, C) -> (N, P, Q, C). Adjoint: ``average_unpool``."""
    space = space or Workspace()
    a, b, c, d = (u[where] for _, where in _places(u.shape[1:3]))
    p = array_module(u).add(a, b, out=space.take("pooled", a.shape, u))
    p += c
    p += d
    p *= 0.25
    return p


def average_unpool(p: Array, size: Size, space: Workspace | None = None) -> Array:
    """Spread every value over its window, a quarter each: (N, P, Q, C) -> (N, H, W, C). Adjoint of ``average_pool``."""
    space = space or Workspace()
    u = space.take_zeros("unpooled", (p.shape[0], *size, p.shape[-1]), p)
    quarter = p * 0.25
    for _, where in _places(size):
        u[where] = quarter
    return u
