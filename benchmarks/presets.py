"""Starts every full-size preset of the poster's table, takes a few steps and resumes, on a few samples of CIFAR-10.

    python -m benchmarks.presets --data FOLDER --out benchmarks/results/presets.md

It changes only the number of samples and the batch size. T1, T2, channels and everything else are those of the preset.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from benchmarks.training import metrics, train
from eqnp.runs.presets import names

FEW = {"data.train_samples": 8, "data.test_samples": 4, "training.batch_size": 4}

FOR_A_CPU = ("cifar10-small", "cifar10-ten-minutes", "cifar10-hour")


def row(preset: str, data: str, folder: Path) -> str:
    """Train an epoch of two batches, resume for another, and return losses and time as a row of a table."""
    settings = [f"{key}={value}" for key, value in FEW.items()]
    settings += [f"data.folder={data}", "training.epochs=1"]
    train(preset, "--out", str(folder), settings=settings)
    train("--resume", str(folder), settings=["training.epochs=2"])
    first, second = metrics(folder)
    seconds = (float(first["seconds"]) + float(second["seconds"])) / 4
    losses = f"{float(first['train_loss']):.4f}, {float(second['train_loss']):.4f}"
    return f"| `{preset}` | {losses} | {float(second['train_residual']):.0e} | {seconds:.1f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    lines = [
        "# Every full-size row starts, steps and resumes",
        "",
        f"`python -m benchmarks.presets --data FOLDER --out {options.out}`, on 2 cores.",
        "Two batches of 4 samples of CIFAR-10 make an epoch. The run stops after one epoch and is resumed for another.",
        "T1, T2, channels and everything else are those of the preset. This shows that the rows run, not their error.",
        "",
        "| preset | training loss of the two epochs | residual | s a batch of 4 |",
        "|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as folder:
        for preset in names():
            if preset.startswith("cifar10-") and preset not in FOR_A_CPU:
                lines.append(row(preset, options.data, Path(folder) / preset))
                print(lines[-1], flush=True)
    options.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
