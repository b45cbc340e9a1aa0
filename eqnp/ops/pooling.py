"""2x2 pooling with stride 2, its inverse P^{-1}, and their adjoints.

Letters: N samples, (H, W) size before and (P, Q) = (H // 2, W // 2) after pooling, C channels. If H or W is odd, the
last row or column belongs to no window: pooling ignores it, and P^{-1} sets it to zero.

The four places of a window are numbered in row-major order, 0 1 / 2 3. ``winner`` (uint8) is the place of the maximum,
and the first of equal values. Ties are common: a free phase starts from zeros, where all values of a window are equal.
``eqnp.ops.ties`` says which values count as equal.
"""

from __future__ import annotations

from collections.abc import Iterator

from eqnp.backends.backend import Array, array_module
from eqnp.backends.workspace import Workspace

Size = tuple[int, int]


def _places(size: Size) -> Iterator[tuple[int, tuple[slice, slice, slice]]]:
    """Yield (place, where): the index of each of the four places in all windows of an array (N, H, W, C)."""
    h, w = size[0] // 2 * 2, size[1] // 2 * 2
    for place in range(4):
        i, j = divmod(place, 2)
        yield place, (slice(None), slice(i, h, 2), slice(j, w, 2))


def max_pool(u: Array, space: Workspace | None = None, margin: Array | None = None) -> tuple[Array, Array]:
    """Return the maximum p of every window and its place: (N, H, W, C) -> p, winner, both (N, P, Q, C).

    With a ``margin`` (N, P, Q, C), a later place wins only if it is larger by more than the margin (``eqnp.ops.ties``);
    u is then overwritten. At fixed winners the map is linear: ``pick_winners``, whose adjoint is ``max_unpool``.
    """
    n, h, w, c = u.shape
    p, q = h // 2, w // 2
    windows = u[:, : 2 * p, : 2 * q].reshape(n, p, 2, q, 2, c).transpose(2, 4, 0, 1, 3, 5)
    return max_of_windows(windows, space or Workspace(), margin)


def max_of_windows(u: Array, space: Workspace, margin: Array | None = None) -> tuple[Array, Array]:
    """Return the maximum of every window and the first place that has it: (2, 2, ...) -> (...), uint8 (...).

    The first two axes are the row and the column within a window. With a ``margin`` that broadcasts to (...), a later
    place wins only if it is larger by more than the margin; u is then overwritten.
    """
    xp = array_module(u)
    left, right = u[:, 0], u[:, 1]
    rows = xp.maximum(left, right, out=space.take("of rows", left.shape, u))
    # "greater", not "greater or equal": of equal values the first wins
    right_wins = _is_greater(right, left, "right wins", space, margin)
    p = xp.maximum(rows[0], rows[1], out=space.take("pooled", rows[0].shape, u))
    lower = _is_greater(rows[1], rows[0], "lower", space, margin)
    # the place within the row, plus 2 if the lower row wins; integer arithmetic is faster than where()
    winner = xp.add(right_wins[1], 2, out=space.take("winner", p.shape, u, dtype=xp.uint8))
    winner *= lower
    return p, xp.maximum(winner, right_wins[0], out=winner)


def _is_greater(a: Array, b: Array, name: str, space: Workspace, margin: Array | None) -> Array:
    """Return 1 where a - margin > b, else 0, as uint8: (...), (...) -> (...). With a margin, a is overwritten."""
    xp = array_module(a)
    if margin is not None:
        a -= margin
    return xp.greater(a, b, out=space.take(name, a.shape, a, dtype=bool)).view(xp.uint8)


def max_unpool(p: Array, winner: Array, size: Size, space: Workspace | None = None) -> Array:
    """Return P^{-1}(p), every value at the winner of its window and zero elsewhere: (N, P, Q, C) -> (N, H, W, C).

    ``winner`` is (N, P, Q, C), ``size`` is (H, W). Adjoint: ``pick_winners``.
    """
    space = space or Workspace()
    n, c = p.shape[0], p.shape[-1]
    u = space.take_zeros("unpooled", (n, *size, c), p)  # an odd last row or column is never written and stays zero
    xp = array_module(p)
    for place, where in _places(size):
        u[where] = xp.multiply(p, winner == place, out=space.take("placed", p.shape, p))
    return u


def pick_winners(u: Array, winner: Array) -> Array:
    """Return the value of u at the winner of every window: (N, H, W, C), (N, P, Q, C) -> (N, P, Q, C).

    The adjoint of ``max_unpool``.
    """
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
    """Return a quarter of every value at each place of its window: (N, P, Q, C) -> (N, H, W, C).

    ``size`` is (H, W). The adjoint of ``average_pool``.
    """
    space = space or Workspace()
    u = space.take_zeros("unpooled", (p.shape[0], *size, p.shape[-1]), p)
    quarter = p * 0.25
    for _, where in _places(size):
        u[where] = quarter
    return u
