"""Ready-made configurations, one TOML file each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files

from eqnp.errors import DiskError


def names() -> list[str]:
    """Return the names of the presets, sorted.

    Raises:
        DiskError: the files of eqnp itself cannot be read.
    """
    with _readable():
        found = [path.name for path in files(__name__).iterdir()]
    return sorted(name.removesuffix(".toml") for name in found if name.endswith(".toml"))


def read(name: str) -> str:
    """Return the TOML of the preset ``name``, comments included.

    Raises:
        DiskError: the files of eqnp itself cannot be read.
    """
    with _readable():
        return (files(__name__) / f"{name}.toml").read_text(encoding="utf-8")


@contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise DiskError(
            f"the presets of eqnp cannot be read ({reason}); check the disk, or install eqnp again"
        ) from error
