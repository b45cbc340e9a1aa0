"""What ``eqnp check`` measures and how it says it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from eqnp.cli.selection import parse_selection
from eqnp.cli.session import Session
from eqnp.losses import one_hot
from eqnp.theorem import ORDERS, check_bias, check_steps


def measure(session: Session, parameters: Mapping[str, np.ndarray], samples: str, split: str, settle: int) -> dict:
    """Return the numbers of a check, nested by name, as check.h5 holds them."""
    learner, network = session.learner, session.learner.network
    chosen = parse_selection("--samples", samples, session.count(split))
    x, labels = session.samples(split, chosen)
    x, target = x.astype(np.float64), one_hot(labels, network.architecture.classes, np.float64)
    parameters = {name: np.asarray(p, np.float64) for name, p in parameters.items()}
    T2 = min(learner.T1, learner.T2)
    return {
        "settings": {"T1": learner.T1, "T2": T2, "beta": learner.beta, "samples": len(x), "split": split},
        "tied": not network.architecture.vector_field,
        "steps": check_steps(network, parameters, x, target, learner.T1, T2, learner.beta),
        "bias": check_bias(network, parameters, x, target, learner.beta, settle),
    }


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
    if not bias["samples"]:
        return [
            f"bias against beta: none of {bias['of']} samples settles and keeps its activity pattern;",
            "try a larger --settle",
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
