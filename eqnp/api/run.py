"""A trained run: configuration, metrics and weights, and predictions for new samples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from eqnp.api.fitting import read_dataset
from eqnp.api.results import progress_of
from eqnp.api.session import Read, Session
from eqnp.backends.backend import Array, to_host
from eqnp.data import Dataset, outline, take_inputs, take_labels
from eqnp.dynamics import relax
from eqnp.learner import Learner
from eqnp.networks import Network
from eqnp.prepared import PreparedNetwork, PreparedWeights
from eqnp.runs.config import Config
from eqnp.runs.runfolder import RunFolder
from eqnp.shown import shown
from eqnp.training import State, Tally, evaluate


@dataclass(frozen=True, eq=False, repr=False)
class Run:
    """A trained network in its run folder, as ``eqnp.train`` and ``eqnp.open_run`` return it.

    Images are (N, H, W, C), (N, H, W) for one channel, or (N, D): uint8 pixels, which are scaled as for training, or
    floats, which are used unchanged. Inputs may be NumPy or CuPy arrays; results are NumPy arrays.
    """

    path: Path
    checkpoint: str
    """Which checkpoint the weights come from: ``best`` or ``last``."""
    state: State
    """The state in that checkpoint, after ``state.epoch`` epochs."""
    _session: Session
    _read: Read = read_dataset

    def __repr__(self) -> str:
        """Return one line: the folder, the checkpoint, the configuration and the data."""
        weights = f"{self.checkpoint}.h5 after {progress_of(self.state)}"
        return f"<Run {self.path}: {weights}, {shown(self.config.name, 100)} on {self.config.data.name}>"

    @property
    def config(self) -> Config:
        """The configuration."""
        return self._session.config

    @property
    def network(self) -> Network:
        """The network, which has no weights of its own."""
        return self._session.learner.network

    @property
    def parameters(self) -> Mapping[str, Array]:
        """The weights by name, on the run's backend."""
        return self.state.parameters

    @property
    def metrics(self) -> list[dict[str, float]]:
        """The rows of metrics.csv, one per epoch: errors in percent, losses per sample, seconds."""
        return [{name: _number(text) for name, text in row.items()} for row in RunFolder(self.path).metrics()]

    def predict(self, images: Array) -> np.ndarray:
        """Return the class of every image: (N, ...) -> (N,) int64.

        Raises:
            ValueError: images of another shape or dtype than the network takes.
        """
        classes: np.ndarray = self.outputs(images).argmax(axis=1)
        return classes

    def outputs(self, images: Array) -> np.ndarray:
        """Return the output units, or the logits of a readout, at the free steady state: (N, ...) -> (N, classes).

        Raises:
            ValueError: images of another shape or dtype than the network takes.
        """
        network, parameters = self.network, self.parameters
        return np.concatenate([to_host(network.outputs(parameters, states)) for states in self._settled(images)])

    def states(self, images: Array) -> list[np.ndarray]:
        """Return the states s^1 .. s^L after the free phase, each (N, ...).

        Raises:
            ValueError: images of another shape or dtype than the network takes.
        """
        parts = [[to_host(s) for s in states] for states in self._settled(images)]
        return [np.concatenate(layer) for layer in zip(*parts, strict=True)]

    def check_images(self, images: Array) -> None:
        """Check that ``predict``, ``outputs`` and ``states`` take the images.

        Raises:
            ValueError: they are of another shape or dtype than the network takes, or of another scale.
        """
        self._inputs(images)

    def evaluate(self, split: str = "test", data: Sequence[Array] | None = None) -> Tally:
        """Return loss and error (percent) on a split of the run's data: ``test``, ``train`` or ``validation``.

        ``data`` (images, labels) are evaluated instead, if they are given.

        Raises:
            ConfigurationError: no such split, or the run's arrays were not given to ``eqnp.open_run``.
            DataError: the run's dataset is not found.
            ValueError: ``data`` do not fit the network.
        """
        if data is None:
            batches = self._with_data.ordered_batches(split)
        else:
            images = self._inputs(data[0])
            labels, _ = take_labels("labels", data[1], len(images), self.network.architecture.classes)
            batches = self._session.batches_of(images, labels)
        with self._session.map() as run:
            return evaluate(self._session.learner, self.parameters, batches, run)

    def with_data(self) -> Session:
        """Return the session of the run, with its dataset in memory."""
        return self._with_data

    @cached_property
    def _with_data(self) -> Session:
        """The session with the run's dataset in memory."""
        return replace(self._session, dataset=self._read(self.config))

    def _settled(self, images: Array) -> Iterator[list[Array]]:
        """Yield the states at the end of the free phase, shard after shard."""
        images = self._inputs(images)
        learner = self._session.learner
        weights = PreparedWeights(learner.network, self.parameters)
        batches = self._session.batches_of(images, np.zeros(len(images), np.int64))
        with self._session.map() as run:
            for index in range(batches.count):
                x, _ = batches.batch(0, index)
                shards = [x[part] for part in learner.shards(len(x))]
                yield from run(lambda part: settled(learner, weights, part), shards)

    def _inputs(self, images: Array) -> np.ndarray:
        """Return images on the host, if they are of the kind that this run was trained on.

        Raises:
            ValueError: they are not, or it is in doubt.
        """
        given = take_inputs("images", images, self.network.architecture.input_shape)
        scaled = self.config.data.normalisation
        if scaled == "none" and given.dtype == np.uint8:
            raise ValueError("images are uint8: this run was trained on floats; scale them as the training images were")
        if scaled in ("unit", "standard") and given.dtype != np.uint8 and (given.min() < 0 or given.max() > 1):
            low, high = given.min(), given.max()
            raise ValueError(
                f"images are {given.dtype} from {low:.4g} to {high:.4g}: this run was trained on pixels / 255, "
                "from 0 to 1; give those, or uint8 pixels"
            )
        return given


def settled(learner: Learner, weights: PreparedWeights, x: np.ndarray) -> list[Array]:
    """Return the states at the end of the free phase on x (N, ...), as training and evaluation have it."""
    prepared = PreparedNetwork(learner.network, weights, learner.backend.asarray(x))
    return relax(prepared, None, learner.phases.free).states


def outline_of(config: Config) -> Dataset:
    """Return the dataset of a configuration without samples: the shape of an input, and the classes."""
    return outline(config.data.name, config.data.shape, config.model.layers[-1].dense, config.data.classes)


def _number(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return float("nan")
