"""A configuration as text for people: with a comment on every key, or with the origin of every value."""

from __future__ import annotations

import textwrap
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, get_type_hints

from eqnp.runs.config import Config
from eqnp.runs.configfile import to_toml
from eqnp.runs.keys import table_of_list
from eqnp.runs.origins import DEFAULT
from eqnp.runs.overrides import toml_value

WIDTH = 80
_COLUMN = 36  # where the origin of a value begins, if the value is shorter


def with_origins(config: Config, origins: Mapping[str, tuple[Any, str]]) -> str:
    """Return every key of ``config`` as TOML, each line with a comment: where its value comes from."""
    lines: list[str] = []
    for heading, prefix, table in _tables(tomllib.loads(to_toml(config))):
        lines += ["", heading] if heading else []
        for name, value in table.items():
            line = f"{name} = {toml_value(value)}"
            lines.append(f"{line:<{_COLUMN}}  # {_origin(prefix + name, origins)}")
    return "\n".join(lines) + "\n"


def _origin(key: str, origins: Mapping[str, tuple[Any, str]]) -> str:
    """Return where a value comes from; a list of tables may come from several places."""
    found = [origin for each, (_, origin) in origins.items() if each == key or each.startswith(f"{key}.")]
    given = [each for each in dict.fromkeys(found) if each != DEFAULT] or found[:1]
    return "".join(c if c.isprintable() else "?" for c in ", ".join(given))


def commented(config: Config) -> str:
    """Return ``config`` as TOML with the meaning, the accepted values and the default of every key above it."""
    lines = ["# A configuration of eqnp with every key; without a key its default holds.", ""]
    lines += _commented(Config, config, "")
    hints = get_type_hints(Config)
    for each in fields(Config):
        if is_dataclass(hints[each.name]):
            about = str(hints[each.name].__doc__).splitlines()[0]
            lines += ["", f"[{each.name}]  # {about}"]
            lines += _commented(hints[each.name], getattr(config, each.name), f"{each.name}.")
    return "\n".join(lines) + "\n"


def _tables(tree: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield (heading, prefix of its dotted keys, values) of every table; the keys outside tables first."""
    yield "", "", {name: value for name, value in tree.items() if not isinstance(value, dict)}
    for name, table in tree.items():
        if not isinstance(table, dict):
            continue
        layers = {key: value for key, value in table.items() if _is_tables(value)}
        yield f"[{name}]", f"{name}.", {key: value for key, value in table.items() if key not in layers}
        for key, items in layers.items():
            for n, layer in enumerate(items):
                yield f"[[{name}.{key}]]", f"{name}.{key}.{n}.", layer


def _is_tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def _commented(kind: type[Any], values: Any, prefix: str) -> Iterator[str]:
    """Yield the lines of one table: for every key a comment and its value."""
    hints = get_type_hints(kind)
    for each in fields(kind):
        if is_dataclass(hints[each.name]):
            continue
        value = getattr(values, each.name)
        yield from _wrapped(_about(each, value))
        inner = table_of_list(hints[each.name])
        if inner is None:
            yield f"{each.name} = {toml_value(value)}"
            continue
        yield from _about_table(inner, "    ")
        yield f"{each.name} = ["
        yield from (f"    {toml_value(_given(layer))}," for layer in value)
        yield "]"


def _about_table(kind: type[Any], indent: str) -> Iterator[str]:
    """Yield comments on every key of a table of a list, those of lists inside it indented."""
    hints = get_type_hints(kind)
    for each in fields(kind):
        yield from _wrapped(f"{each.name}: {_about(each, each.default)}", indent)
        if (inside := table_of_list(hints[each.name])) is not None:
            yield from _about_table(inside, f"{indent}    ")


def _given(table: Any) -> dict[str, Any]:
    """Return the keys of a table of a list that differ from their defaults."""
    values = {each.name: value for each in fields(table) if (value := getattr(table, each.name)) != each.default}
    return {name: [_given(each) for each in value] if _is_list(value) else value for name, value in values.items()}


def _is_list(value: Any) -> bool:
    return isinstance(value, tuple) and bool(value) and is_dataclass(value[0])


def _about(declared: Field[Any], value: Any) -> str:
    """Return the meaning of a key, what is accepted and, if its value is another one, the default."""
    notes = [accepted(declared)]
    if declared.default is not MISSING and value != declared.default and declared.default not in ("", ()):
        notes.append(f"default {toml_value(declared.default)}")
    shown = "; ".join(filter(None, notes))
    return f"{declared.metadata['meaning']}{f' ({shown})' if shown else ''}"


def accepted(declared: Field[Any]) -> str:
    """Return which values a key accepts, as far as its type does not say it; "" if the type says it all."""
    meta = declared.metadata
    if meta["choices"]:
        return "one of " + ", ".join(meta["choices"])
    if meta["low"] is not None:
        return f"at least {meta['low']:g}"
    return f"above {meta['above']:g}" if meta["above"] is not None else ""


def _wrapped(text: str, indent: str = "") -> list[str]:
    """Return a text as comment lines."""
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=f"{indent}# ",
        subsequent_indent=f"{indent}# ",
        break_long_words=False,
        break_on_hyphens=False,
    )
