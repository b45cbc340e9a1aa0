"""Figures of finished runs: what each panel shows, as numbers, and one function that draws them.

A panel is data, so a program can read or test it without matplotlib. Lines differ in colour, in style and in marker:
they can be told apart on grey paper.
"""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from eqnp.analysis.plots import new_figure, set_title

LINES = [
    ("black", "-", "o"),
    ("#D55E00", "--", "s"),
    ("#0072B2", "-.", "^"),
    ("#009E73", ":", "D"),
    ("#CC79A7", (0, (5, 1, 1, 1, 1, 1)), "v"),
    ("#56B4E9", (0, (1, 3)), "P"),
    ("#E69F00", (0, (8, 3)), "X"),
]
LARGEST_LABEL = 90  # characters of a line's name; a longer one is cut in its middle
WIDTH, NARROWEST = 3.6, 2.4  # inches of a panel, as a rule and at least
LETTERS = 14  # of a legend that fit in an inch


@dataclass(frozen=True)
class Curves:
    """The metrics of a run: ``columns`` of metrics.csv by name, each (T,), at ``epochs`` (T,)."""

    name: str
    epochs: Sequence[float]
    columns: Mapping[str, Sequence[float]]

    @property
    def split(self) -> str:
        """The split beside the training set: ``validation`` if the run has one, else ``test``."""
        return "validation" if "validation_error_percent" in self.columns else "test"


@dataclass(frozen=True)
class Panel:
    """One pair of axes: ``lines`` by name, each x (T,) and y (T,)."""

    title: str
    xlabel: str
    ylabel: str
    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]] = field(default_factory=dict)
    log: bool = False
    whole: bool = True  # x are whole numbers
    from_zero: bool = True


def run_panels(run: Curves) -> list[Panel]:
    """Return error and loss of one run by epoch, on the training set and on its other split."""
    names = {f"{run.split}": run.split, "training": "train"}
    parts = (("error", "error, %", "error_percent"), ("loss", "loss", "loss"))
    return [
        Panel(
            title,
            "epoch",
            label,
            {
                name: (run.epochs, run.columns[f"{split}_{column}"])
                for name, split in names.items()
                if f"{split}_{column}" in run.columns
            },
        )
        for title, label, column in parts
    ]


def compared_panels(runs: Sequence[Curves]) -> list[Panel]:
    """Return error and loss of several runs by epoch, a line per run: first the other split, then the training set."""
    splits = dict.fromkeys(run.split for run in runs)
    mixed = len(splits) > 1
    panels = []
    for what, unit, column in (("error", "error, %", "error_percent"), ("loss", "loss", "loss")):
        for of in (" or ".join(splits), "training"):
            lines = {}
            for run in runs:
                split = "train" if of == "training" else run.split
                name = f"{run.name} ({run.split})" if mixed else run.name
                if f"{split}_{column}" in run.columns:
                    lines[name] = (run.epochs, run.columns[f"{split}_{column}"])
            panels.append(Panel(f"{of} {what}", "epoch", unit, lines))
    return panels


def angle_panel(run: Curves) -> Panel | None:
    """Return the angles between forward and backward weights by epoch; None if the run has none."""
    lines = _lines(run, r"angle_(backward\..*)")
    return Panel("forward against backward weights", "epoch", "angle, degrees", lines) if lines else None


def exact_panel(run: Curves) -> Panel | None:
    """Return the angle between the estimate and the exact gradient by epoch, where it was measured; None if nowhere."""
    angles = run.columns.get("angle_exact", ())
    known = [(epoch, angle) for epoch, angle in zip(run.epochs, angles, strict=False) if math.isfinite(angle)]
    if not known:
        return None
    epochs, degrees = zip(*known, strict=True)
    return Panel("estimate against exact gradient", "epoch", "angle, degrees", {"all parameters": (epochs, degrees)})


def gradient_panel(run: Curves) -> Panel | None:
    """Return the norms of the gradient by epoch and parameter; None if the metrics have none."""
    lines = _lines(run, r"(?:grad(?:ient)?_norm|norm_grad(?:ient)?)_?(.*)")
    return Panel("norm of the gradient", "epoch", "norm", lines, log=True) if lines else None


def residual_panel(settling: Mapping[str, Any]) -> Panel:
    """Return the residual of the free phase by step, from what ``eqnp.analysis.watching`` measured."""
    steps = settling["steps"][1:]
    lines = {"largest of the samples": (steps, settling["largest"]), "median": (steps, settling["median"])}
    still = next((int(t) for t, move in zip(steps, settling["largest"], strict=True) if move == 0), None)
    label = "step" + (f"; residual 0 from step {still}" if still else "")  # a log axis has no 0
    return Panel("residual of the free phase", label, "max |change of a unit|", lines, log=True)


def activity_panel(settling: Mapping[str, Any]) -> Panel:
    """Return the mean activity of each layer by step of the free phase."""
    lines = {name: (settling["steps"], series) for name, series in settling["activity"].items()}
    return Panel("activity in the free phase", "step", "mean |s| of the layer", lines)


