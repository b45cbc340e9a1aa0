"""How many steps a network needs: residual and quality of the gradient against T1 and T2, for each way to settle.

A way is a schedule with an omega. A gradient after few steps is compared with two others: the *converged* gradient, the
estimate of the same way after many steps (another way may end in another steady state), and the exact gradient at that
steady state, by implicit differentiation. The measure is the cosine over all parameters together.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from eqnp.analysis.diagnostics import cosine as cosine
from eqnp.analysis.diagnostics import sample_moves
from eqnp.analysis.steady import Watch
from eqnp.backends.backend import Array
from eqnp.backends.world import Alone, World
from eqnp.contrasts import Contrast, as_learned, default_contrast, nudged_network
from eqnp.dynamics import WAYS, Phase, Relaxation, Way, relax
from eqnp.errors import DivergedError
from eqnp.networks import Gradient, Network, States
from eqnp.prepared import PreparedNetwork
from eqnp.reference import implicit_gradient
from eqnp.stencils import symmetric

STILL = 1e-12  # residual at which a phase ends
SETTLED = 1e-6  # a sample that moves by at most this has settled
T1_LADDER = (5, 10, 20, 40, 80, 160, 320)
T2_LADDER = (5, 10, 20, 40)
BETAS = (0.1, 0.3, 1.0, 3.0)  # factors of the configured beta
TOLERANCES = (1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4)


def check_settling(
    network: Network,
    parameters: Mapping[str, Array],
    x: Array,
    target: Array,
    configured: tuple[str, float, int, int],
    beta: float,
    most: int,
    contrast: Contrast | None = None,
    watch: Watch | None = None,
    world: World | None = None,
) -> dict[str, Any]:
    """Measure every way to settle on x (N, ...), target (N, K), and advise.

    ``configured`` is (schedule, omega, T1, T2). A phase takes at most ``most`` steps to settle. Several processes of a
    ``world`` share out the ways, and all get the result.

    Returns for each way: ``omega``; ``settled``: how many samples settle; ``T1`` (A,), ``T2`` (B,); ``median`` and
    ``largest`` (A,): residuals of the samples after T1 steps; ``own`` and ``exact`` (A, B): cosines with the converged
    and with the exact gradient; ``beta`` and ``beta_exact`` (4,): cosine of the converged with the exact gradient at
    each beta. Also ``configured`` and ``advice``: the cheapest setting whose ``own`` is not below the configured one.

    Raises:
        DivergedError: the configured setting gives no finite gradient.
    """
    prepared = PreparedNetwork(network, parameters, x)
    schedule, omega, T1, T2 = configured
    ways = ways_to_compare(schedule, omega)
    probe = _Probe(prepared, target, beta, most, contrast or default_contrast(network), ways, watch or Watch())
    rungs = {*T1_LADDER, T1}, {*T2_LADDER, T2}
    T1s, T2s = (sorted(t for t in each if t <= most) for each in rungs)
    world = world or Alone()
    shared = len([*ways][world.share(len(ways))])
    probe.watch.expect(shared * (4 + len(BETAS)) + len(TOLERANCES))
    result: dict[str, Any] = world.spread([*ways], lambda way: probe.measure(way, T1s, T2s))
    way = next(name for name, each in ways.items() if each == (schedule, omega))
    quality = float(result[way]["own"][T1s.index(T1), T2s.index(T2)])
    if not math.isfinite(quality):
        raise DivergedError(
            f"no finite gradient with dynamics.schedule {schedule}, omega {omega:g}, T1 {T1}, T2 {T2}, beta {beta:g}; "
            "lower model.gain, dynamics.omega or dynamics.beta"
        )
    settings = {"schedule": schedule, "omega": omega, "T1": T1, "T2": T2}
    result["configured"] = settings | {"beta": beta, "cosine": quality}
    result["advice"] = _advise(result, probe, T1s, T2s, world)
    return result


def ways_to_compare(schedule: str, omega: float) -> dict[str, Way]:
    """Return the ways to compare, by name, including the configured one."""
    if (schedule, omega) in WAYS.values():
        return WAYS
    return WAYS | {f"{schedule}, omega {omega:g}": (schedule, omega)}


def measured_ways(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of ``check_settling``'s result that is about ways, by name."""
    return {name: each for name, each in content.items() if "own" in each}


