"""Measures how the time of a gradient grows with threads, batch size, steps and layers.

    python -m benchmarks.scaling --out benchmarks/results/scaling

A step of the paper's network is timed on 1 and 2 threads, interleaved. Then a gradient of a network of 3x3 convolutions
with 64 channels on 16x16 inputs, without pooling, is timed against batch size, T1 and number of layers, each alone.
"""

from __future__ import annotations

import argparse
import csv
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.timing import prepared_preset, where_measured
from eqnp.analysis.measuring import free_phases, interleave, ratio
from eqnp.analysis.plots import plot_curves
from eqnp.architecture import Architecture
from eqnp.backends.sharding import cut, serial_map, thread_map
from eqnp.connections.layers import ConvLayer, DenseLayer
from eqnp.dynamics import Phases
from eqnp.estimators import estimate
from eqnp.losses import one_hot
from eqnp.networks import SymmetricNetwork
from eqnp.runs.figures import save_figure
from eqnp.stencils import symmetric

BASE = {"batch": 32, "T1": 16, "layers": 4}
FACTORS = (0.5, 1, 2, 4)


def threads_row(preset: str, steps: int, runs: int) -> str:
    """Return the row of a preset: a step on one thread and on two."""
    _, learner, parameters, x = prepared_preset(preset, "training.threads=2")
    alone = replace(learner, threads=1)
    with threadpool_limits(1, user_api="blas"), thread_map(2) as two:
        work = {
            "1": free_phases(alone, parameters, x, steps, serial_map),
            "2": free_phases(learner, parameters, x, steps, two),
        }
        times = interleave({name: each["synchronous"] for name, each in work.items()}, runs)
    one, both = (1e3 * median(times[name]) / steps for name in ("1", "2"))
    return f"| `{preset}` | {len(x)} | {one:.3g} | {both:.3g} | {ratio(times['1'], times['2'])} |"


def gradient_work(batch: int, T1: int, layers: int):
    """Return a function that computes a gradient on two threads."""
    convolutions = tuple(ConvLayer(64, (3, 3), padding=1, pool="none") for _ in range(layers))
    architecture = Architecture((16, 16, 64), (*convolutions, DenseLayer(10)), "hard_sigmoid", "squared_error")
    network = SymmetricNetwork(architecture)
    generator = np.random.default_rng(0)
    parameters = architecture.initial_parameters(generator, dtype=np.float32)
    x = generator.random((batch, 16, 16, 64), np.float32)
    target = one_hot(np.arange(batch) % 10, 10, np.float32)

    def work(shard: slice) -> None:
        estimate(network, parameters, x[shard], target[shard], symmetric(0.5), Phases(T1, 4))

    def both() -> None:
        with thread_map(2) as run:
            run(work, cut(batch, 2))

    return both


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", nargs="+", default=["cifar10-mse-symmetric", "mnist-cnn"])
    parser.add_argument("--steps", type=int, nargs="+", default=[8, 50])
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    lines = [where_measured(options.runs), "", "| preset | batch | 1 thread, ms a step | 2 threads | ratio |"]
    lines.append("|---" * 5 + "|")
    for preset, steps in zip(options.presets, options.steps, strict=True):
        lines.append(threads_row(preset, steps, options.runs))
        print(lines[-1], flush=True)
    work = {(axis, f): gradient_work(**(BASE | {axis: round(BASE[axis] * f)})) for axis in BASE for f in FACTORS}
    times = {key: median(each) for key, each in interleave(work, options.runs).items()}
    curves = {axis: [times[axis, f] / times[axis, 1] for f in FACTORS] for axis in BASE}
    options.out.mkdir(parents=True, exist_ok=True)
    with open(options.out / "scaling.csv", "w", newline="") as file:
        rows = [[axis, round(BASE[axis] * f), f"{times[axis, f]:.4f}"] for axis in BASE for f in FACTORS]
        csv.writer(file, lineterminator="\n").writerows([["axis", "value", "seconds"], *rows])
    figure = plot_curves(FACTORS, curves, "times the middle (batch 32, T1 16, 4 layers)", "time, relative")
    save_figure(figure, options.out / "scaling.svg")
    lines += ["", "Time of a gradient relative to batch 32, T1 16, 4 layers (T2 4):", ""]
    lines += ["| what | " + " | ".join(f"x {f:g}" for f in FACTORS) + " |", "|---" * (len(FACTORS) + 1) + "|"]
    lines += [f"| {axis} | " + " | ".join(f"{v:.2f}" for v in curves[axis]) + " |" for axis in BASE]
    lines += ["", "![time against batch, T1 and layers](scaling.svg)"]
    (options.out / "scaling.md").write_text("# Scaling\n\n" + "\n".join(lines) + "\n")
    print("\n".join(lines[-9:]))


if __name__ == "__main__":
    main()
