"""The phases of one batch, settled or after a number of steps, and the gradients that they give.

Samples do not interact, so each settles independently: a phase continues with the samples that still move. Steady
states are cached by beta, since several measurements need the same ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from eqnp.analysis.diagnostics import sample_moves, total_norm
from eqnp.backends.backend import Array, array_module, to_host
from eqnp.contrasts import (
    Contrast,
    as_learned,
    asymmetric_contrast,
    default_contrast,
    nudged_network,
)
from eqnp.dynamics import Phase, Relaxation, Way, relax
from eqnp.networks import Gradient, Network, Parameters, States
from eqnp.ops.pairs import complex_dtype, is_complex
from eqnp.prepared import PreparedNetwork, PreparedWeights
from eqnp.reference import Implicit, implicit_gradient
from eqnp.stencils import Stencil
from eqnp.step import vector_field

CHUNK = 50  # steps between two checks of which samples still move
UNSOLVED = 1e-6  # an adjoint whose residual is larger does not converge


def still(dtype: np.dtype) -> float:
    """Return the size of a move, 16 eps, that is only rounding: a phase ends if no state moves by more."""
    return 16 * float(np.finfo(dtype).eps)


def settled_move(dtype: np.dtype) -> float:
    """Return the largest move, 4096 eps, of a sample that counts as settled: rounding may keep it moving for ever."""
    return 4096 * float(np.finfo(dtype).eps)


def growing(moves: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return which samples moved by 1 / eps or more, or by NaN: bool (N,). Their states grow without limit.

    Neurons without bounds may do that (``eqnp.ops.moves``).
    """
    grown: np.ndarray = ~(moves < 1 / float(np.finfo(dtype).eps))
    return grown


class Watch:
    """Receives the progress of a measurement. This class ignores it; subclasses show it."""

    def expect(self, stages: int) -> None:
        """Add ``stages`` to the number of expected stages."""

    def stage(self, what: str) -> None:
        """Begin a stage."""

    def detail(self, text: str) -> None:
        """Report the progress of the present stage."""


@dataclass(frozen=True)
class Steady:
    """The end of a phase: states, each (N, ...); how far one more step moves each sample (N,); the steps taken."""

    states: list[Array]
    moves: np.ndarray
    steps: int


