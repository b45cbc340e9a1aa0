"""The verdict of ``eqnp check`` in words: the quality of the estimate, the cause of its error, and a cure."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from eqnp.analysis.quality import GOOD, UNEVEN, word, worst_layer
from eqnp.cli.rows import terminal_width

STAGES = {
    "configured": "as configured",
    "free": "free phase settled",
    "nudged": "nudged phases settled too",
    "unswitched": "without the {switching} samples that switch",
    "limit": "all samples, beta -> 0",
}


def verdict_lines(content: Mapping[str, Any], command: Sequence[str]) -> list[str]:
    """Return the verdict as lines. ``command`` holds the words of the training command that a cure is added to."""
    v, s = content["verdict"], content["settings"]
    if not v["samples"]:
        none = f"0 of {v['of']} samples settle in {s['steps']} steps; try a larger --steps"
        if v.get("growing"):
            none = f"the states of {v['growing']} of {v['of']} samples grow without limit; lower model.gain, or train "
            none += "with model.activation = relu6"
        return [_row("verdict", f"none: {none}")]
    if "unknown" in v:
        return [_row("verdict", f"none: {_UNKNOWN[v['unknown']]}")]
    text = (
        f"{word(v['quality'])}: cosine {v['cosine']:.3f} with the exact gradient{_worst(v)}; "
        f"norm {v['length']:.2f} times that of the exact gradient; "
        f"cosine {min(v['fifths']):.3f} to {max(v['fifths']):.3f} over {_folds(v)} of the samples"
        + (f"; the exact gradient of {v['silent']} is zero" if v["silent"] else "")
    )
    return [_row("verdict", text), *_cause(v, s, content["angle"]), *_cure(v, s, command), "", *_stage_lines(v)]


def _worst(v: Mapping[str, Any]) -> str:
    """Return the layer that is much worse than all together, or that lowers the verdict."""
    worst = worst_layer(v["layers"], v["cosine"], 0.0 if word(v["quality"]) != word(v["cosine"]) else UNEVEN)
    return f", but {v['layers'][worst]:.3f} in {worst}" if worst else ""


_UNKNOWN = {
    "zero": "the exact gradient is zero: all units are saturated or inactive",
    "outputs": "the exact gradient is zero for all weights below those of the outputs: all units of a layer are at a "
    "bound of their activation, or the weights above them are zero; only the outputs learn",
    "adjoint": "the exact gradient is not known: implicit differentiation does not converge; try a larger --steps",
}


def _folds(v: Mapping[str, Any]) -> str:
    return "fifths" if len(v["fifths"]) == 5 else "parts"


def _stage_lines(v: Mapping[str, Any]) -> list[str]:
    """Return distance and cosine after each correction, as lines."""
    title = f"{v['samples']} of {v['of']} samples" if v["samples"] < v["of"] else f"{v['of']} samples"
    lines = [f"{'from exact gradient, ' + title:<40}distance  cosine"]
    for name, stage in v["stages"].items():
        if name == "unswitched" and not v["switching"]:
            continue
        label = STAGES[name].format(switching=v["switching"])
        if name == "unswitched" and _none_switches(v):
            label = f"without the {v['restless']} that do not settle"
        lines.append(f"{label:<38}{percent(stage['distance']):>10}  {stage['cosine']:6.3f}")
    if v["switching"] == v["samples"]:
        what = "no sample settles" if _none_switches(v) else "every sample switches"
        lines.append(prose(f"({what}, so the bias in beta cannot be measured)"))
    return lines


def _cause(v: Mapping[str, Any], s: Mapping[str, Any], angle: float) -> list[str]:
    """Return the cause of the error, and the cosine without it."""
    if v["quality"] >= GOOD:
        return []
    at = {name: f"{stage['cosine']:.3f}" for name, stage in v["stages"].items()}
    beta = f"{v['sign'] * s['beta']:g}"
    settled = f"with all phases settled the cosine is {at['nudged']}"
    if v["restless"]:
        settled = f"with phases of up to {s['steps']} steps the cosine is {at['nudged']}"
    texts = {
        "free": f"{_free_phase(v, s)} (residual {v['residual']:.1e}); "
        f"the cosine is {at['configured']}, and {at['free']} with a settled free phase",
        "nudged": f"the nudged phases have not settled after T2 = {s['T2']} steps"
        f"{' or the tolerance ended them before' if s['tolerance'] else ''}; "
        f"the cosine is {at['free']}, and {at['nudged']} with settled nudged phases",
        "switches": f"{_restless(v, beta)}; {settled}"
        + (f", and {at['unswitched']} without them" if "unswitched" in at else ""),
        "bias": f"the bias at beta {beta}; {settled}, and {at.get('unswitched')} without samples that switch",
        "field": f"forward and backward weights differ (vector field, mean angle {angle:.0f} degrees): "
        f"the bias does not vanish as beta goes to 0; the cosine there is {at.get('limit')}",
    }
    return [_row("cause", texts[v["cause"]])]


def _none_switches(v: Mapping[str, Any]) -> bool:
    """Return whether samples only do not settle under a nudge, and none goes to another activity pattern."""
    return bool(v["restless"] == v["switching"])


def _restless(v: Mapping[str, Any], beta: str) -> str:
    """Return which samples a nudge takes elsewhere: to another activity pattern, or to no steady state."""
    if _none_switches(v):
        return f"{v['restless']} of {v['samples']} samples do not settle at beta {beta}"
    also = f" ({v['restless']} of them do not settle)" if v["restless"] else ""
    return f"{v['switching']} of {v['samples']} samples switch their activity pattern at beta {beta}{also}"


def _free_phase(v: Mapping[str, Any], s: Mapping[str, Any]) -> str:
    if v["free_steps"] < s["T1"]:
        taken = f"{v['free_steps']} of T1 = {s['T1']} steps"
        return f"dynamics.tolerance = {s['tolerance']:g} ended the free phase after {taken}, before it had settled"
    return f"the free phase has not settled after T1 = {s['T1']} steps"


def _cure(v: Mapping[str, Any], s: Mapping[str, Any], command: Sequence[str]) -> list[str]:
    """Return the cheapest cure that was found, as a line and a command to paste."""
    cure = v.get("cure")
    if cure is None:
        if v["quality"] >= GOOD:
            return [_row("cure", "none needed")]
        text = f"none by T1, T2 or beta: with settled phases and beta -> 0 the cosine is {v['limit']:.3f}"
        if "asymmetric" in v:
            own = " with training.common_update=false" if s["common_update"] else ""
            text += f"; training.nudging=asymmetric{own}: cosine {v['asymmetric']:.3f} with these T1, T2 and beta"
        if not s["common_update"] and "asymmetric" in v:
            text += "; training.common_update=true with a weight decay aligns the two weights"
        return [_row("cure", text)]
    changes = {key: cure[key] for key in ("beta", "T1", "T2") if cure[key] != s[key]}
    settings = {f"dynamics.{key}": f"{value:g}" for key, value in changes.items()}
    words = [f"{key} {value:g}" for key, value in changes.items()]
    if cure["estimator"] != s["estimator"]:
        settings["training.estimator"] = cure["estimator"]
        words.append(f"the {cure['estimator']} estimator")
    if s["tolerance"] != cure["tolerance"]:
        settings["dynamics.tolerance"] = "0"
        words.append("tolerance 0")
    tried = len(cure["tried"]["cosine"])
    if not words:
        return [_row("cure", f"none found: none of {tried} other settings is better")]
    limit = "" if cure["enough"] else f", the best of {tried} tried; none reaches {v['goal']:.2f}"
    return [
        _row("cure", f"{', '.join(words)}: cosine {cure['cosine']:.3f}{limit}"),
        "  " + " ".join(map(shlex.quote, _with_settings(command, settings))),
    ]


def _with_settings(command: Sequence[str], settings: Mapping[str, str]) -> list[str]:
    """Return a command with these settings in the place of its own for the same keys."""
    kept: list[str] = []
    for given in command:
        if kept[-1:] == ["--set"] and given.partition("=")[0] in settings:
            kept.pop()
        else:
            kept.append(given)
    return kept + [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]


def percent(share: float) -> str:
    """Return a share of 1 as text in percent with three digits."""
    if share >= 1e4:
        return f"{100 * share:.0e} %"
    return f"{100 * share:.0f} %" if share >= 1 else f"{100 * share:.3g} %"


def prose(text: str, indent: int = 2) -> str:
    """Return a sentence wrapped between words to the terminal, at most 79 columns."""
    width = max(30, min(terminal_width(), 79))
    return textwrap.fill(text, width, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False)


def _row(name: str, text: str) -> str:
    return prose(f"{name:<9}{text}", 9)
