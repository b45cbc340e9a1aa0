"""The functions of ``import eqnp``: read data, train, resume and open runs, build networks, compute gradients.

They accept what a user has, such as the name of a preset, labels, or arrays, and call the modules below. Nothing is
computed here.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from eqnp import estimators, reference
from eqnp.api.fitting import OWN, fitted, read_dataset
from eqnp.api.report import Callback, Report
from eqnp.api.run import Run, outline_of
from eqnp.api.session import Read
from eqnp.api.session import open_run as open_session
from eqnp.api.starting import Ended, resume_run, start_run
from eqnp.architecture import Architecture
from eqnp.backends.backend import Array, array_module, get_backend
from eqnp.contrasts import Contrast, default_contrast
from eqnp.data import Dataset, from_arrays, hold_out
from eqnp.data import load as read_published
from eqnp.dropout import Masks
from eqnp.dynamics import Observer, Phase, Phases, Relaxation
from eqnp.dynamics import relax as relax_prepared
from eqnp.errors import ConfigurationError, memory_errors
from eqnp.estimators import Estimate
from eqnp.inputs import require_array
from eqnp.learner import PARAMETERS
from eqnp.losses import one_hot
from eqnp.networks import Network, Parameters, SymmetricNetwork, VectorFieldNetwork
from eqnp.prepared import Beta, PreparedNetwork, PreparedWeights
from eqnp.reference import Implicit
from eqnp.runs.config import Config, check
from eqnp.runs.configfile import load
from eqnp.runs.experiment import make_architecture, make_network
from eqnp.runs.overrides import toml_value
from eqnp.runs.runfolder import RunFolder
from eqnp.stencils import Stencil

Source = str | Path | Config | None
Settings = Mapping[str, Any] | None


def configure(source: Source = None, settings: Settings = None) -> Config:
    """Return a configuration: a preset's or a TOML file's (None: the preset ``digits``), changed by ``settings``.

    ``settings`` maps keys to values, ``{"training.epochs": 2}``; docs/configuration.md has all keys.

    Raises:
        ConfigurationError: no such preset, file or key, or a value that is not accepted.
    """
    return load(str(source) if isinstance(source, Path) else source, _lines(settings), said="settings: ")


def load_data(name: str = "mnist-small", folder: str | Path | None = None) -> Dataset:
    """Return a published dataset, found as training finds it: ``mnist-small`` is in the package.

    It has ``train_images`` and ``test_images`` (N, H, W, C) uint8, ``train_labels`` and ``test_labels`` (N,) int64 and
    ``classes``, their names. ``folder`` is searched first.

    Raises:
        ConfigurationError: no dataset has that name.
        DataError: it is not found, or damaged; ``eqnp data fetch`` downloads it.
    """
    return read_published(name, folder)


def train(
    source: Source = None,
    settings: Settings = None,
    *,
    out: str | Path | None = None,
    data: Sequence[Array] | None = None,
    backend: str = "numpy",
    report: Callable[[str], None] | None = None,
    callbacks: Sequence[Callback] = (),
) -> Run:
    """Train a network, as the command ``eqnp train`` does, and return the run.

    ``source`` is the name of a preset, the path of a TOML file or a ``Config``; ``settings`` change its keys. ``out``
    is the run folder to make (None: runs/NAME-TIME). ``data`` are arrays of your own, (x_train, y_train, x_test,
    y_test), in place of a dataset: x (N, H, W, C), (N, H, W) or (N, D), y (N,) from 0 or one-hot; the last layer then
    gets as many units as there are classes. ``report`` is called with a line per epoch, such as ``print``; each of
    ``callbacks`` with every event of the run, a mapping: its "event" is ``start``, ``progress``, ``epoch`` or ``end``,
    and docs/api.md lists its keys. Training stops after an epoch for whose event a callback returns True.

    The run has its best weights (docs/configuration.md says which these are), or the last where there are none. Ctrl-C
    saves the run, then raises KeyboardInterrupt; ``eqnp.resume`` goes on.

    Raises:
        ConfigurationError: a key, a value or the run folder is wrong.
        ValueError: ``data`` do not fit each other.
        EqnpError: as the command reports it; ``eqnp.errors`` has all kinds.
    """
    config, read = _with_data(configure(source, settings), data)
    where = None if out is None else Path(out)
    with _no_overflow_warnings():
        ended = start_run(config, partial(get_backend, backend), where, Report(report, callbacks), read)
    return _result(ended, data, backend)


def resume(
    path: str | Path,
    settings: Settings = None,
    *,
    data: Sequence[Array] | None = None,
    backend: str = "numpy",
    report: Callable[[str], None] | None = None,
    callbacks: Sequence[Callback] = (),
) -> Run:
    """Resume a run where it stopped, as the command ``eqnp train --resume`` does, and return it.

    ``settings`` change keys, ``{"training.epochs": 20}``; ``data`` are the arrays that it is trained on, if it is. The
    rest is as for ``train``.

    Raises:
        ConfigurationError: there is no run, or a key cannot change after the start of a run.
        EqnpError: as the command reports it.
        ValueError: ``data`` differ from what the run was trained on in shape, classes or kind.
    """
    config = load(str(RunFolder.open(path).config_path))
    read = None if data is None else _same_data(config, data)
    with _no_overflow_warnings():
        code = resume_run(Path(path), _lines(settings), partial(get_backend, backend), Report(report, callbacks), read)
    return _result(Ended(Path(path), code), data, backend)


@contextmanager
def _no_overflow_warnings() -> Iterator[None]:
    """Silence NumPy's warnings about NaN and infinity: a run reports them as one DivergedError."""
    with memory_errors(), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        yield


