"""What the progress of a run costs: CPU time in everything that shows it, against that of the whole training.

    python -m benchmarks.progress --out TABLE.md

A run is timed with a live line on a terminal, and again with a callback for events beside it. Counted is all CPU time
in `TrainingRun._show` (the fields of the line and the event), in the progress of an evaluation, and in messages.
"""

from __future__ import annotations

import argparse
import io
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

from eqnp.api.report import Report
from eqnp.api.starting import start_run
from eqnp.api.training import TrainingRun
from eqnp.backends.backend import get_backend
from eqnp.cli.progress import Progress
from eqnp.runs.configfile import load

SHOWING = (
    (TrainingRun, "_show"),
    (TrainingRun, "_show_evaluation"),
    (Progress, "message"),
    (Progress, "event"),
)
SMALL = ("model.layers=[{conv=4,kernel=5,stride=2,pool='max'},{dense=10}]", "training.threads=1")


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def shares(overrides: tuple[str, ...], callbacks: tuple[Callable[..., object], ...]) -> tuple[float, float, int]:
    """Return the CPU seconds of showing and of the whole training, and the number of calls, for one run."""
    spent, calls, inside = 0.0, 0, False

    def timed(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        nonlocal spent, calls, inside
        if inside:
            return function(*arguments, **options)
        begun, inside = time.process_time(), True
        try:
            return function(*arguments, **options)
        finally:
            spent, calls, inside = spent + time.process_time() - begun, calls + 1, False

    def counting(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *arguments, **options: timed(function, *arguments, **options)

    report: Report = Progress(stream=Terminal(), callbacks=callbacks)
    patches = [patch.object(owner, name, counting(getattr(owner, name))) for owner, name in SHOWING]
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
        for each in patches:
            each.start()
        try:
            begun = time.process_time()
            config = load("digits", overrides)
            start_run(config, partial(get_backend, "numpy"), Path(folder) / "run", report)
            whole = time.process_time() - begun
        finally:
            for each in patches:
                each.stop()
    return spent, whole, calls


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    lines = ["| run | showing, CPU ms | calls | whole, CPU s | share |", "|---|---|---|---|---|"]
    nets = {"digits": ("training.threads=1",), "conv 4 / 2 - dense 10, 30 times smaller": SMALL}
    for name, overrides in nets.items():
        for how, callbacks in (("live line", ()), ("live line and events", (lambda event: None,))):
            spent, whole, calls = shares((*overrides, f"training.epochs={arguments.epochs}"), callbacks)
            row = f"| {name}, {how} | {1e3 * spent:.1f} | {calls} | {whole:.2f} | {100 * spent / whole:.2f} % |"
            print(row, flush=True)
            lines.append(row)
    if arguments.out:
        command = f"python -m benchmarks.progress --epochs {arguments.epochs}"
        text = f"# What the progress of a run costs\n\n`{command}`, CPU time of the process\n\n" + "\n".join(lines)
        arguments.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
