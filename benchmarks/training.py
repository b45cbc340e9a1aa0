"""What benchmarks share that train through the command line: one quiet run, and its metrics."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path


def train(*words: str, settings: Iterable[str] = ()) -> None:
    """Run ``eqnp train`` with these words and a ``--set`` for every setting."""
    options = [word for setting in settings for word in ("--set", setting)]
    command = [sys.executable, "-P", "-m", "eqnp.cli", "train", "--quiet", *words, *options]
    subprocess.run(command, check=True, capture_output=True)


def metrics(folder: Path) -> list[dict[str, str]]:
    """Return the rows of a run's metrics.csv, by column."""
    with open(folder / "metrics.csv") as file:
        return list(csv.DictReader(file))