def _result(ended: Ended, data: Sequence[Array] | None, backend: str) -> Run:
    """Return the finished run, or raise the exception of the signal that stopped it."""
    if ended.exit_code == 130:
        raise KeyboardInterrupt(f"stopped; the run is saved in {ended.path}")
    if ended.exit_code:
        raise SystemExit(ended.exit_code)
    best = RunFolder(ended.path).best_path.exists()
    return open_run(ended.path, checkpoint="best" if best else "last", data=data, backend=backend)


def open_run(
    path: str | Path, *, checkpoint: str = "best", data: Sequence[Array] | None = None, backend: str = "numpy"
) -> Run:
    """Return the run in a folder, with its ``best`` or its ``last`` weights. Its dataset is read when it is evaluated.

    ``data`` are the arrays that it was trained on, if it was, as ``eqnp.train`` takes them.

    Raises:
        ConfigurationError: there is no run, or ``checkpoint`` is neither ``best`` nor ``last``.
        CheckpointError: the weights are missing or damaged.
        ValueError: ``data`` are not such as the run was trained on.
    """
    if checkpoint not in ("best", "last"):
        raise ConfigurationError(f"checkpoint = {checkpoint!r}: choose best or last")
    session, state = open_session(Path(path), partial(get_backend, backend), (), checkpoint, read=outline_of)
    run = Run(Path(path), checkpoint, state, session)
    return run if data is None else replace(run, _read=_same_data(session.config, data))


def build(
    source: Source | Architecture = None, settings: Settings = None, *, seed: int | None = None, dtype: Any = None
) -> tuple[Network, dict[str, np.ndarray]]:
    """Return a network and its initial parameters, NumPy arrays by name, as a run with this seed begins.

    ``source`` is as ``train`` takes it, or an ``Architecture``. ``seed`` and ``dtype`` None: the configuration's.

    Raises:
        ConfigurationError: as ``configure``, or layers do not fit each other.
        ValueError: ``dtype`` is neither float32 nor float64.
    """
    gain = 1.0
    if isinstance(source, Architecture):
        if settings:
            raise ConfigurationError("settings: belong to a configuration, not to an Architecture")
        kind = VectorFieldNetwork if source.vector_field else SymmetricNetwork
        network: Network = kind(source)
    else:
        config = configure(source, settings)
        if config.data.name in OWN and not config.data.shape:
            config = fitted(config, read_dataset(config))
        outline = outline_of(config)
        shape, classes = outline.train_images.shape[1:], len(outline.classes)
        network = make_network(config.model, make_architecture(config.model, shape, classes))
        seed, dtype, gain = _or(seed, config.training.seed), _or(dtype, config.training.dtype), config.model.gain
    generator = np.random.default_rng([_or(seed, 0), PARAMETERS])
    return network, network.architecture.initial_parameters(generator, gain, _or(dtype, np.float32))


