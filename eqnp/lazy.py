"""Public names that are imported when they are first used (PEP 562)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module


def offer(
    namespace: dict[str, object], places: Mapping[str, str]
) -> tuple[list[str], Callable[[str], object], Callable[[], list[str]]]:
    """Return ``__all__``, ``__getattr__`` and ``__dir__`` of a module with this ``namespace``.

    ``places`` maps the module that has them to the names that are offered, with spaces between them.
    """
    place = {name: module for module, names in places.items() for name in names.split()}

    def find(name: str) -> object:
        if name not in place:
            raise AttributeError(f"module {namespace['__name__']!r} has no attribute {name!r}")
        namespace[name] = value = getattr(import_module(place[name]), name)
        return value

    return sorted(place), find, lambda: sorted({*namespace, *place})
