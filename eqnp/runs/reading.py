"""From a tree of TOML values to the typed configuration: every key and value checked against ``eqnp.runs.config``.

Every mistake is a ``ConfigurationError`` of one line: where, which key, what was given, what is accepted.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterable, Mapping
from dataclasses import Field, fields, is_dataclass
from typing import Any, get_type_hints

from eqnp.errors import ConfigurationError
from eqnp.runs.config import Config
from eqnp.runs.keys import key_hint, table_of_list
from eqnp.runs.spelling import nearest, shorten, show
from eqnp.runs.variables import PREFIX


def read_config(tree: Any, where: str) -> Config:
    """Return the configuration in ``tree``, each key checked by itself; ``where`` it is from starts the messages.

    Raises:
        ConfigurationError: a key that is not known, or a value of another type or out of range.
    """
    config: Config = _build(Config, tree, where, "")
    return config


def _build(kind: type[Any], tree: Any, where: str, prefix: str) -> Any:
    """Return the dataclass ``kind`` from a TOML table, every key checked."""
    if not isinstance(tree, dict):
        raise ConfigurationError(f"{where}: {prefix.rstrip('.')}: expected a table of keys, got {show(tree)}")
    known = {each.name: each for each in fields(kind)}
    for name in tree:
        if name not in known:
            what = "table or key" if kind is Config else "key"
            below = next(iter(tree[name]), "") if kind is Config and isinstance(tree[name], dict) else ""
            raise ConfigurationError(
                f"{where}: no {what} {prefix}{shorten(name) or repr(name)}{key_hint(name, known, below)}; "
                f"known: {', '.join(known)}"
            )
    hints = get_type_hints(kind)
    return kind(**{name: _value(known[name], hints[name], tree[name], where, prefix + name) for name in tree})


def _value(declared: Field[Any], hint: Any, given: Any, where: str, path: str) -> Any:
    """Return ``given`` as the type of its key, or raise with what is accepted."""
    if isinstance(hint, type) and is_dataclass(hint):
        return _build(hint, given, where, path + ".")
    if (kind := table_of_list(hint)) is not None:
        if not isinstance(given, list):
            raise ConfigurationError(f"{where}: {path}: expected a list of {declared.name}, got {show(given)}")
        return tuple(_build(kind, each, where, f"{path}.{n}.") for n, each in enumerate(given))
    accepted, value = _convert(hint, given)
    bounds, choices = declared.metadata, declared.metadata["choices"]
    if value is not None and choices and value not in (*choices, declared.default):
        raise ConfigurationError(
            f"{where}: {path}: {show(given)} is not one of {', '.join(choices)}{nearest(str(given), choices)}"
        )
    if value is None or not all(_within(number, bounds) for number in _numbers(value)):
        shown = show(given) if choices else _got(hint, given, where, path)
        limit = _limit(bounds, whole=hint in (int, tuple[int, int], tuple[int, ...]))
        raise ConfigurationError(f"{where}: {path}: expected {accepted}{limit}, got {shown}")
    return value


def _convert(hint: Any, given: Any) -> tuple[str, Any]:
    """Return (what is accepted, the value or None). Bounds are not checked here."""
    whole = type(given) is int
    if hint is bool:
        return "true or false", given if isinstance(given, bool) else None
    if hint is int:
        return "a whole number", given if whole else None
    if hint is str:
        return "a string (UTF-8, without NUL)", given if isinstance(given, str) and _is_text(given) else None
    if hint is float:
        return "a finite number", _float(given) if whole or isinstance(given, float) else None
    if hint == tuple[int, int]:
        pair = [given, given] if whole else given
        good = isinstance(pair, list) and len(pair) == 2 and all(type(n) is int for n in pair)
        return "a whole number or two of them", tuple(pair) if good else None
    if hint == tuple[int, ...]:
        good = isinstance(given, list) and all(type(n) is int for n in given)
        return "a list of whole numbers", tuple(given) if good else None
    if hint == tuple[str, ...]:
        good = isinstance(given, list) and all(isinstance(text, str) and _is_text(text) for text in given)
        return "a list of strings", tuple(given) if good else None
    if hint == tuple[float, ...]:
        good = isinstance(given, list) and all(type(n) in (int, float) for n in given)
        return "a list of finite numbers", tuple(map(_float, given)) if good else None
    items = given if isinstance(given, list) else [given]
    good = bool(items) and all(type(n) in (int, float) for n in items)
    values = tuple(_float(n) for n in items) if good else None
    accepted = "a finite number or a list of finite numbers"
    return accepted, values if isinstance(given, list) or values is None else values[0]


def _got(hint: Any, given: Any, where: str, path: str) -> str:
    """Return what was given; where a string is expected and TOML reads something else, also how to quote it."""
    shown = show(given)
    if hint is not str or isinstance(given, str | list | dict):
        return shown
    kind = "true or false" if isinstance(given, bool) else "a number"
    if isinstance(given, datetime.date | datetime.time):
        kind, shown = "a date or time", given.isoformat()
    shown = shown.lower() if isinstance(given, bool) else shown
    quoted = f'"{shown}"'
    if where.startswith("--set "):
        quoted = f"--set \"{path}='{shown}'\""
    elif where.startswith(PREFIX):
        quoted = f"{where.partition('=')[0]}=\"'{shown}'\""
    return f"{shown}, which is {kind} in TOML: quote it, {quoted}"


def _is_text(text: str) -> bool:
    """Return whether ``text`` can be written to a file and be a file name."""
    return "\0" not in text and not any("\ud800" <= c <= "\udfff" for c in text)  # lone surrogates are not UTF-8


def _float(number: float) -> float:
    try:
        return float(number)
    except OverflowError:
        return math.inf


def _numbers(value: Any) -> Iterable[float]:
    if isinstance(value, tuple):
        return tuple(each for each in value if not isinstance(each, str))
    return (value,) if isinstance(value, (int, float)) and not isinstance(value, bool) else ()


def _within(number: float, bounds: Mapping[str, Any]) -> bool:
    low, above = bounds["low"], bounds["above"]
    possible = abs(number) <= bounds["high"] if isinstance(number, int) else math.isfinite(number)
    return possible and (low is None or number >= low) and (above is None or number > above)


def _limit(bounds: Mapping[str, Any], whole: bool) -> str:
    """Return the accepted range of a number, for a message."""
    low, above, high = bounds["low"], bounds["above"], bounds["high"]
    if whole:
        return f" from {-high if low is None else low} to {high}"
    return f" of at least {low:g}" if low is not None else f" above {above:g}" if above is not None else ""
