"""Figures of what ``eqnp.theorem`` measured. matplotlib is optional and imported here alone.

Colours are told apart without colour vision (Okabe and Ito), and lines by their style as well.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eqnp.errors import BackendError
from eqnp.settling import measured_ways
from eqnp.storage import write_atomic

STYLES = {
    "bptt": ("black", "-"),
    "one-sided": ("#0072B2", "--"),
    "one-sided, -beta": ("#56B4E9", ":"),
    "symmetric": ("#D55E00", "-."),
    "four-point": ("#009E73", ":"),
}
WAY_STYLES = [("#0072B2", "--"), ("#D55E00", "-"), ("#009E73", "-."), ("black", (0, (1, 1)))]


def new_figure(columns: int, rows: int = 1, width: float = 3.2, height: float = 2.6) -> tuple[Any, np.ndarray]:
    """Return a figure and its axes (rows, columns), without a window and without global state.

    Raises:
        BackendError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise BackendError("plots need matplotlib; `pip install matplotlib`, or give --plots none") from None
    except ValueError as error:  # of MPLBACKEND or a matplotlibrc
        reason = str(error).splitlines()[0]
        raise BackendError(f"plots need matplotlib, which does not start ({reason}); or give --plots none") from None
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def save_figure(figure: Any, path: Path) -> None:
    """Write a figure, as its name's ending says (.png or .svg), whole or not at all."""
    data = io.BytesIO()
    figure.savefig(data, format=path.suffix[1:], dpi=150)
    write_atomic(path, data.getbuffer())


def plot_cumulative(steps: Mapping[str, Any]) -> Any:
    """Draw the sum of the updates so far, along BPTT's gradient, one panel for every weight."""
    names = _weights(steps)
    columns = min(len(names), 3)
    figure, axes = new_figure(columns, -(-len(names) // columns))
    for axis in axes.flat[len(names) :]:
        axis.set_visible(False)
    for axis, name in zip(axes.flat, names, strict=False):
        for curve, (color, line) in STYLES.items():
            if curve in steps:
                axis.plot(steps[curve][name]["cumulative"], line, color=color, label=curve)
        axis.set_title(name, fontsize=9)
        axis.set_xlabel("step")
    axes[0, 0].set_ylabel("sum of updates along\nBPTT's gradient")
    axes[0, 0].legend(fontsize=7)
    return figure


def plot_ratio(steps: Mapping[str, Any]) -> Any:
    """Draw the distance to BPTT's gradient of the symmetric estimate, relative to the one-sided one's, by weight."""
    names = _weights(steps)
    figure, axes = new_figure(1, width=1.6 + 0.8 * len(names))
    ratios = [steps["symmetric"][n]["distance"] / (steps["one-sided"][n]["distance"] or 1.0) for n in names]
    axes[0, 0].bar([name.removesuffix(".weight") for name in names], ratios, color=STYLES["symmetric"][0])
    axes[0, 0].axhline(1, color="black", linewidth=0.8)
    axes[0, 0].set_ylabel("distance to BPTT,\nsymmetric / one-sided")
    axes[0, 0].tick_params(axis="x", labelrotation=30)
    return figure


def plot_bias(bias: Mapping[str, Any]) -> Any:
    """Draw the relative bias against beta on log-log axes, with the fitted slopes."""
    figure, axes = new_figure(1, width=4.2, height=3.2)
    for name in ("one-sided", "symmetric", "four-point"):
        color, line = STYLES[name]
        slope = bias[name]["slope"]
        label = f"{name}: slope {slope:.2f}" if slope == slope else f"{name}: below rounding"
        axes[0, 0].loglog(bias["betas"], bias[name]["bias"], line, color=color, marker="o", markersize=3, label=label)
    axes[0, 0].set_xticks(bias["betas"], [f"{beta:.2g}" for beta in bias["betas"]], fontsize=7)
    axes[0, 0].minorticks_off()
    axes[0, 0].set_xlabel("beta")
    axes[0, 0].set_ylabel("bias / exact gradient")
    axes[0, 0].legend(fontsize=8)
    return figure


def plot_settling(content: Mapping[str, Any]) -> Any:
    """Draw residuals against T1, and the cosine with the way's own settled gradient against T1 + 2 T2."""
    figure, axes = new_figure(2, width=3.8, height=3.0)
    for (way, r), (color, line) in zip(measured_ways(content).items(), WAY_STYLES, strict=False):
        for which, style in (("median", line), ("largest", ":")):
            shown = np.maximum(r[which], np.finfo(np.float64).eps)  # a residual of zero has no logarithm
            axes[0, 0].loglog(r["T1"], shown, style, color=color, label=f"{way}, {which}")
        cost = (r["T1"][:, None] + 2 * r["T2"]).ravel()
        order = np.argsort(cost, kind="stable")
        best = np.maximum.accumulate(r["own"].ravel()[order])
        axes[0, 1].step(cost[order], best, line, where="post", color=color, label=way)
    c = content["configured"]
    axes[0, 1].plot([c["T1"] + 2 * c["T2"]], [c["cosine"]], "k*", label="as configured")
    axes[0, 1].set_xscale("log")
    ticks = [t for t in (20, 50, 100, 200, 500, 1000) if cost.min() <= t <= cost.max()]
    axes[0, 1].set_xticks(ticks, [str(t) for t in ticks])
    axes[0, 1].minorticks_off()
    for axis, xlabel, ylabel in (
        (axes[0, 0], "T1", "residual"),
        (axes[0, 1], "steps T1 + 2 T2", "best cosine with the\nsettled gradient"),
    ):
        axis.set_xlabel(xlabel)
        axis.set_ylabel(ylabel)
        axis.legend(fontsize=7)
    return figure


def plot_curves(x: Sequence[float], curves: Mapping[str, Sequence[float]], xlabel: str, ylabel: str) -> Any:
    """Draw one or more curves by name over the same x."""
    figure, axes = new_figure(1, width=4.2, height=3.2)
    for name, y in curves.items():
        axes[0, 0].plot(x, y, marker="o", markersize=3, label=name)
    axes[0, 0].xaxis.get_major_locator().set_params(integer=True)
    axes[0, 0].set_xlabel(xlabel)
    axes[0, 0].set_ylabel(ylabel)
    axes[0, 0].set_ylim(bottom=0)
    axes[0, 0].legend(fontsize=8)
    return figure


def _weights(steps: Mapping[str, Any]) -> list[str]:
    return [name for name in steps["symmetric"] if name.endswith(".weight")]
