"""Ready-made configurations, one TOML file each."""

from __future__ import annotations

from importlib.resources import files


def names() -> list[str]:
    """Return the names of the presets, sorted."""
    return sorted(path.name.removesuffix(".toml") for path in files(__name__).iterdir() if path.name.endswith(".toml"))


def read(name: str) -> str:
    """Return the TOML of the preset ``name``, comments included."""
    return (files(__name__) / f"{name}.toml").read_text(encoding="utf-8")
