"""A survey of runs as one HTML page that needs nothing else: table, curves, configuration, environment of each run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files

from eqnp.analysis.panels import distinct_names
from eqnp.api.report import clock
from eqnp.api.survey import Cell, Row, Survey, errors_by_epoch
from eqnp.api.survey_text import CAPTION, cell_text, mean_text, notes, published_text
from eqnp.runs.configfile import to_toml
from eqnp.runs.runfolder import RunFolder

Line = Sequence[tuple[float, float]]
_WIDE, _HIGH = 640, 280  # of a chart, in its own units
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 12, 12, 44
_STYLES = 6  # of lines, in the page's style sheet


def survey_page(found: Survey) -> str:
    """Return the page (HTML)."""
    body = [
        "<h1>Runs</h1>",
        f"<p>{escape(CAPTION)}</p>",
        _table(found),
        *(f'<p class="note">{escape(note)}</p>' for note in notes(found)),
        *(
            f'<p class="failed">not a run: {escape(path)}: {escape(reason)}</p>'
            for path, reason in found.unreadable.items()
        ),
        *(_section(n, row) for n, row in enumerate(found.rows)),
    ]
    template = files("eqnp.api").joinpath("survey.html").read_text("utf-8")
    return template.replace("__BODY__", "\n".join(body))


def _table(found: Survey) -> str:
    rows = []
    for n, row in enumerate(found.rows):
        runs = "<br>".join(
            f'<a href="#{_anchor(n, k)}"><b class="{cell.status}">{escape(cell_text(cell))}</b> '
            f"seed {cell.seed}</a> <code>{escape(cell.run)}</code>{_reason(cell)}"
            for k, cell in enumerate(row.cells)
        )
        rows.append(
            f'<tr><th scope="row"><a href="#row{n}">{escape(row.name)}</a>{_differs(row)}</th>'
            f"<td>{escape(row.method)}</td><td class='number'>{mean_text(row)}</td>"
            f"<td class='number'>{published_text(row)}</td><td>{len(row.finished)} of {len(row.cells)}</td>"
            f"<td>{runs}</td></tr>"
        )
    head = "".join(f'<th scope="col">{each}</th>' for each in _COLUMNS)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


_COLUMNS = ("row", "method", "test error, %", "published, %", "finished", "runs")


def _section(n: int, row: Row) -> str:
    names = distinct_names([cell.run.rstrip("/").split("/") for cell in row.cells])
    curves = [errors_by_epoch(cell) for cell in row.cells]
    lines = {
        f"seed {cell.seed} ({name})": points
        for cell, name, errors in zip(row.cells, names, curves, strict=True)
        for split, points in errors.items()
        if split != "training" and points
    }
    split = next((split for errors in curves for split in errors if split != "training"), "test")
    return "\n".join(
        [
            f'<section id="row{n}"><h2>{escape(row.name)}</h2><p>{escape(row.method)}{_differs(row)}: '
            f"<b>{mean_text(row)}</b> %, published {published_text(row)} %</p>",
            chart(lines, f"{split} error, %") if lines else "",
            *(_run(n, k, cell, errors) for k, (cell, errors) in enumerate(zip(row.cells, curves, strict=True))),
            "</section>",
        ]
    )


def _run(n: int, k: int, cell: Cell, errors: Mapping[str, Line]) -> str:
    """Return one run: its state, its curves, its configuration and its environment."""
    facts = {
        "status": cell.status + (f": {cell.reason}" if cell.reason else ""),
        "test error": f"{cell.test_error:.2f} %" if cell.test_error is not None else "-",
        "training error": f"{cell.train_error:.2f} %" if cell.train_error is not None else "-",
        "epochs": f"{cell.epochs} of {cell.of}",
        "last epoch took": clock(cell.seconds) if cell.seconds is not None else "-",
    }
    environment = RunFolder(cell.run).environment()
    shown = {name: points for name, points in errors.items() if points}
    return "\n".join(
        [
            f'<details id="{_anchor(n, k)}"><summary>seed {cell.seed}: <b class="{cell.status}">'
            f"{escape(cell_text(cell))}</b> <code>{escape(cell.run)}</code></summary>",
            _facts(facts),
            chart(shown, "error, %") if shown else "",
            f"<h3>Configuration</h3><pre>{escape(to_toml(cell.config))}</pre>",
            f"<h3>Environment</h3>{_facts(environment)}" if environment else "",
            "</details>",
        ]
    )


def _facts(facts: Mapping[str, object]) -> str:
    rows = "".join(f"<tr><th>{escape(str(k))}</th><td>{escape(str(v))}</td></tr>" for k, v in facts.items())
    return f'<div class="wide"><table class="facts">{rows}</table></div>'


def chart(lines: Mapping[str, Line], label: str) -> str:
    """Return curves by name over the epoch, as an SVG element with a legend below it. Lines differ in style."""
    epochs = [x for points in lines.values() for x, _ in points]
    last, top = max(epochs), max(1e-9, *(y for points in lines.values() for _, y in points))
    step = _tick(top)
    top = step * math.ceil(top / step)
    first = min(epochs)

    def place(x: float, y: float) -> str:
        across = (x - first) / ((last - first) or 1)
        return f"{_LEFT + (_WIDE - _LEFT - _RIGHT) * across:.1f},{_TOP + (_HIGH - _TOP - _BOTTOM) * (1 - y / top):.1f}"

    parts = [f'<svg viewBox="0 0 {_WIDE} {_HIGH}" role="img" aria-label="{escape(label)} by epoch">']
    for k in range(round(top / step) + 1):
        x, y = place(first, k * step).split(",")
        parts.append(f'<path class="grid" d="M{x},{y}H{_WIDE - _RIGHT}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y}" dy="5" text-anchor="end">{k * step:g}</text>')
    for epoch in sorted({round(first + (last - first) * share) for share in (0, 0.25, 0.5, 0.75, 1)}):
        x, y = place(epoch, 0).split(",")
        parts.append(f'<text x="{x}" y="{y}" dy="19" text-anchor="middle">{epoch}</text>')
    parts.append(f'<text x="{_WIDE / 2}" y="{_HIGH - 6}" text-anchor="middle">epoch</text>')
    for n, points in enumerate(lines.values()):
        parts.append(f'<polyline class="line s{n % _STYLES}" points="{" ".join(place(x, y) for x, y in points)}"/>')
        if len(points) == 1:
            x, y = place(*points[0]).split(",")
            parts.append(f'<circle class="line s{n % _STYLES}" cx="{x}" cy="{y}" r="4"/>')
    sample = '<svg class="key" viewBox="0 0 44 10"><path class="line s{}" d="M0,5H44"/></svg>'
    legend = "".join(f"<li>{sample.format(n % _STYLES)} {escape(name)}</li>" for n, name in enumerate(lines))
    drawn = f'{"".join(parts)}</svg><ul class="legend">{legend}</ul>'
    return f"<figure><figcaption>{escape(label)}</figcaption>{drawn}</figure>"


def _tick(top: float) -> float:
    """Return a round distance between about five ticks up to ``top``."""
    size: float = 10.0 ** math.floor(math.log10(top / 4))
    return next(size * each for each in (1, 2, 2.5, 5, 10) if size * each * 5 >= top)


def _anchor(n: int, k: int) -> str:
    return f"run{n}-{k}"


def _differs(row: Row) -> str:
    return f' <span class="note">({escape(row.differs)})</span>' if row.differs else ""


def _reason(cell: Cell) -> str:
    return f' <span class="note">{escape(cell.reason)}</span>' if cell.reason else ""
