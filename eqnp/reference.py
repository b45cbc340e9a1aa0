"""The reference gradients: backpropagation through time, by hand from the adjoint of one step, and its limit.

The free phase reaches s_T in T1 steps of s_{t+1} = sigma(F(s_t)). With lambda_T = dl/ds(s_T) and the step's own adjoint
(``eqnp.derivatives.step_vjp``),

    lambda_t = J_t^T lambda_{t+1}
    gradient = dl/dtheta + sum over the last T2 steps of  (ds_{t+1}/dtheta)^T lambda_{t+1}

The adjoint of a step uses the four maps of a connection with their roles swapped. It needs no other kernels.

At a steady state every J_t is the same J, and the limit of large T2 is implicit differentiation:
lambda_* = J^T lambda_* + dl/ds, and the gradient is dl/dtheta + (ds'/dtheta)^T lambda_*, where dl/dtheta is that of the
readout. Estimators are compared with this exact gradient.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from eqnp.backends.backend import Array, array_module
from eqnp.derivatives import step_vjp
from eqnp.dynamics import Relaxation, relax, residual
from eqnp.errors import OutOfMemoryError
from eqnp.inputs import require_count
from eqnp.networks import Gradient, States, accumulate
from eqnp.prepared import PreparedNetwork
from eqnp.step import step


@dataclass(frozen=True)
class Trajectory:
    """The last T2 of T1 free steps: the start of each segment, the states of the last segment, and the end.

    Each set of states is s^1 .. s^L, each (N, ...). The states inside earlier segments are computed again when they are
    needed. Memory: the states of one segment, and one set of states per segment.
    """

    starts: list[list[Array]]
    lengths: list[int]
    last: list[list[Array]]
    final: Relaxation


def trajectory(prepared: PreparedNetwork, T1: int, T2: int, segment: int = 0) -> Trajectory:
    """Take ``T1`` free steps from zero states and keep the last ``T2``, all or in segments (0: all).

    Raises:
        ValueError: T1, T2 or ``segment`` is out of its range.
    """
    require_count("T1", T1, 1)
    require_count("T2", T2, 1, T1, why=": BPTT goes back through at most the T1 free steps")
    require_count("segment", segment, 0)
    start = relax(prepared, None, T1 - T2).states
    lengths = [min(segment or T2, T2 - done) for done in range(0, T2, segment or T2)]
    starts = [start]
    for length in lengths[:-1]:
        starts.append(relax(prepared, starts[-1], length).states)
    last = _steps(prepared, starts[-1], lengths[-1])
    final = Relaxation(last[-1], residual(last[-1], last[-2]), T1)
    return Trajectory(starts, lengths, last[:-1], final)


def _steps(prepared: PreparedNetwork, start: States, count: int) -> list[list[Array]]:
    """Return ``start`` and the states after each of ``count`` free steps from it."""
    states = [list(start)]
    for _ in range(count):
        states.append(step(prepared, states[-1]))
    return states


def backpropagate(prepared: PreparedNetwork, path: Trajectory, target: Array) -> Iterator[tuple[list[Array], Gradient]]:
    """Yield (lambda_{t+1}, the contribution of the step from t to the gradient) from the last step backwards, T2 times.

    The first contribution includes dl/dtheta, the only one to the readout's parameters. Target (N, K).

    Raises:
        ValueError: the target is not (N, K) for the samples of the network.
    """
    prepared.require_target(target)
    network, parameters = prepared.network, prepared.parameters
    cotangent = [array_module(s).zeros_like(s) for s in path.final.states]
    cotangent[-1] += network.dl_ds(parameters, path.final.states, target)
    own = network.dl_dtheta(parameters, path.final.states, target)
    for number in reversed(range(len(path.starts))):
        is_last = number == len(path.starts) - 1
        before = path.last if is_last else _steps(prepared, path.starts[number], path.lengths[number] - 1)
        for states in reversed(before):
            before_step, gradient = step_vjp(prepared, states, cotangent)
            yield cotangent, gradient | own
            cotangent = before_step
            own = {name: array_module(g).zeros_like(g) for name, g in own.items()}


def bptt_gradient(prepared: PreparedNetwork, path: Trajectory, target: Array) -> Gradient:
    """Return the gradient of the loss through the steps of ``path``, summed over samples. Target (N, K)."""
    total: Gradient = {}
    for _, gradient in backpropagate(prepared, path, target):
        accumulate(total, gradient)
    return prepared.unscaled(total)


def plan_segments(T2: int, step_bytes: int, memory: float | None) -> int:
    """Return for how many steps to keep the states at once: all T2 if they fit ``memory`` bytes, else about sqrt(T2).

    ``step_bytes`` is the size of the states of one step; ``memory`` None means no limit.

    Raises:
        OutOfMemoryError: not even the segments fit; the message says how much is needed.
    """
    if memory is None or T2 * step_bytes <= memory:
        return T2
    segment = math.ceil(math.sqrt(T2))
    least = (segment + math.ceil(T2 / segment)) * step_bytes
    if least > memory:
        raise OutOfMemoryError(
            f"bptt through {T2} steps needs {T2 * step_bytes / 1e9:.2g} GB for the states of a batch, or "
            f"{least / 1e9:.2g} GB if it computes them twice, and may use {memory / 1e9:.2g} GB; lower "
            "training.batch_size or dynamics.T2, or raise training.memory_gb"
        )
    return segment


PATIENCE, LEAST_OMEGA = 20, 1 / 16  # steps after which omega is halved if the residual did not fall, and its least


@dataclass(frozen=True)
class Implicit:
    """The gradient at a steady state by implicit differentiation, and the residual of its adjoint iteration."""

    gradient: Gradient
    residual: float
    steps: int


def implicit_gradient(
    prepared: PreparedNetwork, steady: States, target: Array, steps: int, tolerance: float, omega: float = 1.0
) -> Implicit:
    """Return the loss's gradient at the steady state ``steady``, each (N, ...), summed over samples. Target (N, K).

    lambda <- lambda + omega (J^T lambda + dl/ds - lambda) is repeated until J^T lambda + dl/ds - lambda is at most
    ``tolerance``, for ``steps`` steps at most. It begins with ``omega``, at most 1, and halves it whenever this does
    not fall. Without damping it grows where J has an eigenvalue of -1 or less, or complex ones outside the unit circle:
    at steady states that sweeps or damped steps reach and synchronous steps do not.

    Raises:
        ValueError: states or target do not fit the network, or ``steps`` is below 1.
    """
    require_count("steps", steps, 1)
    prepared.require_states(steady)
    prepared.require_target(target)
    network, parameters = prepared.network, prepared.parameters
    source = network.dl_ds(parameters, steady, target)
    cotangent = [array_module(s).zeros_like(s) for s in steady]
    size, t, omega, before = float("inf"), 0, min(omega, 1.0), float("inf")
    while t < steps and not size <= tolerance:
        t += 1
        back, _ = step_vjp(prepared, steady, cotangent, by_parameters=False)
        back[-1] += source
        size = residual(back, cotangent)
        cotangent = back if omega == 1 else [c + omega * (b - c) for b, c in zip(back, cotangent, strict=True)]
        if t % PATIENCE == 0:
            omega = omega if size < before else max(omega / 2, LEAST_OMEGA)
            before = size
    _, gradient = step_vjp(prepared, steady, cotangent)
    return Implicit(prepared.unscaled(gradient | network.dl_dtheta(parameters, steady, target)), size, t)
