"""A sweep as a file: one base, overrides common to all runs, a grid or a list of further overrides, and seeds.

Every run of it is a whole configuration, loaded and checked here, with the name of its folder. Every mistake is a
``ConfigurationError`` of one line that begins with the file.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from eqnp.errors import ConfigurationError
from eqnp.runs.config import LONGEST_NAME, Config
from eqnp.runs.configfile import load, parse_tree, read_file
from eqnp.runs.keys import TABLES
from eqnp.runs.overrides import Setting, key_of, toml_value
from eqnp.runs.spelling import nearest, shorten, show
from eqnp.shown import shown
from eqnp.sweeps.names import BASES, label

KEYS = ("name", "preset", "config", "seeds", "set", "grid", "runs")
SEED = "training.seed"
MOST_RUNS = 2000


@dataclass(frozen=True)
class Entry:
    """One run of a sweep."""

    index: int
    row: str
    """Its name without the seed: runs that differ in their seed alone share it."""
    changes: Mapping[str, Any]
    """What tells it from other entries: the keys of the grid or of its table in ``runs``, and their values."""
    config: Config

    @property
    def seed(self) -> int:
        """The seed of the run."""
        return self.config.training.seed

    @property
    def folder(self) -> str:
        """The name of the run's folder in that of the sweep."""
        return f"{self.row}-seed_{self.seed}"


@dataclass(frozen=True)
class Sweep:
    """A sweep: its name, what its file says, and its runs in order."""

    name: str
    tree: Mapping[str, Any]
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class _Combination:
    """A base and what changes it. ``name`` is "" without a name."""

    name: str
    base: str | None
    settings: tuple[Setting, ...]
    changes: Mapping[str, Any]


def read_sweep(file: Path, above: Sequence[str] = ()) -> Sweep:
    """Return the sweep in a file, every run of it loaded and checked.

    ``above`` are overrides for all runs: those of environment variables (``Setting``) stand above the base and below
    the file, others above the file.

    Raises:
        ConfigurationError: a mistake in the file, in the configuration of a run, or two runs with one folder.
    """
    where = str(file)
    tree = parse_tree(where, read_file(file))
    _check_keys(tree, where)
    name = _name(tree.get("name", file.stem), where)
    below = [each for each in above if isinstance(each, Setting)]
    common = _settings(_table(tree, "set", where), f"{where}: [set]")
    combinations = _combinations(tree, file, common)
    seeds = _seeds(tree, where)
    upper = [each for each in above if not isinstance(each, Setting)]
    _check_varied([*common, *(each for c in combinations for each in c.settings)], combinations, upper, seeds, where)
    if len(combinations) * len(seeds or [0]) > MOST_RUNS:
        raise ConfigurationError(f"{where}: gives {len(combinations) * len(seeds or [0])} runs; at most {MOST_RUNS}")
    entries: list[Entry] = []
    for each in combinations:
        config = load(each.base, [*below, *common, *each.settings, *upper])
        row = each.name or label(each.changes) or config.name
        entries += [Entry(len(entries) + n, row, each.changes, c) for n, c in enumerate(_seeded(config, seeds))]
    _check_folders(entries, where)
    return Sweep(name, tree, tuple(entries))


def _check_keys(tree: Mapping[str, Any], where: str) -> None:
    for key in tree:
        if key not in KEYS:
            cure = f"; keys of the configuration belong into [set], as in set.{key}" if key in TABLES else ""
            hint = "" if cure else nearest(key, KEYS)
            raise ConfigurationError(
                f"{where}: no key {shorten(key) or repr(key)} in a sweep{hint}{cure}; known: {', '.join(KEYS)}"
            )
    if "grid" in tree and "runs" in tree:
        raise ConfigurationError(f"{where}: has [grid] and [[runs]]; give one of them")


def _name(name: Any, where: str) -> str:
    """Return the name of a sweep, which can be that of a folder, as ``name`` of a configuration can."""
    good = isinstance(name, str) and name and not name.startswith(".") and not re.search(r"[/\\\0]", name)
    if not good or shown(name) != name or len(name.encode("utf-8", "replace")) > LONGEST_NAME:
        raise ConfigurationError(f"{where}: name: {show(name)} cannot be the name of a folder")
    return str(name)


def _combinations(tree: Mapping[str, Any], file: Path, common: Sequence[Setting]) -> list[_Combination]:
    """Return what the grid or the list of runs gives, in order; one combination without either."""
    where, base = str(file), _base(tree, file, str(file))
    if "runs" in tree:
        runs = tree["runs"]
        if not isinstance(runs, list) or not runs:
            raise ConfigurationError(f"{where}: runs: expected tables [[runs]], got {show(runs)}")
        return [_run(each, n, base, file) for n, each in enumerate(runs)]
    axes = [(key, _values(key, values, where)) for key, values in _flat(_table(tree, "grid", where), where, "grid")]
    for key, _ in axes:
        if any(key_of(each) == key or key_of(each).startswith(f"{key}.") for each in common):
            raise ConfigurationError(f"{where}: {key} is in [set] and in [grid]; remove one of them")
    if math.prod(len(values) for _, values in axes) > MOST_RUNS:
        raise ConfigurationError(f"{where}: grid: gives more than {MOST_RUNS} combinations")
    result = []
    for values in product(*(values for _, values in axes)):
        changes = dict(zip((key for key, _ in axes), values, strict=True))
        own = {key: changes[key] for key in BASES if key in changes}
        if own and base:
            raise ConfigurationError(f"{where}: grid.{next(iter(own))}: the file has a base for all runs; remove one")
        keys = {key: value for key, value in changes.items() if key not in BASES}
        settings = tuple(_setting(key, value, f"{where}: [grid]") for key, value in keys.items())
        result.append(_Combination("", _base(own, file, f"{where}: grid") or base, settings, changes))
    return result


