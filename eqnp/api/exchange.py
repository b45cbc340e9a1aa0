"""Weights of a run for other programs, and runs from the weights of other programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from eqnp import __version__
from eqnp.api.card import CARD, MARK, model_card, shared
from eqnp.api.run import Run, outline_of
from eqnp.api.session import CONFIG, KIND, Session, with_lasting_folder
from eqnp.backends.backend import get_backend, to_host
from eqnp.errors import CheckpointError, ConfigurationError, EqnpError
from eqnp.inputs import require_parameters
from eqnp.runs import checkpoint
from eqnp.runs.config import Config
from eqnp.runs.configfile import load, parse, to_toml
from eqnp.runs.environment import describe_environment
from eqnp.runs.experiment import to_content, with_threads
from eqnp.runs.layouts import from_published, to_published
from eqnp.runs.runfolder import RunFolder
from eqnp.runs.storage import read_bounded, require_place, write_atomic
from eqnp.runs.weights import TORCH, from_file, to_bytes
from eqnp.training import State

# What a user can export to, and the endings of its files. The first ending of each is its own.
FORMATS = {
    "safetensors": (".safetensors",),
    "npz": (".npz",),
    "pytorch": (*TORCH, ".safetensors", ".npz"),
}
OWN, PUBLISHED = "eqnp", "published"  # names and layouts


def export_run(run: Run, out: str | Path, to: str = "", *, force: bool = False, card: bool = True) -> list[Path]:
    """Write the weights of a run to ``out``, and a model card ``README.md`` beside it; return what was written.

    ``to`` is one of ``FORMATS`` (by default the ending of ``out`` says it). ``safetensors`` and ``npz`` keep eqnp's
    names and layout, and the configuration. ``pytorch`` has those of the published code (``eqnp.runs.layouts``); its
    ending says in which file: ``.pt`` (needs PyTorch), ``.safetensors`` or ``.npz``.

    Raises:
        ConfigurationError: the ending does not fit, a file exists and ``force`` is not given, a README.md is no model
            card, or the network has connections that the published code does not have.
        BackendError: the package of the format is not installed.
        DiskError: a file cannot be written.
    """
    out = Path(out)
    to = to or next((name for name, endings in FORMATS.items() if out.suffix.lower() == endings[0]), "")
    require_export(out, to, force, card)
    arrays: Mapping[str, np.ndarray] = {name: np.asarray(to_host(p)) for name, p in run.parameters.items()}
    if to == "pytorch":
        arrays = to_published(run.network.architecture, arrays)
    note = {
        "format": "eqnp",
        "eqnp": __version__,
        "layout": PUBLISHED if to == "pytorch" else OWN,
        CONFIG: to_toml(shared(run.config)),
    }
    data = to_bytes(out.suffix.lower(), arrays, note)
    written = [out]
    write_atomic(out, data)
    if card:
        written.append(out.parent / CARD)
        write_atomic(written[-1], model_card(run, out.name, to, arrays).encode())
    return written


def require_export(out: Path, to: str, force: bool, card: bool) -> None:
    """Check before the work that an export can be written.

    Raises:
        ConfigurationError: as ``export_run``.
        DiskError: a file cannot be created there.
    """
    endings = FORMATS.get(to, tuple(dict.fromkeys(endings[0] for endings in FORMATS.values())))
    if out.suffix.lower() not in endings:
        raise ConfigurationError(
            f"--out {out}: {f'--to {to}' if to else 'the name'} needs {_listed(endings)} at its end"
        )
    require_place(out, force)
    readme = out.parent / CARD
    if card and readme.exists() and not _is_card(readme):
        raise ConfigurationError(
            f"{readme}: is no model card that eqnp wrote, and an export writes one there; "
            "give --out in another folder, or --no-card"
        )
    if card and readme.exists() and not force:
        raise ConfigurationError(f"{readme}: a model card exists there; give another folder, --force or --no-card")


def import_run(
    file: str | Path, out: str | Path, source: str | Config | None = None, overrides: Sequence[str] = ()
) -> Path:
    """Make a run folder ``out`` with the weights of ``file``, and return its path; ``last.h5`` holds the weights.

    The run has done no epoch: ``eqnp.open_run(out, checkpoint="last")`` opens it, ``eqnp.resume(out)`` trains it.

    The file is one that ``export_run`` wrote, or a ``state_dict`` of the published code. ``source`` is the preset, the
    TOML file or the configuration of the network; None: the one that the file has. ``overrides`` change its keys.

    Raises:
        CheckpointError: the file is missing or damaged, or its arrays are not the weights of that network.
        ConfigurationError: there is no configuration, it is wrong, or ``out`` is not a new folder.
        BackendError: the package of the format is not installed.
    """
    file = Path(file)
    arrays, note = from_file(file)
    config = with_lasting_folder(with_threads(_configuration(file, note, source, overrides)), search=False)
    session = Session.start(config, get_backend("numpy"), trains=False, read=outline_of)
    parameters = _parameters(file, arrays, note, session)
    state = State(parameters, session.learner.update.init(parameters))
    with RunFolder.create(out, to_toml(config)) as folder:
        folder.write_environment(describe_environment("numpy"))
        checkpoint.save(folder.last_path, to_content(state) | {CONFIG: to_toml(config)}, kind=KIND)
        return folder.path


def _configuration(
    file: Path, note: Mapping[str, str], source: str | Config | None, overrides: Sequence[str]
) -> Config:
    if source is not None:
        return load(source, overrides)
    if CONFIG not in note:
        raise ConfigurationError(
            f"{file}: has no configuration of its network; name one by --config PRESET or CONFIG.toml"
        )
    try:
        return load(parse("its configuration", note[CONFIG]), overrides)
    except ConfigurationError as error:
        raise ConfigurationError(f"{file}: {error}") from None


def _parameters(
    file: Path, arrays: Mapping[str, np.ndarray], note: Mapping[str, str], session: Session
) -> dict[str, np.ndarray]:
    """Return the arrays as the parameters of the session's network, in their order."""
    architecture = session.learner.network.architecture
    published = note.get("layout") == PUBLISHED or any(name.startswith(("synapses.", "B_syn.")) for name in arrays)
    try:
        if published:
            arrays = from_published(architecture, arrays)
        require_parameters(arrays, architecture.parameter_shapes())
    except (EqnpError, ValueError) as error:
        raise CheckpointError(f"{file}: {error}; --config names another configuration") from None
    found, wanted = next(iter(arrays.values())).dtype, np.dtype(session.config.training.dtype)
    if found != wanted:
        raise CheckpointError(
            f"{file}: its weights are {found}, the configuration has {wanted}; add --set training.dtype={found}"
        )
    if bad := [name for name, a in arrays.items() if not np.isfinite(a).all()]:
        raise CheckpointError(f"{file}: {bad[0]} has NaN or an infinite number")
    return {name: arrays[name] for name in architecture.parameter_shapes()}


def _is_card(path: Path) -> bool:
    try:
        return MARK in read_bounded(path, 1_000_000).decode("utf-8", "replace")
    except OSError:
        return False


def _listed(endings: Sequence[str]) -> str:
    return " or ".join([", ".join(endings[:-1]), endings[-1]]) if len(endings) > 1 else endings[0]
