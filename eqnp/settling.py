"""How many steps a network needs: residual and quality of the gradient against T1 and T2, for each schedule.

A gradient of few steps is compared with the one of the same schedule after many, its own *settled* gradient, since
another order of updates may end in another steady state; and with the exact gradient at that steady state, by implicit
differentiation. The measure is the cosine of the angle between the two, over all parameters together.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from eqnp.backend import Array, to_host
from eqnp.bptt import implicit_gradient
from eqnp.contrasts import Contrast, default_contrast
from eqnp.diagnostics import sample_moves
from eqnp.dynamics import SCHEDULES, relax
from eqnp.networks import Gradient, Network, States
from eqnp.prepared import PreparedNetwork
from eqnp.stencils import symmetric

STILL = 1e-12  # a phase whose residual is this has settled
SETTLED = 1e-6  # a sample that moves by at most this has
T1_LADDER = (5, 10, 20, 40, 80, 160, 320)
T2_LADDER = (5, 10, 20, 40)
BETAS = (0.1, 0.3, 1.0, 3.0)  # times the configured one
TOLERANCES = (1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4)


def check_settling(
    network: Network,
    parameters: Mapping[str, Array],
    x: Array,
    target: Array,
    configured: tuple[str, int, int],
    beta: float,
    most: int,
    contrast: Contrast | None = None,
) -> dict[str, Any]:
    """Measure every schedule on x (N, ...), target (N, K), and advise.

    ``configured`` is (schedule, T1, T2), the quality to keep; a phase settles in ``most`` steps at most.

    Returns, by schedule: ``settled`` (how many samples settle), ``T1``, ``T2``, ``median`` and ``largest`` residual of
    the samples by T1, ``own`` and ``exact`` (cosines by T1 and T2), ``beta`` and ``beta_exact`` (the settled gradient's
    cosine with the exact one, by beta). And ``advice``: the cheapest setting that is no worse than the configured one.
    """
    prepared = PreparedNetwork(network, parameters, x)
    probe = _Probe(prepared, target, beta, most, contrast or default_contrast(network))
    rungs = {*T1_LADDER, configured[1]}, {*T2_LADDER, configured[2]}
    T1s, T2s = (sorted(t for t in each if t <= most) for each in rungs)
    result: dict[str, Any] = {s: probe.measure(s, T1s, T2s) for s in SCHEDULES}
    schedule, T1, T2 = configured
    quality = float(result[schedule]["own"][T1s.index(T1), T2s.index(T2)])
    result["configured"] = {"schedule": schedule, "T1": T1, "T2": T2, "beta": beta, "cosine": quality}
    result["advice"] = _advise(result, probe, T1s, T2s)
    return result


class _Probe:
    """Phases and gradients of one batch, by schedule."""

    def __init__(self, prepared: PreparedNetwork, target: Array, beta: float, most: int, contrast: Contrast) -> None:
        self.prepared, self.target, self.beta, self.most, self.contrast = prepared, target, beta, most, contrast
        self.settled: dict[str, Gradient] = {}

    def measure(self, schedule: str, T1s: Sequence[int], T2s: Sequence[int]) -> dict[str, Any]:
        """Return everything about one schedule."""
        ladder = list(self._ladder(self.prepared.zero_states(), T1s, schedule))
        rest = relax(self.prepared, ladder[-1], self.most - T1s[-1] or 1, tolerance=STILL, schedule=schedule)
        free = rest.states
        moves = self._moves(free, schedule)
        own = self.settled[schedule] = self._gradient(free, self._settle_both(free, self.beta, schedule), self.beta)
        exact = implicit_gradient(self.prepared, free, self.target, self.most, STILL).gradient
        residuals = [self._moves(states, schedule) for states in ladder]
        grid = [list(self._by_T2(states, T2s, schedule)) for states in ladder]
        betas = [self.beta * factor for factor in BETAS]
        by_beta = [self._gradient(free, self._settle_both(free, b, schedule), b) for b in betas]
        return {
            "settled": int((moves <= SETTLED).sum()),
            "T1": np.array(T1s),
            "T2": np.array(T2s),
            "median": np.array([np.median(r) for r in residuals]),
            "largest": np.array([r.max() for r in residuals]),
            "own": np.array([[cosine(g, own) for g in row] for row in grid]),
            "exact": np.array([[cosine(g, exact) for g in row] for row in grid]),
            "beta": np.array(betas),
            "beta_exact": np.array([cosine(g, exact) for g in by_beta]),
        }

    def with_tolerance(self, schedule: str, tolerance: float) -> tuple[int, int, float]:
        """Return the steps that a free and a nudged phase take until ``tolerance``, and the gradient's cosine."""
        start = self.prepared.zero_states()
        free = relax(self.prepared, start, self.most, tolerance=tolerance, schedule=schedule)
        both = [
            relax(self.prepared, free.states, self.most, b, self.target, tolerance, schedule=schedule)
            for b in (self.beta, -self.beta)
        ]
        gradient = self._gradient(free.states, [phase.states for phase in both], self.beta)
        return free.steps, max(phase.steps for phase in both), cosine(gradient, self.settled[schedule])

    def _ladder(self, states: States, rungs: Sequence[int], schedule: str, **nudging: Any) -> Iterator[States]:
        """Yield the states after each number of steps in ``rungs``."""
        done = 0
        for rung in rungs:
            states = relax(self.prepared, states, rung - done, schedule=schedule, **nudging).states
            done = rung
            yield states

    def _by_T2(self, free: States, T2s: Sequence[int], schedule: str) -> Iterator[Gradient]:
        phases = [self._ladder(free, T2s, schedule, beta=b, target=self.target) for b in (self.beta, -self.beta)]
        for both in zip(*phases, strict=True):
            yield self._gradient(free, both, self.beta)

    def _settle_both(self, free: States, beta: float, schedule: str) -> list[States]:
        return [
            relax(self.prepared, free, self.most, b, self.target, STILL, schedule=schedule).states
            for b in (beta, -beta)
        ]

    def _gradient(self, free: States, both: Sequence[States], beta: float) -> Gradient:
        """Return the symmetric estimate of nudged states at +beta and -beta."""
        points = symmetric(beta).points
        at = dict(zip((beta, -beta), both, strict=True))
        return self.contrast(self.prepared, free, [(c, b, at[b]) for b, c in points], self.target)

    def _moves(self, states: States, schedule: str) -> np.ndarray:
        """Return by how much one more free step moves each sample (N,)."""
        new = relax(self.prepared, states, 1, schedule=schedule).states
        return sample_moves(new, states)


