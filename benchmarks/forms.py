"""Times drive and feedback of single convolutions in every form, and checks whether ``auto`` takes the fastest.

    python -m benchmarks.forms --presets cifar10-mse-symmetric mnist-cnn --out benchmarks/results/forms.md

It uses 32 samples, one thread and one BLAS thread, as in a shard. The forms are interleaved.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import median

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.timing import prepared_preset, where_measured
from eqnp.analysis.measuring import interleave
from eqnp.backends.products import best_numpy_products
from eqnp.backends.workspace import Workspace
from eqnp.connections.forms import FORMS, connect, fastest, suits
from eqnp.connections.layers import ConvLayer
from eqnp.runs.experiment import make_products


def measure(layer: ConvLayer, below: tuple[int, ...], runs: int) -> dict[str, float]:
    """Return the median milliseconds of drive and feedback, by form; the forms are checked to agree."""
    generator = np.random.default_rng(0)
    s = generator.random((32, *below), np.float32)
    w = generator.standard_normal((*layer.kernel, below[-1], layer.channels), np.float32) / 30
    b, work, drives = np.zeros(layer.channels, np.float32), {}, {}
    products = make_products(best_numpy_products())
    for form in FORMS[1:]:
        if not suits(form, layer):
            continue
        connection, space = connect(layer, below, form, products), Workspace()
        kernel = connection.prepare(w)
        drives[form] = connection.drive(kernel, b, s)[0]

        def both(connection=connection, kernel=kernel, space=space):
            d, winner = connection.drive(kernel, b, s, space)
            connection.feedback(kernel, d, winner, space)

        work[form] = both
    for form, d in drives.items():
        assert np.abs(d - drives["direct"]).max() < 1e-4, f"{form} differs"
    return {form: 1e3 * median(times) for form, times in interleave(work, runs).items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", nargs="+", required=True)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    lines = [where_measured(options.runs), "", "| convolution | " + " | ".join(FORMS[1:]) + " | auto |"]
    lines.append("|---" * (len(FORMS) + 1) + "|")
    with threadpool_limits(1, user_api="blas"):
        for preset in options.presets:
            architecture = prepared_preset(preset)[1].network.architecture
            for n, layer in enumerate(architecture.layers[1:]):
                if not isinstance(layer, ConvLayer):
                    continue
                below = architecture.state_shapes[n]
                times = measure(layer, below, options.runs)
                chosen = fastest(layer, below)
                row = [f"{times[form]:.1f}" if form in times else "" for form in FORMS[1:]]
                kernel = "x".join(map(str, layer.kernel))
                what = f"{kernel}, {below[-1]} to {layer.channels} on {below[0]}x{below[1]}, pool {layer.pool}"
                lines.append(f"| {what} | {' | '.join(row)} | {chosen} |")
                print(lines[-1], flush=True)
    if options.out:
        text = "# Forms of a convolution\n\nDrive and feedback of 32 samples on one thread, ms. "
        options.out.write_text(text + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
