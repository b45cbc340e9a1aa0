"""Where every value of a configuration comes from: default, preset, file, environment variable or command line."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

from eqnp.runs.changes import flat, flatten
from eqnp.runs.configfile import load, merge, place_of, stack
from eqnp.runs.overrides import Setting, as_text, key_of, override

DEFAULT = "default"


def origins(source: str | None, overrides: Sequence[str] = ()) -> dict[str, tuple[Any, str]]:
    """Return (value, where it comes from) of every key of ``source`` with ``overrides``, by dotted key.

    The origin is ``default``, ``preset NAME``, the path of a file, the name of an environment variable or
    ``command line``.

    Raises:
        ConfigurationError: as ``eqnp.runs.configfile.load``.
    """
    config = load(source, overrides)  # first, for its messages
    parts = deepcopy(stack(source))
    tree: dict[str, Any] = {}
    found: dict[str, str] = {}
    for n, (where, part) in enumerate(parts, start=1):
        tree = merge(parts[:n])
        own = dict(flatten(part))
        found = {key: where if key in own else found[key] for key, _ in flatten(tree)}
    tree = deepcopy(tree)
    for given in overrides:
        key, where = key_of(as_text(given)), given.where if isinstance(given, Setting) else "command line"
        override(tree, as_text(given), place_of(given))
        found = {each: where if _overlap(each, key) else found[each] for each, _ in flatten(tree)}
    return {key: (value, found.get(key, DEFAULT)) for key, value in flat(config).items()}


def _overlap(a: str, b: str) -> bool:
    """Return whether one key is the other or inside it: ``model.layers.0`` has ``model.layers.0.conv``."""
    return a == b or a.startswith(f"{b}.") or b.startswith(f"{a}.")
