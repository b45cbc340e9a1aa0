"""The poster's table: its rows by method, and the test errors that it gives for Equilibrium Propagation on CIFAR-10.

The figures are those of the poster *Scaling EqProp to Deep ConvNets by reducing its gradient estimator bias*
(Laborieux et al.): test error in percent, mean and standard deviation. Rows trained by BPTT have no figure here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from eqnp.runs.config import Config, Layer
from eqnp.runs.configfile import load
from eqnp.runs.datakeys import OWN_DATA

FULL_SIZE = "cifar10-ce-symmetric"  # the preset of the poster's network


@dataclass(frozen=True)
class Method:
    """What a row of the poster's table varies."""

    loss: str  # "squared error" or "cross-entropy"
    algorithm: str  # an estimator, or "BPTT"
    weights: str = ""  # "", "distinct weights" or "KP-VF"
    dropout: bool = False

    def __str__(self) -> str:
        parts = (self.loss, self.algorithm, self.weights, "dropout" if self.dropout else "")
        return ", ".join(filter(None, parts))


PUBLISHED = {
    Method("squared error", "one-sided"): (86.7, 5.8),
    Method("squared error", "random-sign"): (21.6, 20.0),
    Method("squared error", "symmetric"): (12.5, 0.2),
    Method("cross-entropy", "symmetric"): (11.7, 0.2),
    Method("cross-entropy", "symmetric", dropout=True): (11.9, 0.3),
    Method("cross-entropy", "symmetric", "distinct weights"): (75.5, 4.7),
    Method("cross-entropy", "symmetric", "KP-VF"): (13.2, 0.5),
}


def method_of(config: Config) -> Method:
    """Return the method of a configuration."""
    loss = "squared error" if config.model.loss == "squared_error" else "cross-entropy"
    algorithm = "BPTT" if config.training.algorithm == "bptt" else config.training.estimator
    if config.training.nudging == "asymmetric":
        algorithm += ", asymmetric nudging"
    distinct = "KP-VF" if config.training.common_update else "distinct weights"
    weights = distinct if config.model.kind == "vector-field" else ""
    return Method(loss, algorithm, weights, any(layer.keep < 1 for layer in config.model.layers))


def published(config: Config) -> tuple[float, float] | None:
    """Return the poster's test error and its standard deviation for the method of ``config``, or None.

    The error on 10 classes says nothing beside that on data of the user, or on 100 classes: None.
    """
    other = config.data.name in OWN_DATA or config.data.name == "cifar100"
    return None if other else PUBLISHED.get(method_of(config))


def is_full_size(config: Config) -> bool:
    """Return whether a configuration has the poster's dataset, network, feedback and number of epochs."""
    full = load(FULL_SIZE)
    same = config.data.name == full.data.name and config.training.epochs >= full.training.epochs
    whole = not (config.data.train_samples or config.data.test_samples)
    whole &= config.model.feedback == full.model.feedback
    return same and whole and list(map(_kept, config.model.layers)) == list(map(_kept, full.model.layers))


def _kept(layer: Layer) -> Layer:
    return replace(layer, keep=1.0)
