"""The transforms of Winograd's F(m, r) along one axis, by the construction of Toom and Cook, in exact fractions.

Letters: m outputs and t = m + r - 1 inputs of a tile, r weights.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

# By t: the points at which the polynomials are evaluated, besides infinity. Pairs a, -a and their inverses keep the
# transforms small: F(4x4, 3x3) has half the rounding error that it has with the points 0, 1, -1, 2, -2. Those for t = 3
# and 5 had the smallest error among a few that were tried on states between 0 and 1.
POINTS: dict[int, tuple[Fraction, ...]] = {
    3: (Fraction(0), Fraction(1)),
    4: (Fraction(0), Fraction(1), Fraction(-1)),
    5: (Fraction(0), Fraction(1, 2), Fraction(-1), Fraction(2)),
    6: (Fraction(0), *(s * Fraction(*f) for f in ((2, 3), (3, 2)) for s in (1, -1))),
    8: (Fraction(0), *(s * Fraction(*f) for f in ((1, 1), (2, 1), (1, 2)) for s in (1, -1))),
}


def toom_cook(m: int, r: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return A^T (m, t), G (t, r) and B^T (t, t), t = m + r - 1, such that y = A^T [(G w) . (B^T d)] along one axis.

    Two polynomials are multiplied by multiplying their values at t points; the convolution is the transpose of this map
    in d. Let E_n be the values of 1, x, .., x^{n-1} at the points (at infinity: the last coefficient). Then
    A^T = E_m^T, G = E_r and B^T = (E_t^{-1})^T. Toom 1963; Cook 1966; Blahut 2010, Fast Algorithms for Signal
    Processing, chapter 5.
    """
    t = m + r - 1

    def values(n: int) -> list[list[Fraction]]:
        return [[p**j for j in range(n)] for p in POINTS[t]] + [[Fraction(int(j == n - 1)) for j in range(n)]]

    def numbers(rows: list[list[Fraction]]) -> np.ndarray:
        return np.array([[float(x) for x in row] for row in rows])

    return numbers(values(m)).T, numbers(values(r)), numbers(_inverse(values(t))).T


def _inverse(rows: list[list[Fraction]]) -> list[list[Fraction]]:
    """Return the inverse of a square matrix by Gauss-Jordan elimination, exact because the entries are fractions."""
    n = len(rows)
    both = [[*row, *(Fraction(int(i == j)) for j in range(n))] for i, row in enumerate(rows)]
    for c in range(n):
        pivot = next(i for i in range(c, n) if both[i][c])
        both[c], both[pivot] = both[pivot], both[c]
        both[c] = [x / both[c][c] for x in both[c]]
        for i in range(n):
            if i != c:
                both[i] = [x - both[i][c] * y for x, y in zip(both[i], both[c], strict=True)]
    return [row[n:] for row in both]
