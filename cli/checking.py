"""What ``eqnp check`` measures and how it says it."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

import numpy as np

from eqnp.backend import Array
from eqnp.cli.selection import parse_selection
from eqnp.cli.session import Session
from eqnp.errors import ConfigurationError
from eqnp.losses import one_hot
from eqnp.precision import rounding_warning
from eqnp.settling import check_settling, measured_ways
from eqnp.theorem import ORDERS, check_bias, check_steps


def measure(session: Session, parameters: Mapping[str, Array], samples: str, split: str, steps: int) -> dict:
    """Return the numbers of a check, nested by name, as check.h5 holds them."""
    learner, network = session.learner, session.learner.network
    x, target, parameters = _prepare(session, parameters, samples, split)
    T2 = min(learner.T1, learner.T2)
    return {
        "settings": {"T1": learner.T1, "T2": T2, "beta": learner.beta, "samples": len(x), "split": split},
        "tied": not network.architecture.vector_field,
        "steps": check_steps(network, parameters, x, target, learner.T1, T2, learner.beta),
        "bias": check_bias(network, parameters, x, target, learner.beta, steps),
    }


def measure_settling(session: Session, parameters: Mapping[str, Array], samples: str, split: str, steps: int) -> dict:
    """Return the numbers of a check of T1 and T2, nested by name, as settling.h5 holds them."""
    learner = session.learner
    x, target, parameters = _prepare(session, parameters, samples, split)
    configured = (learner.schedule, learner.omega, learner.T1, learner.T2)
    if max(learner.T1, learner.T2) > steps:
        raise ConfigurationError(f"--steps {steps}: T1 {learner.T1} and T2 {learner.T2} of the configuration are more")
    content = check_settling(learner.network, parameters, x, target, configured, learner.beta, steps, learner.contrast)
    return {"settings": {"samples": len(x), "split": split, "steps": steps}, **content}


def settling_table(content: dict[str, Any]) -> str:
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


def rounding(session: Session, parameters: Mapping[str, Array], samples: str, split: str) -> str:
    """Return one line if the run's own dtype, unlike float64, rounds too much for its beta."""
    x, labels = session.samples(split, parse_selection("--samples", samples, session.count(split)))
    return rounding_warning(session.learner, parameters, x, labels)


def _prepare(
    session: Session, parameters: Mapping[str, Array], samples: str, split: str
) -> tuple[Array, Array, dict[str, Array]]:
    """Return inputs, one-hot targets and parameters in float64 on the session's backend; for TF32 in float32."""
    backend, dtype = session.learner.backend, np.float32 if session.config.training.tf32 else np.float64
    x, labels = session.samples(split, parse_selection("--samples", samples, session.count(split)))
    target = one_hot(labels, session.learner.network.architecture.classes, dtype)
    cast = {name: p.astype(dtype) for name, p in parameters.items()}
    return backend.asarray(x.astype(dtype)), backend.asarray(target), cast


def table(content: dict[str, Any]) -> str:
    """Return the check as text that fits 80 columns."""
    s, steps, bias = content["settings"], content["steps"], content["bias"]
    lines = [
        f"{s['samples']} {s['split']} samples, T1 {s['T1']}, T2 {s['T2']}, beta {s['beta']:g}, "
        f"residual of the free phase {steps['residual']:.1e}",
        "",
        "EP against BPTT       symmetric, step by step    whole gradient, distance",
        "weight                    error   signs apart   one-sided   symmetric   ratio",
    ]
    for name, symmetric in steps["symmetric"].items():
        if name.endswith(".weight"):
            near, far = symmetric["distance"], steps["one-sided"][name]["distance"]
            shares = (symmetric["relative_error"], symmetric["sign_disagreement"], far, near)
            ratio = f"{near / far:.2f}" if far else "-"
            lines.append(f"{name:<21}" + "".join(f"{100 * share:10.2f} %" for share in shares) + f"{ratio:>8}")
    return "\n".join([*lines, "", *_bias_lines(bias), *_advice(content)])


def _bias_lines(bias: dict[str, Any]) -> list[str]:
    if bias.get("exact") == 0:
        return ["no bias to measure: the exact gradient is zero, every unit is at an end of its range"]
    if not bias["samples"]:
        return [
            f"bias against beta: none of {bias['of']} samples settles and keeps its activity pattern;",
            "try a larger --steps",
        ]
    lines = [
        f"bias against the exact gradient, {bias['samples']} of {bias['of']} samples (settled, unchanged activity)",
        "beta       " + "".join(f"{beta:>9.2g}" for beta in bias["betas"]) + "  slope (order)",
    ]
    for name in ORDERS:
        row = bias[name]
        values = "".join(f"{value:>9.1e}" for value in row["bias"])
        lines.append(f"{name:<11}{values}  {_number(row['slope'])} ({row['order']})")
    return lines


def _advice(content: dict[str, Any]) -> list[str]:
    lines = []
    if content["steps"]["residual"] > 1e-3:
        lines += ["The free phase has not settled, so EP and BPTT differ; --set dynamics.T1=... goes on."]
    if not content["tied"]:
        lines += ["Forward and backward weights differ: EP is not the gradient, whatever beta is."]
    return ["", *lines] if lines else []


def _number(value: float) -> str:
    return "    -" if value != value else f"{value:5.2f}"
