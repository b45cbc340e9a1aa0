"""The text of ``eqnp summary``, which fits 80 columns, or a narrower terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from eqnp.api.report import clock
from eqnp.api.titles import flops, memory

WIDTH = 80


def summary_text(content: Mapping[str, Any], width: int = WIDTH) -> str:
    """Return the summary as text, no wider than ``width`` (from about 57)."""
    about = f": {content['description']}" if content["description"] else ""
    lines = [*textwrap.wrap(f"{content['name']}{about}", width), *textwrap.wrap(_data(content), width), ""]
    lines += [*_layers(content, width), "", *_connections(content, width), ""]
    for name, text in _totals(content):
        lines += textwrap.wrap(f"{name:<12}{text}", width, subsequent_indent=" " * 12)
    return "\n".join([*lines, *_forms(content, width)])


def _data(content: Mapping[str, Any]) -> str:
    data = content["data"]
    shape, classes = _shape(content["layers"][0]), data["classes"]
    if data["train"] is None:
        return f"on {data['name']} of {shape} in {classes} classes"
    return f"on {data['name']}: {data['train']} samples of {shape} in {classes} classes to train on"


def _layers(content: Mapping[str, Any], width: int) -> Iterator[str]:
    yield f"{'layer':<7}{'shape':<15}{'units':>9}"
    readouts = {each["upper"] for each in content["connections"] if each["name"] == "readout"}
    outside = "  readout, outside the dynamics" if width >= 64 else "  readout"
    for n, shape in enumerate(content["layers"]):
        note = "  input" if n == 0 else outside if n in readouts else ""
        units = 1
        for size in shape:
            units *= size
        yield f"{n:<7}{_shape(shape):<15}{units:>9}{note}"


def _connections(content: Mapping[str, Any], width: int) -> Iterator[str]:
    connections = content["connections"]
    names = max(len("connection"), *(len(each["name"]) for each in connections))
    room = max(11, width - names - 35)
    yield f"{'connection':<{names}}  {'from to':<8} {'operation':<{room}}{'parameters':>11}{'per sample':>13}"
    for each in connections:
        where = f"{each['lower']:>3} {each['upper']:>3}"
        for k, line in enumerate(textwrap.wrap(each["operation"], room - 1)):
            begin = f"{each['name']:<{names}}  {where:<8} " if k == 0 else " " * (names + 11)
            numbers = f"{each['parameters']:>11}{flops(each['flops']):>13}" if k == 0 else ""
            yield f"{begin}{line:<{room}}{numbers}".rstrip()
    yield from textwrap.wrap("per sample: drive and feedback; drive alone if from the input or to the readout", width)


def _totals(content: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    batch, each = content["batch_size"], content["flops"]
    yield "parameters", f"{content['parameters']}, {memory(content['parameter_bytes'])} in {content['dtype']}"
    yield "states", f"{memory(content['state_bytes'])} for a batch of {batch}"
    winners = f"; {flops(each['winners'])} of it find the winners of the backward weights" if each["winners"] else ""
    yield "a step", f"{flops(each['step'])} a sample, nudged {flops(each['nudged_step'])}{winners}"
    yield (
        "a gradient",
        f"{flops(each['gradient'])} a sample, {flops(batch * each['gradient'])} a batch; {content['method']}, "
        f"{content['steps']}",
    )
    if "memory" in content:
        yield "memory", _memory(content)
        yield "time", _time(content)


def _memory(content: Mapping[str, Any]) -> str:
    needed, available = content["memory"], content["available_memory"]
    text = f"about {memory(needed)} for an update, besides the data and Python itself"
    if available is None:
        return text
    fits = "" if needed < available else "; that does not fit: lower training.batch_size"
    return f"{text}; {memory(available)} are available{fits}"


def _time(content: Mapping[str, Any]) -> str:
    """Return the estimated times; the evaluation of an epoch is part of it."""
    times, update = content["time"], content["time"]["update"]
    how = "" if times["whole_update_measured"] else ", estimated from a part of one"
    text = f"about {duration(update)} an update{how}"
    if "epoch" in times:
        epochs = content["epochs"]
        text += f"; {duration(times['epoch'])} an epoch with its evaluation, {duration(times['run'])} for "
        text += "1 epoch" if epochs == 1 else f"all {epochs} epochs"
    threads = content["threads"]
    where = "the GPU" if content["backend"] == "cupy" else f"this machine, {threads} thread{'s' * (threads > 1)}"
    return f"{text}; on {where}"


def duration(seconds: float) -> str:
    """Return a duration in ms, s, minutes and hours, or days."""
    if seconds < 1:
        return f"{1e3 * seconds:.3g} ms"
    if seconds < 60:
        return f"{seconds:.3g} s"
    days = seconds / 86400
    return f"{clock(seconds)} {'min' if seconds < 3600 else 'h'}" if days < 2 else f"{days:.0f} days"


def _forms(content: Mapping[str, Any], width: int) -> Iterator[str]:
    """Yield in which form each convolution is computed, and why."""
    chosen = [each for each in content["connections"] if each["form"]]
    if chosen:
        yield ""
        yield from textwrap.wrap("form of each convolution (training.convolution); the cost of direct is 1", width)
    for each in chosen:
        costs = ", ".join(f"{name} {cost:.2f}" for name, cost in sorted(each["form_costs"].items(), key=_by_cost))
        why = {
            "auto": f"the lowest estimated cost: {costs}",
            "name": f"as configured; estimated costs: {costs}",
            "unfit": f"the configured form does not suit this kernel, stride or pooling; estimated costs: {costs}",
        }[each["form_by"]]
        if len(each["form_costs"]) == 1 and each["form_by"] == "auto":
            why = "the only form that suits it"
        yield from textwrap.wrap(f"  {each['name']}: {each['form']}, {why}", width, subsequent_indent="    ")


def _by_cost(item: tuple[str, float]) -> float:
    return item[1]


def _shape(shape: list[int]) -> str:
    return "x".join(map(str, shape))
