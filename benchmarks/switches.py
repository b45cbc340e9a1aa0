"""Cosine with the exact gradient against beta on trained vector fields: plain, KP-VF and asymmetric nudging.

    python -m benchmarks.switches RUN [RUN ...] [--samples N] [--omega W] [--out FILE.md] [--plot FILE.svg]

It shows what happens if winners of pools or clips switch between the phases. The estimator is symmetric, all phases are
settled, over the test samples whose free phase settles. Every kind is measured in float32 and in float64, against the
exact gradient in float64; that of KP-VF has the sum of both weights. *Switch*: the share of these samples that change
their activity pattern at beta or -beta. Asymmetric phases have fixed winners, so only clips count there.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from eqnp.analysis.diagnostics import cosine
from eqnp.analysis.quality import layer_cosines
from eqnp.analysis.steady import SettledPhases
from eqnp.analysis.theorem import KINDS
from eqnp.api.session import open_weights
from eqnp.backends.backend import get_backend
from eqnp.losses import one_hot
from eqnp.stencils import symmetric

BETAS = (2.0, 1.0, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 1e-3, 1e-4, 1e-5)
DTYPES = (np.float32, np.float64)
NAMES = {"plain": "plain", "common": "KP-VF", "asymmetric": "asymmetric"}
STYLES = {"plain": ("#D55E00", "s"), "common": ("#009E73", "^"), "asymmetric": ("#0072B2", "o")}
STEPS = 1000  # most steps of a phase


@dataclass
class Curve:
    """Cosines and the share of samples that switch, in percent, one for each of ``BETAS``."""

    cosines: list[float] = field(default_factory=list)
    worst: list[float] = field(default_factory=list)
    """The lowest cosine of a single weight."""
    switch: list[float] = field(default_factory=list)


Curves = dict[tuple[str, type], Curve]


def measure(run: str, samples: int, omega: float) -> tuple[Curves, int]:
    """Return the curves of every kind and dtype, and how many of the samples settle."""
    session, parameters = open_weights(run, (), "last", partial(get_backend, "numpy"))
    x, labels = session.samples("test", list(range(samples)))
    network = session.learner.network

    def phases(dtype: type, which: np.ndarray) -> SettledPhases:
        weights = {name: p.astype(dtype) for name, p in parameters.items()}
        target = one_hot(labels[which], network.architecture.classes, dtype)
        return SettledPhases(network, weights, x[which].astype(dtype), target, STEPS, way=("synchronous", omega))

    good = phases(np.float64, np.ones(samples, bool)).settled()
    both = {dtype: phases(dtype, good) for dtype in DTYPES}
    found: Curves = {}
    for kind, contrast in KINDS.items():
        exact = both[np.float64].by(contrast).exact().gradient
        for dtype in DTYPES:
            own, curve = both[dtype].by(contrast), Curve()
            for beta in BETAS:
                estimate = own.settled_estimate(symmetric(beta))
                curve.cosines.append(cosine(estimate, exact))
                curve.worst.append(min(layer_cosines(estimate, exact).values()))
                curve.switch.append(100 * float((own.switched(beta) | own.switched(-beta)).mean()))
            found[kind, dtype] = curve
    return found, int(good.sum())


def table(run: str, curves: Curves, settled: int, samples: int) -> str:
    """Return the table of a run: a row for each beta, and for each kind cosine (lowest weight), in both dtypes."""
    lines = [
        f"**{run}**, {settled} of {samples} samples settle",
        "",
        "| beta | " + " | ".join(f"{NAMES[k]}, float32 | float64 | switch, %" for k in KINDS) + " |",
        "|---|" + "---|---|---|" * len(KINDS),
    ]
    for n, beta in enumerate(BETAS):
        cells = [f"{beta:g}"]
        for kind in KINDS:
            for dtype in DTYPES:
                curve = curves[kind, dtype]
                cells.append(f"{curve.cosines[n]:.4f} ({curve.worst[n]:.3f})")
            cells.append(f"{curves[kind, np.float64].switch[n]:.0f}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def plot(found: dict[str, Curves], path: Path) -> None:
    """Draw the cosines against beta, a panel for each run: filled in float64, open in float32."""
    from eqnp.analysis.plots import new_figure

    figure, axes = new_figure(len(found), width=3.6, height=3.2)
    for axis, (run, curves) in zip(axes[0], found.items(), strict=True):
        for (kind, dtype), curve in curves.items():
            color, marker = STYLES[kind]
            is_double = dtype is np.float64
            axis.semilogx(
                BETAS,
                curve.cosines,
                ls="-" if is_double else ":",
                color=color,
                marker=marker,
                markersize=4,
                fillstyle="full" if is_double else "none",
                label=f"{NAMES[kind]}, {np.dtype(dtype)}",
            )
        axis.set_title(run, fontsize=9)
        axis.set_xlabel("beta")
    axes[0, 0].set_ylabel("cosine with the exact gradient")
    axes[0, 0].legend(fontsize=6)
    figure.savefig(path)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="RUN")
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--omega", type=float, default=0.8, help="damping of all phases (default: 0.8)")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    found, texts = {}, []
    for run in options.runs:
        name = Path(run).name
        found[name], settled = measure(run, options.samples, options.omega)
        texts.append(table(name, found[name], settled, options.samples))
        print(texts[-1], flush=True)
    if options.out:
        options.out.write_text("\n\n".join(texts) + "\n")
    if options.plot:
        plot(found, options.plot)


if __name__ == "__main__":
    main()
