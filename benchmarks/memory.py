"""Measures the peak memory of one gradient against T2: EP, BPTT, and BPTT that computes states twice.

    python -m benchmarks.memory --out benchmarks/results/memory

It uses the network of the preset ``digits``, batch 50, float32. NumPy reports its arrays to tracemalloc, which sums
them.
"""

from __future__ import annotations

import argparse
import csv
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np

from eqnp.analysis.plots import plot_curves
from eqnp.backends.backend import get_backend
from eqnp.losses import one_hot
from eqnp.reference import plan_segments
from eqnp.runs.configfile import load
from eqnp.runs.experiment import make_learner
from eqnp.runs.figures import save_figure
from eqnp.training import initial_state

STEPS = (5, 10, 20, 40, 60, 80)


def peak(algorithm: str, T2: int, segment: int) -> float:
    """Return the peak of one gradient in MB."""
    config = load("digits", [f"training.algorithm={algorithm}", "dynamics.T1=80", f"dynamics.T2={T2}"])
    learner = make_learner(config, (28, 28, 1), 10, get_backend("numpy"))
    learner = replace(learner, bptt=learner.bptt and replace(learner.bptt, segment=segment))
    parameters = initial_state(learner, 1.0, "float32").parameters
    x = np.random.default_rng(0).random((50, 28, 28, 1), np.float32)
    target = one_hot(np.arange(50) % 10, 10, np.float32)
    tracemalloc.start()
    learner.gradient(parameters, x, target, learner.stencil(0, 0), None)
    size = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return size / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    curves = {
        "EP, symmetric": [peak("ep", T2, 0) for T2 in STEPS],
        "BPTT": [peak("bptt", T2, T2) for T2 in STEPS],
        "BPTT in segments": [peak("bptt", T2, plan_segments(T2, 1, 2.5 * T2**0.5)) for T2 in STEPS],
    }
    out.mkdir(parents=True, exist_ok=True)
    with open(out / "memory.csv", "w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(
            [["T2", *(f"{name}, MB" for name in curves)], *zip(STEPS, *curves.values(), strict=True)]
        )
    save_figure(plot_curves(STEPS, curves, "T2", "peak memory, MB"), out / "memory.svg")
    for name, sizes in curves.items():
        print(f"{name:<18}", " ".join(f"{size:7.1f}" for size in sizes))


if __name__ == "__main__":
    main()
