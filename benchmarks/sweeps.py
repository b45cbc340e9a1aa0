"""How good the gradient of a trained run is with few sweeps, layer by layer, for several T1, T2, beta and schedules.

    python -m benchmarks.sweeps RUN --samples 24 --data FOLDER --try 8,3,1,1.6 2,1,1,1,up-down --out OUT.md

The reference is the exact gradient at the free steady state that over-relaxed sweeps reach from zeros; cosines and
ratios of norms are of each weight by itself, on the samples that the run was validated on, in the run's precision.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from benchmarks.timing import this_command
from eqnp.analysis.diagnostics import cosine
from eqnp.api.session import open_weights
from eqnp.cli.options import Place
from eqnp.dynamics import WAYS, Phase, Phases, relax
from eqnp.estimators import estimate
from eqnp.losses import one_hot
from eqnp.prepared import PreparedNetwork, PreparedWeights
from eqnp.reference import implicit_gradient
from eqnp.stencils import ESTIMATORS, make_stencil

STEPS, STILL = 400, 1e-5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--samples", type=int, default=24)
    parser.add_argument("--checkpoint", default="best", choices=("best", "last"))
    parser.add_argument("--estimator", default="symmetric", choices=ESTIMATORS)
    parser.add_argument("--data", default="", help="the folder of the dataset")
    parser.add_argument("--try", dest="tried", nargs="+", default=["8,3,1,1.6"], metavar="T1,T2,BETA,OMEGA[,SCHEDULE]")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    overrides = (f"data.folder={options.data}",) if options.data else ()
    session, parameters = open_weights(options.run, overrides, options.checkpoint, Place("numpy").open)
    split = session.chooses
    x, labels = session.samples(split, list(range(options.samples)))
    network, weights = session.learner.network, PreparedWeights(session.learner.network, parameters)
    target = one_hot(labels, network.architecture.classes, x.dtype)
    prepared = PreparedNetwork(network, weights, x)
    free = relax(prepared, prepared.zero_states(), Phase(STEPS, STILL, *WAYS["over-relaxed"]))
    exact = implicit_gradient(prepared, free.states, target, STEPS, STILL)
    names = [name for name in exact.gradient if name.endswith("weight")]
    lines = [
        this_command(),
        "",
        f"{options.samples} {split} samples; the free phase settles to {free.residual:.0e} in {free.steps} sweeps.",
        "",
        f"| schedule | T1 | T2 | beta | omega | cosine | {' | '.join(names)} |",
        "|---" * (6 + len(names)) + "|",
    ]
    print("\n".join(lines))
    for each in options.tried:
        *numbers, schedule = (*each.split(","), "even-odd")[:5]
        T1, T2, beta, omega = map(float, numbers)
        phases = Phases(int(T1), int(T2), 0.0, schedule, omega)
        found = estimate(network, weights, x, target, make_stencil(options.estimator, beta, [0]), phases).gradient
        cells = [_cell(found[name], exact.gradient[name]) for name in names]
        whole = cosine(found, exact.gradient)
        lines.append(f"| {schedule} | {T1:g} | {T2:g} | {beta:g} | {omega:g} | {whole:.3f} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    if options.out:
        head = ["# The gradient with few sweeps", "", "Cosines with the exact gradient (ratios of norms).", ""]
        options.out.write_text("\n".join([*head, *lines]) + "\n")


def _cell(found: np.ndarray, exact: np.ndarray) -> str:
    """Return the cosine of two arrays and the ratio of their norms."""
    share = cosine({"": found}, {"": exact})
    return f"{share:.3f} ({np.linalg.norm(found) / np.linalg.norm(exact):.2f})"


if __name__ == "__main__":
    main()
