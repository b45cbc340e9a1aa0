"""Pictures of runs: their learning curves together, and from one run how it settles."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from eqnp.analysis.panels import (
    Curves,
    Panel,
    activity_panel,
    angle_panel,
    compared_panels,
    distinct_names,
    exact_panel,
    gradient_panel,
    plot_panels,
    residual_panel,
    run_panels,
)
from eqnp.analysis.watching import watch_free_phase
from eqnp.api.session import OpenBackend, open_run
from eqnp.backends.backend import get_backend
from eqnp.errors import CheckpointError, ConfigurationError, DataError
from eqnp.runs.configfile import load
from eqnp.runs.figures import save_figure
from eqnp.runs.runfolder import RunFolder
from eqnp.shown import quoted

KINDS = ("curves", "activity", "residual", "angles", "gradients")
OF_STATES = ("activity", "residual")
SAMPLES = 50  # of which the states are measured
CURVES = "curves.png"  # what a finished run gets


def read_curves(path: str | Path, name: str = "") -> Curves:
    """Return the metrics of the run in a folder by column; ``name`` is its name in figures (default: the folder's).

    Raises:
        ConfigurationError: it is not a run folder, metrics.csv is damaged, or no epoch is finished.
    """
    folder = RunFolder.open(path)
    rows = folder.metrics()
    if not rows:
        raise ConfigurationError(
            f"{folder.path}: no epoch is finished; `eqnp train --resume {quoted(folder.path)}` goes on"
        )
    columns = {column: [_number(row.get(column, "")) for row in rows] for column in rows[0]}
    return Curves(name or folder.path.resolve().name, columns["epoch"], columns)


def run_names(paths: Sequence[str | Path]) -> list[str]:
    """Return a short name for each run folder, different for different folders."""
    return distinct_names([Path(path).resolve().parts for path in paths])


def draw_runs(
    paths: Sequence[str | Path],
    kinds: Sequence[str] = (),
    *,
    backend: OpenBackend | None = None,
    checkpoint: str = "best",
    overrides: tuple[str, ...] = (),
    width: float = 0.0,
    message: Callable[[str], None] | None = None,
) -> Any:
    """Return a figure (matplotlib) of runs: the learning curves of several, or all ``kinds`` that one run has.

    ``kinds`` are of ``KINDS``; all but ``curves`` are of one run. ``activity`` and ``residual`` run the free phase on
    the first 50 test samples; ``backend`` None: on NumPy. ``message`` gets what is left out if no kind is given.

    Raises:
        ConfigurationError: a folder is not a run, no epoch is finished, or a kind needs one run or other metrics.
        DataError: the data that ``activity`` and ``residual`` need are not found.
        BackendError: matplotlib is not installed.
    """
    names = run_names(paths)
    backend = backend or partial(get_backend, "numpy")
    if len(paths) > 1:
        if single := [kind for kind in kinds if kind != "curves"]:
            raise ConfigurationError(f"{single[0]}: is drawn of one run; give one run folder")
        curves = [read_curves(path, name) for path, name in dict(zip(paths, names, strict=True)).items()]
        return plot_panels(compared_panels(curves), width=width)
    path = RunFolder.open(paths[0]).path
    panels: list[Panel] = []
    for kind in kinds or KINDS:
        try:
            panels += _panels(path, kind, backend, checkpoint, overrides)
        except (CheckpointError, ConfigurationError, DataError) as error:
            if kinds:
                raise
            if message is not None and kind != "angles" and kind != "gradients":
                message(f"without {kind}: {error}")
    if not panels:
        raise ConfigurationError(f"{path}: there is nothing to plot yet; `eqnp train --resume {quoted(path)}` goes on")
    return plot_panels(panels, _title(path), width)


def write_curves(path: str | Path) -> Path | None:
    """Draw the learning curves of a run as ``curves.png`` in its folder; return the file, or None before any epoch.

    Raises:
        BackendError: matplotlib is not installed.
        DiskError: the file cannot be written.
    """
    try:
        curves = read_curves(path)
    except ConfigurationError:
        return None
    panels = [*run_panels(curves), *filter(None, (angle_panel(curves), exact_panel(curves), gradient_panel(curves)))]
    out = Path(path) / CURVES
    save_figure(plot_panels(panels, _title(Path(path))), out, follow=False)
    return out


def _title(path: Path) -> str:
    """Return what a run is, for the title of its figure: its folder, its configuration and its data."""
    name = path.resolve().name
    try:
        config = load(str(RunFolder(path).config_path))
    except ConfigurationError:
        return name
    return f"{name}: {config.name} on {config.data.name}"


def _panels(path: Path, kind: str, backend: OpenBackend, checkpoint: str, overrides: tuple[str, ...]) -> list[Panel]:
    if kind == "curves":
        return run_panels(read_curves(path))
    if kind in OF_STATES:
        settling = _settling(path, backend, checkpoint, overrides)
        return [activity_panel(settling) if kind == "activity" else residual_panel(settling)]
    curves = read_curves(path)
    found = [angle_panel(curves), exact_panel(curves)] if kind == "angles" else [gradient_panel(curves)]
    panels = [panel for panel in found if panel is not None]
    if not panels:
        raise ConfigurationError(f"{path}: its metrics.csv has no {kind}; {_WHERE[kind]}")
    return panels


_WHERE = {
    "angles": "a run with model.kind = vector-field or training.check_every has them",
    "gradients": "it has no column gradient_norm_...",
}


def _settling(path: Path, backend: OpenBackend, checkpoint: str, overrides: tuple[str, ...]) -> dict[str, Any]:
    session, state = open_run(path, backend, overrides, checkpoint)
    x, _ = session.samples("test", list(range(min(SAMPLES, session.count("test")))))
    return watch_free_phase(session.learner, state.parameters, x)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
