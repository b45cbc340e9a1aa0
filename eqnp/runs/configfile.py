"""Reads a configuration from TOML, a preset or ``--set`` overrides, strictly, and writes it back whole.

Every mistake is a ``ConfigurationError`` of one line: where (file or ``--set``), which key, what was given, what is
accepted.
"""

from __future__ import annotations

import datetime
import math
import os
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import Field, asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import tomli_w

from eqnp.runs import presets
from eqnp.runs.config import Config, Layer, check
from eqnp.errors import ConfigurationError
from eqnp.runs.keys import named_keys, near_keys
from eqnp.runs.spelling import MOST, did_you_mean, near_words

DEFAULT_PRESET = "digits"


def load(source: str | Config | None = None, overrides: Sequence[str] = (), said: str = "--set ") -> Config:
    """Return the configuration of a preset or a TOML file (``source``; None: the preset ``digits``), overridden.

    ``source`` may be a configuration itself. ``said`` is what stands before an override in messages.

    Raises:
        ConfigurationError: no such preset or file, not TOML, or a key that is wrong.
    """
    where, tree = _source(DEFAULT_PRESET if source is None else source)
    config = _build(Config, tree, where, "")
    mistake = _mistake(config)
    made_by = {mistake: where}  # each mistake and what made it first; an override may also mend one
    for text in map(_as_text, overrides):
        where = f"{said}{_short(text)}"
        _override(tree, text, where)
        config = _build(Config, tree, where, "")
        mistake = _mistake(config)
        made_by.setdefault(mistake, where)
    if mistake:
        raise ConfigurationError(f"{made_by[mistake]}: {mistake}")
    return config


def parse(where: str, text: str) -> Config:
    """Return the configuration in ``text``, as ``to_toml`` writes it; ``where`` it is from stands in messages.

    Raises:
        ConfigurationError: not TOML, or a key that is wrong.
    """
    return _build(Config, _parse(where, text), where, "")


def preset_text(name: str) -> str:
    """Return the TOML of a preset, comments included.

    Raises:
        ConfigurationError: there is no such preset; the nearest one is named.
    """
    if name not in presets.names():
        raise ConfigurationError(
            f"no preset {name!r}{nearest(name, presets.names())}; `eqnp presets` lists them, "
            "and the path of a configuration ends in .toml"
        )
    return presets.read(name)


def to_toml(config: Config) -> str:
    """Return every key of ``config`` as TOML; ``load`` of it gives an equal configuration."""
    tree = asdict(config)
    tree["model"]["layers"] = [_compact(layer) for layer in config.model.layers]
    return tomli_w.dumps(tree)


def nearest(word: str, known: Iterable[str]) -> str:
    """Return `` (did you mean ...?)`` with the known words nearest to ``word``, or nothing."""
    return _hint(near_words(word, known))


def _hint(words: Iterable[str]) -> str:
    hint = did_you_mean(map(repr, words))
    return f" ({hint})" if hint else ""


def _key_hint(name: str, known: Iterable[str]) -> str:
    """Return which key was meant by ``name``, unknown in its table: one of another table, or a near one."""
    elsewhere = named_keys(name)
    near = near_words(name, known)
    if not elsewhere and not near:
        elsewhere = near_keys(name)
    return _hint([*elsewhere, *near][:MOST])


def _source(source: str | Config) -> tuple[str, dict[str, Any]]:
    """Return what a preset or a file is called in messages, and its keys."""
    if isinstance(source, Config):
        return f"configuration {source.name}", tomllib.loads(to_toml(source))
    if source.endswith(".toml") or "/" in source:
        where, name = source, Path(source).stem.encode("utf-8", "replace").decode()
        tree = _with_base(where, _parse(where, _read(Path(source))))
    else:
        where, name = f"preset {source}", source
        tree = _preset(source)
    tree.setdefault("name", name)
    return where, tree


def _mistake(config: Config) -> str:
    """Return the first thing that does not fit, or nothing."""
    try:
        check(config)
    except ConfigurationError as error:
        return str(error)
    return ""


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")  # Windows' editors put a byte-order mark at the beginning
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
        text = " ".join(str(error).split())
        cure = "; inside double quotes write \\\\ for \\, or take single quotes" if _is_escape(text) else ""
        raise ConfigurationError(f"{where}: not TOML: {text}{cure}") from None
    except ValueError:  # Python's limit on digits, which tomllib lets through
        raise ConfigurationError(f"{where}: a number in it has thousands of digits; give a smaller one") from None


def _is_escape(text: str) -> bool:
    """Return whether ``tomllib`` complains of a backslash, as of a Windows path in double quotes."""
    return any(sign in text for sign in ("Unescaped '\\'", "Invalid hex value", "Unicode scalar value"))


