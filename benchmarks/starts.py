"""Tests whether another start settles sooner, in the free phase and in the second nudged phase.

    python -m benchmarks.starts RUN --samples 40 --beta 0.125 --out benchmarks/results/starts.md

The free phase starts from zeros, from the mean steady state of other samples, or from one pass upwards. The second
nudged phase starts from the free state, or from the mirrored end of the first one, 2 s - s_beta. It computes in float64
with even-odd sweeps. Cosines are with the converged gradient from the same start.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from benchmarks.timing import this_command
from eqnp.analysis.diagnostics import sample_moves
from eqnp.analysis.settling import cosine
from eqnp.api.session import open_weights
from eqnp.cli.options import Place
from eqnp.contrasts import default_contrast
from eqnp.dynamics import Phase, relax
from eqnp.losses import one_hot
from eqnp.prepared import PreparedNetwork
from eqnp.stencils import symmetric

SETTLED = Phase(2000, 1e-10, "even-odd")


class Study:
    """Phases and gradients of some samples of a run."""

    def __init__(self, run: str, samples: int, beta: float) -> None:
        session, parameters = open_weights(run, (), "last", Place("numpy").open)
        x, labels = session.samples("test", list(range(2 * samples)))
        x, self.network, self.beta = x.astype(np.float64), session.learner.network, beta
        self.parameters = {name: np.asarray(p, np.float64) for name, p in parameters.items()}
        self.net, self.other = (
            PreparedNetwork(self.network, self.parameters, x[part])
            for part in (slice(samples), slice(samples, 2 * samples))
        )
        self.target = one_hot(labels[:samples], 10, np.float64)
        self.contrast = default_contrast(self.network)

    def gradient(self, free, plus, minus):
        at = {self.beta: plus, -self.beta: minus}
        terms = [(c, b, at[b]) for b, c in symmetric(self.beta).points]
        return self.contrast(self.net, free, terms, self.target)

    def nudged(self, start, sign, steps, tolerance=0.0):
        return relax(self.net, start, Phase(steps, tolerance, "even-odd"), sign * self.beta, self.target).states

    def settled_gradient(self, free):
        both = (self.nudged(free, sign, SETTLED.steps, SETTLED.tolerance) for sign in (1, -1))
        return self.gradient(free, *both)

    def starts(self):
        """Return states by name."""
        states = self.net.zero_states()
        for n, sigma in enumerate(self.network.activations):
            states[n] = sigma.value(self.net.drives(states)[0][n]).copy()
        mean = relax(self.other, self.other.zero_states(), SETTLED).states
        return {
            "zeros": self.net.zero_states(),
            "mean of other samples": [np.repeat(s.mean(axis=0, keepdims=True), len(s), axis=0) for s in mean],
            "one pass upwards": states,
        }

    def mirrored(self, free, plus):
        """Return 2 s - s_beta, inside the range of clipped states."""
        return [np.clip(2 * f - p, 0, 1) if f.ndim > 2 or k + 1 < len(free) else 2 * f - p
                for k, (f, p) in enumerate(zip(free, plus, strict=True))]  # fmt: skip


def free_rows(study: Study) -> list[str]:
    """Return the table about the free phase."""
    rows = ["| start | T1 | median residual | largest | cosine, T2 8 | samples with the same end as from zeros |"]
    rows += ["|---" * 6 + "|"]
    reference = None
    for name, start in study.starts().items():
        end = relax(study.net, start, SETTLED).states
        reference = end if reference is None else reference
        same = f"{int((sample_moves(end, reference) < 1e-6).sum())} of {len(end[0])}"
        own = study.settled_gradient(end)
        for T1 in (5, 10, 20, 40):
            free = relax(study.net, start, Phase(T1, schedule="even-odd")).states
            moves = sample_moves(relax(study.net, free, Phase(1, schedule="even-odd")).states, free)
            found = cosine(study.gradient(free, *(study.nudged(free, sign, 8) for sign in (1, -1))), own)
            rows.append(f"| {name} | {T1} | {np.median(moves):.0e} | {moves.max():.0e} | {found:.3f} | {same} |")
    return rows


def nudged_rows(study: Study) -> list[str]:
    """Return the table about the second nudged phase."""
    rows = ["| T1 | T2 | second phase from the free state | mirrored | mirrored, no steps |", "|---" * 5 + "|"]
    end = relax(study.net, study.net.zero_states(), SETTLED).states
    own = study.settled_gradient(end)
    for T1 in (20, 30, 60):
        free = relax(study.net, study.net.zero_states(), Phase(T1, schedule="even-odd")).states
        for T2 in (3, 5, 8, 15):
            plus = study.nudged(free, 1, T2)
            mirror = study.mirrored(free, plus)
            ways = (study.nudged(free, -1, T2), study.nudged(mirror, -1, T2), mirror)
            cells = " | ".join(f"{cosine(study.gradient(free, plus, minus), own):.3f}" for minus in ways)
            rows.append(f"| {T1} | {T2} | {cells} |")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--samples", type=int, default=40)
    parser.add_argument("--beta", type=float, required=True)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    study = Study(options.run, options.samples, options.beta)
    lines = [this_command(), "", f"{options.samples} test samples, beta {options.beta:g}.", ""]
    lines += [*free_rows(study), "", *nudged_rows(study)]
    print("\n".join(lines))
    if options.out:
        options.out.write_text("# Other starts\n\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
