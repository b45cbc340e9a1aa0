"""Figures as files."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

from eqnp.errors import ConfigurationError
from eqnp.runs.storage import require_place, write_atomic

ENDINGS = (".png", ".svg", ".pdf")


def require_figure(path: Path, force: bool) -> None:
    """Check before the work that a figure can be written to ``path``.

    Raises:
        ConfigurationError: its ending is none of a figure, it is a folder, or it exists and ``force`` is not given.
        DiskError: it cannot be created there.
    """
    if path.suffix.lower() not in ENDINGS:
        raise ConfigurationError(f"--out {path}: the name of a figure ends in .png, .svg or .pdf")
    require_place(path, force)


def save_figure(figure: Any, path: Path, follow: bool = True) -> None:
    """Write a figure, as its name's ending says (.png, .svg or .pdf), whole or not at all.

    A link at ``path`` is written through, or replaced if not ``follow``.
    """
    data = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # of a name in letters that no font here has
        figure.savefig(data, format=path.suffix[1:].lower(), dpi=150)
    write_atomic(path, data.getbuffer(), follow=follow)
