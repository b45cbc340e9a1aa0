"""The text of ``eqnp check``, and the titles of its figures."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from eqnp.analysis.circles import POINTS
from eqnp.analysis.settling import measured_ways
from eqnp.analysis.theorem import ORDERS
from eqnp.cli.rows import terminal_width
from eqnp.cli.verdicts import prose, verdict_lines


def table(content: dict[str, Any], command: Sequence[str]) -> str:
    """Return the check as text that fits 60 columns, except the command to paste, whose words are ``command``."""
    s = content["settings"]
    lines = [prose(f"{s['samples']} {s['split']} samples, {_setting_of_check(s)}"), ""]
    lines += [*verdict_lines(content, command), "", *_step_lines(content), "", *_bias_lines(content["bias"], s["beta"])]
    lines += _kind_lines(content.get("kinds", {}))
    if "circle" in content:
        lines += ["", *_circle_lines(content["circle"])]
    notes = [prose(note) for note in _notes(content)]
    return "\n".join([*lines, *([""] if notes else []), *notes])


def title(content: dict[str, Any]) -> str:
    """Return the title of a figure: what was checked, and with which settings."""
    of = content["settings"]["of"]
    if "configured" in content:  # of --settle
        c, s = content["configured"], content["settings"]
        return f"{of}: {_setting(c)}, beta {c['beta']:g}, {s['samples']} {s['split']} samples"
    s = content["settings"]
    return f"{of}: {_setting_of_check(s)}, {s['samples']} {s['split']} samples"


def _setting_of_check(s: Mapping[str, Any]) -> str:
    more = f", tolerance {s['tolerance']:g}" if s["tolerance"] else ""
    way = "" if (s["schedule"], s["omega"]) == ("synchronous", 1) else f", {s['schedule']}, omega {s['omega']:g}"
    nudging = ", asymmetric nudging" if s["nudging"] == "asymmetric" else ""
    estimator = f"circle of {s['points']} points" if s["estimator"] == "circle" else s["estimator"]
    return f"T1 {s['T1']}, T2 {s['T2']}, beta {s['beta']:g}, {estimator}{nudging}{way}{more}"


def _step_lines(content: dict[str, Any]) -> list[str]:
    """Return the table of EP against BPTT, one row per weight, in percent."""
    s, steps = content["settings"], content.get("steps")
    if steps is None:
        return [
            prose(
                f"EP against BPTT: not measured, since BPTT needs T2 = {s['T2']} of the free steps, and T1 is only "
                f"{s['T1']}."
            )
        ]
    lines = [
        "EP against BPTT, %     each step         all steps:",
        "                             sign         distance",
        "weight             error mismatch one-sided symmetric ratio",
    ]
    for name, symmetric in steps["symmetric"].items():
        if name.endswith(".weight"):
            near, far = symmetric["distance"], steps["one-sided"][name]["distance"]
            shares = (symmetric["relative_error"], symmetric["sign_disagreement"])
            ratio = f"{near / far:.2f}" if far else "-"
            error, mismatch, one, both = (_percent(share) for share in (*shares, far, near))
            lines.append(f"{name:<17}{error:>7}{mismatch:>9}{one:>10}{both:>10}{ratio:>6}")
    return lines


def _percent(share: float) -> str:
    """Return a share in percent, in at most seven characters."""
    return f"{100 * share:.2f}" if not share >= 100 else f"{100 * share:.1e}"


def _bias_lines(bias: dict[str, Any], configured: float) -> list[str]:
    if bias.get("exact") == 0:
        return [prose("bias: not measured, since the exact gradient is zero (all units are saturated or inactive)")]
    if bias.get("unknown"):
        return [prose("bias: not measured, since implicit differentiation does not converge; try a larger --steps")]
    if not bias["samples"]:
        return [
            prose(
                f"bias: not measured, since none of {bias['of']} samples settles and keeps its activity pattern; try a "
                "larger --steps or a smaller beta"
            )
        ]
    begin = bias["betas"][0]
    halved = f"; the first beta, {begin:.2g}, is the largest where enough do" if begin < configured else ""
    lines = [
        "bias of settled phases, relative to the exact gradient",
        prose(
            f"all: the {bias['all']} of {bias['of']} samples that settle; "
            f"kept: the {bias['samples']} of these whose activity pattern is unchanged{halved}"
        ),
        "       " + _in_columns(ORDERS),
        "beta   " + "    kept     all  " * 2 + "    kept     all",
    ]
    for k, beta in enumerate(bias["betas"]):
        cells = "  ".join(f"{bias[n]['bias'][k]:8.1e}{bias[n]['bias_all'][k]:8.1e}" for n in ORDERS)
        lines.append(f"{beta:<7.2g}{cells}")
    slopes = _in_columns(_slope(bias[name]) for name in ORDERS)
    orders = _in_columns(str(bias[name]["order"]) for name in ORDERS)
    return [*lines, f"slope  {slopes}", f"theory {orders}"]


KIND_COLUMNS = {
    "plain": ("symmetric",),
    "common": ("symmetric",),
    "asymmetric": ("one-sided", "symmetric", "four-point"),
}


def _kind_lines(kinds: Mapping[str, Any]) -> list[str]:
    """Return the table of the ways to nudge a vector field; nothing if they were not measured."""
    if not kinds:
        return []
    columns = [(kind, name) for kind, names in KIND_COLUMNS.items() for name in names]
    counts = ", ".join(f"{kinds[kind]['samples']} {kind}" for kind in KIND_COLUMNS)
    lines = [
        "",
        prose(
            "bias of plain nudging, of a common update (KP-VF, from the summed gradients of both weights) and of "
            f"asymmetric nudging; settled phases; samples that keep their pattern: {counts}"
        ),
        "        plain     KP-VF     asymmetric",
        "beta    " + "".join(f"{name:<10}" for _, name in columns).rstrip(),
    ]
    for k, beta in enumerate(kinds["betas"]):
        cells = "".join(f"{kinds[kind][name]['bias'][k]:<10.1e}" for kind, name in columns)
        lines.append(f"{beta:<8.2g}{cells}".rstrip())
    slopes = "".join(f"{_short_slope(kinds[kind][name]):<10}" for kind, name in columns)
    return [*lines, f"slope   {slopes}".rstrip(), f"theory  {'-':<10}{'-':<10}{'1':<10}{'2':<10}4"]


def _short_slope(row: Mapping[str, Any]) -> str:
    return "rounding" if row["slope"] != row["slope"] else f"{row['slope']:z.2f}"


def _circle_lines(circle: Mapping[str, Any]) -> list[str]:
    """Return the table of the bias of points on a circle, one column for each number of points."""
    if not circle["samples"]:
        return [prose("points on a circle: not measured, since no sample settles at all of them; try a smaller beta")]
    columns = [circle[str(count)] for count in POINTS]
    settled = f"the {circle['samples']} of {circle['of']} samples that settle"
    lines = [
        prose(f"bias of points on a circle (holomorphic EP), by radius and number of points; {settled}"),
        "radius " + _in_columns(f"{count} points" for count in POINTS),
    ]
    for k, radius in enumerate(circle["radii"]):
        lines.append(f"{radius:<7.2g}" + _in_columns(f"{column['bias'][k]:.1e}" for column in columns))
    lines.append("slope  " + _in_columns(map(_slope, columns)))
    return [*lines, "theory " + _in_columns(str(column["order"]) for column in columns)]


def _in_columns(words: Iterable[str]) -> str:
    return "  ".join(f"{word:^16}" for word in words).rstrip()


def _slope(row: Mapping[str, Any]) -> str:
    if row["slope"] != row["slope"]:
        return f"{row['fitted']} above rounding" if row["fitted"] else "below rounding"
    return f"{row['slope']:z.3f} +- {row['slope_error']:.3f}"


def _notes(content: dict[str, Any]) -> list[str]:
    """Return notes on how the figures were measured."""
    s, lines = content["settings"], []
    if not content["tied"] and s["nudging"] == "plain":
        lines.append("Forward and backward weights differ: plain EP is not the gradient at any beta.")
    if (s["schedule"], s["omega"]) != ("synchronous", 1) and "steps" in content:
        count = s["steps_per_sweep"]
        each = "" if count == 1 else f"; {count} for each sweep, since a sweep up or down crosses {count} layers"
        lines.append(f"EP against BPTT is measured with synchronous steps and omega 1, which BPTT requires{each}.")
    if s["algorithm"] == "bptt":
        lines.append("Training uses BPTT; the verdict is about EP with the same T1, T2 and beta.")
    if s["dropout"]:
        lines.append("Measured without dropout.")
    return lines


def settling_table(content: dict[str, Any], command: Sequence[str] = ()) -> str:
    """Return the check of T1 and T2 as text that fits the terminal, from 52 columns."""
    s, c, advice = content["settings"], content["configured"], content["advice"]
    lines = [
        f"{s['samples']} {s['split']} samples, beta {c['beta']:g}",
        "measured: the symmetric estimator, phases without tolerance",
        f"conv.: cosine with the converged gradient (after up to {s['steps']} steps per phase)",
        "exact: cosine with the exact gradient",
    ]
    for name, r in measured_ways(content).items():
        shown = _spread(r["T2"], max(1, min(4, (terminal_width() + 1 - 24) // 14)))
        what = f"{name}, omega {r['omega']:g}" if name == "over-relaxed" else name
        lines += ["", f"{what}: {r['settled']} of {s['samples']} samples settle in {s['steps']} steps"]
        lines.append("  T1    residual           " + "".join(f"T2 {r['T2'][j]:<11d}" for j in shown).rstrip())
        lines.append("        median  largest    " + "   ".join(["conv. exact"] * len(shown)))
        for i, T1 in enumerate(r["T1"]):
            cells = "".join(f"{r['own'][i, j]:6.3f}{r['exact'][i, j]:6.3f}  " for j in shown)
            lines.append(f"{T1:4d}   {r['median'][i]:8.1e} {r['largest'][i]:8.1e}  {cells}".rstrip())
        lines.append(
            "converged gradient with exact, at beta "
            + ", ".join(
                f"{b:.2g}: {'diverges' if math.isnan(v) else f'{v:.3f}'}"
                for b, v in zip(r["beta"], r["beta_exact"], strict=True)
            )
        )
    lines += ["", *_settling_advice(c, advice)]
    width = min(80, terminal_width() + 1)
    return "\n".join(
        textwrap.fill(line, width, subsequent_indent="  ", drop_whitespace=len(line) > width) for line in lines
    )


def _settling_advice(c: dict[str, Any], advice: dict[str, Any]) -> list[str]:
    cost, before = (each["T1"] + 2 * each["T2"] for each in (advice, c))
    lines = [
        f"configured: {_setting(c)}: cosine (conv.) {c['cosine']:.3f}, {before} steps",
        f"advice: {_setting(advice)}: cosine (conv.) {advice['cosine']:.3f}, {cost} steps",
    ]
    if "tolerance" in advice:
        lines.append(
            f"or tolerance {advice['tolerance']:g}: cosine (conv.) {advice['tolerance_cosine']:.3f}, with "
            f"{advice['T1_taken']} free and {advice['T2_taken']} nudged steps"
        )
    if "beta" in advice:
        lines.append(
            f"beta {advice['beta']:.2g}: cosine (exact) {advice['beta_cosine']:.3f}, the largest beta within 0.01 of "
            "the best"
        )
    return lines


def _setting(c: dict[str, Any]) -> str:
    return f"{c['schedule']}, omega {c['omega']:g}, T1 {c['T1']}, T2 {c['T2']}"


def _spread(values: np.ndarray, most: int) -> list[int]:
    """Return indices of at most ``most`` of the values, including the first and, if more than one, the last."""
    return sorted({round(i) for i in np.linspace(0, len(values) - 1, min(most, len(values)))})