def _lines(run: Curves, pattern: str) -> dict[str, tuple[Sequence[float], Sequence[float]]]:
    found = {column: re.fullmatch(pattern, column) for column in run.columns}
    return {match[1] or "all": (run.epochs, run.columns[column]) for column, match in found.items() if match}


def distinct_names(paths: Iterable[Sequence[str]]) -> list[str]:
    """Return a short name for each path, given as its parts: as many of its last parts as tell it from the others."""
    all_parts = [tuple(parts) for parts in paths]
    names = []
    for parts in all_parts:
        others = [other for other in all_parts if other != parts]
        count = next((n for n in range(1, len(parts)) if all(o[-n:] != parts[-n:] for o in others)), len(parts))
        names.append("/".join(parts[-count:]))
    return names


def shortened(name: str, most: int = LARGEST_LABEL) -> str:
    """Return a name of at most ``most`` characters, cut in its middle."""
    if len(name) <= most:
        return name
    half = (most - 3) // 2
    return f"{name[: most - 3 - half]}...{name[-half:]}"


def plot_panels(panels: Sequence[Panel], title: str = "", width: float = 0.0) -> Any:
    """Draw panels in as many columns as fit in ``width`` inches (0: three at most). Returns the figure.

    If all panels have the same lines, one legend stands below them; otherwise each has its own.

    Raises:
        BackendError: matplotlib is not installed.
    """
    columns = min(len(panels), 3 if not width else max(1, int(width / NARROWEST)))
    if len(panels) == 4:  # two rows of two, no row of one
        columns = min(columns, 2)
    each = width / columns if width else WIDTH
    rows = -(-len(panels) // columns)
    shared = len(panels) > 1 and len({tuple(panel.lines) for panel in panels}) == 1
    figure, axes = new_figure(columns, rows, each, 0.74 * min(each, 4.2), otherwise="")
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    for axis, panel in zip(axes.flat, panels, strict=False):
        own_legend = bool(panel.lines) and not shared
        _draw(axis, panel, room=0.08 + 0.09 * len(panel.lines) if own_legend else 0.0)
        if own_legend:
            axis.legend(fontsize=7, handlelength=3.2)
    if shared and len(panels[0].lines) > 1:
        _legend_below(figure, axes.flat[0])
    set_title(figure, title)
    return figure


def _draw(axis: Any, panel: Panel, room: float) -> None:
    """Draw a panel; ``room`` is left free above the lines for a legend, relative to their height."""
    longest = 1
    for n, (name, (x, y)) in enumerate(panel.lines.items()):
        color, style, marker = LINES[n % len(LINES)]
        values = np.asarray(y, float)
        if panel.log:
            values = np.where(values > 0, values, np.nan)  # log(0) cannot be drawn
        every = max(1, math.ceil(len(x) / 8))  # a marker here and there
        axis.plot(
            x, values, color=color, linestyle=style, marker=marker, markersize=4, markevery=(n % every, every),
            linewidth=1.4, label=shortened(name),
        )  # fmt: skip
        longest = max(longest, len(x))
    axis.set_title(panel.title, fontsize=9)
    axis.set_xlabel(panel.xlabel)
    axis.set_ylabel(panel.ylabel)
    axis.grid(color="0.9", linewidth=0.6)
    axis.set_axisbelow(True)
    if panel.whole:
        axis.xaxis.get_major_locator().set_params(integer=True)
    if longest == 1:  # one epoch: its tick alone, not a range around it
        axis.set_xticks(sorted({x[0] for x, _ in panel.lines.values() if len(x)}))
    if panel.log:
        _log_scale(axis)
        _whole_range(axis, panel)
    elif panel.from_zero:
        axis.set_ylim(0, axis.get_ylim()[1] * (1 + room))


def _log_scale(axis: Any) -> None:
    """Scale y logarithmically if there is anything above zero."""
    shown = [np.asarray(line.get_ydata(), float) for line in axis.get_lines()]
    if any(np.isfinite(values).any() for values in shown):
        axis.set_yscale("log")


def _whole_range(axis: Any, panel: Panel) -> None:
    """Let x span all that was measured: matplotlib leaves out where nothing is drawn, as zeros on a log axis."""
    xs = [float(x) for line_x, _ in panel.lines.values() for x in line_x]
    if xs and (span := max(xs) - min(xs)):
        axis.set_xlim(min(xs) - 0.05 * span, max(xs) + 0.05 * span)


def _legend_below(figure: Any, axis: Any) -> None:
    """Put one legend below all panels, in as many columns as fit, long names wrapped."""
    handles, labels = axis.get_legend_handles_labels()
    letters = max(16, int(figure.get_size_inches()[0] * LETTERS))
    labels = [textwrap.fill(label, letters - 6, break_on_hyphens=False) for label in labels]
    columns = max(1, min(len(labels), 4, letters // (max(map(len, labels)) + 8)))
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize=7, handlelength=3.6)
