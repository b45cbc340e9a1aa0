"""Measures how far gradients and free states in float32, Winograd's forms and TF32 are from the direct form in float64.

python -m benchmarks.rounding RUN --batches 12 --set dynamics.T1=40
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from benchmarks.tf32 import in_tf32
from eqnp.analysis.diagnostics import sample_moves
from eqnp.api.session import open_weights
from eqnp.cli.options import Place
from eqnp.connections.forms import FORMS
from eqnp.dynamics import relax
from eqnp.estimators import estimate
from eqnp.losses import one_hot
from eqnp.networks import Network
from eqnp.prepared import PreparedNetwork
from eqnp.runs.experiment import make_network
from eqnp.stencils import symmetric

BATCH = 10
TF32 = "direct, TF32"
ROUNDED = (*FORMS[1:], TF32)  # in float32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--batches", type=int, default=12)
    parser.add_argument("--settled", type=int, default=1000, help="samples whose free states are compared")
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    options = parser.parse_args()
    session, parameters = open_weights(str(options.run), tuple(options.overrides), "best", Place("numpy").open)
    learner = session.learner

    def make(form: str) -> Network:
        if form == TF32:
            return in_tf32(make("direct"))
        return make_network(session.config.model, learner.network.architecture, form)

    def weights(dtype: type) -> dict[str, np.ndarray]:
        return {name: np.asarray(p, dtype) for name, p in parameters.items()}

    def gradient(form: str, dtype: type, beta: float, first: int) -> np.ndarray:
        x, labels = session.samples("test", list(range(first, first + BATCH)))
        target = one_hot(labels, 10, dtype)
        found = estimate(make(form), weights(dtype), x.astype(dtype), target, symmetric(beta), learner.phases).gradient
        return np.concatenate([g.ravel().astype(np.float64) for g in found.values()])

    print(f"Gradients of {options.batches} batches of {BATCH} samples:\n")
    print("| beta | form | type | median relative distance | largest |\n|---|---|---|---|---|")
    starts = range(0, BATCH * options.batches, BATCH)
    for beta in (learner.beta, learner.beta / 10):
        exact = [gradient("direct", np.float64, beta, first) for first in starts]
        for form, dtype in (*((form, np.float32) for form in ROUNDED), ("winograd-4x4", np.float64)):
            found = [gradient(form, dtype, beta, first) for first in starts]
            apart = [np.linalg.norm(g - e) / np.linalg.norm(e) for g, e in zip(found, exact, strict=True)]
            print(f"| {beta:g} | {form} | {dtype.__name__} | {np.median(apart):.1e} | {max(apart):.1e} |", flush=True)
    print("\n| form | samples with another free state | median distance |\n|---|---|---|")
    x, _ = session.samples("test", list(range(options.settled)))

    def settle(form: str, dtype: type) -> list[np.ndarray]:
        prepared = PreparedNetwork(make(form), weights(dtype), x.astype(dtype))
        return relax(prepared, prepared.zero_states(), learner.phases.free).states

    exact = settle("direct", np.float64)
    for form in ROUNDED:
        moves = sample_moves(settle(form, np.float32), exact)
        print(f"| {form} | {int((moves > 1e-3).sum())} of {len(moves)} | {np.median(moves):.1e} |", flush=True)


if __name__ == "__main__":
    main()
