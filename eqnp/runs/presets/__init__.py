"""Ready-made configurations, one TOML file each."""

from __future__ import annotations

from importlib.resources import files

from eqnp.errors import BackendError


def names() -> list[str]:
    """Return the names of the presets, sorted.

    Raises:
        BackendError: the folder of the presets cannot be read.
    """
    try:
        found = [path.name for path in files(__name__).iterdir()]
    except OSError as error:
        raise _unreadable(error) from None
    return sorted(name.removesuffix(".toml") for name in found if name.endswith(".toml"))


def read(name: str) -> str:
    """Return the TOML of the preset ``name``, comments included.

    Raises:
        BackendError: its file cannot be read.
    """
    try:
        return (files(__name__) / f"{name}.toml").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(error) from None


def _unreadable(error: OSError | UnicodeDecodeError) -> BackendError:
    reason = getattr(error, "strerror", None) or error
    return BackendError(
        f"the presets of eqnp cannot be read ({reason}); if that does not pass, install eqnp again: `pip install .` "
        "in the clone"
    )
