"""Reads a configuration from TOML, a preset or ``--set`` overrides, strictly, and writes it back whole.

Every mistake is a ``ConfigurationError`` of one line: where (file or ``--set``), which key, what was given, what is
accepted.
"""

from __future__ import annotations

import difflib
import math
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import Field, asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import tomli_w

from eqnp import presets
from eqnp.config import Config, Layer, check
from eqnp.errors import ConfigurationError

DEFAULT_PRESET = "digits"


def load(source: str | None = None, overrides: Sequence[str] = ()) -> Config:
    """Return the configuration of a preset or a TOML file (``source``; None: the preset ``digits``), overridden.

    Raises:
        ConfigurationError: no such preset or file, not TOML, or a key that is wrong.
    """
    source = source or DEFAULT_PRESET
    if source.endswith(".toml") or "/" in source:
        where, tree = source, _with_base(source, _parse(source, _read(Path(source))))
        tree.setdefault("name", Path(source).stem)
    else:
        where, tree = f"preset {source}", _preset(source)
        tree.setdefault("name", source)
    _build(Config, tree, where, "")  # so that a mistake in the file is not blamed on an override
    for text in overrides:
        _override(tree, text)
        _build(Config, tree, f"--set {text}", "")
    config = _build(Config, tree, where, "")
    try:
        check(config)
    except ConfigurationError as error:
        raise ConfigurationError(f"{where}: {error}") from None
    return config


def to_toml(config: Config) -> str:
    """Return every key of ``config`` as TOML; ``load`` of it gives an equal configuration."""
    tree = asdict(config)
    tree["model"]["layers"] = [_compact(layer) for layer in config.model.layers]
    return tomli_w.dumps(tree)


def nearest(word: str, known: Iterable[str]) -> str:
    """Return `` (did you mean ...?)`` with the known word nearest to ``word``, or nothing."""
    near = difflib.get_close_matches(word, list(known), 1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigurationError(f"{path}: there is no such file") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path}: not a text file in UTF-8") from None
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read ({error.strerror})") from None


