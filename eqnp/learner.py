"""The learner: how a batch becomes a gradient, by EP or by BPTT. What is random is a function of where the run is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from eqnp.backends.backend import Array, Backend
from eqnp.backends.sharding import cut
from eqnp.contrasts import Contrast, average_partners
from eqnp.dropout import Masks
from eqnp.dynamics import Phases
from eqnp.errors import ConfigurationError
from eqnp.estimators import Estimate, estimate
from eqnp.networks import Network
from eqnp.optim import Optimizer
from eqnp.prepared import PreparedNetwork, PreparedWeights
from eqnp.reference import bptt_gradient, trajectory
from eqnp.stencils import Stencil, make_stencil

# What a random stream is for; with the run's seed it makes a generator of its own.
PARAMETERS, _SIGNS, _MASKS = 101, 102, 103


@dataclass(frozen=True)
class Learner:
    """What stays the same during a run: network, estimator, optimiser, and where they are computed.

    ``algorithm`` is ``ep`` or ``bptt``; ``segment`` is how many states BPTT keeps at once, ``contrast`` how EP makes a
    gradient of steady states. With ``common_update`` forward and backward weights learn from one gradient. ``rates``
    maps a parameter's name to its rate at an epoch (from 0); ``decays`` to its weight decay.

    Raises:
        ConfigurationError: no estimator can divide by ``beta``.
    """

    network: Network
    backend: Backend
    algorithm: str
    estimator: str
    contrast: Contrast
    common_update: bool
    segment: int
    phases: Phases
    beta: float
    optimizer: Optimizer
    rates: Callable[[int], Mapping[str, float]]
    decays: Mapping[str, float]
    seed: int
    threads: int
    joint: bool  # all nudged phases as one batch

    def __post_init__(self) -> None:
        if self.algorithm == "ep":
            try:
                self.stencil(0, 0)
            except ValueError as error:
                raise ConfigurationError(f"dynamics.{error}") from None

    def remedy(self, dtype: np.typing.DTypeLike) -> tuple[str, str]:
        """Return what to do about a run that diverged, and the key that most likely cures it.

        A central difference is best with a step of about eps^(1/3): a beta below it adds rounding and saves no bias, so
        lowering beta further is no cure.
        """
        least = float(np.finfo(dtype).eps) ** (1 / 3)
        if self.algorithm != "ep":
            return "lower optimizer.rates or model.gain", "optimizer.rates"
        if self.beta >= least:
            return "lower optimizer.rates, model.gain or dynamics.beta", "optimizer.rates"
        return (
            f"raise dynamics.beta: at {self.beta:g} a gradient is mostly rounding in {np.dtype(dtype)}, which wants "
            f"{least:.0e} or more; or lower optimizer.rates or model.gain"
        ), "dynamics.beta"

    def stencil(self, epoch: int, batch: int) -> Stencil:
        """Return the estimator's stencil for one batch; a random sign is a function of (seed, epoch, batch)."""
        return make_stencil(self.estimator, self.beta, [self.seed, _SIGNS, epoch, batch])

    def masks(self, epoch: int, batch: int, samples: int, dtype: np.dtype) -> list[np.ndarray | None] | None:
        """Return the masks of dropout for a whole batch on the host, or None without dropout.

        They are a function of (seed, epoch, batch) and hold through all phases, and so through all steps of BPTT.
        """
        architecture = self.network.architecture
        if all(keep == 1 for keep in architecture.keep):
            return None
        generator = np.random.default_rng([self.seed, _MASKS, epoch, batch])
        return [
            None if keep == 1 else (generator.random((samples, *shape)) < keep).astype(dtype)
            for keep, shape in zip(architecture.keep, architecture.state_shapes, strict=True)
        ]

    def gradient(
        self, parameters: PreparedWeights, x: Array, target: Array, stencil: Stencil, masks: Masks | None
    ) -> Estimate:
        """Return the gradient of the loss summed over x (N, ...), by EP or by BPTT."""
        if self.algorithm == "ep":
            return estimate(
                self.network,
                parameters,
                x,
                target,
                stencil,
                self.phases,
                joint=self.joint,
                contrast=self.contrast,
                masks=masks,
            )
        prepared = PreparedNetwork(self.network, parameters, x, masks)
        path = trajectory(prepared, self.phases.T1, self.phases.T2, self.segment)
        gradient = bptt_gradient(prepared, path, target)
        if self.common_update:
            average_partners(gradient)
        outputs = self.network.outputs(prepared.parameters, path.final.states)
        return Estimate(gradient, self.network.loss.value(outputs, target), outputs, path.final)

    def shards(self, samples: int) -> list[slice]:
        """Return the cut of a batch: one shard per thread on the CPU, the whole batch on a GPU."""
        return cut(samples, self.threads) if self.backend.name == "numpy" else [slice(0, samples)]
