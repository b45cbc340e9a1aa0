"""Finds ``eqnp.data`` and ``eqnp.cli`` in a clone, where they lie beside the folder ``eqnp`` and not in it.

In an installed package they lie inside, and an editable install finds them by itself. But Python started in a clone
imports the folder ``eqnp`` of the clone, whatever is installed. The finder here finds only these two names. Adding the
clone to ``eqnp.__path__`` instead would also give ``eqnp.tests``, and ``eqnp.eqnp`` as a second copy of the package.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

_NAMES = ("eqnp.cli", "eqnp.data")
_SIGNS = ("pyproject.toml", "cli/main.py", "data/batches.py")  # files that every clone has


class _Finder:
    """Finds the two packages in one clone; the last entry of ``sys.meta_path``."""

    def __init__(self, root: str) -> None:
        self._root = root

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec of the package ``name``, or None for every other name."""
        return PathFinder.find_spec(name, [self._root]) if name in _NAMES else None


def find_rooms(init: str) -> None:
    """Let Python find the two packages if ``init``, the path of ``eqnp/__init__.py``, lies in a clone."""
    package = os.path.dirname(os.path.abspath(init))
    root = os.path.dirname(package)
    inside = os.path.isfile(os.path.join(package, "cli", "__init__.py"))  # installed
    if inside or not all(os.path.isfile(os.path.join(root, sign)) for sign in _SIGNS):
        return
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder(root))
