"""What ``eqnp check`` measures and how it says it."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from eqnp import theorem, verdict
from eqnp.backend import Array
from eqnp.cli.selection import parse_selection
from eqnp.cli.session import Session
from eqnp.cli.verdicts import prose, verdict_lines
from eqnp.configfile import DEFAULT_PRESET
from eqnp.errors import ConfigurationError
from eqnp.losses import one_hot
from eqnp.settling import check_settling, measured_ways
from eqnp.steady import Phases, Watch


def measure(
    session: Session, parameters: Mapping[str, Array], samples: str, split: str, steps: int, watch: Watch
) -> dict[str, Any]:
    """Return the numbers of a check, nested by name, as check.h5 holds them."""
    learner, dynamics = session.learner, session.config.dynamics
    x, target, parameters = _prepare(session, parameters, samples, split)
    watch.expect(verdict.STAGES + theorem.STAGES + 1)
    way = (learner.schedule, learner.omega)
    phases = Phases(learner.network, parameters, x, target, steps, learner.contrast, way, watch)
    setting = verdict.Setting(learner.T1, learner.T2, learner.beta, learner.estimator)
    content = {
        "settings": {
            **asdict(setting),
            "common_update": learner.common_update,
            "tolerance": dynamics.tolerance,
            "schedule": learner.schedule,
            "omega": learner.omega,
            "samples": len(x),
            "split": split,
            "steps": steps,
        },
        "tied": not learner.network.architecture.vector_field,
        "angle": verdict.mean_angle(parameters),
        "verdict": verdict.judge(phases, setting, learner.tolerance, learner.every),
        "bias": theorem.measure_bias(phases, learner.beta),
    }
    if learner.T2 <= learner.T1:  # BPTT goes back through the last T2 of T1 steps
        content["steps"] = theorem.check_steps(
            learner.network, parameters, x, target, learner.T1, learner.T2, learner.beta, learner.contrast, watch
        )
    return content


def measure_settling(
    session: Session, parameters: Mapping[str, Array], samples: str, split: str, steps: int, watch: Watch
) -> dict[str, Any]:
    """Return the numbers of a check of T1 and T2, nested by name, as settling.h5 holds them."""
    learner = session.learner
    x, target, parameters = _prepare(session, parameters, samples, split)
    configured = (learner.schedule, learner.omega, learner.T1, learner.T2)
    if max(learner.T1, learner.T2) > steps:
        raise ConfigurationError(f"--steps {steps}: T1 {learner.T1} and T2 {learner.T2} of the configuration are more")
    content = check_settling(
        learner.network, parameters, x, target, configured, learner.beta, steps, learner.contrast, watch
    )
    return {"settings": {"samples": len(x), "split": split, "steps": steps}, **content}


def settling_table(content: dict[str, Any], command: Sequence[str] = ()) -> str:
    """Return the check of T1 and T2 as text that fits 80 columns."""
    s, c, advice = content["settings"], content["configured"], content["advice"]
    lines = [
        f"{s['samples']} {s['split']} samples, beta {c['beta']:g};",
        "cosine of the gradient with its own after many steps, and with the exact one:",
    ]
    for name, r in measured_ways(content).items():
        shown = _spread(r["T2"], 4)
        what = f"{name}, omega {r['omega']:g}" if name == "over-relaxed" else name
        lines += ["", f"{what}: {r['settled']} of {s['samples']} samples settle in {s['steps']} steps"]
        lines.append("  T1    residual           " + "".join(f"T2 {r['T2'][j]:<11d}" for j in shown).rstrip())
        lines.append("        median  largest    " + "   ".join(["own   exact"] * len(shown)))
        for i, T1 in enumerate(r["T1"]):
            cells = "".join(f"{r['own'][i, j]:6.3f}{r['exact'][i, j]:6.3f}  " for j in shown)
            lines.append(f"{T1:4d}   {r['median'][i]:8.1e} {r['largest'][i]:8.1e}  {cells}".rstrip())
        lines.append(
            "settled and exact at beta "
            + ", ".join(f"{b:.2g}: {v:.3f}" for b, v in zip(r["beta"], r["beta_exact"], strict=True))
        )
    lines += ["", *_settling_advice(c, advice)]
    return "\n".join(textwrap.fill(line, 80, subsequent_indent="  ", drop_whitespace=len(line) > 80) for line in lines)


def _settling_advice(c: dict[str, Any], advice: dict[str, Any]) -> list[str]:
    cost, before = (each["T1"] + 2 * each["T2"] for each in (advice, c))
    lines = [
        f"configured: {_setting(c)}: {c['cosine']:.3f} with its own, {before} steps",
        f"advice: {_setting(advice)}: {advice['cosine']:.3f}, {cost} steps",
    ]
    if "tolerance" in advice:
        lines.append(
            f"or tolerance {advice['tolerance']:g}, which takes T1 {advice['T1_taken']}, T2 {advice['T2_taken']} here: "
            f"{advice['tolerance_cosine']:.3f}"
        )
    lines.append(f"beta {advice['beta']:.2g} is the largest within 0.01 of the best, {advice['beta_cosine']:.3f}")
    return lines


def _setting(c: dict[str, Any]) -> str:
    return f"{c['schedule']}, omega {c['omega']:g}, T1 {c['T1']}, T2 {c['T2']}"


def _spread(values: np.ndarray, most: int) -> list[int]:
    """Return indices of at most ``most`` of the values, the first and the last among them."""
    return sorted({round(i) for i in np.linspace(0, len(values) - 1, min(most, len(values)))})


def _prepare(
    session: Session, parameters: Mapping[str, Array], samples: str, split: str
) -> tuple[Array, Array, dict[str, Array]]:
    """Return inputs, one-hot targets and parameters in float64 on the session's backend; for TF32 in float32."""
    backend, dtype = session.learner.backend, np.float32 if session.config.training.tf32 else np.float64
    x, labels = session.samples(split, parse_selection("--samples", samples, session.count(split)))
    target = one_hot(labels, session.learner.network.architecture.classes, dtype)
    cast = {name: p.astype(dtype) for name, p in parameters.items()}
    return backend.asarray(x.astype(dtype)), backend.asarray(target), cast


