"""A session: a configuration with its data and its learner, and how runs are opened."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from eqnp.api.fitting import fitted, read_dataset
from eqnp.backends.backend import Array, Backend
from eqnp.backends.sharding import Map, thread_map
from eqnp.data import AsGiven, Augmentation, Batches, Dataset, Normalisation, lasting_folder, lasting_path, outline
from eqnp.errors import CheckpointError, ConfigurationError
from eqnp.learner import Learner
from eqnp.runs import checkpoint
from eqnp.runs.changes import Change, differences, require_readable
from eqnp.runs.config import Config, require_trainable
from eqnp.runs.configfile import load, parse
from eqnp.runs.experiment import from_content, make_architecture, make_learner, with_threads
from eqnp.runs.runfolder import RunFolder
from eqnp.shown import quoted
from eqnp.training import State, initial_state

KIND = "training"  # the kind of a run's checkpoints
CONFIG = "config"  # the name in a checkpoint of its configuration, as TOML
OpenBackend = Callable[[], Backend]  # called once the configuration is read
Read = Callable[[Config], Dataset]
_SPARE_BYTES = 64_000_000  # of a checkpoint beyond its arrays; also names what differs in a somewhat larger network


@dataclass(frozen=True)
class Session:
    """A configuration with its dataset and learner, in memory."""

    config: Config
    dataset: Dataset
    learner: Learner
    changed: tuple[Change, ...] = ()  # what --set changed in a run's configuration

    @classmethod
    def start(cls, config: Config, backend: Backend, trains: bool = True, read: Read | None = None) -> Session:
        """Read the data and build the learner. Without ``trains`` no memory is planned for batches of BPTT.

        ``read`` returns the data of a configuration; None: the dataset that it names is read from its files.
        """
        if trains:
            require_trainable(config)
        dataset = (read or read_dataset)(config)
        return cls.on(fitted(config, dataset) if len(dataset.train_images) else config, backend, dataset, trains)

    @classmethod
    def on(cls, config: Config, backend: Backend, dataset: Dataset, trains: bool = True) -> Session:
        """Build the learner for a dataset in memory."""
        shape, samples = dataset.train_images.shape[1:], len(dataset.train_images) if trains else 0
        learner = make_learner(config, shape, len(dataset.classes), backend, samples)
        return cls(config, dataset, learner)

    def initial_state(self) -> State:
        """Return the state at the start of a run."""
        return initial_state(self.learner, self.config.model.gain, self.config.training.dtype)

    @property
    def chooses(self) -> str:
        """The split whose error selects the best epoch: ``validation`` if there is one, else ``test``."""
        return "validation" if self.dataset.validation_labels is not None else "test"

    def restore(self, path: Path) -> State:
        """Return the state in a checkpoint of this configuration."""
        return self.state_in(path, load_content(path, self.config))

    def state_in(self, path: Path, content: Mapping[str, object]) -> State:
        """Return the state in the ``content`` of the checkpoint at ``path``."""
        content = {name: value for name, value in content.items() if name != CONFIG}
        try:
            return from_content(content, self.learner, self.initial_state())
        except CheckpointError as error:
            raise CheckpointError(f"{path}: {error}") from None

    def map(self, tell: Callable[[str], None] = lambda message: None) -> AbstractContextManager[Map]:
        """Give a map over shards that uses the learner's threads; see ``thread_map``."""
        return thread_map(self.learner.workers, tell, bool(self.config.training.shards))

    def training_batches(self) -> Batches:
        """Return shuffled, augmented batches of the training images."""
        d = self.config.data
        return self._batches("train", augmentation=Augmentation(d.flip, d.crop, d.randaugment, d.magnitude))

    def ordered_batches(self, split: str) -> Batches:
        """Return the images of ``split`` (test, train or validation) in order, without augmentation."""
        return self._batches(split, in_order=True)

    def batches_of(self, images: np.ndarray, labels: np.ndarray) -> Batches:
        """Return images that belong to no split in order, as they are."""
        return self._make(images, labels, self.config.training.batch_size, in_order=True)

    def samples(self, split: str, indices: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """Return normalised images (N, H, W, C) and labels (N,) of chosen samples."""
        images, labels = self._split(split)
        batches = self._make(images[indices], labels[indices], len(indices), in_order=True)
        return batches.batch(0, 0)

    def images(self, split: str) -> np.ndarray:
        """Return the images of ``split`` as the dataset has them: (N, ...)."""
        return self._split(split)[0]

    def labels(self, split: str) -> np.ndarray:
        """Return the labels (N,) of ``split``."""
        return self._split(split)[1]

    def count(self, split: str) -> int:
        """Return the number of samples in ``split``."""
        return len(self._split(split)[1])

    def _split(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        d = self.dataset
        if split == "validation":
            if d.validation_images is None or d.validation_labels is None:
                raise ConfigurationError(
                    "--split validation: no samples are held out; a run with data.validation has some"
                )
            return d.validation_images, d.validation_labels
        return (d.test_images, d.test_labels) if split == "test" else (d.train_images, d.train_labels)

    def _batches(self, split: str, **options: Any) -> Batches:
        return self._make(*self._split(split), self.config.training.batch_size, **options)

    def _make(self, images: np.ndarray, labels: np.ndarray, size: int, **options: Any) -> Batches:
        d, training = self.config.data, self.config.training
        kind = Normalisation if images.dtype == np.uint8 else AsGiven
        if d.mean:
            normalisation = kind(d.mean, d.deviation)
        else:
            normalisation = kind() if kind is AsGiven else Normalisation.named(d.normalisation, d.name)
        return Batches(
            images, labels, size, normalisation=normalisation, seed=training.seed, dtype=training.dtype, **options
        )


def with_lasting_folder(config: Config, search: bool = True) -> Config:
    """Return the configuration with a data folder and file that commands find from every working folder."""
    folder = lasting_folder(config.data.name, config.data.folder, search)
    return replace(config, data=replace(config.data, folder=folder, file=lasting_path(config.data.file)))


def load_content(path: Path, config: Config) -> dict[str, Any]:
    """Return the content of a checkpoint, which is not read if it is far larger than the network needs.

    Raises:
        CheckpointError: it is too large, missing or damaged.
    """
    d, model = config.data, config.model
    known = outline(d.name, d.shape, model.layers[-1].dense)
    architecture = make_architecture(model, known.train_images.shape[1:], len(known.classes))
    weights = sum(map(math.prod, architecture.parameter_shapes().values()))
    most = _SPARE_BYTES + 5 * weights * np.dtype(config.training.dtype).itemsize  # Adam: 2 a weight; their average: 1
    return checkpoint.load(path, kind=KIND, most=most)


def open_run(
    path: Path, backend: OpenBackend, overrides: tuple[str, ...], which: str, read: Read | None = None
) -> tuple[Session, State]:
    """Return the session of a run and the state in its ``which`` checkpoint ("best" or "last"), for reading only."""
    folder = RunFolder.open(path)
    written, config = load(str(folder.config_path)), load(str(folder.config_path), overrides)
    changes = differences(written, config)
    require_readable(changes, quoted(path), overrides)
    session = Session.start(with_threads(config), backend(), trains=False, read=read)
    session = replace(session, changed=tuple(changes))
    file = folder.best_path if which == "best" else folder.last_path
    content = load_content(file, written)
    state = session.state_in(file, content)
    state = replace(state, parameters=state.evaluated)
    require_readable(differences(config_in(file, content) or written, written), quoted(path))
    return session, state


def config_in(path: Path, content: Mapping[str, object]) -> Config | None:
    """Return the configuration in the ``content`` of the checkpoint at ``path``; None in an old checkpoint without one.

    Raises:
        CheckpointError: the configuration has a key that this version does not know.
    """
    if CONFIG not in content:
        return None
    try:
        return parse("its configuration", str(content[CONFIG]))
    except ConfigurationError as error:
        raise CheckpointError(f"{path}: {error}; read it with the version of eqnp that wrote it") from None


def open_weights(
    target: str | None, overrides: tuple[str, ...], which: str, backend: OpenBackend
) -> tuple[Session, Mapping[str, Array]]:
    """Return a session, and the weights of a run (a folder) or the initial weights of a preset or configuration."""
    if target is not None and os.path.isdir(target):
        session, state = open_run(Path(target), backend, overrides, which)
    else:
        session = Session.start(with_threads(load(target, overrides)), backend(), trains=False)
        state = session.initial_state()
    return session, state.parameters