def cosine(a: Gradient, b: Gradient) -> float:
    """Return the cosine of the angle between two gradients, over all parameters; 0 where one is 0."""

    def inner(p: Gradient, q: Gradient) -> float:
        return sum(float(to_host((p[name] * q[name]).sum())) for name in b)

    norms = math.sqrt(inner(a, a) * inner(b, b))
    return inner(a, b) / norms if norms else 0.0


def _advise(result: dict[str, Any], probe: _Probe, T1s: Sequence[int], T2s: Sequence[int]) -> dict[str, Any]:
    """Return the cheapest (schedule, T1, T2) of no lower cosine, its tolerance, and the largest unbiased beta."""
    quality = result["configured"]["cosine"]
    enough = [
        (T1 + 2 * T2, -result[s]["own"][i, j], s, T1, T2)
        for s in SCHEDULES
        for i, T1 in enumerate(T1s)
        for j, T2 in enumerate(T2s)
        if result[s]["own"][i, j] >= quality
    ]
    _, negative, schedule, T1, T2 = min(enough)
    advice = {"schedule": schedule, "T1": T1, "T2": T2, "cosine": -negative, "settled": result[schedule]["settled"]}
    for tolerance in TOLERANCES:
        free, nudged, found = probe.with_tolerance(schedule, tolerance)
        if found >= quality:
            advice |= {"tolerance": tolerance, "T1_taken": free, "T2_taken": nudged, "tolerance_cosine": found}
            break
    by_beta = list(zip(result[schedule]["beta"], result[schedule]["beta_exact"], strict=True))
    best = max(c for _, c in by_beta)
    beta, found = max((b, c) for b, c in by_beta if c >= best - 0.01)
    return advice | {"beta": float(beta), "beta_cosine": float(found)}