def _run(table: Any, number: int, base: str | None, file: Path) -> _Combination:
    where = f"{file}: runs.{number}"
    if not isinstance(table, dict):
        raise ConfigurationError(f"{where}: expected a table of keys, got {show(table)}")
    name = table.get("name", "")
    if "name" in table and (not isinstance(name, str) or not name):
        raise ConfigurationError(f"{where}.name: {show(name)} cannot be the name of a folder")
    own = {key: value for key, value in table.items() if key not in BASES}
    settings = _settings(own, f"{where}:")
    changes = {key: value for key, value in _flat(own, str(file), f"runs.{number}") if key != "name"}
    changes = {key: table[key] for key in BASES if key in table} | changes
    return _Combination(name, _base(table, file, where) or base, tuple(settings), changes)


def _base(table: Mapping[str, Any], file: Path, where: str) -> str | None:
    """Return the preset or the configuration file that a table names; None without one."""
    given = [key for key in BASES if key in table]
    if not given:
        return None
    if len(given) > 1:
        raise ConfigurationError(f"{where}: has a preset and a config; give one of them")
    (key,), value = given, table[given[0]]
    if not isinstance(value, str) or not value:
        kind = "the name of a preset" if key == "preset" else "the path of a configuration"
        raise ConfigurationError(f"{where}: {key}: expected {kind}, got {show(value)}")
    if key == "config":
        path = str(file.parent / value)
        return path if "/" in path else f"./{path}"
    if "/" in value or value.endswith(".toml"):
        raise ConfigurationError(f"{where}: preset: {show(value)} is a path; give it as config = {toml_value(value)}")
    return value


def _table(tree: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
    table = tree.get(key, {})
    if not isinstance(table, dict):
        raise ConfigurationError(f"{where}: {key}: expected a table of keys, got {show(table)}")
    return table


def _settings(table: Mapping[str, Any], where: str) -> list[Setting]:
    return [_setting(key, value, where) for key, value in _flat(table, where, "")]


def _setting(key: str, value: Any, where: str) -> Setting:
    return Setting(f"{key}={toml_value(value)}", f"{where} {key}")


def _flat(table: Mapping[str, Any], where: str, name: str) -> Iterator[tuple[str, Any]]:
    """Yield every value by its dotted key; ``a.b`` in quotes is the same key as without.

    Raises:
        ConfigurationError: a key is there twice.
    """
    seen: set[str] = set()
    for key, value in _walk(table, ""):
        if key in seen:
            raise ConfigurationError(f"{where}: {name}{'.' if name else ''}{shorten(key)} is there twice")
        seen.add(key)
        yield key, value


def _walk(table: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _walk(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _values(key: str, values: Any, where: str) -> list[Any]:
    if not isinstance(values, list) or not values:
        raise ConfigurationError(
            f"{where}: grid.{shorten(key)}: expected a list of values, got {show(values)}; "
            "a value for all runs belongs into [set]"
        )
    texts = [toml_value(value) for value in values]
    for n, text in enumerate(texts):
        if text in texts[:n]:
            raise ConfigurationError(f"{where}: grid.{shorten(key)}: {shorten(text)} is there twice")
    return values


def _seeds(tree: Mapping[str, Any], where: str) -> list[int]:
    """Return the seeds; [] without the key ``seeds``."""
    if "seeds" not in tree:
        return []
    given = tree["seeds"]
    seeds = list(range(min(given, MOST_RUNS + 1))) if type(given) is int else given
    good = isinstance(seeds, list) and seeds and all(type(n) is int and 0 <= n < 2**63 for n in seeds)
    if not good:
        raise ConfigurationError(f"{where}: seeds: expected a number of seeds or a list of them, got {show(given)}")
    for n, seed in enumerate(seeds):
        if seed in seeds[:n]:
            raise ConfigurationError(f"{where}: seeds: {seed} is there twice")
    return seeds


def _check_varied(
    settings: Sequence[Setting],
    combinations: Sequence[_Combination],
    upper: Sequence[str],
    seeds: Sequence[int],
    where: str,
) -> None:
    """Check that no two places set a key so that one of them has no effect."""
    if seeds and any(key_of(each) == SEED for each in settings):
        raise ConfigurationError(f"{where}: {SEED} is set, and seeds is given; remove one of them")
    varied = {key_of(each) for each in (s for c in combinations for s in c.settings)} | ({SEED} if seeds else set())
    for given in map(key_of, upper):
        for key in varied:
            if key == given or key.startswith(f"{given}.") or given.startswith(f"{key}."):
                raise ConfigurationError(f"--set {shorten(given)}: {where} varies {key}; change it there")


def _seeded(config: Config, seeds: Sequence[int]) -> Iterator[Config]:
    for seed in seeds or [config.training.seed]:
        yield replace(config, training=replace(config.training, seed=seed))


def _check_folders(entries: Sequence[Entry], where: str) -> None:
    """Check that no two runs have one folder; some file systems do not tell capitals from small letters."""
    found: dict[str, Entry] = {}
    for each in entries:
        other = found.setdefault(each.folder.casefold(), each)
        if other is not each:
            raise ConfigurationError(
                f"{where}: runs {other.index} and {each.index} have the same folder {each.folder}; "
                "give them different names"
            )
