"""What a run of a sweep is called by what it changes: ``beta_0.1-T2_10``."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eqnp.runs.overrides import toml_value

BASES = ("preset", "config")  # keys of a sweep that name the base of a run
_LONGEST_VALUE, _LONGEST_LABEL = 40, 150  # characters of a value, and of all of them, in the name of a folder


def label(changes: Mapping[str, Any]) -> str:
    """Return changes as the name of a folder: ``beta_0.1-T2_10``; the base is there by its name alone."""
    last = [key.rpartition(".")[2] for key in changes]
    parts = []
    for key, value in changes.items():
        word = key.rpartition(".")[2]
        name = "" if key in BASES else f"{word if last.count(word) == 1 else _safe(key)}_"
        parts.append(name + _safe(Path(value).stem if key == "config" else _text(value)))
    return _short("-".join(parts), "-".join(parts), _LONGEST_LABEL)


def _text(value: Any) -> str:
    if isinstance(value, list) and not any(isinstance(each, (dict, list)) for each in value):
        return ",".join(map(_text, value))
    return value if isinstance(value, str) else toml_value(value)


def _safe(text: str) -> str:
    """Return a text with only letters, digits and ``_ . , + -``; what had others ends with a hash of the whole."""
    safe = re.sub(r"[^\w.,+-]+", "-", text, flags=re.ASCII).lstrip(".")
    return _short(safe, text, _LONGEST_VALUE if safe == text else 0)


def _short(text: str, whole: str, most: int) -> str:
    if len(text) <= most:
        return text
    return f"{text[: most or _LONGEST_VALUE].strip('-')}-{hashlib.sha256(whole.encode()).hexdigest()[:6]}".lstrip("-")