class _Probe:
    """Measures phases and gradients of one batch, for each way."""

    def __init__(
        self,
        prepared: PreparedNetwork,
        target: Array,
        beta: float,
        most: int,
        contrast: Contrast,
        ways: Mapping[str, Way],
        watch: Watch,
    ) -> None:
        self.prepared, self.target, self.beta, self.most, self.contrast = prepared, target, beta, most, contrast
        self.ways, self.watch = ways, watch
        self.settled: dict[str, Gradient] = {}

    def measure(self, way: str, T1s: Sequence[int], T2s: Sequence[int]) -> dict[str, Any]:
        """Return all measurements of one way."""
        self.watch.stage(f"{way}: the free phase")
        ladder = list(self._ladder(self.prepared.zero_states(), T1s, way))
        free = self._relax(way, ladder[-1], self.most - T1s[-1] or 1, tolerance=STILL).states
        moves = self._moves(free, way)
        self.watch.stage(f"{way}: the converged gradient")
        own = self.settled[way] = self._gradient(free, self._settle_both(free, self.beta, way), self.beta)
        self.watch.stage(f"{way}: the exact gradient")
        omega = self.ways[way][1]
        exact = implicit_gradient(self.prepared, free, self.target, self.most, STILL, omega).gradient
        as_learned(self.contrast, exact)
        residuals = [self._moves(states, way) for states in ladder]
        self.watch.stage(f"{way}: T1 and T2")
        grid = [list(self._by_T2(states, T2s, way)) for states in ladder]
        betas = [self.beta * factor for factor in BETAS]
        by_beta = []
        for b in betas:
            self.watch.stage(f"{way}: beta {b:.2g}")
            by_beta.append(self._gradient(free, self._settle_both(free, b, way), b))
        return {
            "omega": self.ways[way][1],
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

    def with_tolerance(self, way: str, tolerance: float) -> tuple[int, int, float]:
        """Return the steps of a free and a nudged phase with ``tolerance``, and the cosine (converged gradient)."""
        free = self._relax(way, self.prepared.zero_states(), self.most, tolerance=tolerance)
        network, start = self._nudging(free.states)
        betas = (self.beta, -self.beta)
        both = [self._relax(way, start, self.most, tolerance, b, network) for b in betas]
        gradient = self._gradient(free.states, [phase.states for phase in both], self.beta)
        return free.steps, max(phase.steps for phase in both), cosine(gradient, self.settled[way])

    def _nudging(self, free: States) -> tuple[PreparedNetwork, States]:
        """Return the network of the nudged phases, and the states that they start from."""
        return nudged_network(self.contrast, self.prepared, free)

    def _relax(
        self,
        way: str,
        states: States,
        steps: int,
        tolerance: float = 0.0,
        beta: float = 0.0,
        network: PreparedNetwork | None = None,
    ) -> Relaxation:
        target = self.target if beta else None
        return relax(network or self.prepared, states, Phase(steps, tolerance, *self.ways[way]), beta, target)

    def _ladder(
        self,
        states: States,
        rungs: Sequence[int],
        way: str,
        beta: float = 0.0,
        network: PreparedNetwork | None = None,
    ) -> Iterator[States]:
        """Yield the states after each number of steps in ``rungs``."""
        done = 0
        for rung in rungs:
            states = self._relax(way, states, rung - done, beta=beta, network=network).states
            done = rung
            yield states

    def _by_T2(self, free: States, T2s: Sequence[int], way: str) -> Iterator[Gradient]:
        network, start = self._nudging(free)
        phases = [self._ladder(start, T2s, way, b, network) for b in (self.beta, -self.beta)]
        for both in zip(*phases, strict=True):
            yield self._gradient(free, both, self.beta)

    def _settle_both(self, free: States, beta: float, way: str) -> list[States]:
        network, start = self._nudging(free)
        return [self._relax(way, start, self.most, STILL, b, network).states for b in (beta, -beta)]

    def _gradient(self, free: States, both: Sequence[States], beta: float) -> Gradient:
        """Return the symmetric estimate of nudged states at +beta and -beta."""
        points = symmetric(beta).points
        at: dict[complex, States] = dict(zip((beta, -beta), both, strict=True))
        return self.contrast(self.prepared, free, [(c, b, at[b]) for b, c in points], self.target)

    def _moves(self, states: States, way: str) -> np.ndarray:
        """Return how far one more free step moves each sample (N,)."""
        new = self._relax(way, states, 1).states
        return sample_moves(new, states)


def _advise(
    result: dict[str, Any], probe: _Probe, T1s: Sequence[int], T2s: Sequence[int], world: World
) -> dict[str, Any]:
    """Return the cheapest way, T1 and T2 with a cosine not below the configured one, its tolerance, and a beta."""
    quality = result["configured"]["cosine"]
    enough = [
        (T1 + 2 * T2, -result[way]["own"][i, j], way, T1, T2)
        for way in probe.ways
        for i, T1 in enumerate(T1s)
        for j, T2 in enumerate(T2s)
        if result[way]["own"][i, j] >= quality
    ]
    _, negative, way, T1, T2 = min(enough)
    schedule, omega = probe.ways[way]
    advice = {"schedule": schedule, "omega": omega, "T1": T1, "T2": T2}
    advice |= {"cosine": -negative, "settled": result[way]["settled"]}
    # Only one process has measured this way, and so has its converged gradient.
    advice |= world.spread([*probe.ways], lambda name: _tolerance(probe, way, quality) if name == way else {})[way]
    pairs = zip(result[way]["beta"], result[way]["beta_exact"], strict=True)
    by_beta = [(b, c) for b, c in pairs if not math.isnan(c)]  # NaN: the states diverge at the largest beta
    if not by_beta:
        return advice
    best = max(c for _, c in by_beta)
    beta, found = max((b, c) for b, c in by_beta if c >= best - 0.01)
    return advice | {"beta": float(beta), "beta_cosine": float(found)}


def _tolerance(probe: _Probe, way: str, quality: float) -> dict[str, Any]:
    """Return the largest tolerance whose cosine is not below ``quality``, and the steps it takes; empty if none is."""
    for tolerance in TOLERANCES:
        probe.watch.stage(f"tolerance {tolerance:g}")
        free, nudged, found = probe.with_tolerance(way, tolerance)
        if found >= quality:
            return {"tolerance": tolerance, "T1_taken": free, "T2_taken": nudged, "tolerance_cosine": found}
    return {}
