"""Figures of what ``eqnp.analysis.theorem`` and ``settling`` measure. Only this module imports matplotlib (optional).

Colours can be told apart with colour-vision deficiency (Okabe and Ito), and lines differ in style too.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from eqnp.analysis.circles import POINTS
from eqnp.analysis.settling import measured_ways
from eqnp.errors import BackendError

STYLES = {
    "bptt": ("black", "-"),
    "one-sided": ("#0072B2", "--"),
    "one-sided, -beta": ("#56B4E9", ":"),
    "symmetric": ("#D55E00", "-."),
    "four-point": ("#009E73", ":"),
}
MARKERS = "os^Dv<>P"  # of curves, one after the other
MANY_CURVES = 5  # more would be hidden by a legend among them
WAY_STYLES = [("#0072B2", "--"), ("#D55E00", "-"), ("#009E73", "-."), ("black", (0, (1, 1)))]


def new_figure(
    columns: int, rows: int = 1, width: float = 3.2, height: float = 2.6, otherwise: str = "or give --plots none"
) -> tuple[Any, np.ndarray]:
    """Return a figure and its axes (rows, columns), without a window and without global state. Sizes are in inches.

    ``otherwise`` is what a user can do without matplotlib; "": nothing.

    Raises:
        BackendError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        also = f", {otherwise}" if otherwise else ""
        raise BackendError(f"plots need matplotlib; `pip install matplotlib`{also}") from None
    except ValueError as error:  # of MPLBACKEND or a matplotlibrc
        reason = str(error).splitlines()[0]
        also = f"; {otherwise}" if otherwise else ""
        raise BackendError(f"plots need matplotlib, which does not start ({reason}){also}") from None
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def set_title(figure: Any, title: str) -> None:
    """Put a title above a figure, wrapped to its width. A dollar sign in it does not start TeX."""
    letters = max(20, int(figure.get_size_inches()[0] * 15))  # about 15 characters fit in an inch at this font size
    figure.suptitle(textwrap.fill(title, letters).replace("$", r"\$"), fontsize=8)


def plot_cumulative(steps: Mapping[str, Any], title: str = "") -> Any:
    """Draw the cumulative sum of the updates, projected on BPTT's gradient, one panel per weight."""
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
    set_title(figure, title)
    return figure


def plot_ratio(steps: Mapping[str, Any], title: str = "") -> Any:
    """Draw the distance of the symmetric estimate from BPTT's gradient over that of the one-sided one, by weight."""
    names = _weights(steps)
    figure, axes = new_figure(1, width=1.6 + 0.8 * len(names))
    ratios = [steps["symmetric"][n]["distance"] / (steps["one-sided"][n]["distance"] or 1.0) for n in names]
    axes[0, 0].bar([name.removesuffix(".weight") for name in names], ratios, color=STYLES["symmetric"][0])
    axes[0, 0].axhline(1, color="black", linewidth=0.8)
    axes[0, 0].set_ylabel("distance to BPTT,\nsymmetric / one-sided")
    axes[0, 0].tick_params(axis="x", labelrotation=30)
    set_title(figure, title)
    return figure


def plot_bias(bias: Mapping[str, Any], title: str = "") -> Any:
    """Draw the relative bias against beta on log-log axes, with the fitted slopes.

    Filled markers: samples whose activity pattern is unchanged. Open markers: all samples that settle. Grey line: the
    size of rounding errors.
    """
    figure, axes = new_figure(1, width=4.8, height=3.8)
    axis, betas = axes[0, 0], bias["betas"]
    for name in ("one-sided", "symmetric", "four-point"):
        (color, line), row = STYLES[name], bias[name]
        slope = f"slope {row['slope']:z.2f}" if row["slope"] == row["slope"] else "below rounding"
        axis.loglog(betas, row["bias"], line, color=color, marker="o", markersize=3, label=f"{name}: {slope}")
        axis.loglog(betas, row["bias_all"], line, color=color, marker="o", mfc="none", markersize=5, linewidth=0.6)
    if (lowest := min(bias["four-point"]["bias"])) < 10 * max(bias["four-point"]["rounding"]):
        axis.loglog(betas, bias["four-point"]["rounding"], color="0.6", linewidth=0.8, label="rounding (four-point)")
        lowest = min(lowest, *bias["four-point"]["rounding"])
    axis.plot([], [], "ko", mfc="none", markersize=5, label=f"open: all {bias['all']} samples")
    axis.plot([], [], "ko", markersize=3, label=f"filled: {bias['samples']} that do not switch")
    axis.set_xticks(betas, [f"{beta:.2g}" for beta in betas], fontsize=7)
    axis.minorticks_off()
    shown = np.concatenate(
        [bias[name][which] for name in ("one-sided", "symmetric", "four-point") for which in _BIASES]
    )
    _set_log_ticks(axis, min(lowest, shown.min()), shown.max())
    axis.set_xlabel("beta")
    axis.set_ylabel("bias / exact gradient")
    axis.legend(fontsize=7)
    set_title(figure, title)
    return figure


