"""What the commands share: a configuration's data, backend and learner, made once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eqnp import checkpoint
from eqnp.backend import Array, Backend, get_backend
from eqnp.cli.options import Place
from eqnp.config import Config
from eqnp.configfile import load
from eqnp.data import Augmentation, Batches, Dataset, Normalisation
from eqnp.data import load as load_data
from eqnp.errors import CheckpointError
from eqnp.experiment import from_content, make_learner, with_threads
from eqnp.learner import Learner
from eqnp.runfolder import RunFolder
from eqnp.training import State, initial_state

KIND = "training"  # of a run's checkpoints


@dataclass(frozen=True)
class Session:
    """A configuration with everything that it needs in memory."""

    config: Config
    dataset: Dataset
    learner: Learner

    @classmethod
    def start(cls, config: Config, backend: Backend, trains: bool = True) -> Session:
        """Read the data and build the learner; one that never ``trains`` needs no memory for batches of BPTT."""
        d = config.data
        return cls.on(config, backend, load_data(d.name, d.folder or None, d.train_samples, d.test_samples), trains)

    @classmethod
    def on(cls, config: Config, backend: Backend, dataset: Dataset, trains: bool = True) -> Session:
        """Build the learner for a dataset that is in memory."""
        shape, samples = dataset.train_images.shape[1:], len(dataset.train_images) if trains else 0
        learner = make_learner(config, shape, len(dataset.classes), backend, samples)
        return cls(config, dataset, learner)

    def initial_state(self) -> State:
        """Return the state of a run that has not begun."""
        return initial_state(self.learner, self.config.model.gain, self.config.training.dtype)

    def restore(self, path: Path) -> State:
        """Return the state in a checkpoint of this configuration."""
        content = checkpoint.load(path, kind=KIND)
        try:
            return from_content(content, self.learner, self.initial_state())
        except CheckpointError as error:
            raise CheckpointError(f"{path}: {error}") from None

    def training_batches(self) -> Batches:
        """Return shuffled, augmented batches of the training images."""
        d = self.config.data
        return self._batches("train", augmentation=Augmentation(d.flip, d.crop))

    def ordered_batches(self, split: str) -> Batches:
        """Return the images of ``split`` (test or train) in order, as they are."""
        return self._batches(split, in_order=True)

    def samples(self, split: str, indices: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """Return normalised images and labels of chosen samples."""
        images, labels = self._split(split)
        batches = self._make(images[indices], labels[indices], len(indices), in_order=True)
        return batches.batch(0, 0)

    def count(self, split: str) -> int:
        """Return the number of samples in ``split``."""
        return len(self._split(split)[1])

    def _split(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        d = self.dataset
        return (d.test_images, d.test_labels) if split == "test" else (d.train_images, d.train_labels)

    def _batches(self, split: str, **options: object) -> Batches:
        return self._make(*self._split(split), self.config.training.batch_size, **options)

    def _make(self, images: np.ndarray, labels: np.ndarray, size: int, **options: object) -> Batches:
        normalisation = Normalisation.named(self.config.data.normalisation, self.config.data.name)
        training = self.config.training
        return Batches(
            images, labels, size, normalisation=normalisation, seed=training.seed, dtype=training.dtype, **options
        )


def open_run(path: Path, backend: Place, overrides: tuple[str, ...], which: str) -> tuple[Session, State]:
    """Return a run's session and the state in its ``which`` ("best" or "last") checkpoint, for reading."""
    folder = RunFolder.open(path)
    session = Session.start(with_threads(load(str(folder.config_path), overrides)), get_backend(*backend), trains=False)
    return session, session.restore(folder.best_path if which == "best" else folder.last_path)


def open_weights(
    target: str | None, overrides: tuple[str, ...], which: str, backend: Place
) -> tuple[Session, Mapping[str, Array]]:
    """Return a session with the weights of a run (a folder) or the initial ones of a preset or configuration file."""
    if target is not None and os.path.isdir(target):
        session, state = open_run(Path(target), backend, overrides, which)
    else:
        session = Session.start(with_threads(load(target, overrides)), get_backend(*backend), trains=False)
        state = session.initial_state()
    return session, state.parameters
