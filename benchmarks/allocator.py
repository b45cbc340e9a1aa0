"""Measures what it costs that freed memory goes back to the system (``eqnp.backends.allocator``).

    python -m benchmarks.allocator --presets cifar10-hour digits --out benchmarks/results/allocator.md

Each run is a process of its own that makes a few updates on random data; those that keep freed memory and those that do
not take turns. A variable of glibc that changes nothing makes eqnp leave glibc as it is.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np

from benchmarks.timing import prepared_preset, where_measured, write_table
from eqnp.backends.sharding import thread_map
from eqnp.training import State, train_batch

LEFT_ALONE = {"GLIBC_TUNABLES": "glibc.malloc.check=0"}


def seconds_of_an_update(preset: str, updates: int) -> float:
    """Return the median time of an update, with the memory that this process is set to keep."""
    _, learner, parameters, x = prepared_preset(preset)
    state, labels, times = State(parameters, learner.update.init(parameters)), np.arange(len(x)) % 10, []
    with thread_map(learner.threads) as run:
        for _ in range(updates + 2):
            began = perf_counter()
            state = train_batch(learner, state, x, labels, run)
            times.append(perf_counter() - began)
    return median(times[2:])


def measure(preset: str, updates: int, runs: int) -> str:
    """Return the row of a preset."""
    command = [sys.executable, "-m", "benchmarks.allocator", "--updates", str(updates), "--one", preset]
    times: dict[str, list[float]] = {"kept": [], "given back": []}
    for _ in range(runs):
        for name, more in (("kept", {}), ("given back", LEFT_ALONE)):
            done = subprocess.run(command, env={**os.environ, **more}, capture_output=True, text=True, check=True)
            times[name].append(1e3 * float(done.stdout))
    ratios = sorted(b / a for a, b in zip(*times.values(), strict=True))
    kept, back = (median(each) for each in times.values())
    return f"| `{preset}` | {kept:.3g} | {back:.3g} | {median(ratios):.2f} ({ratios[0]:.2f}, {ratios[-1]:.2f}) |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", nargs="+", default=[])
    parser.add_argument("--updates", type=int, default=20)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(seconds_of_an_update(options.one, options.updates))
        return
    lines = [where_measured(options.runs), ""]
    lines.append(
        "| preset | ms an update, freed memory kept | given back | ratio of pairs (min, max) |\n|---|---|---|---|"
    )
    rows = (measure(preset, options.updates, options.runs) for preset in options.presets)
    write_table("Freed memory: kept, or given back to the system", lines, rows, options.out)


if __name__ == "__main__":
    main()
