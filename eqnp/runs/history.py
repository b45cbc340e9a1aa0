"""The history of a run: which key changed when, as rows of ``history.csv`` in the order in which they were written.

A change took effect in ``epoch`` (from 1, as in ``metrics.csv``) after ``batch`` of its batches. The value of a key in
an epoch is ``new`` of its last row that took effect by then, or ``old`` of its first row if there is none.
"""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from eqnp import __version__
from eqnp.runs.changes import Change, shown

Row = Mapping[str, Any]


def new_rows(
    rows: Sequence[Row], changes: Sequence[Change], current: Mapping[str, Any], epoch: int, batch: int
) -> list[dict[str, Any]]:
    """Return the rows to add when a run is resumed after ``epoch`` epochs and ``batch`` batches.

    These are the ``changes`` that are not in ``rows`` yet. The ``current`` value of a key gets a row too if its last
    row has another value, or takes effect later than here (the run is resumed from an older checkpoint).
    """
    place = (epoch + 1, batch)
    last = {row["key"]: row for row in rows}
    found = {change.key: (shown(change.old), shown(change.new)) for change in changes}
    for key, row in last.items():
        now = shown(current.get(key))
        if key not in found and (row["new"] != now or _place(row) > place):
            found[key] = (row["new"], now)
    known = {(row["key"], *_place(row), row["old"], row["new"]) for row in last.values()}
    common = {"version": __version__, "command": _text(shlex.join(sys.argv))}
    began = {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "epoch": place[0], "batch": place[1]}
    return [
        began | {"key": key, "old": old, "new": new} | common
        for key, (old, new) in found.items()
        if (key, *place, old, new) not in known
    ]


def _place(row: Row) -> tuple[int, int]:
    return int(row["epoch"]), int(row["batch"]) if str(row["batch"]).isdecimal() else 0


def _text(text: str) -> str:
    return text.encode("utf-8", "replace").decode()  # file names need not be UTF-8


def environment_changes(started: Mapping[str, Any], rows: Sequence[Row], now: Mapping[str, Any]) -> list[Change]:
    """Return the differences ``now`` to the last environment of a run: as it ``started``, changed by ``rows``."""
    if not started:  # the file was deleted
        return []
    before = {f"environment.{name}": shown(value) for name, value in started.items()}
    before |= {row["key"]: row["new"] for row in rows if row["key"].startswith("environment.")}
    after = {f"environment.{name}": value for name, value in now.items()}
    keys = [key for key in before | after if key != "environment.command"]
    return [
        Change(key, _value(before.get(key)), after.get(key))
        for key in keys
        if before.get(key, "") != shown(after.get(key))
    ]


def _value(text: str | None) -> Any:
    try:
        return json.loads(text) if text else None
    except ValueError:
        return text