def table(content: dict[str, Any], command: Sequence[str]) -> str:
    """Return the check as text that fits 60 columns, but for a command to paste; ``command`` are that one's words."""
    s = content["settings"]
    lines = [prose(f"{s['samples']} {s['split']} samples, {_setting_of_check(s)}"), ""]
    lines += [*verdict_lines(content, command), "", *_step_lines(content), "", *_bias_lines(content["bias"], s["beta"])]
    notes = [prose(note) for note in _notes(content)]
    return "\n".join([*lines, *([""] if notes else []), *notes])


def shown_name(target: str | None, checkpoint: str) -> str:
    """Return what is checked, as a title names it: a run with its checkpoint, or a preset or configuration."""
    if target is not None and os.path.isdir(target):
        target = f"{target} ({checkpoint}.h5)"
    text = os.fsencode(target or DEFAULT_PRESET).decode(errors="replace")
    return "".join(c if c.isprintable() else "?" for c in text)


def training_command(target: str | None, overrides: Sequence[str]) -> list[str]:
    """Return the words of the command that trains again what was checked."""
    if target is not None and os.path.isdir(target):
        target = os.path.join(target, "config.toml")
    words = ["eqnp", "train", *([target] if target else [])]
    return words + [word for setting in overrides for word in ("--set", setting)]


def title(content: dict[str, Any]) -> str:
    """Return what a figure's title says: of what the figure is, and with which settings."""
    of = content["settings"]["of"]
    if "configured" in content:  # of --settle
        c, s = content["configured"], content["settings"]
        return f"{of}: {_setting(c)}, beta {c['beta']:g}, {s['samples']} {s['split']} samples"
    s = content["settings"]
    return f"{of}: {_setting_of_check(s)}, {s['samples']} {s['split']} samples"


