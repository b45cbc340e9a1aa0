"""Compares two processes of one thread with one process of two threads: what exchanges and separate memory cost.

    python -m benchmarks.processes --runs 9 --out benchmarks/results/processes.md

Both train the same shards of the same batches, and have the same weights after it, which is checked. The seconds of the
last epoch in metrics.csv are compared, so that the start of Python and MPI does not count. Runs are interleaved.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from benchmarks.timing import where_measured
from benchmarks.training import metrics
from eqnp.analysis.measuring import ratio
from eqnp.runs import checkpoint

# Samples and epochs so that a run takes some seconds; the first epoch is the warm-up.
PRESETS = {
    "digits": ["data.train_samples=1000"],
    "cifar10-small": ["data.train_samples=200"],
    "mnist-cnn": ["data.train_samples=1000"],
    "mnist-mlp": ["data.train_samples=20000"],
}
WAYS = {"one process, two threads": (1, 2), "two processes, one thread each": (2, 1)}


def command(preset: str, processes: int, threads: int, folder: Path) -> list[str]:
    """Return the command that trains a preset in a way."""
    settings = [*PRESETS[preset], "training.epochs=2", "data.test_samples=100", "training.shards=2"]
    words = ["--threads", str(threads), "--quiet", "--out", str(folder)]
    words += [word for each in settings for word in ("--set", each)]
    own = [sys.executable, "-P", "-m", "eqnp.cli", "train", preset, *words]
    return own if processes == 1 else [launcher(), "-n", str(processes), *own]


def launcher() -> str:
    """Return mpiexec: the one beside this Python, or that of the machine."""
    beside = Path(sys.executable).with_name("mpiexec")
    return str(beside) if beside.exists() else shutil.which("mpiexec") or "mpiexec"


def row(preset: str, runs: int) -> str:
    """Return the row of a preset: seconds of an epoch by both ways, and their ratio."""
    times: dict[str, list[float]] = {name: [] for name in WAYS}
    with tempfile.TemporaryDirectory() as name:
        for turn in range(runs):
            weights = []
            for way, (processes, threads) in WAYS.items():
                folder = Path(name) / f"{turn}-{processes}"
                subprocess.run(command(preset, processes, threads, folder), check=True, capture_output=True)
                times[way].append(float(metrics(folder)[-1]["seconds"]))
                content = checkpoint.load(folder / "last.h5", kind="training")["parameters"]
                weights.append(b"".join(p.tobytes() for p in content.values()))
            assert weights[0] == weights[1], f"{preset}: the weights differ"
    threads, processes = times.values()
    return f"| `{preset}` | {median(threads):.3g} | {median(processes):.3g} | {ratio(processes, threads)} |"


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--presets", nargs="+", default=["digits"], choices=PRESETS)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    lines = [
        "# Two processes beside two threads",
        "",
        where_measured(options.runs),
        "Seconds of training in the second epoch; the ratio is processes / threads, of medians (min, max).",
        "",
        "| preset | one process, two threads | two processes, one thread each | ratio |",
        "|---|---|---|---|",
        *(row(preset, options.runs) for preset in options.presets),
    ]
    text = "\n".join(lines) + "\n"
    print(text, end="")
    if options.out:
        options.out.write_text(text)


if __name__ == "__main__":
    main()
