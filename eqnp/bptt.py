"""Backpropagation through time, unrolled by hand from the adjoint of one step, and its limit at a steady state.

The free phase reaches s_T in T1 steps of s_{t+1} = sigma(F(s_t)). With lambda_T = dl/ds(s_T) and the step's own adjoint
(``PreparedNetwork.step_vjp``),

    lambda_t = J_t^T lambda_{t+1},        dL/dtheta = sum over the last T2 steps of  (ds_{t+1}/dtheta)^T lambda_{t+1}

The steps' adjoint uses the four maps of a connection with their roles swapped: no second derivation, no other kernel.

At a steady state every J_t is the same J, and letting T2 grow without end gives implicit differentiation:
lambda_* = J^T lambda_* + dl/ds, dL/dtheta = (ds'/dtheta)^T lambda_*, the exact gradient that estimators are measured
by.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from eqnp.backend import Array, array_module
from eqnp.dynamics import relax, residual
from eqnp.networks import PreparedNetwork, States

Gradient = dict[str, Array]


@dataclass(frozen=True)
class Trajectory:
    """The states before each of the last T2 of T1 free steps, and the state after the last one.

    Its memory grows with T2: ``T2`` times the size of the states.
    """

    before: list[list[Array]]
    final: list[Array]
    residual: float


def trajectory(prepared: PreparedNetwork, T1: int, T2: int) -> Trajectory:
    """Settle freely for ``T1`` steps from zero states and keep the last ``T2``."""
    start = relax(prepared, prepared.zero_states(), T1 - T2).states if T1 > T2 else prepared.zero_states()
    states = [start]
    for _ in range(T2):
        states.append(prepared.step(states[-1]))
    return Trajectory(states[:-1], states[-1], residual(states[-1], states[-2]))


def backpropagate(prepared: PreparedNetwork, path: Trajectory, target: Array) -> Iterator[tuple[list[Array], Gradient]]:
    """Yield (lambda_t, contribution of the step to the gradient) from the last step backwards, T2 times.

    The first contribution holds that of the loss itself, which the readout's parameters have no other of.
    """
    network, parameters = prepared.network, prepared.parameters
    cotangent = [array_module(s).zeros_like(s) for s in path.final]
    cotangent[-1] += network.dl_ds(parameters, path.final, target)
    own = network.dl_dtheta(parameters, path.final, target)
    for states in reversed(path.before):
        cotangent, gradient = prepared.step_vjp(states, cotangent)
        yield cotangent, gradient | {name: g if states is path.before[-1] else g * 0 for name, g in own.items()}


def bptt_gradient(prepared: PreparedNetwork, path: Trajectory, target: Array) -> Gradient:
    """Return dL/dtheta through the steps of ``path``, summed over samples."""
    total: Gradient = {}
    for _, gradient in backpropagate(prepared, path, target):
        for name, g in gradient.items():
            total[name] = total[name] + g if name in total else g
    return total


@dataclass(frozen=True)
class Implicit:
    """The gradient at a steady state by implicit differentiation, and how settled its adjoint iteration was."""

    gradient: Gradient
    residual: float
    steps: int


def implicit_gradient(
    prepared: PreparedNetwork, steady: States, target: Array, steps: int, tolerance: float
) -> Implicit:
    """Return dL/dtheta at the steady state ``steady``, summed over samples.

    lambda <- J^T lambda + dl/ds is repeated until it moves by at most ``tolerance``, for ``steps`` steps at most.
    """
    network, parameters = prepared.network, prepared.parameters
    source = network.dl_ds(parameters, steady, target)
    cotangent = [array_module(s).zeros_like(s) for s in steady]
    size, t, gradient = float("inf"), 0, {}
    for t in range(1, steps + 1):
        cotangent[-1] = cotangent[-1] + source if t == 1 else cotangent[-1]
        back, gradient = prepared.step_vjp(steady, cotangent)
        back[-1] += source
        size = residual(back, cotangent)
        cotangent = back
        if size <= tolerance:
            break
    _, gradient = prepared.step_vjp(steady, cotangent)
    return Implicit(gradient | network.dl_dtheta(parameters, steady, target), size, t)
