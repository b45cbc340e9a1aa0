"""Bias of points on a circle against their cost, beside the symmetric and the four-point estimator.

python -m benchmarks.circle [RUN | PRESET] [--samples N] [--out FILE.md] [--plot FILE.svg]

All phases are settled. The cost is the number of nudged relaxations; a complex one counts as two, since a complex step
computes what two real ones do. The first table compares all estimators at the same largest |beta|, in float64. The
second compares them at the same accuracy: the largest |beta| = 2^-k that reaches it in float32 and in float64, and the
smallest error of all these values in float32, where rounding grows as 1 / |beta|.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from eqnp.analysis.diagnostics import minus, total_norm
from eqnp.analysis.steady import SettledPhases
from eqnp.api.session import open_weights
from eqnp.backends.backend import get_backend
from eqnp.losses import one_hot
from eqnp.ops.pairs import is_complex
from eqnp.stencils import Stencil, circle, four_point, symmetric

LARGEST = (1.0, 0.5, 0.25, 0.125)  # |beta|
POWERS = tuple(2.0**-k for k in range(15))  # |beta| of the second table
ACCURACIES = (1e-1, 1e-2, 1e-3, 1e-4)
ESTIMATORS: dict[str, Callable[[float], Stencil]] = {
    "symmetric": symmetric,
    "four-point": lambda largest: four_point(largest / 2),
    **{f"circle, {count} points": partial(circle, points=count) for count in (4, 6, 8, 12, 16)},
}


def cost(stencil: Stencil) -> int:
    """Return the number of nudged relaxations; a complex one counts as two."""
    return sum(2 if is_complex(beta) else 1 for beta, _ in stencil.points if beta)


Errors = dict[str, list[float]]  # |estimate - exact| / |exact| of every estimator, one for each |beta|


def measure(run: str, samples: int) -> tuple[Errors, Errors, Errors]:
    """Return the errors at ``LARGEST`` in float64, at ``POWERS`` in float64, and at ``POWERS`` in float32.

    The exact gradient is that in float64. Samples that settle in float64 at all values of ``LARGEST`` count.
    """
    session, parameters = open_weights(run, (), "last", partial(get_backend, "numpy"))
    x, labels = session.samples("test", list(range(samples)))
    network, way = session.learner.network, session.learner.phases.way

    def phases_in(dtype: type) -> SettledPhases:
        target = one_hot(labels, network.architecture.classes, dtype)
        weights = {name: p.astype(dtype) for name, p in parameters.items()}
        return SettledPhases(network, weights, x.astype(dtype), target, 3000, session.learner.contrast, way)

    phases = phases_in(np.float64)
    stencils = [make(largest) for make in ESTIMATORS.values() for largest in LARGEST]
    good = np.all([phases.settled(), *(phases.settled(b) for each in stencils for b, _ in each.points)], axis=0)
    exact = phases.exact(good).gradient

    def errors(own: SettledPhases, sizes: tuple[float, ...]) -> Errors:
        def error(stencil: Stencil) -> float:
            return total_norm(minus(own.settled_estimate(stencil, good), exact)) / total_norm(exact)

        return {name: [error(make(largest)) for largest in sizes] for name, make in ESTIMATORS.items()}

    print(f"{good.sum()} of {samples} samples settle everywhere")
    return errors(phases, LARGEST), errors(phases, POWERS), errors(phases_in(np.float32), POWERS)


def at_equal_accuracy(double: Errors, single: Errors) -> str:
    """Return the table: one row for each estimator, one column for each of ``ACCURACIES``, and the best in float32."""
    lines = [
        "| estimator | relaxations | "
        + " | ".join(f"{a:g}: float64, float32" for a in ACCURACIES)
        + " | best in float32, at |",
        "|---|---|" + "---|" * (len(ACCURACIES) + 1),
    ]
    for name in ESTIMATORS:
        cells = []
        for accuracy in ACCURACIES:
            found = [
                next((f"2^-{k}" for k, error in enumerate(errors[name]) if error <= accuracy), "none")
                for errors in (double, single)
            ]
            cells.append(", ".join(found))
        best = int(np.argmin(single[name]))
        cells.append(f"{single[name][best]:.1e}, 2^-{best}")
        lines.append(f"| {name} | {cost(ESTIMATORS[name](1.0))} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def table(biases: Errors) -> str:
    """Return the table: one row for each estimator, one column for each largest |beta|."""
    lines = [
        "| estimator | relaxations | " + " | ".join(f"\\|beta\\| <= {b:g}" for b in LARGEST) + " |",
        "|---|---|" + "---|" * len(LARGEST),
    ]
    for name, row in biases.items():
        lines.append(f"| {name} | {cost(ESTIMATORS[name](1.0))} | " + " | ".join(f"{b:.1e}" for b in row) + " |")
    return "\n".join(lines)


def plot(biases: Errors, path: Path) -> None:
    """Draw the bias against the relaxations, one line for each largest |beta| on the circle."""
    from eqnp.analysis.plots import WAY_STYLES, new_figure

    figure, axes = new_figure(1, width=4.8, height=3.6)
    axis = axes[0, 0]
    circles = [name for name in biases if name.startswith("circle")]
    for k, (largest, (color, line)) in enumerate(zip(LARGEST, WAY_STYLES, strict=True)):
        names = ["symmetric", *circles]  # the circle of two points is the symmetric estimator
        costs = [cost(ESTIMATORS[name](1.0)) for name in names]
        axis.semilogy(costs, [biases[n][k] for n in names], ls=line, color=color, marker="o", markersize=3)
        axis.plot([], [], ls=line, color=color, label=f"largest |beta| {largest:g}")
        axis.plot([4], [biases["four-point"][k]], "x", color=color)
    axis.plot([], [], "kx", label="four-point")
    axis.plot([], [], "ko", markersize=3, label="symmetric, circle")
    axis.set_xlabel("nudged relaxations (a complex one counts as two)")
    axis.set_ylabel("bias / exact gradient")
    axis.legend(fontsize=7)
    figure.savefig(path)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?", default="small-circle")
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    biases, double, single = measure(options.run, options.samples)
    text = f"{table(biases)}\n\n{at_equal_accuracy(double, single)}"
    print(text)
    if options.out:
        options.out.write_text(text + "\n")
    if options.plot:
        plot(biases, options.plot)


if __name__ == "__main__":
    main()
