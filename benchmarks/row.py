"""A row of the poster's table on a GPU, for as many epochs as fit into a time; the learning rate falls with them.

    python -m benchmarks.row OUT SECONDS [PRESET] [--set KEY=VALUE ...]

By default `cifar10-ce-symmetric` by over-relaxed sweeps, 20 + 8 + 8. A short trial run measures an epoch first. OUT is
the run folder.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
import time
from pathlib import Path

from eqnp.cli.main import main as eqnp

SWEEPS = ("dynamics.schedule=even-odd", "dynamics.omega=1.6", "dynamics.T1=20", "dynamics.T2=8")
TRIAL = 6400  # training samples of the trial run
BESIDE = 1.12  # time of an epoch relative to its training: evaluation and data
SAFE = 0.93  # of the time that is left


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("seconds", type=float)
    parser.add_argument("preset", nargs="?", default="cifar10-ce-symmetric")
    parser.add_argument("--backend", default="cupy")
    parser.add_argument("--samples", type=int, default=50000, help="training samples of an epoch")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    began = time.monotonic()
    common = ["--backend", options.backend, *settings(*SWEEPS, *options.overrides)]
    trial = min(TRIAL, options.samples)
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "trial"
        short = settings("training.epochs=1", f"data.train_samples={trial}", f"data.test_samples={max(1, trial // 5)}")
        if code := eqnp(["train", options.preset, *common, *short, "--out", str(run)]):
            return code
        with open(run / "metrics.csv") as file:
            seconds = float(list(csv.DictReader(file))[-1]["seconds"])
    left = options.seconds - (time.monotonic() - began)
    epochs = epochs_that_fit(seconds, trial, options.samples, left)
    print(f"epochs that fit: {epochs}", flush=True)
    long = settings(f"training.epochs={epochs}", f"optimizer.T_max={epochs}")
    return eqnp(["train", options.preset, *common, *long, "--out", str(options.out)])


def epochs_that_fit(seconds: float, trial: int, samples: int, left: float) -> int:
    """Return how many epochs of ``samples`` fit into ``left`` seconds, at least 1.

    ``seconds``: what an epoch of ``trial`` samples took.
    """
    epoch = seconds * samples / trial * BESIDE
    return max(1, int(SAFE * left / max(epoch, 1e-9)))


def settings(*overrides: str) -> list[str]:
    """Return overrides as words of the command line."""
    return [word for text in overrides for word in ("--set", text)]


if __name__ == "__main__":
    sys.exit(main())
