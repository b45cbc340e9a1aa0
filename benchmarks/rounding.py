"""What float32 and Winograd's forms cost: how far gradient and free states are from the direct form's in float64.

python -m benchmarks.rounding RUN --samples 24 --set dynamics.T1=40
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np

from eqnp.cli.options import Place
from eqnp.cli.session import open_weights
from eqnp.diagnostics import sample_moves
from eqnp.dynamics import relax
from eqnp.estimators import estimate
from eqnp.experiment import make_network
from eqnp.forms import FORMS
from eqnp.losses import one_hot
from eqnp.prepared import PreparedNetwork
from eqnp.stencils import symmetric


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--samples", type=int, default=24)
    parser.add_argument("--settled", type=int, default=1000, help="samples whose free states are compared")
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    options = parser.parse_args()
    session, parameters = open_weights(str(options.run), tuple(options.overrides), "best", Place("numpy"))
    x, labels = session.samples("test", list(range(options.samples)))
    learner = session.learner

    def gradient(form: str, dtype: type, beta: float) -> dict[str, np.ndarray]:
        network = make_network(session.config.model, learner.network.architecture, form)
        cast = {name: np.asarray(p, dtype) for name, p in parameters.items()}
        target = one_hot(labels, 10, dtype)
        return estimate(network, cast, x.astype(dtype), target, symmetric(beta), learner.T1, learner.T2).gradient

    print("| beta | form | type | relative distance |\n|---|---|---|---|")
    for beta in (learner.beta, learner.beta / 10):
        exact = gradient("direct", np.float64, beta)
        size = math.sqrt(sum(float((g * g).sum()) for g in exact.values()))
        for form, dtype in (*((form, np.float32) for form in FORMS[1:]), ("winograd-4x4", np.float64)):
            found = gradient(form, dtype, beta)
            distance = math.sqrt(sum(float(((found[name] - g) ** 2).sum()) for name, g in exact.items()))
            print(f"| {beta:g} | {form} | {dtype.__name__} | {distance / size:.1e} |")

    print("\n| form | samples whose free state is another one | median distance |\n|---|---|---|")
    x, _ = session.samples("test", list(range(options.settled)))

    def settle(form: str, dtype: type) -> list[np.ndarray]:
        network = make_network(session.config.model, learner.network.architecture, form)
        prepared = PreparedNetwork(network, {n: np.asarray(p, dtype) for n, p in parameters.items()}, x.astype(dtype))
        return relax(prepared, prepared.zero_states(), learner.T1).states

    exact = settle("direct", np.float64)
    for form in FORMS[1:]:
        moves = sample_moves(settle(form, np.float32), exact)
        print(f"| {form} | {int((moves > 1e-3).sum())} of {len(moves)} | {np.median(moves):.1e} |", flush=True)


if __name__ == "__main__":
    main()
