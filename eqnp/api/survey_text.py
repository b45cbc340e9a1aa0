"""A survey of runs as text: for a terminal, Markdown, CSV, LaTeX. Every number is with the folder of its run."""

from __future__ import annotations

import csv
import io
import textwrap
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict

from eqnp.api.survey import Cell, Row, Survey

WIDTH = 80
CAPTION = "Test error after the last epoch, %: mean (standard deviation) over seeds."
VALIDATED = "With a validation set: the test error of best.h5."
OTHER_SIZE = "* The poster's figure is of CIFAR-10 and its own network; these runs have others, or fewer epochs."
POSTER = "published: the poster's test error (Laborieux et al.), for Equilibrium Propagation on CIFAR-10."


def as_text(found: Survey) -> str:
    """Return a survey for a terminal of 80 columns: a line per row and one per run."""
    lines = [CAPTION, ""]
    for row in found.rows:
        lines += [
            *_wrapped(f"{row.name}: {row.method}" + (f" ({row.differs})" if row.differs else "")),
            f"  {mean_text(row):<14}{len(row.finished)} of {len(row.cells)} runs finished; "
            f"published {published_text(row)}",
            *(f"    seed {cell.seed:<6}{cell_text(cell):<12}{cell.run}" + _why(cell) for cell in row.cells),
            "",
        ]
    lines += [f"not a run: {path}: {reason}" for path, reason in found.unreadable.items()]
    return "\n".join([*lines, *(line for note in notes(found) for line in _wrapped(note))])


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def as_markdown(found: Survey) -> str:
    """Return a survey as a Markdown table."""
    lines = [
        CAPTION,
        "",
        "| row | method | test error, % | published, % | finished | runs |",
        "|---|---|---|---|---|---|",
    ]
    for row in found.rows:
        cells = "; ".join(f"seed {c.seed}: {cell_text(c)}{_why(c)} (`{_pipe(c.run)}`)" for c in row.cells)
        name = f"{row.name}" + (f" ({row.differs})" if row.differs else "")
        lines.append(
            f"| {_pipe(name)} | {row.method} | {mean_text(row)} | {published_text(row)} "
            f"| {len(row.finished)} of {len(row.cells)} | {cells} |"
        )
    lines += ["", *(f"- not a run: `{path}`: {reason}" for path, reason in found.unreadable.items())]
    return "\n".join([*lines, *(f"- {note}" for note in notes(found))]).rstrip()


def as_csv(found: Survey) -> str:
    """Return a survey as CSV: a line per run, with the mean of its row. Errors are in percent."""
    text = io.StringIO()
    columns = ["row", "method", "differs", "seed", "run", "status", "reason", "epochs", "of_epochs"]
    columns += ["test_error_percent", "train_error_percent", "seconds_of_last_epoch"]
    columns += ["mean", "standard_deviation", "finished", "published", "published_deviation", "full_size"]
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for row in found.rows:
        figures = row.published or (None, None)
        shared = {
            "row": row.name,
            "method": row.method,
            "differs": row.differs,
            "mean": _figures(row.mean),
            "standard_deviation": _figures(row.spread),
            "finished": len(row.finished),
            "published": figures[0],
            "published_deviation": figures[1],
            "full_size": row.full_size,
        }
        for cell in row.cells:
            own = asdict(cell)
            kept = {name: own[name] for name in ("seed", "run", "status", "reason", "epochs")}
            kept |= {"of_epochs": cell.of, "test_error_percent": cell.test_error}
            kept |= {"train_error_percent": cell.train_error, "seconds_of_last_epoch": cell.seconds}
            writer.writerow(shared | kept)
    for path, reason in found.unreadable.items():
        writer.writerow({"run": path, "status": "failed", "reason": reason})
    return text.getvalue().rstrip("\n")


def as_latex(found: Survey) -> str:
    """Return a survey as a LaTeX tabular; the folders of the runs are in comments."""
    lines = [
        r"\begin{tabular}{llrrr}",
        r"\hline",
        r"row & method & test error (\%) & published (\%) & runs \\",
        r"\hline",
    ]
    for row in found.rows:
        name = f"{row.name} ({row.differs})" if row.differs else row.name
        lines += [f"% {cell_text(cell)}, seed {cell.seed}{_why(cell)}: {_one_line(cell.run)}" for cell in row.cells]
        cells = [_tex(name), _tex(row.method), mean_text(row), published_text(row), str(len(row.finished))]
        lines.append(" & ".join(cells).replace("*", "$^*$") + r" \\")
    lines += [r"\hline", r"\end{tabular}"]
    lines += [f"% not a run: {_one_line(path)}: {reason}" for path, reason in found.unreadable.items()]
    return "\n".join([*lines, *(f"% {note}" for note in (CAPTION, *notes(found)))])


FORMATS: dict[str, Callable[[Survey], str]] = {
    "text": as_text,
    "markdown": as_markdown,
    "csv": as_csv,
    "latex": as_latex,
}


def mean_text(row: Row) -> str:
    """Return mean and spread of a row: ``9.30 (0.80)``."""
    if row.mean is None:
        return "-"
    return f"{row.mean:.2f}" + (f" ({row.spread:.2f})" if row.spread is not None else "")


def published_text(row: Row) -> str:
    """Return the published figure of a row, with a star if the runs have another network or dataset."""
    if row.published is None:
        return "-"
    return f"{row.published[0]:.1f} ({row.published[1]:.1f})" + ("" if row.full_size else "*")


def cell_text(cell: Cell) -> str:
    """Return the test error of a run, or its status."""
    return f"{cell.test_error:.2f}" if cell.test_error is not None else cell.status


def notes(found: Survey) -> list[str]:
    """Return what has to be known to read the table."""
    figures = [row for row in found.rows if row.published]
    validated = any(cell.config.data.validation for row in found.rows for cell in row.cells)
    starred = any(not row.full_size for row in figures)
    return [
        *([VALIDATED] if validated else []),
        *([POSTER] if figures else []),
        *([OTHER_SIZE] if starred else []),
        *(f"{row.name}: seed {seed} counts {count} times" for row in found.rows for seed, count in _repeated(row)),
    ]


def _repeated(row: Row) -> list[tuple[int, int]]:
    """Return the seeds of which several runs are finished, and how many: these are not independent."""
    seeds = Counter(cell.seed for cell in row.cells if cell.status == "finished")
    return [(seed, count) for seed, count in seeds.items() if count > 1]


def _why(cell: Cell) -> str:
    return f" ({cell.reason})" if cell.reason else ""


def _figures(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _pipe(text: str) -> str:
    return _one_line(text).replace("|", r"\|")


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _tex(text: str) -> str:
    """Return text with LaTeX's special characters escaped."""
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    special |= {each: "\\" + each for each in "&%$#_{}"}
    return "".join(special.get(letter, letter) for letter in _one_line(text))
