"""Compares a whole gradient on a trained network, at equal quality, with autograd of Phi at the published schedule.

    python -m benchmarks.gradient RUN --out benchmarks/results/gradient.md

Quality is the cosine of a gradient with the converged gradient of the same schedule and omega. It is the mean over
groups of 16 samples, since a few samples near a switch of a winner dominate the sum of many. The published schedule is
synchronous, T1 250, T2 30 (twice). For even-odd sweeps with ``--omega`` the benchmark chooses the cheapest T1 and T2
that are at least as good on each of two sets of ``--samples`` test samples, unless ``--steps`` gives them. A third set
judges the choice. The time is that of a batch of the run's size in float32 on all cores. Needs PyTorch.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from statistics import mean, median

import numpy as np
import torch

from benchmarks.pytorch import Published
from benchmarks.timing import where_measured
from eqnp.analysis.diagnostics import sample_moves
from eqnp.analysis.measuring import interleave, ratio
from eqnp.analysis.settling import cosine
from eqnp.api.session import Session, open_weights
from eqnp.backends.limits import available_cores
from eqnp.backends.sharding import thread_map
from eqnp.cli.options import Place
from eqnp.dynamics import WAYS, Phase, Phases, Way, relax
from eqnp.estimators import estimate
from eqnp.losses import one_hot
from eqnp.prepared import PreparedNetwork, PreparedWeights
from eqnp.runs.experiment import with_threads
from eqnp.stencils import symmetric

PUBLISHED = (WAYS["synchronous"], 250, 30)
GROUP = 16
LADDER = [(T1, T2) for T1 in (15, 20, 25, 30, 40, 60, 80, 100) for T2 in (4, 7, 10, 15, 20, 30, 40)]
STILL, MOST = 1e-9, 3000


class Quality:
    """Gradients of groups of samples in float64, and their cosine with the converged gradient."""

    def __init__(self, session: Session, parameters: dict, indices: list[int], beta: float) -> None:
        x, labels = session.samples("test", indices)
        self.network, self.beta = session.learner.network, beta
        self.parameters = {name: np.asarray(p, np.float64) for name, p in parameters.items()}
        self.x, self.target = x.astype(np.float64), one_hot(labels, 10, np.float64)
        self.settled: dict = {}

    def cosine(self, way: Way, T1: int, T2: int) -> float:
        if way not in self.settled:
            self.settled[way] = self.gradients(way, MOST, MOST, STILL)
        return mean(map(cosine, self.gradients(way, T1, T2), self.settled[way]))

    def gradients(self, way: Way, T1: int, T2: int, tolerance: float = 0.0) -> list[dict]:
        """Return the gradient of every group."""
        phases = Phases(T1, T2, tolerance, *way)

        def gradient(group: slice) -> dict:
            x, target, stencil = self.x[group], self.target[group], symmetric(self.beta)
            return estimate(self.network, self.parameters, x, target, stencil, phases).gradient

        with thread_map(available_cores()) as run:
            return run(gradient, [slice(i, i + GROUP) for i in range(0, len(self.x), GROUP)])

    def unsettled(self, way: Way) -> int:
        """Return how many samples still move after the largest number of steps."""
        prepared = PreparedNetwork(self.network, self.parameters, self.x)
        free = relax(prepared, prepared.zero_states(), Phase(MOST, STILL, *way))
        new = relax(prepared, free.states, Phase(1, 0.0, *way)).states
        return int((sample_moves(new, free.states) > 1e-6).sum())


def cheapest(sets: list[Quality], way: Way) -> tuple[int, int]:
    """Return the cheapest (T1, T2) that is no worse than the published schedule on every set, or the most expensive."""
    wanted = [quality.cosine(*PUBLISHED) for quality in sets]
    for T1, T2 in sorted(LADDER, key=lambda pair: (pair[0] + 2 * pair[1], pair[0])):
        if all(quality.cosine(way, T1, T2) >= least for quality, least in zip(sets, wanted, strict=True)):
            break
    return T1, T2


def _row(name: str, sets: list[Quality], way: Way, T1: int, T2: int, times: list[float]) -> str:
    cosines = " | ".join(f"{quality.cosine(way, T1, T2):.4f}" for quality in sets)
    return f"| {name} | {T1} + {T2} + {T2} | {cosines} | {median(times):.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--samples", type=int, default=256)
    parser.add_argument("--omega", type=float, default=WAYS["over-relaxed"][1])
    parser.add_argument("--steps", type=int, nargs=2, metavar=("T1", "T2"), help="sweeps; nothing is chosen")
    parser.add_argument("--beta", type=float)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    session, parameters = open_weights(str(options.run), (), "last", Place("numpy").open)
    beta = options.beta or session.learner.beta
    n, way = options.samples, ("even-odd", options.omega)
    sets = [Quality(session, parameters, list(range(i, i + n)), beta) for i in (0, n, 2 * n)]
    T1, T2 = options.steps or cheapest(sets[:2], way)
    threads = with_threads(session.config).training.threads
    phases = replace(session.learner.phases, schedule="even-odd", omega=options.omega, T1=T1, T2=T2)
    learner = replace(session.learner, phases=phases, threads=threads)
    x, labels = session.training_batches().batch(0, 0)
    target = one_hot(labels, 10, np.float32)
    torch.set_num_threads(available_cores())
    published = Published(learner.network.architecture, parameters, x)
    with thread_map(learner.threads) as run:

        def own() -> None:
            weights = PreparedWeights(learner.network, parameters)
            run(
                lambda i: learner.gradient(weights, x[i], target[i], symmetric(beta), None),
                learner.shards(len(x)),
            )

        work = {
            "published": lambda: published.gradient(torch.from_numpy(target), *PUBLISHED[1:], beta),
            "own": own,
        }
        times = interleave(work, options.runs, 0)
    lines = [
        f"{where_measured(options.runs)} PyTorch {torch.__version__}. Batch {len(x)}, beta {beta:g}.",
        "",
        f"| schedule | T1 + T2 + T2 | cosine, {n} samples | {n} more | {n} held out | s a gradient |",
        "|---|---|---|---|---|---|",
        _row("published, PyTorch", sets, *PUBLISHED, times["published"]),
        _row(f"even-odd, omega {options.omega:g}, eqnp", sets, way, T1, T2, times["own"]),
        "",
        f"Ratio of times {ratio(times['published'], times['own'])}. Samples of the first {n} that still move after "
        f"{MOST} steps: synchronous {sets[0].unsettled(PUBLISHED[0])}, even-odd {sets[0].unsettled(way)}.",
    ]
    print("\n".join(lines))
    if options.out:
        options.out.write_text("# A gradient on a trained network\n\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
