"""The CSV files of a run, read in bounded time and memory, and written whole."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from eqnp.errors import ConfigurationError
from eqnp.runs.storage import read_bounded, read_error, write_atomic

MOST_BYTES = 64_000_000
MOST_CELLS = 4_000_000  # as many as 100,000 epochs of 40 columns
MOST_COLUMNS = 5_000

Row = dict[str, str]


def read_rows(path: Path, needed: Set[str]) -> list[Row]:
    """Return the rows of a CSV file as text, by column; none if there is no file.

    A last line without a line end is dropped.

    Raises:
        ConfigurationError: the file cannot be read or is too large, column names are empty, repeated or lack a
            ``needed`` one, or a row has too many cells or no epoch.
        DiskError: the disk or the system fails.
    """
    try:
        text = read_bounded(path, MOST_BYTES).decode("utf-8-sig", "replace").replace("\r\n", "\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        if failed := read_error(path, error):
            raise failed from error
        reason = error.strerror or error
        raise ConfigurationError(f"{path}: cannot be read ({reason}); move it away") from error
    whole = text[: text.rfind("\n") + 1]
    if not whole:
        return []
    try:
        return _rows(path, csv.reader(io.StringIO(whole)), needed)
    except csv.Error as error:
        raise _damaged(path, f"is damaged ({error})") from error


def _rows(path: Path, lines: Any, needed: Set[str]) -> list[Row]:
    columns: list[str] = next(lines, [])
    if len(columns) > MOST_COLUMNS:
        raise _damaged(path, f"has more than {MOST_COLUMNS} columns")
    if not (needed <= set(columns) and all(columns) and len(set(columns)) == len(columns)):
        raise _damaged(path, "its first line is damaged")
    result: list[Row] = []
    for cells in lines:
        if not cells:  # an empty line
            continue
        if (len(result) + 1) * len(columns) > MOST_CELLS:
            raise _damaged(path, f"has more than {MOST_CELLS} cells")
        row = dict.fromkeys(columns, "") | dict(zip(columns, cells, strict=False))
        if len(cells) > len(columns) or not re.fullmatch(r"[0-9]{1,10}", row["epoch"]):
            raise _damaged(path, f"row {len(result) + 1} is damaged")
        result.append(row)
    return result


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows to a CSV file, with all columns that any of them has; a link in its place is replaced.

    Raises:
        DiskError: it cannot be written; the old file is unchanged.
    """
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    if columns:
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    write_atomic(path, text.getvalue().encode(), follow=False)


def _damaged(path: Path, what: str) -> ConfigurationError:
    return ConfigurationError(f"{path}: {what}; repair it or move the file away")
