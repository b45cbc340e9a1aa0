"""Measures the share of matrix products in a step, and their speed relative to the machine's.

    python -m benchmarks.products --presets cifar10-mse-symmetric mnist-cnn --out benchmarks/results/products.md

It uses one shard on one thread with one BLAS thread, as in training. A wrapper around ``np.matmul`` times every
product, so small products look a little slower than they are. The machine's speed is that of a product of two matrices
of 2048 x 2048.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path
from statistics import median

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.timing import prepared_preset, where_measured, write_table
from eqnp.analysis.measuring import interleave
from eqnp.backends.allocator import keep_freed_memory
from eqnp.dynamics import relax
from eqnp.prepared import PreparedNetwork


class Counter:
    """Replaces ``np.matmul`` and sums seconds and multiplications."""

    def __init__(self) -> None:
        self.matmul, self.seconds, self.multiplications = np.matmul, 0.0, 0

    def __enter__(self) -> Counter:
        np.matmul = self
        return self

    def __exit__(self, *_: object) -> None:
        np.matmul = self.matmul

    def __call__(self, a, b, *args, **kwargs):
        began = time.perf_counter()
        result = self.matmul(a, b, *args, **kwargs)
        self.seconds += time.perf_counter() - began
        self.multiplications += math.prod(result.shape) * a.shape[-1]
        return result


def measure(preset: str, steps: int, runs: int) -> str:
    """Return the row of a preset."""
    _, learner, parameters, x = prepared_preset(preset)
    network = PreparedNetwork(learner.network, parameters, x[learner.shards(len(x))[0]])
    states = relax(network, network.zero_states(), 2).states
    square = np.ones((2048, 2048), np.float32)
    out, held, counts = np.empty_like(square), [states], []

    def counted() -> None:
        with Counter() as counter:
            held[0] = relax(network, held[0], steps).states
        counts.append((counter.seconds, counter.multiplications))

    def plain() -> None:
        held[0] = relax(network, held[0], steps).states

    times = interleave({"plain": plain, "counted": counted, "machine": lambda: np.matmul(square, square, out)}, runs)
    seconds = median(s for s, _ in counts[1:])
    step, whole = median(times["plain"]), median(times["counted"])
    rate = 2e-9 * counts[-1][1] / seconds
    machine = 2e-9 * 2048**3 / median(times["machine"])
    return (
        f"| `{preset}` | {len(network.x)} | {1e3 * step / steps:.3g} | {100 * seconds / whole:.0f} % | {rate:.0f} | "
        f"{machine:.0f} | {100 * rate / machine:.0f} % | {100 * 2e-9 * counts[-1][1] / step / machine:.0f} % |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", nargs="+", required=True)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    lines = [where_measured(options.runs), "", "| preset | samples | ms a step | in products | their GFLOP/s "]
    lines[-1] += "| the machine's | of it | the whole step, of it |"
    lines.append("|---" * 8 + "|")
    keep_freed_memory()  # as in training
    with threadpool_limits(1, user_api="blas"):
        rows = (measure(preset, options.steps, options.runs) for preset in options.presets)
        write_table("The share of matrix products", lines, rows, options.out)


if __name__ == "__main__":
    main()
