"""Compares learning curves of the fast settings and of the simple ones, over seeds.

    python -m benchmarks.seeds --seeds 4 --epochs 3 --out benchmarks/results/seeds

It trains the network of the preset ``digits``. Simple: direct convolutions, synchronous steps, one thread. Fast:
Winograd's forms, and even-odd sweeps with the steps that `eqnp check --settle` advises, over-relaxed or not, on two
threads.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from statistics import mean, stdev

from benchmarks.timing import this_command
from benchmarks.training import metrics, train
from eqnp.analysis.plots import plot_curves
from eqnp.runs.figures import save_figure

FAST = ("training.convolution=auto", "training.threads=2")
SWEEPS = (*FAST, "dynamics.schedule=even-odd", "dynamics.T1=10", "dynamics.T2=5")
WAYS = {
    "simple": ("training.convolution=direct", "training.threads=1"),
    "fast, same steps": FAST,
    "fast, even-odd 10 + 5": SWEEPS,
    "fast, over-relaxed 10 + 5": (*SWEEPS, "dynamics.omega=1.6"),
}


def errors(preset: str, settings: tuple[str, ...], seed: int, epochs: int) -> tuple[list[float], float]:
    """Train, and return the test error of every epoch in percent and the seconds of training per epoch."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        train(preset, "--out", str(out), settings=[*settings, f"training.seed={seed}", f"training.epochs={epochs}"])
        rows = metrics(out)
    return [float(row["test_error_percent"]) for row in rows], mean(float(row["seconds"]) for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="digits")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    curves, lines = {}, ["| way | seed | test error by epoch, % | s an epoch |", "|---|---|---|---|"]
    for name, settings in WAYS.items():
        found = [errors(options.preset, settings, seed, options.epochs) for seed in range(options.seeds)]
        for seed, (each, seconds) in enumerate(found):
            lines.append(f"| {name} | {seed} | {', '.join(f'{e:.1f}' for e in each)} | {seconds:.1f} |")
        curves[f"{name}, mean"] = [mean(at_epoch) for at_epoch in zip(*(each for each, _ in found), strict=True)]
        last = [each[-1] for each, _ in found]
        spread = stdev(last) if len(last) > 1 else 0.0
        lines.append(f"| {name} | mean | {mean(last):.2f} (sd {spread:.2f}) after the last | |")
        print(lines[-1], flush=True)
    figure = plot_curves(range(1, options.epochs + 1), curves, "epoch", "test error, %")
    save_figure(figure, options.out / "seeds.svg")
    text = "\n".join(["# Fast and simple settings, over seeds", "", this_command(), "", *lines])
    (options.out / "seeds.md").write_text(text + "\n")


if __name__ == "__main__":
    main()
