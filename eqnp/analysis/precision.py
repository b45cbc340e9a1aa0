"""Rounding error over beta: how much of an estimated gradient is floating-point noise, known before a run starts.

An estimate is a sum of c_k dPhi/dtheta (s_k), with c_k of order 1 / beta, over states that differ by O(beta). The
rounding error of the states does not shrink with beta. Every step rounds a state by rho. At a steady state the error e
satisfies e = J e + rho, with J the derivative of a step, and

    noise = sum of c_k [dPhi/dtheta (s + e_k) - dPhi/dtheta (s)],    |noise| = O(|rho| |dPhi/dtheta| / beta)

The noise is simulated. rho is measured for every unit: one step in float32 minus the same step in float64. Phases of
T2 steps then run in float64 with random noise of that size added to every step, and are contrasted as by the estimator.
For a run in float64 the result is scaled by the ratio of the two eps. Saturated units are not rounded, and the drive of
the static input is the same number in all phases. The products of the contrast are rounded too, by
c_k eps |dPhi/dtheta| / sqrt(12) each. Rounding errors of units with similar inputs are correlated, random noise is not:
the factor ``ALIKE``, a typical measured value, accounts for that.

The share of noise was compared with the difference of estimates in float32 and float64, for every kind of network and
estimator, initial and trained, at beta from 1e-1 to 1e-5. It is right within a factor of 4, most often within 2, if it
is below 1 and no sample changes its activity pattern. Above 1, nothing of the gradient is left.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from eqnp.backends.backend import Array, to_host
from eqnp.connections.conv_pool import ConvPoolConnection
from eqnp.contrasts import asymmetric_contrast, nudged_network, vector_field_contrast
from eqnp.dynamics import Phase, relax
from eqnp.errors import memory_errors
from eqnp.learner import Learner
from eqnp.losses import one_hot
from eqnp.networks import Gradient, States
from eqnp.prepared import PreparedNetwork
from eqnp.stencils import make_stencil
from eqnp.watching import squared_norm

SINGLE = float(np.finfo(np.float32).eps)
ENOUGH = 0.05  # a rounding error above this share of the gradient causes a warning
LARGEST = 10.0  # beta that a warning still names
ALIKE = 1.5  # correlated rounding relative to random rounding (measured: 0.6 to 4)
SAMPLES = 16  # at most; noise averages out over samples, so for a large batch the share is an upper bound
SAFE_BETA = 1e-5  # in float64 the rounding error of a gradient at this beta is far below 1 %


@dataclass(frozen=True)
class Rounding:
    """The rounding error of a gradient at ``beta``: ``share`` of the gradient of the weight ``name``, the worst one.

    ``precision`` is the name of the floating-point precision, ``eps`` its relative spacing.
    """

    beta: float
    share: float
    name: str
    precision: str
    eps: float
    feedback: float = 1.0

    @property
    def smallest_beta(self) -> float:
        """The smallest beta with a small rounding error, which is proportional to 1 / beta."""
        return self.beta * self.share / ENOUGH

    @property
    def warning(self) -> str:
        """One line that names the rounding error and the smallest useful beta; empty if the error is small."""
        if not self.share > ENOUGH:
            return ""
        return (
            f"warning: at dynamics.beta = {self.beta:g} rounding in {self.precision} is about {times(self.share)} the "
            f"gradient of {self.name}; take {self._cure}{self._other_cure}"
        )

    @property
    def _cure(self) -> str:
        beta = f"dynamics.beta = {_rounded_up(self.smallest_beta)} or more"
        if self.feedback == 1:
            return beta
        # Weak feedback makes the differences smaller for every layer that the nudge goes down.
        more = f"a model.feedback above {self.feedback:g}"
        return f"{more}, or {beta}" if self.smallest_beta <= LARGEST else more

    @property
    def _other_cure(self) -> str:
        if self.precision == "TF32":
            return ", or training.tf32 = false"
        in_double = self.share * float(np.finfo(np.float64).eps) / self.eps
        return ", or training.dtype = float64" if self.precision != "float64" and in_double <= ENOUGH else ""


def rounding_warning(learner: Learner, parameters: Mapping[str, Array], x: np.ndarray, labels: np.ndarray) -> str:
    """Return one line if the rounding error is not small, measured on the first samples of x, else an empty string.

    ``x`` (N, ...) and ``labels`` (N,) are on the host, x in the dtype of the run. BPTT has no beta and no such error.
    """
    found = find_rounding(learner, parameters, x, labels)
    return found.warning if found else ""


def find_rounding(
    learner: Learner, parameters: Mapping[str, Array], x: np.ndarray, labels: np.ndarray
) -> Rounding | None:
    """Return the rounding error, measured on the first samples of x; None for BPTT, or if memory is too small.

    ``x`` (N, ...) and ``labels`` (N,) are on the host, x in the dtype of the run.
    """
    if learner.bptt is not None:
        return None
    with suppress(MemoryError), memory_errors():  # the run itself reports it
        return estimate_rounding(learner, parameters, x[:SAMPLES], labels[:SAMPLES])
    return None


def estimate_rounding(learner: Learner, parameters: Mapping[str, Array], x: np.ndarray, labels: np.ndarray) -> Rounding:
    """Estimate the rounding error of the learner's gradient in the dtype of x (N, ...), without dropout.

    ``labels`` are (N,). The cost is that of about two updates on these samples in float64. States that grow without
    limit have no gradient to compare with: the share is then 0, and the run itself reports that it diverges.
    """
    single, double = (_prepare(learner, parameters, x, dtype) for dtype in (np.float32, np.float64))
    target = learner.backend.asarray(one_hot(labels, learner.network.architecture.classes, np.float64))
    settled = relax(single, None, learner.phases.free)
    eps = float(np.finfo(x.dtype).eps)
    how = _precision(learner, x.dtype), eps, learner.network.architecture.feedback
    if not settled.residual <= 1 and not all(sigma.bounded for sigma in learner.network.activations[:-1]):
        return Rounding(learner.beta, 0.0, "", *how)
    start = settled.states
    free = [s.astype(np.float64) for s in start]
    gradient = _gradient(learner, double, free, target)
    double.from_input = {e: (d.astype(np.float64), winner) for e, (d, winner) in single.from_input.items()}
    noise = _noise(learner, double, free, _rounding_of_a_step(learner, single, double, start), target)
    shares = {
        name: math.sqrt(noise[name] / square) / learner.beta * (eps / SINGLE)
        for name, g in gradient.items()
        if name.endswith(".weight") and not name.startswith("readout.") and (square := squared_norm(g))
    }
    worst = max(shares, key=lambda name: (shares[name] == shares[name], shares[name]), default="")
    return Rounding(learner.beta, shares.get(worst, 0.0), worst, *how)


def _prepare(learner: Learner, parameters: Mapping[str, Array], x: np.ndarray, dtype: type) -> PreparedNetwork:
    """Return the network with weights and inputs rounded to float32, then converted to ``dtype``."""
    cast = {name: p.astype(np.float32).astype(dtype) for name, p in parameters.items()}
    return PreparedNetwork(learner.network, cast, learner.backend.asarray(x.astype(np.float32).astype(dtype)))


def _gradient(learner: Learner, prepared: PreparedNetwork, free: States, target: Array) -> Gradient:
    """Return the estimate at a beta that is safe in float64. All terms start from the states ``free``."""
    stencil = make_stencil(learner.estimator, max(learner.beta, SAFE_BETA), [learner.seed], learner.points)
    phase = Phase(learner.phases.T2, 0.0, *learner.phases.way)
    terms = []
    network, start = nudged_network(learner.contrast, prepared, free)
    for beta, c in stencil.points:
        nudged = relax(network, start, phase, beta, target)  # all in the order of a nudged phase, beta 0 too
        terms.append((c, beta, nudged.states))
    return learner.contrast(prepared, free, terms, target)


def _rounding_of_a_step(
    learner: Learner, single: PreparedNetwork, double: PreparedNetwork, start: States
) -> list[np.ndarray]:
    """Return |rho| of every unit, one array (N, ...) per layer; 0 for saturated units.

    It is at least the average error of storing a number, eps |s| / sqrt(24): a free step may happen to be exact where a
    nudged step is not. If a pooling window changes its winner, the difference is not rounding: outliers are left out.
    """
    exact = _step(learner, double, [s.astype(np.float64) for s in start])
    result = []
    for sigma, rounded, s in zip(single.network.activations, _step(learner, single, start), exact, strict=True):
        s, error = to_host(s), np.abs(to_host(rounded).astype(np.float64) - to_host(s))
        inside, stored = (s > sigma.low) & (s < sigma.high), np.abs(s) * SINGLE / math.sqrt(24)
        found = error[inside & (error > 0)]
        error = np.where(error <= 100 * np.median(found), error, 0.0) if found.size else error
        result.append(np.where(inside, np.maximum(error, stored), 0.0))
    return result


def _step(learner: Learner, prepared: PreparedNetwork, states: States, target: Array | None = None) -> States:
    """Return the states after a step of a free phase or, with a target, of a nudged one with beta 0."""
    return relax(prepared, states, Phase(1, 0.0, *learner.phases.way), 0.0, target).states


def _noise(
    learner: Learner, prepared: PreparedNetwork, free: States, rho: Sequence[np.ndarray], target: Array
) -> dict[str, float]:
    """Return |beta noise|^2 in float32 by parameter."""
    stencil = make_stencil(learner.estimator, 1.0, [learner.seed], learner.points)
    # The noise of complex states is in their real parts, which are of order 1, not in the imaginary, of order beta.
    points = [(beta, c.real) for beta, c in stencil.points]
    generator = np.random.default_rng(0)
    network, start = nudged_network(learner.contrast, prepared, free)

    def phase(size: float) -> States:
        rounding = [learner.backend.asarray(size * ALIKE * r * generator.standard_normal(r.shape)) for r in rho]
        states = start
        for _ in range(learner.phases.T2):
            states = [s + e for s, e in zip(_step(learner, network, states, target), rounding, strict=True)]
        return states

    # beta is 0 in every term: without nudging only rounding contributes to the contrast
    terms = [(c, 0.0, phase(1.0 if beta else 0.0)) for beta, c in points]
    noise = {name: squared_norm(g) for name, g in learner.contrast(prepared, free, terms, target).items()}
    products = sum(c**2 for _, c in points) * SINGLE**2 / 12
    for name, g in learner.contrast(prepared, free, [(1.0, 0.0, start)], target).items():
        if not _contrasted_first(learner, name):
            noise[name] += products * squared_norm(g)
    return noise


def _contrasted_first(learner: Learner, name: str) -> bool:
    """Return whether states are subtracted before the product, which then rounds little."""
    fixed = learner.contrast is vector_field_contrast and name.startswith("forward.")
    fixed |= learner.contrast is asymmetric_contrast
    from_input = [edge for edge in learner.network.edges if not edge.lower]
    return fixed or name in {f"{edge.name}.weight" for edge in from_input} | {edge.bias for edge in from_input}


def _precision(learner: Learner, dtype: np.dtype) -> str:
    convolutions = (each for each in learner.network.connections if isinstance(each, ConvPoolConnection))
    devices = [getattr(connection, "device", None) for connection in convolutions]
    return str(np.dtype(dtype)) if all(getattr(device, "exact", True) for device in devices) else "TF32"


def times(share: float) -> str:
    """Return a share of 1 as words before a noun: "35 % of", "120 times"."""
    if share < 10:
        return f"{100 * share:.0f} % of"
    return f"{share:.0f} times" if share < 1e4 else f"{share:.0e} times"


def _rounded_up(number: float) -> str:
    """Return a number rounded up to one digit, as text."""
    unit = 10.0 ** math.floor(math.log10(number))
    return f"{math.ceil(number / unit - 1e-9) * unit:g}"
