"""EP's update at every step, for comparison with BPTT's contribution at the mirrored step; norms and angles.

In a symmetric network whose free phase has settled, the update of nudged step t,

    Delta_EP(t) = - sum of c_k [dPhi_{beta_k}/dtheta (s_k(t + 1)) - dPhi_{beta_k}/dtheta (s_k(t))],

tends to BPTT's contribution of the t-th last step of the free phase as beta goes to 0 (Ernoult et al. 2019,
arXiv:1905.13633). Both are gradients here: gradient descent subtracts them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np

from eqnp.architecture import forward_partner
from eqnp.backends.backend import Array, to_host
from eqnp.contrasts import Contrast, asymmetric_contrast, default_contrast, nudged_network
from eqnp.networks import Gradient, States, accumulate
from eqnp.prepared import PreparedNetwork
from eqnp.stencils import Stencil
from eqnp.step import step
from eqnp.watching import squared_norm


def ep_steps(
    prepared: PreparedNetwork,
    free: States,
    target: Array,
    stencil: Stencil,
    T2: int,
    contrast: Contrast | None = None,
) -> Iterator[Gradient]:
    """Yield EP's update of the nudged steps t = 0 .. T2 - 1, by parameter, summed over samples.

    ``free`` holds the free states s^1 .. s^L, each (N, ...); ``target`` is (N, K).

    The free states are not nudged, so the first update of a readout contains all of beta dl/dtheta, and later updates
    contain its changes. In a symmetric network the updates sum to the estimate after T2 steps. In a vector field each
    step is contrasted at the states before it, as in the published code; with ``asymmetric_contrast``, whose updates
    tend to BPTT's contributions for any weights, at the free states.
    """
    contrast = contrast or default_contrast(prepared.network)
    points = [(beta, c) for beta, c in stencil.points if beta != 0]
    network, start = nudged_network(contrast, prepared, free)
    states = [start for _ in points]
    for t in range(T2):
        total: Gradient = {}
        for k, (beta, c) in enumerate(points):
            new = step(network, states[k], beta, target)
            terms = [(c, beta, new), (-c, beta if t else 0.0, states[k])]
            at = free if contrast is asymmetric_contrast else states[k]
            accumulate(total, contrast(prepared, at, terms, target))
            states[k] = new
        yield prepared.unscaled(total)


class Agreement:
    """Compares a series of gradients with a reference series, parameter by parameter, over all steps."""

    def __init__(self) -> None:
        self._squares: dict[str, list[float]] = {}
        self._other: dict[str, list[float]] = {}
        self._opposite: dict[str, int] = {}
        self._count: dict[str, int] = {}

    def add(self, gradient: Mapping[str, Array], reference: Mapping[str, Array]) -> None:
        """Add one step."""
        for name, r in reference.items():
            g = gradient[name]
            self._squares.setdefault(name, []).append(squared_norm(g - r))
            self._other.setdefault(name, []).append(squared_norm(r))
            both = (g != 0) & (r != 0)
            self._opposite[name] = self._opposite.get(name, 0) + int(((g > 0) != (r > 0))[both].sum())
            self._count[name] = self._count.get(name, 0) + int(both.sum())

    def relative_error(self, name: str) -> float:
        """Return sqrt(sum |g - r|^2 / sum |r|^2) over all entries and steps."""
        return math.sqrt(sum(self._squares[name]) / (sum(self._other[name]) or 1.0))

    def sign_disagreement(self, name: str) -> float:
        """Return the share of entries with opposite signs, of those that are nonzero in both, from 0 to 1."""
        return self._opposite[name] / max(self._count[name], 1)

    def errors(self, name: str) -> np.ndarray:
        """Return |g - r| at every step: (T,)."""
        return np.sqrt(self._squares[name])

    def sizes(self, name: str) -> np.ndarray:
        """Return |r| at every step: (T,)."""
        return np.sqrt(self._other[name])


def angle(a: Array, b: Array) -> float:
    """Return the angle between two arrays of one shape in degrees; 90 if one of them is 0, NaN if one contains NaN."""
    norm = math.sqrt(squared_norm(a) * squared_norm(b))
    cosine = float(to_host((a * b).sum())) / norm if norm else 0.0
    return degrees(cosine)


def degrees(cosine: float) -> float:
    """Return the angle of a cosine, which rounding may have carried beyond 1; NaN stays NaN."""
    return math.degrees(math.acos(float(np.clip(cosine, -1.0, 1.0))))


def alignment_angles(parameters: Mapping[str, Array]) -> dict[str, float]:
    """Return the angle in degrees between every backward weight and its forward partner, by name ``backward.n``."""
    names = sorted(name for name in parameters if name.startswith("backward."))
    return {name.removesuffix(".weight"): angle(parameters[name], parameters[forward_partner(name)]) for name in names}


def sample_moves(new: States, old: States) -> np.ndarray:
    """Return how far each sample moved, max |new - old| over its units: (N,), on the host."""
    moves = [to_host(abs(a - b).reshape(len(a), -1).max(axis=1)) for a, b in zip(new, old, strict=True)]
    return np.asarray(np.max(moves, axis=0))


def minus(a: Gradient, b: Gradient) -> Gradient:
    """Return a - b for the parameters of b."""
    return {name: a[name] - g for name, g in b.items()}


def total_norm(gradient: Mapping[str, Array]) -> float:
    """Return the Euclidean norm over all parameters together."""
    return math.sqrt(sum(map(squared_norm, gradient.values())))


def cosine(a: Gradient, b: Gradient) -> float:
    """Return <a, b> / (|a| |b|) over all parameters of b together; 0 if one of the two is 0."""

    def inner(p: Gradient, q: Gradient) -> float:
        return sum(float(to_host((p[name] * q[name]).sum())) for name in b)

    norms = math.sqrt(inner(a, a) * inner(b, b))
    return inner(a, b) / norms if norms else 0.0