def plot_circles(circle: Mapping[str, Any], title: str = "") -> Any:
    """Draw the relative bias of points on a circle against the radius on log-log axes, with the fitted slopes."""
    figure, axes = new_figure(1, width=4.8, height=3.8)
    axis, radii = axes[0, 0], circle["radii"]
    for count, (color, line) in zip(POINTS, WAY_STYLES, strict=False):
        row = circle[str(count)]
        slope = f"slope {row['slope']:z.2f}" if row["slope"] == row["slope"] else "below rounding"
        axis.loglog(radii, row["bias"], line, color=color, marker="o", markersize=3, label=f"{count} points: {slope}")
    axis.loglog(radii, row["rounding"], color="0.6", linewidth=0.8, label=f"rounding ({count} points)")
    axis.set_xticks(radii, [f"{radius:.2g}" for radius in radii], fontsize=7)
    axis.minorticks_off()
    axis.set_xlabel("radius of the circle")
    axis.set_ylabel("bias / exact gradient")
    axis.legend(fontsize=7)
    set_title(figure, title)
    return figure


_BIASES = ("bias", "bias_all")


def _set_log_ticks(axis: Any, low: float, high: float) -> None:
    """Label a log y axis whose values span less than two decades; by default it would have one label or none."""
    if not 0 < low < high < 100 * low:
        return
    from matplotlib.ticker import MaxNLocator

    low, high = 0.9 * low, 1.1 * high
    if high > 5 * low:
        decades = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
        ticks = [t for decade in decades for t in (decade, 2 * decade, 5 * decade)]
    else:
        ticks = list(MaxNLocator(5).tick_values(low, high))
    shown = [float(t) for t in ticks if low <= t <= high]
    axis.set_ylim(low, high)
    axis.set_yticks(shown, [f"{t:.3g}" for t in shown])
    axis.minorticks_off()


def plot_settling(content: Mapping[str, Any], title: str = "") -> Any:
    """Draw residuals against T1, and the cosine with the converged gradient against the steps T1 + 2 T2."""
    figure, axes = new_figure(2, width=3.8, height=3.0)
    for (way, r), (color, line) in zip(measured_ways(content).items(), WAY_STYLES, strict=False):
        for which, style in (("median", line), ("largest", ":")):
            shown = np.maximum(r[which], np.finfo(np.float64).eps)  # log(0) cannot be drawn
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
        (axes[0, 1], "steps T1 + 2 T2", "best cosine with the\nconverged gradient"),
    ):
        axis.set_xlabel(xlabel)
        axis.set_ylabel(ylabel)
        axis.legend(fontsize=7)
    set_title(figure, title)
    return figure


def plot_curves(x: Sequence[float], curves: Mapping[str, Sequence[float]], xlabel: str, ylabel: str) -> Any:
    """Draw curves by name, each (T,), over the same x (T,). The names of many curves stand beside the axes."""
    is_many = len(curves) > MANY_CURVES
    figure, axes = new_figure(1, width=6.0 if is_many else 4.2, height=3.2)
    for n, (name, y) in enumerate(curves.items()):
        axes[0, 0].plot(x, y, marker=MARKERS[n % len(MARKERS)], markersize=4, label=name)
    axes[0, 0].xaxis.get_major_locator().set_params(integer=True)
    axes[0, 0].set_xlabel(xlabel)
    axes[0, 0].set_ylabel(ylabel)
    axes[0, 0].set_ylim(bottom=0)
    if is_many:
        figure.legend(loc="outside right center", fontsize=8)
    else:
        axes[0, 0].legend(fontsize=8)
    return figure


def _weights(steps: Mapping[str, Any]) -> list[str]:
    return [name for name in steps["symmetric"] if name.endswith(".weight")]
