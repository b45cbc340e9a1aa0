"""The CSV files of a run, read in bounded time and memory, and written whole."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from eqnp.errors import ConfigurationError
from eqnp.runs.storage import read_bounded, read_error

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
    return rows_of(path, text, needed)


def rows_of(path: Path, text: str, needed: Set[str]) -> list[Row]:
    """Return the rows in the text of a CSV file, as ``read_rows`` does; ``path`` is named in errors.

    Raises:
        ConfigurationError: as ``read_rows``.
    """
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


def text_of(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as the text of a CSV file, with all columns that any of them has."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    if columns:
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return text.getvalue()


def is_same(path: Path, text: bytes) -> bool:
    """Return whether a CSV file is exactly ``text``."""
    try:
        return read_bounded(path, len(text)) == text
    except OSError:
        return False


def continued(text: bytes, rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Return the text of a CSV file with further rows; nothing if these have other columns or make it too large."""
    head, _, body = text_of(rows).encode().partition(b"\n")
    cells = (text.count(b"\n") + len(rows)) * len(rows[0])
    fits = text.startswith(head + b"\n") and cells <= MOST_CELLS and len(text) + len(body) <= MOST_BYTES
    return text + body if fits else b""


def _damaged(path: Path, what: str) -> ConfigurationError:
    return ConfigurationError(f"{path}: {what}; repair it or move the file away")