def _parse(where: str, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigurationError(f"{where}: not TOML: {' '.join(str(error).split())}") from None


def _preset(name: str) -> dict[str, Any]:
    """Return the keys of a preset and of those that it is based on."""
    if name not in presets.names():
        raise ConfigurationError(
            f"no preset {name!r}{nearest(name, presets.names())}; `eqnp presets` lists them, "
            "and the path of a configuration ends in .toml"
        )
    return _with_base(f"preset {name}", _parse(f"preset {name}", presets.read(name)))


def _with_base(where: str, tree: dict[str, Any]) -> dict[str, Any]:
    """Return ``tree`` on top of the preset that its key ``base`` names; tables are merged, all else is replaced."""
    if "base" not in tree:
        return tree
    base = tree.pop("base")
    if not isinstance(base, str):
        raise ConfigurationError(f"{where}: base: expected the name of a preset, got {_show(base)}")
    try:
        return _merge(_preset(base), tree)
    except ConfigurationError as error:
        raise ConfigurationError(f"{where}: base: {error}") from None


def _merge(lower: dict[str, Any], upper: dict[str, Any]) -> dict[str, Any]:
    both = {key: _merge(lower[key], upper[key]) for key in lower.keys() & upper.keys() if _tables(lower, upper, key)}
    return lower | upper | both


def _tables(lower: dict[str, Any], upper: dict[str, Any], key: str) -> bool:
    return isinstance(lower[key], dict) and isinstance(upper[key], dict)


def _override(tree: dict[str, Any], text: str) -> None:
    """Put one ``key=value`` into ``tree``; the value is TOML, or a bare word."""
    path, equals, value = text.partition("=")
    if not equals or not path.strip():
        raise ConfigurationError(f"--set {text}: give key=value, for example training.epochs=3")
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        parsed = value.strip()
    *parents, last = path.strip().split(".")
    node: Any = tree
    for part in parents:
        node = _child(node, part, text)
    if isinstance(node, list):
        node[_index(node, last, text)] = parsed
    elif isinstance(node, dict):
        node[last] = parsed
    else:
        raise ConfigurationError(f"--set {text}: {'.'.join(parents)} is a value, it has no keys")


def _child(node: Any, part: str, text: str) -> Any:
    if isinstance(node, dict):
        return node.setdefault(part, {})
    if isinstance(node, list):
        return node[_index(node, part, text)]
    raise ConfigurationError(f"--set {text}: {part!r} is below a value that has no keys")


def _index(items: list[Any], part: str, text: str) -> int:
    if not (part.isascii() and part.isdigit()) or int(part) >= len(items):
        raise ConfigurationError(f"--set {text}: {part!r} is not the number of an entry, 0 to {len(items) - 1}")
    return int(part)


def _build(kind: type, tree: Any, where: str, prefix: str) -> Any:
    """Return the dataclass ``kind`` from a TOML table, every key checked."""
    if not isinstance(tree, dict):
        raise ConfigurationError(f"{where}: {prefix.rstrip('.')}: expected a table of keys, got {_show(tree)}")
    known = {each.name: each for each in fields(kind)}
    for name in tree:
        if name not in known:
            what = "table or key" if kind is Config else "key"
            raise ConfigurationError(
                f"{where}: no {what} {prefix}{name}{nearest(name, known)}; known: {', '.join(known)}"
            )
    hints = get_type_hints(kind)
    return kind(**{name: _value(known[name], hints[name], tree[name], where, prefix + name) for name in tree})


def _value(declared: Field[Any], hint: Any, given: Any, where: str, path: str) -> Any:
    """Return ``given`` as the type of its key, or raise with what is accepted."""
    if is_dataclass(hint):
        return _build(hint, given, where, path + ".")
    if hint == tuple[Layer, ...]:
        if not isinstance(given, list):
            raise ConfigurationError(f"{where}: {path}: expected a list of layers, got {_show(given)}")
        return tuple(_build(Layer, layer, where, f"{path}.{n}.") for n, layer in enumerate(given))
    accepted, value = _convert(hint, given)
    bounds, choices = declared.metadata, declared.metadata["choices"]
    if value is not None and choices and value not in choices:
        raise ConfigurationError(
            f"{where}: {path}: {_show(given)} is not one of {', '.join(choices)}{nearest(str(given), choices)}"
        )
    if value is None or not all(_within(number, bounds) for number in _numbers(value)):
        low, above = bounds["low"], bounds["above"]
        limit = f" of at least {low:g}" if low is not None else f" above {above:g}" if above is not None else ""
        raise ConfigurationError(f"{where}: {path}: expected {accepted}{limit}, got {_show(given)}")
    return value


def _convert(hint: Any, given: Any) -> tuple[str, Any]:
    """Return (what is accepted, the value or None)."""
    whole = type(given) is int and abs(given) < 2**63  # what files and arrays can hold
    number = whole or isinstance(given, float)
    if hint is bool:
        return "true or false", given if isinstance(given, bool) else None
    if hint is int:
        return "a whole number", given if whole else None
    if hint is str:
        return "a string", given if isinstance(given, str) else None
    if hint is float:
        return "a number", _float(given) if number else None
    if hint == tuple[int, int]:
        pair = [given, given] if whole else given
        good = isinstance(pair, list) and len(pair) == 2 and all(type(n) is int and abs(n) < 2**63 for n in pair)
        return "a whole number or two of them", tuple(pair) if good else None
    items = given if isinstance(given, list) else [given]
    good = bool(items) and all(type(n) in (int, float) for n in items)
    values = tuple(_float(n) for n in items) if good else None
    return "a number or a list of numbers", values if isinstance(given, list) or values is None else values[0]


def _float(number: float) -> float:
    try:
        return float(number)
    except OverflowError:
        return math.inf


def _numbers(value: Any) -> Iterable[float]:
    if isinstance(value, tuple):
        return value
    return (value,) if isinstance(value, (int, float)) and not isinstance(value, bool) else ()


def _within(number: float, bounds: Mapping[str, Any]) -> bool:
    low, above = bounds["low"], bounds["above"]
    return math.isfinite(number) and (low is None or number >= low) and (above is None or number > above)


def _show(given: Any) -> str:
    text = " ".join(repr(given).split())
    return text if len(text) <= 60 else text[:57] + "..."


def _compact(layer: Layer) -> dict[str, Any]:
    """Return a layer's keys, for a dense layer its units alone."""
    if layer.dense:
        return {"dense": layer.dense, "keep": layer.keep}
    tree = asdict(layer)
    del tree["dense"]
    return tree