class SettledPhases:
    """The free and the nudged phases of a batch x (N, ...) with target (N, K), and gradients summed over its samples.

    A phase takes at most ``steps`` steps to settle. ``way`` is (schedule, omega). The free phase starts from zeros, the
    nudged phases start from the free steady states. They are asymmetric for ``asymmetric_contrast``, otherwise plain.
    """

    def __init__(
        self,
        network: Network,
        parameters: Parameters | PreparedWeights,
        x: Array,
        target: Array,
        steps: int,
        contrast: Contrast | None = None,
        way: Way = ("synchronous", 1.0),
        watch: Watch | None = None,
    ) -> None:
        self.network, self.x, self.target, self.steps = network, x, target, steps
        self.weights = parameters if isinstance(parameters, PreparedWeights) else PreparedWeights(network, parameters)
        self.contrast, self.way, self.watch = contrast or default_contrast(network), way, watch or Watch()
        self.prepared = PreparedNetwork(network, self.weights, x)
        self.dtype = x.dtype
        self._free: Steady | None = None
        self._nudged: dict[complex, Steady] = {}
        self._after: dict[int, Relaxation] = {}

    def __len__(self) -> int:
        return len(self.x)

    # ---- phases

    @property
    def free(self) -> Steady:
        """The free steady states."""
        if self._free is None:
            self.watch.stage("settling the free phase")
            self._free = self._settle(self.prepared.zero_states())
        return self._free

    def nudged(self, beta: complex) -> Steady:
        """Return the steady states under nudging ``beta``, complex if it is; for beta = 0 the free ones."""
        if not beta:
            return self.free
        if beta not in self._nudged:
            free = self.free.states
            self.watch.stage(f"settling at beta {beta:.2g}")
            self._nudged[beta] = self._settle(free, beta)
        return self._nudged[beta]

    def settled(self, beta: complex = 0.0) -> np.ndarray:
        """Return which samples have settled under nudging ``beta``: bool (N,)."""
        is_settled: np.ndarray = self.nudged(beta).moves <= settled_move(self.dtype)
        return is_settled

    def switched(self, beta: complex) -> np.ndarray:
        """Return which samples change their activity pattern under nudging ``beta``, or do not settle: bool (N,).

        A complex beta needs a holomorphic network, in which nothing switches.
        """
        if is_complex(beta):
            return ~self.settled(beta)
        same = _same(self._pattern(0.0), self._pattern(beta))
        switched: np.ndarray = ~(same & self.settled(beta))
        return switched

    def free_after(self, T1: int, tolerance: float = 0.0, every: int = 1) -> Relaxation:
        """Return the free phase after ``T1`` steps from zeros, or fewer if ``tolerance`` ends it (see ``relax``)."""
        if tolerance:
            return relax(self.prepared, None, Phase(T1, tolerance, *self.way, every))
        if T1 not in self._after:
            before = max((t for t in self._after if t < T1), default=0)
            start = self._after[before].states if before else None
            self._after[T1] = relax(self.prepared, start, Phase(T1 - before, 0.0, *self.way))
        return self._after[T1]

    # ---- gradients

    def estimate(self, free: States, T2: int, stencil: Stencil, tolerance: float = 0.0, every: int = 1) -> Gradient:
        """Return the estimate of a stencil with nudged phases of ``T2`` steps from the states ``free``."""
        terms, phase = [], Phase(T2, tolerance, *self.way, every)
        network, start = nudged_network(self.contrast, self.prepared, free)
        for beta, c in stencil.points:
            at = start
            if beta:
                at = relax(network, start, phase, beta, self.target).states
            terms.append((c, beta, at))
        return self.contrast(self.prepared, free, terms, self.target)

    def settled_estimate(self, stencil: Stencil, which: np.ndarray | None = None) -> Gradient:
        """Return the estimate of a stencil with all phases settled, summed over the samples ``which`` (N,) or all."""
        prepared, at, target = self._part(which)
        terms = [(c, beta, at(self.nudged(beta).states)) for beta, c in stencil.points]
        return self.contrast(prepared, at(self.free.states), terms, target)

    def rounding(self, stencil: Stencil, which: np.ndarray | None = None) -> float:
        """Return an estimate of the rounding error of a settled estimate, as a norm over all parameters.

        An estimate is a sum of c_k dPhi_{beta_k}/dtheta (s_k). Each term has a relative rounding error of about eps.
        The terms nearly cancel, and the c_k grow as 1 / beta. So with eps of the dtype the error is about

            eps sqrt(sum over k of |c_k dPhi_{beta_k}/dtheta (s_k)|^2)
        """
        prepared, at, target = self._part(which)
        free = at(self.free.states)
        terms = [
            self.contrast(prepared, free, [(c, beta, at(self.nudged(beta).states))], target)
            for beta, c in stencil.points
        ]
        return float(np.finfo(self.dtype).eps) * math.hypot(*map(total_norm, terms))

    def exact(self, which: np.ndarray | None = None) -> Implicit:
        """Return the exact gradient at the free steady states, summed over the samples ``which`` (N,) or all.

        If both weights of a connection learn from one gradient (``common_contrast``), both get the sum of their two.
        """
        prepared, at, target = self._part(which)
        self.watch.stage("the exact gradient")
        found = implicit_gradient(
            prepared, at(self.free.states), target, self.steps, still(self.dtype), omega=self.way[1]
        )
        as_learned(self.contrast, found.gradient)
        return found

    def is_solved(self, found: Implicit) -> bool:
        """Return whether implicit differentiation converged, so that its gradient is the exact one."""
        return found.residual <= max(UNSOLVED, settled_move(self.dtype)) and math.isfinite(total_norm(found.gradient))

    def only(self, which: np.ndarray) -> SettledPhases:
        """Return the phases of the samples ``which`` (N,), with the steady states that are known already."""
        rows = _rows(which, self.x)
        part = SettledPhases(
            self.network,
            self.weights,
            self.x[rows],
            self.target[rows],
            self.steps,
            self.contrast,
            self.way,
            self.watch,
        )
        part._free = _taken(self.free, which, rows)
        part._nudged = {beta: _taken(each, which, rows) for beta, each in self._nudged.items()}
        return part

    def by(self, contrast: Contrast) -> SettledPhases:
        """Return the same phases for another contrast, with the steady states that are known already."""
        if contrast is self.contrast:
            return self
        args = (self.network, self.weights, self.x, self.target, self.steps, contrast, self.way, self.watch)
        other = SettledPhases(*args)
        other._free, other._after = self._free, self._after
        if (contrast is asymmetric_contrast) == (self.contrast is asymmetric_contrast):
            other._nudged = self._nudged  # the same phases
        return other

    # ---- inside

    def _part(self, which: np.ndarray | None) -> tuple[PreparedNetwork, Callable[[States], States], Array]:
        """Return the network of some samples, a function that selects their states, and their targets."""
        if which is None or which.all():
            return self.prepared, lambda states: states, self.target
        rows = _rows(which, self.x)
        prepared = PreparedNetwork(self.network, self.weights, self.x[rows])
        return prepared, lambda states: [s[rows] for s in states], self.target[rows]

    def _settle(self, start: States, beta: complex = 0.0) -> Steady:
        """Settle from ``start``, each sample until it moves by rounding only or its small move no longer shrinks.

        A sample whose states grow without limit ends too.
        """
        dtype = complex_dtype(self.dtype) if is_complex(beta) else self.dtype
        states, moves, done = [s.astype(dtype) for s in start], np.full(len(self), np.inf), 0
        moving = np.ones(len(self), bool)
        while moving.any() and done < self.steps:
            count = min(CHUNK, self.steps - done)
            prepared, at, target = self._part(moving)
            nudging = (beta, target) if beta else ()
            if beta:
                prepared, _ = nudged_network(self.contrast, prepared, at(self.free.states))
            after = relax(prepared, at(states), Phase(count, 0.0, *self.way), *nudging).states
            size = sample_moves(relax(prepared, after, Phase(1, 0.0, *self.way), *nudging).states, after)
            rows, done = _rows(moving, self.x), done + count
            for s, new in zip(states, after, strict=True):
                s[rows] = new
            ended = size <= still(self.dtype)
            ended |= (size <= settled_move(self.dtype)) & (size > moves[moving] / 2)
            ended |= growing(size, self.dtype)
            moves[moving] = size
            moving[np.flatnonzero(moving)[ended]] = False
            self.watch.detail(f"step {done}, {moving.sum()} samples move")
        return Steady(states, moves, done)

    def _pattern(self, beta: complex) -> list[Array]:
        """Return the activity pattern, arrays (N, ...): winners of all pools, and which units are saturated."""
        states = self.nudged(beta).states
        network, _ = nudged_network(self.contrast, self.prepared, self.free.states)  # if asymmetric, pools are fixed
        winners = network.winners(states)
        places = network.feedback_winners(states, winners)
        pattern = [w.copy() for w in (*winners, *places) if w is not None]
        field = vector_field(network, states, *((beta, self.target) if beta else ()))
        activations = self.network.activations
        return pattern + [sigma.derivative(u) == 0 for sigma, u in zip(activations, field, strict=True)]


def _same(a: list[Array], b: list[Array]) -> np.ndarray:
    """Return the samples in which two patterns agree: bool (N,)."""
    same = [to_host((p == q).reshape(len(p), -1).all(axis=1)) for p, q in zip(a, b, strict=True)]
    return np.asarray(np.all(same, axis=0))


def _rows(which: np.ndarray, like: Array) -> Array:
    """Return the indices where ``which`` (N,) is true, on the device of ``like``."""
    return array_module(like).asarray(np.flatnonzero(which))


def _taken(steady: Steady, which: np.ndarray, rows: Array) -> Steady:
    return Steady([s[rows] for s in steady.states], steady.moves[which], steady.steps)