def _preset(name: str) -> dict[str, Any]:
    """Return the keys of a preset and of those that it is based on."""
    return _with_base(f"preset {name}", _parse(f"preset {name}", preset_text(name)))


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


def _as_text(argument: str) -> str:
    """Return a word of the command line as UTF-8, which in an ASCII locale Python hands over as raw bytes."""
    try:
        return os.fsencode(argument).decode("utf-8")
    except UnicodeError:
        return argument


def _override(tree: dict[str, Any], text: str, where: str) -> None:
    """Put one ``key=value`` into ``tree``."""
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
        raise ConfigurationError(f"{where}: {_show(parents[-1])} is a value, it has no keys")


def _parse_value(text: str, where: str) -> Any:
    """Return the value of an override: TOML, or a bare word."""
    word = text.strip()
    try:
        parsed = tomllib.loads(f"value = {text}")
        several = len(parsed) > 1
    except (ValueError, RecursionError):  # not TOML, too many digits, too deep
        if word.startswith(("'", '"')):
            why = " (in double quotes a backslash begins an escape)" if "\\" in word else ""
            plain = _short(word.strip("'\""))
            raise ConfigurationError(
                f"{where}: {_short(word)} is not a string of TOML{why}; without quotes it is taken as it is: {plain}"
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
    raise ConfigurationError(f"{where}: {_show(part)} is below a value that has no keys")


def _index(items: list[Any], part: str, where: str) -> int:
    if part not in map(str, range(len(items))):
        known = f"0 to {len(items) - 1}" if items else "of which there are none"
        raise ConfigurationError(f"{where}: {_show(part)} is not the number of an entry, {known}")
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
                f"{where}: no {what} {prefix}{_short(name) or repr(name)}{_key_hint(name, known)}; "
                f"known: {', '.join(known)}"
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
        shown = _show(given) if choices else _got(hint, given, where, path)
        limit = _limit(bounds, whole=hint in (int, tuple[int, int], tuple[int, ...]))
        raise ConfigurationError(f"{where}: {path}: expected {accepted}{limit}, got {shown}")
    return value


def _convert(hint: Any, given: Any) -> tuple[str, Any]:
    """Return (what is accepted, the value or None); whether it is within its bounds is another question."""
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
    items = given if isinstance(given, list) else [given]
    good = bool(items) and all(type(n) in (int, float) for n in items)
    values = tuple(_float(n) for n in items) if good else None
    accepted = "a finite number or a list of finite numbers"
    return accepted, values if isinstance(given, list) or values is None else values[0]


def _got(hint: Any, given: Any, where: str, path: str) -> str:
    """Return what was given instead of what is accepted; of what TOML takes for no string, also how to quote it."""
    shown = _show(given)
    if hint is not str or isinstance(given, str | list | dict):
        return shown
    kind = "true or false" if isinstance(given, bool) else "a number"
    if isinstance(given, datetime.date | datetime.time):
        kind, shown = "a date or time", given.isoformat()
    shown = shown.lower() if isinstance(given, bool) else shown
    quoted = f"--set \"{path}='{shown}'\"" if where.startswith("--set ") else f'"{shown}"'
    return f"{shown}, which is {kind} in TOML: quote it, {quoted}"


def _is_text(text: str) -> bool:
    """Return whether files can hold ``text`` and the system can take it as a name."""
    return "\0" not in text and not any("\ud800" <= c <= "\udfff" for c in text)  # half a surrogate: no UTF-8


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
    possible = abs(number) <= bounds["high"] if isinstance(number, int) else math.isfinite(number)
    return possible and (low is None or number >= low) and (above is None or number > above)


def _limit(bounds: Mapping[str, Any], whole: bool) -> str:
    """Return the range of a number as it stands behind what is accepted."""
    low, above, high = bounds["low"], bounds["above"], bounds["high"]
    if whole:
        return f" from {-high if low is None else low} to {high}"
    return f" of at least {low:g}" if low is not None else f" above {above:g}" if above is not None else ""


def _show(given: Any) -> str:
    """Return a value as it stands in a message."""
    try:
        return _short(" ".join(repr(given).split()))
    except (ValueError, RecursionError):  # thousands of digits, or of levels
        return "something too large to show"


def _short(text: str, most: int = 60) -> str:
    """Return text as it stands in a message: its end left out where it is long, and fit for UTF-8."""
    text = text if len(text) <= most else text[: most - 3] + "..."
    return text.encode("utf-8", "backslashreplace").decode()


def _compact(layer: Layer) -> dict[str, Any]:
    """Return a layer's keys, for a dense layer its units alone."""
    if layer.dense:
        return {"dense": layer.dense, "keep": layer.keep}
    tree = asdict(layer)
    del tree["dense"]
    return tree