def estimate(
    network: Network,
    parameters: Parameters | PreparedWeights,
    x: Array,
    y: Array,
    stencil: Stencil,
    phases: Phases,
    *,
    contrast: Contrast | None = None,
    nudging: str = "plain",
    masks: Masks | None = None,
) -> Estimate:
    """Return the gradient of the loss, summed over the batch, by Equilibrium Propagation.

    x is (N, ...) of the parameters' dtype and module; y labels (N,) or one-hot (N, K). ``eqnp.estimators.estimate`` has
    the formula. ``nudging="asymmetric"`` is for vector fields: the exact gradient as beta goes to 0, whatever the two
    weights are (``eqnp.asymmetric``). It comes with its own contrast, ``asymmetric_contrast``.

    Raises:
        ValueError: an array has another shape, dtype or module than the network needs, or ``nudging`` is unknown.
        ConfigurationError: the contrast or the nudging is for the other kind of network, or they exclude each other.
    """
    if not isinstance(stencil, Stencil):
        raise ValueError(f"stencil: must be a Stencil such as eqnp.symmetric(0.1), not {stencil!r}")
    if not isinstance(phases, Phases):
        raise ValueError(f"phases: must be eqnp.Phases(T1=60, T2=20), free and nudged steps, not {phases!r}")
    target, own = _target(network, y, x), default_contrast(network, nudging=nudging)
    if nudging == "asymmetric" and contrast not in (None, own):
        raise ConfigurationError("nudging: asymmetric has a contrast of its own; leave contrast out")
    contrast = contrast or own
    return estimators.estimate(network, parameters, x, target, stencil, phases, contrast=contrast, masks=masks)


def relax(
    network: Network,
    parameters: Parameters | PreparedWeights,
    x: Array,
    phase: Phase | int = 20,
    *,
    states: Sequence[Array] | None = None,
    beta: Beta = 0.0,
    y: Array | None = None,
    masks: Masks | None = None,
    observe: Observer | None = None,
) -> Relaxation:
    """Settle a network on x (N, ...): freely, or nudged by ``beta`` towards y, labels (N,) or one-hot (N, K).

    It starts from ``states`` (None: zeros); a nudged phase as a rule from the free steady state. ``observe(t, states)``
    is called after every step and must copy what it keeps.

    Raises:
        ValueError: an array has another shape, dtype or module than the network needs, or beta has no y.
    """
    prepared = PreparedNetwork(network, parameters, x, masks)
    return relax_prepared(prepared, states, phase, beta, None if y is None else _target(network, y, x), observe)


def bptt(
    network: Network,
    parameters: Parameters | PreparedWeights,
    x: Array,
    y: Array,
    T1: int = 20,
    T2: int = 8,
    *,
    masks: Masks | None = None,
) -> dict[str, Array]:
    """Return the gradient of the loss after ``T1`` free steps through the last ``T2`` of them, summed over the batch.

    By parameter name. x is (N, ...); y labels (N,) or one-hot (N, K). ``eqnp.reference`` has the formula.

    Raises:
        ValueError: an array has another shape, dtype or module than the network needs, or T1 or T2 is out of its range.
    """
    target, prepared = _target(network, y, x), PreparedNetwork(network, parameters, x, masks)
    return reference.bptt_gradient(prepared, reference.trajectory(prepared, T1, T2), target)