def _setting_of_check(s: Mapping[str, Any]) -> str:
    more = f", tolerance {s['tolerance']:g}" if s["tolerance"] else ""
    way = "" if (s["schedule"], s["omega"]) == ("synchronous", 1) else f", {s['schedule']}, omega {s['omega']:g}"
    return f"T1 {s['T1']}, T2 {s['T2']}, beta {s['beta']:g}, {s['estimator']}{way}{more}"


def _step_lines(content: dict[str, Any]) -> list[str]:
    """Return EP beside BPTT, weight by weight, in percent."""
    s, steps = content["settings"], content.get("steps")
    if steps is None:
        return [
            prose(
                f"EP against BPTT: not measured. BPTT goes back through T2 = {s['T2']} of the free steps, "
                f"and T1 is only {s['T1']}."
            )
        ]
    lines = [
        "EP against BPTT, %    each step   distance of the whole",
        "weight              error  signs  one-sided symmetric ratio",
    ]
    for name, symmetric in steps["symmetric"].items():
        if name.endswith(".weight"):
            near, far = symmetric["distance"], steps["one-sided"][name]["distance"]
            shares = (symmetric["relative_error"], symmetric["sign_disagreement"])
            ratio = f"{near / far:.2f}" if far else "-"
            cells = "".join(f"{100 * share:7.2f}" for share in shares)
            lines.append(f"{name:<18}{cells}{100 * far:11.2f}{100 * near:10.2f}{ratio:>6}")
    return lines


def _bias_lines(bias: dict[str, Any], configured: float) -> list[str]:
    if bias.get("exact") == 0:
        return [prose("no bias to measure: the exact gradient is zero, every unit is saturated")]
    if not bias["samples"]:
        return [
            prose(
                f"bias against beta: none of {bias['of']} samples settles and keeps its activity pattern; try a larger "
                "--steps or a smaller beta"
            )
        ]
    begin = bias["betas"][0]
    halved = f"; beta begins at {begin:.2g}, where enough samples do" if begin < configured else ""
    lines = [
        "bias of settled phases, relative to the exact gradient",
        prose(
            f"kept: {bias['samples']} of {bias['of']} samples, which keep their activity pattern; "
            f"all: {bias['all']} that settle{halved}"
        ),
        "       " + "".join(f"{name:^18}" for name in theorem.ORDERS).rstrip(),
        "beta   " + "    kept     all  " * 2 + "    kept     all",
    ]
    for k, beta in enumerate(bias["betas"]):
        cells = "  ".join(f"{bias[n]['bias'][k]:8.1e}{bias[n]['bias_all'][k]:8.1e}" for n in theorem.ORDERS)
        lines.append(f"{beta:<7.2g}{cells}")
    slopes = "".join(f"{_slope(bias[name]):^18}" for name in theorem.ORDERS)
    orders = "".join(f"{bias[name]['order']:^18}" for name in theorem.ORDERS)
    return [*lines, f"slope  {slopes}".rstrip(), f"theory {orders}".rstrip()]


def _slope(row: Mapping[str, Any]) -> str:
    if row["slope"] != row["slope"]:
        return f"{row['fitted']} above rounding" if row["fitted"] else "below rounding"
    return f"{row['slope']:.2f} +- {row['slope_error']:.2f}"


def _notes(content: dict[str, Any]) -> list[str]:
    """Return what else a reader of the figures must know."""
    s, lines = content["settings"], []
    if not content["tied"]:
        lines.append("Forward and backward weights differ: EP is not the gradient, whatever beta is.")
    if (s["schedule"], s["omega"]) != ("synchronous", 1) and "steps" in content:
        lines.append("EP against BPTT is measured with synchronous steps and omega 1, since BPTT has no others.")
    return lines + list(content.get("notes", {}).values())
