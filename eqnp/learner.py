"""The learner: how a batch becomes a gradient, by EP or by BPTT.

Random numbers are a function of the seed, the epoch and the batch, so a resumed run draws the same ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from eqnp.backends.backend import Array, Backend
from eqnp.backends.sharding import cut
from eqnp.contrasts import Contrast, add_partners, common_contrast
from eqnp.dropout import Masks
from eqnp.dynamics import Phases
from eqnp.errors import ConfigurationError
from eqnp.estimators import Estimate, estimate
from eqnp.holomorphic import require_holomorphic
from eqnp.networks import Network
from eqnp.optim import Update
from eqnp.prepared import PreparedNetwork, PreparedWeights
from eqnp.reference import bptt_gradient, trajectory
from eqnp.stencils import Stencil, make_stencil

# Purposes of random numbers. With the seed of the run, each has its own generator.
PARAMETERS, _SIGNS, _MASKS = 101, 102, 103


@dataclass(frozen=True)
class BPTT:
    """Training by backpropagation through the last T2 of T1 free steps, instead of EP.

    ``segment`` is how many states are kept at once (0: all). With ``common_update`` forward and backward weights learn
    from one gradient, the sum of both, which is that of a shared weight.
    """

    segment: int = 0
    common_update: bool = False

    def gradient(self, prepared: PreparedNetwork, phases: Phases, target: Array) -> Estimate:
        """Return the gradient of the loss summed over the samples; target (N, K)."""
        path = trajectory(prepared, phases.T1, phases.T2, self.segment)
        gradient = bptt_gradient(prepared, path, target)
        if self.common_update:
            add_partners(gradient)
        outputs = prepared.network.outputs(prepared.parameters, path.final.states)
        return Estimate(gradient, prepared.network.loss.value(outputs, target), outputs, path.final)


@dataclass(frozen=True)
class Learner:
    """What stays the same during a run: the network, how a batch becomes a gradient, and how that becomes an update.

    ``contrast`` is how EP makes a gradient of steady states; ``joint`` runs all its nudged phases as one batch. EP's
    settings are there with ``bptt`` too: ``eqnp check`` compares both.

    Raises:
        ConfigurationError: no estimator can divide by ``beta``, or circle fits neither the network nor its points.
    """

    network: Network
    backend: Backend
    phases: Phases
    # Equilibrium Propagation
    estimator: str
    beta: float
    points: int  # of the estimator circle
    contrast: Contrast
    joint: bool
    bptt: BPTT | None  # trains instead of EP
    update: Update
    seed: int
    threads: int
    smoothing: float = 0.0  # of the labels in training
    cuts: int = 0  # the number of shards of a batch; 0: one a thread on a CPU, the whole batch on a GPU

    def __post_init__(self) -> None:
        if self.bptt is None:
            try:
                is_complex = self.stencil(0, 0).is_complex
            except ValueError as error:
                raise ConfigurationError(f"dynamics.{error}") from None
            if is_complex:
                self._require_holomorphic()

    def _require_holomorphic(self) -> None:
        try:
            require_holomorphic(self.network)
        except ConfigurationError as error:
            raise ConfigurationError(f"training.estimator = {self.estimator}: {error}") from None

    def remedy(self, dtype: np.typing.DTypeLike) -> tuple[str, str]:
        """Return what to do about a run that diverged, and the configuration key that most likely helps.

        The best step of a central difference is about eps^(1/3). A beta below it adds more rounding than it saves bias,
        so lowering beta further does not help.
        """
        least = float(np.finfo(dtype).eps) ** (1 / 3)
        if self.bptt is not None:
            return f"lower optimizer.rates or model.gain{self._growth}", "optimizer.rates"
        if self.beta >= least:
            return f"lower optimizer.rates, model.gain or dynamics.beta{self._growth}", "optimizer.rates"
        return (
            f"raise dynamics.beta: at {self.beta:g} a gradient is mostly rounding in {np.dtype(dtype)}, which wants "
            f"{least:.0e} or more; or lower optimizer.rates or model.gain{self._growth}"
        ), "dynamics.beta"

    @property
    def common_update(self) -> bool:
        """Whether both weights of a connection learn from one gradient (KP-VF)."""
        return self.contrast is common_contrast if self.bptt is None else self.bptt.common_update

    @property
    def _growth(self) -> str:
        """What else helps where layers without bounds feed each other: their states may grow without limit."""
        unbounded = {n: sigma.name for n, sigma in enumerate(self.network.activations) if not sigma.bounded}
        if len(unbounded) < 2:  # a linear output alone feeds layers that are bounded
            return ""
        name = next(iter(unbounded.values()))
        return f" (states of {name} can grow without limit; model.activation = relu6, in a new run, bounds them)"

    def stencil(self, epoch: int, batch: int) -> Stencil:
        """Return the estimator's stencil for one batch; a random sign is a function of (seed, epoch, batch)."""
        return make_stencil(self.estimator, self.beta, [self.seed, _SIGNS, epoch, batch], self.points)

    def masks(
        self, epoch: int, batch: int, samples: int, dtype: np.dtype, part: slice | None = None
    ) -> list[np.ndarray | None] | None:
        """Return the masks of dropout for a batch on the host, each (N, ...) or None; None without dropout.

        They are a function of (seed, epoch, batch) and stay the same in all phases, and in all steps of BPTT. Of the
        batch's ``samples`` samples only those of ``part`` are drawn, as they are in the whole (None: all).
        """
        architecture = self.network.architecture
        if all(keep == 1 for keep in architecture.keep):
            return None
        own = part or slice(0, samples)
        bits = np.random.PCG64([self.seed, _MASKS, epoch, batch])  # of default_rng
        generator = np.random.Generator(bits)

        def draw(keep: float, shape: tuple[int, ...]) -> np.ndarray:
            units = math.prod(shape)  # each takes one number of 64 bits from the generator
            bits.advance(own.start * units)
            mask = (generator.random((own.stop - own.start, *shape)) < keep).astype(dtype)
            bits.advance((samples - own.stop) * units)
            return mask

        return [
            None if keep == 1 else draw(keep, shape)
            for keep, shape in zip(architecture.keep, architecture.state_shapes, strict=True)
        ]

    def gradient(
        self, parameters: PreparedWeights, x: Array, target: Array, stencil: Stencil, masks: Masks | None
    ) -> Estimate:
        """Return the gradient of the loss summed over x (N, ...), target (N, K), by EP or by BPTT."""
        if self.bptt is not None:
            return self.bptt.gradient(PreparedNetwork(self.network, parameters, x, masks), self.phases, target)
        network, joint, contrast = self.network, self.joint, self.contrast
        return estimate(
            network, parameters, x, target, stencil, self.phases, joint=joint, contrast=contrast, masks=masks
        )

    def shards(self, samples: int) -> list[slice]:
        """Return the shards of a batch of ``samples``: ``cuts``, or one for each of the ``workers``."""
        return cut(samples, self.cuts or self.workers)

    @property
    def workers(self) -> int:
        """The number of threads that compute."""
        return self.backend.workers(self.threads)