def exact_gradient(
    network: Network,
    parameters: Parameters | PreparedWeights,
    x: Array,
    y: Array,
    *,
    steps: int = 2000,
    tolerance: float | None = None,
    masks: Masks | None = None,
    schedule: str = "synchronous",
    omega: float = 1.0,
) -> Implicit:
    """Return the gradient of the loss at the free steady state, summed over the batch, by implicit differentiation.

    ``schedule`` and ``omega`` are those of the free phase, as ``Phases`` takes them; below 1, ``omega`` damps the
    adjoint iteration as well.

    Both the free phase and the adjoint iteration end once nothing moves by more than ``tolerance`` (None: 16 eps of the
    dtype), after ``steps`` steps at most; ``residual`` says whether they got there.

    Raises:
        ValueError: an array has another shape, dtype or module than the network needs, or ``steps`` is below 1.
    """
    target, prepared = _target(network, y, x), PreparedNetwork(network, parameters, x, masks)
    still = 16 * float(np.finfo(x.dtype).eps) if tolerance is None else tolerance
    free = relax_prepared(prepared, None, Phase(steps, still, schedule, omega))
    found = reference.implicit_gradient(prepared, free.states, target, steps, still, omega=omega)
    return replace(found, residual=max(found.residual, free.residual))


def _target(network: Network, y: Array, x: Array) -> Array:
    """Return y as a target (N, K): labels (N,) become one-hot; anything else is checked by the network."""
    require_array("y", y)
    require_array("x", x)
    if len(y.shape) != 1 or y.dtype.kind not in "iu":
        return y
    own, its = array_module(y).__name__, array_module(x).__name__
    if own != its:
        raise ValueError(f"y is an array of {own}, x of {its}: both must be of one")
    return one_hot(y, network.architecture.classes, x.dtype)


def _with_data(config: Config, data: Sequence[Array] | None) -> tuple[Config, Read | None]:
    """Return a configuration for arrays, its last layer of as many units as they have classes, and how to read them."""
    if data is None:
        return config, None
    dataset = from_arrays(data)
    shape, pixels = dataset.train_images.shape[1:], dataset.train_images.dtype == np.uint8
    *layers, last = config.model.layers
    own = replace(
        config.data,
        name="arrays",
        folder="",
        file="",
        resize=(0, 0),
        shape=shape,
        classes=(),
        normalisation=_scale(config, pixels),
    )
    model = replace(config.model, layers=(*layers, replace(last, dense=len(dataset.classes))))
    config = replace(config, data=own, model=model)
    check(config)
    return config, partial(_arrays, dataset)


def _scale(config: Config, pixels: bool) -> str:
    """Return the normalisation of arrays: ``standard`` if it was asked for, else that of pixels or of floats.

    In the configuration of a run, floats that are scaled by mean and deviation have ``none``.
    """
    d = config.data
    if pixels:
        return "standard" if d.mean or d.normalisation == "standard" else "unit"
    return "standard" if d.normalisation == "standard" and not d.mean else "none"


def _same_data(config: Config, data: Sequence[Array]) -> Read:
    """Return how to read the arrays that a run with this configuration was trained on.

    Raises:
        ValueError: it was not trained on such arrays.
    """
    given, read = _with_data(config, data)
    if read is None or (given.data, given.model) != (config.data, config.model):
        raise ValueError(f"data are {_about(given)}: the run has {_about(config)}")
    return read


def _about(config: Config) -> str:
    d, classes = config.data, config.model.layers[-1].dense
    kind = {"none": "floats", "unit": "pixels", "standard": "pixels"}.get(d.normalisation, d.normalisation)
    return f"{kind} of shape {d.shape} in {classes} classes" if d.shape else f"the dataset {d.name}"


def _lines(settings: Settings) -> list[str]:
    """Return settings as ``load`` takes them."""
    return [f"{key}={toml_value(value)}" for key, value in (settings or {}).items()]


def _arrays(dataset: Dataset, config: Config) -> Dataset:
    """Return the part of a user's arrays that a configuration asks for, with its validation set."""
    d = config.data
    tests = d.test_samples or None
    dataset = replace(dataset, test_images=dataset.test_images[:tests], test_labels=dataset.test_labels[:tests])
    if d.validation:
        return hold_out(dataset, d.validation, config.training.seed, d.train_samples)
    count = d.train_samples or None
    return replace(dataset, train_images=dataset.train_images[:count], train_labels=dataset.train_labels[:count])


def _or(value: Any, other: Any) -> Any:
    return other if value is None else value
