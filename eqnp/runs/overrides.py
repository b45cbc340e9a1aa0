"""One override, ``key=value`` as after ``--set``, put into a tree of TOML values."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterable, Mapping
from typing import Any

from eqnp.errors import ConfigurationError
from eqnp.runs.spelling import shorten, show


class Setting(str):
    """An override ``key=value`` that does not come from ``--set``; ``where`` names its origin in messages."""

    where: str

    def __new__(cls, text: str, where: str) -> Setting:
        """Return the override ``text``, from ``where``."""
        setting = super().__new__(cls, text)
        setting.where = where
        return setting


def key_of(override: str) -> str:
    """Return the key of ``key=value``."""
    return override.partition("=")[0].strip()


def origin_of(key: str, overrides: Iterable[str]) -> str:
    """Return the name of the environment variable that sets ``key``, or "" if a later override or none does."""
    setting = [each for each in overrides if key_of(each) == key][-1:]
    return "".join(each.where for each in setting if isinstance(each, Setting))


def toml_value(value: Any) -> str:
    """Return a value, a NumPy array among them, as TOML on one line."""
    if isinstance(value, Mapping):
        inside = ", ".join(f"{key} = {toml_value(each)}" for key, each in value.items())
        return f"{{ {inside} }}" if inside else "{}"
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(toml_value, value)) + "]"
    if isinstance(value, bool | int | float):
        return str(value).lower()
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def as_text(argument: str) -> str:
    """Return a word of the command line as UTF-8, which in an ASCII locale Python hands over as raw bytes."""
    try:
        return os.fsencode(argument).decode("utf-8")
    except UnicodeError:
        return argument


def override(tree: dict[str, Any], text: str, where: str) -> None:
    """Put ``text``, one ``key=value``, into ``tree``; ``where`` it is from starts the messages.

    Raises:
        ConfigurationError: no key, no value, a value that is not TOML, or a key below something that is not a table.
    """
    path, equals, value = text.partition("=")
    *parents, last = parts = path.strip().split(".")
    if not equals or not all(parts):
        raise ConfigurationError(f"{where}: give key=value, for example training.epochs=3")
    node: Any = tree
    for part in parents:
        node = _child(node, part, where)
    if isinstance(node, list):
        node[_index(node, last, where)] = _parse_value(value, where)
    elif isinstance(node, dict):
        node[last] = _parse_value(value, where)
    else:
        raise ConfigurationError(f"{where}: {show(parents[-1])} is a value, not a table")


def _parse_value(text: str, where: str) -> Any:
    """Return the value of an override: TOML, or a bare word."""
    word = text.strip()
    try:
        parsed = tomllib.loads(f"value = {text}")
        several = len(parsed) > 1
    except (ValueError, RecursionError):  # not TOML, too many digits, nested too deeply
        if word.startswith(("'", '"')):
            why = " (inside double quotes a backslash begins an escape)" if "\\" in word else ""
            plain = shorten(word.strip("'\""))
            raise ConfigurationError(
                f"{where}: {shorten(word)} is not a TOML string{why}; without quotes it is taken as it is: {plain}"
            ) from None
        parsed = {"value": word}
        several = len(word.splitlines()) > 1
    if several:
        raise ConfigurationError(f"{where}: more than one line; give --set key=value for each key")
    return parsed["value"]


def _child(node: Any, part: str, where: str) -> Any:
    if isinstance(node, dict):
        return node.setdefault(part, {})
    if isinstance(node, list):
        return node[_index(node, part, where)]
    raise ConfigurationError(f"{where}: {show(part)}: the key before it is a value, not a table")


def _index(items: list[Any], part: str, where: str) -> int:
    if part not in map(str, range(len(items))):
        known = f"give 0 to {len(items) - 1}" if items else "the list is empty"
        raise ConfigurationError(f"{where}: {show(part)} is not an index of the list; {known}")
    return int(part)
