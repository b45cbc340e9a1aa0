"""Trains the rows of the poster's table on a smaller network, with several seeds: mean and standard deviation.

    python -m benchmarks.poster --seeds 3 --jobs 2 --out benchmarks/results/poster

Runs that are done are not repeated. Each job has one thread, for the network and for the BLAS.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import mean, stdev

ROWS = {
    "small-mse-onesided": "Squared error, one-sided",
    "small-mse-random-sign": "Squared error, random sign",
    "small-mse-symmetric": "Squared error, symmetric",
    "small-mse-bptt": "Squared error, BPTT",
    "small-ce-symmetric": "Cross-entropy, symmetric",
    "small-ce-dropout": "Cross-entropy, symmetric, dropout",
    "small-ce-bptt": "Cross-entropy, BPTT",
    "small-vf": "Cross-entropy, VF symmetric",
    "small-vf-asymmetric": "Cross-entropy, VF, asymmetric EP",
    "small-kp-vf": "Cross-entropy, KP-VF",
    "small-vf-bptt": "Cross-entropy, VF, BPTT",
}


def train(preset: str, seed: int, folder: Path) -> Path:
    """Train one row with one seed, unless it is done; return its metrics."""
    run = folder / f"{preset}-{seed}"
    metrics = run / "metrics.csv"
    command = [sys.executable, "-P", "-m", "eqnp.cli", "train"]
    if (run / "last.h5").exists():
        command += ["--resume", str(run), "--quiet"]
    else:
        command += [preset, "--out", str(run), "--quiet", "--threads", "1", "--set", f"training.seed={seed}"]
    done = subprocess.run(command, env=os.environ | {"OPENBLAS_NUM_THREADS": "1"}, capture_output=True, text=True)
    last = (done.stdout or done.stderr).strip().splitlines()
    print(f"{preset} seed {seed}: exit {done.returncode}, {last[0] if last else ''}", flush=True)
    return metrics


def rows(path: Path) -> list[dict[str, str]]:
    with open(path) as file:
        return list(csv.DictReader(file))


def table(results: dict[str, list[Path]]) -> str:
    """Return the last epoch's test and training errors of every row as Markdown."""
    lines = ["| row | preset | test error, % | each seed | train error, % | s an epoch |", "|---|---|---|---|---|---|"]
    for preset, paths in results.items():
        last = [rows(path)[-1] for path in paths]
        test, train_error = ([float(row[k]) for row in last] for k in ("test_error_percent", "train_error_percent"))
        seconds = mean(float(row["seconds"]) for row in last)
        spread = f" ({stdev(test):.1f})" if len(test) > 1 else ""
        each = ", ".join(f"{error:.1f}" for error in test)
        lines.append(
            f"| {ROWS[preset]} | `{preset}` | {mean(test):.1f}{spread} | {each} | {mean(train_error):.1f} "
            f"| {seconds:.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--runs", type=Path, default=Path("runs/poster"))
    parser.add_argument("--out", type=Path, required=True, help="folder for poster.md and the metrics of every run")
    options = parser.parse_args()
    tasks = [(preset, seed) for seed in range(options.seeds) for preset in options.rows]
    with ThreadPoolExecutor(options.jobs) as pool:
        paths = list(pool.map(lambda task: train(*task, options.runs), tasks))
    options.out.mkdir(parents=True, exist_ok=True)
    results: dict[str, list[Path]] = {preset: [] for preset in options.rows}
    for (preset, seed), path in zip(tasks, paths, strict=True):
        (options.out / f"{preset}-{seed}.csv").write_text(path.read_text())
        results[preset].append(path)
    text = table(results)
    (options.out / "table.md").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
