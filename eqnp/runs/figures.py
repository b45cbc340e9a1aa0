"""Figures as files."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

from eqnp.runs.storage import write_atomic


def save_figure(figure: Any, path: Path) -> None:
    """Write a figure, as its name's ending says (.png or .svg), whole or not at all."""
    data = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # of a name in letters that no font here has
        figure.savefig(data, format=path.suffix[1:], dpi=150)
    write_atomic(path, data.getbuffer())
