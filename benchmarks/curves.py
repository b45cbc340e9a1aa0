"""Plots columns of metrics.csv files against the epoch, one curve for every file and column.

    python -m benchmarks.curves OUT.svg METRICS.csv ... --columns test_error_percent --ylabel "error, %"

``--labels`` names the files in the legend; without it they have their file names.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

from eqnp.analysis.plots import plot_curves
from eqnp.runs.figures import save_figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--columns", nargs="+", default=["test_error_percent"])
    parser.add_argument("--ylabel", default="")
    parser.add_argument("--labels", nargs="+", default=[])
    options = parser.parse_args()
    labels = options.labels or [path.stem for path in options.files]
    curves, epochs = {}, []
    for path, label in zip(options.files, labels, strict=True):
        with open(path) as file:
            rows = list(csv.DictReader(file))
        epochs = [int(row["epoch"]) for row in rows]
        for column in options.columns:
            if column in rows[0]:
                name = f"{label}: {column}" if len(options.columns) > 1 else label
                curves[name] = [float(row[column]) for row in rows]
    save_figure(plot_curves(epochs, curves, "epoch", options.ylabel), options.out)


if __name__ == "__main__":
    main()
