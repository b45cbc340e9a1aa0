"""Configurations as files: reads one from a preset or TOML file, with ``--set`` overrides on top, and writes it whole.

``eqnp.runs.overrides`` applies an override, ``eqnp.runs.reading`` checks every key. Every mistake is a
``ConfigurationError`` of one line that begins with where it is: the file, the preset or ``--set``.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import tomli_w

from eqnp.errors import ConfigurationError
from eqnp.runs import presets, toml
from eqnp.runs.config import OF_CONVOLUTIONS, Config, Layer, Skip, check
from eqnp.runs.overrides import Setting, as_text, override
from eqnp.runs.reading import read_config
from eqnp.runs.spelling import nearest, shorten, show
from eqnp.runs.storage import read_error

DEFAULT_PRESET = "digits"


def load(source: str | Config | None = None, overrides: Sequence[str] = (), said: str = "--set ") -> Config:
    """Return the configuration of ``source``, a preset or a TOML file (None: the preset ``digits``), overridden.

    ``source`` may be a configuration itself. ``said`` stands before an override in messages.

    Raises:
        ConfigurationError: no such preset or file, not TOML, or a key that is wrong.
    """
    where, tree = _source(source)
    config = read_config(tree, where)
    mistake = _mistake(config)
    made_by = {mistake: where}  # what made each mistake first; a later override may correct one
    for given in overrides:
        where = place_of(given, said)
        override(tree, as_text(given), where)
        config = read_config(tree, where)
        mistake = _mistake(config)
        made_by.setdefault(mistake, where)
    if mistake:
        raise ConfigurationError(f"{made_by[mistake]}: {mistake}")
    return config


def parse(where: str, text: str) -> Config:
    """Return the configuration in ``text``, as ``to_toml`` writes it. Messages begin with ``where`` it is from.

    Raises:
        ConfigurationError: not TOML, or a key that is wrong.
    """
    return read_config(parse_tree(where, text), where)


def preset_text(name: str) -> str:
    """Return the TOML of a preset, comments included.

    Raises:
        ConfigurationError: there is no such preset; the nearest one is named.
    """
    if name not in presets.names():
        if name.endswith(".npz"):
            raise ConfigurationError(
                f"{name}: is data, not a configuration; train on it with --set data.name=npz --set data.file={name}"
            )
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


def _compact(layer: Layer) -> dict[str, Any]:
    """Return the keys that a layer has: those of a convolution or of a dense layer, and what is not the default."""
    optional = ("activation", "gain", "source", "skips")
    tree = _without_defaults(layer, optional)
    if layer.dense:
        return {name: value for name, value in tree.items() if name not in ("conv", *OF_CONVOLUTIONS)}
    del tree["dense"]
    return tree


def _without_defaults(table: Layer | Skip, names: Iterable[str]) -> dict[str, Any]:
    """Return a table as TOML values, without those of the keys ``names`` that have their default."""
    default, tree = type(table)(), asdict(table)
    for name in names:
        if getattr(table, name) == getattr(default, name):
            del tree[name]
    if isinstance(table, Layer) and table.skips:
        tree["skips"] = [_without_defaults(skip, (*OF_CONVOLUTIONS, "dense", "gain")) for skip in table.skips]
    return tree


def _mistake(config: Config) -> str:
    """Return the first inconsistency between keys, or ""."""
    try:
        check(config)
    except ConfigurationError as error:
        return str(error)
    return ""


def place_of(override: str, said: str = "--set ") -> str:
    """Return where an override is from, as messages begin."""
    if isinstance(override, Setting):
        return f"{override.where}={shorten(as_text(override).partition('=')[2])}"
    return f"{said}{shorten(as_text(override))}"


def stack(source: str | Config | None) -> list[tuple[str, dict[str, Any]]]:
    """Return where the keys of ``source`` are from, and these keys: presets that it is based on first, itself last.

    Raises:
        ConfigurationError: no such preset or file, or not TOML.
    """
    source = DEFAULT_PRESET if source is None else source
    if isinstance(source, Config):
        return [(f"configuration {source.name}", tomllib.loads(to_toml(source)))]
    if source.endswith(".toml") or "/" in source:
        where, name = source, Path(source).stem.encode("utf-8", "replace").decode()
        parts = _with_bases(where, parse_tree(where, read_file(Path(source))))
    else:
        where, name = f"preset {source}", source
        parts = _preset(source)
    if not any("name" in tree for _, tree in parts):
        parts[-1][1]["name"] = name
    return parts


def merge(parts: Sequence[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    """Return the keys of all ``parts``; later ones are on top. Tables are merged, all else is replaced."""
    tree: dict[str, Any] = {}
    for _, upper in parts:
        tree = _merge(tree, upper)
    return tree


def _source(source: str | Config | None) -> tuple[str, dict[str, Any]]:
    """Return the name of a preset or file in messages, and its keys."""
    parts = stack(source)
    return parts[-1][0], merge(parts)


def read_file(path: Path) -> str:
    """Return the text of a configuration file.

    Raises:
        ConfigurationError: it does not exist or is no text.
        DiskError: the system cannot read it now.
    """
    try:
        return toml.read_text(path)
    except FileNotFoundError:
        raise ConfigurationError(f"{path}: there is no such file; `eqnp config init` writes one") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path}: not a text file in UTF-8; a configuration is TOML") from None
    except OSError as error:
        raise read_error(path, error) or ConfigurationError(f"{path}: cannot be read ({error.strerror})") from None


def parse_tree(where: str, text: str) -> dict[str, Any]:
    """Return the tables and keys in TOML. Messages begin with ``where`` it is from.

    Raises:
        ConfigurationError: it is not TOML.
    """
    try:
        return toml.parse(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        text = " ".join(str(error).split())
        cure = "; inside double quotes write \\\\ for \\, or use single quotes" if _is_escape(text) else ""
        raise ConfigurationError(f"{where}: not TOML: {text}{cure}") from None
    except ValueError:  # Python's limit on digits, which tomllib does not catch
        raise ConfigurationError(f"{where}: a number in it has thousands of digits; give a smaller one") from None


def _is_escape(text: str) -> bool:
    """Return whether a message of ``tomllib`` is about a backslash, as of a Windows path in double quotes."""
    return any(sign in text for sign in ("Unescaped '\\'", "Invalid hex value", "Unicode scalar value"))


def _preset(name: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the keys of a preset, after those of the presets that it is based on."""
    return _with_bases(f"preset {name}", parse_tree(f"preset {name}", preset_text(name)))


def _with_bases(where: str, tree: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Return ``tree`` after the keys of the preset that its key ``base`` names, if it does."""
    if "base" not in tree:
        return [(where, tree)]
    base = tree.pop("base")
    if not isinstance(base, str):
        raise ConfigurationError(f"{where}: base: expected the name of a preset, got {show(base)}")
    try:
        return [*_preset(base), (where, tree)]
    except ConfigurationError as error:
        raise ConfigurationError(f"{where}: base: {error}") from None


def _merge(lower: dict[str, Any], upper: dict[str, Any]) -> dict[str, Any]:
    both = {key: _merge(lower[key], upper[key]) for key in lower.keys() & upper.keys() if _tables(lower, upper, key)}
    return lower | upper | both


def _tables(lower: dict[str, Any], upper: dict[str, Any], key: str) -> bool:
    return isinstance(lower[key], dict) and isinstance(upper[key], dict)
