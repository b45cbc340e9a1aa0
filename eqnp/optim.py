"""Optimisers as init / update on dictionaries of arrays, and the learning-rate schedule.

Symbols: theta a parameter, g its gradient, eta the learning rate, lambda the weight decay (lambda theta is added to the
gradient), mu the momentum. Rates and decays are by parameter name; every array has the shape of its parameter.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from eqnp.backends.backend import Array, array_module
from eqnp.backends.blocks import blocks

Parameters = dict[str, Array]
State = dict[str, Any]  # nested dictionaries of arrays and numbers: what a checkpoint holds


class Optimizer(ABC):
    """``init`` makes the state of an optimiser, ``update`` returns new parameters and a new state."""

    @abstractmethod
    def init(self, parameters: Mapping[str, Array]) -> State:
        """Return the state before the first update."""

    @abstractmethod
    def update(
        self,
        gradient: Mapping[str, Array],
        state: State,
        parameters: Mapping[str, Array],
        rates: Mapping[str, float],
        decays: Mapping[str, float],
    ) -> tuple[Parameters, State]:
        """Return parameters one step down the gradient, and the state after it.

        The arrays of the gradient are overwritten with the result. The other arguments are not changed.
        """


@dataclass(frozen=True)
class SGD(Optimizer):
    """v <- mu v + g + lambda theta;  theta <- theta - eta v."""

    momentum: float = 0.0

    def init(self, parameters: Mapping[str, Array]) -> State:
        """Return zero velocities, or nothing without momentum."""
        return {"velocity": _zeros_like(parameters)} if self.momentum else {}

    def update(
        self,
        gradient: Mapping[str, Array],
        state: State,
        parameters: Mapping[str, Array],
        rates: Mapping[str, float],
        decays: Mapping[str, float],
    ) -> tuple[Parameters, State]:
        """Return theta - eta v and the new velocities v."""
        new, velocity = {}, {}
        for name, theta in parameters.items():
            v = gradient[name]
            if decays[name]:
                v += decays[name] * theta
            if self.momentum:
                v += self.momentum * state["velocity"][name]
                velocity[name] = v
            new[name] = theta - rates[name] * v
        return new, ({"velocity": velocity} if self.momentum else {})


@dataclass(frozen=True)
class Adam(Optimizer):
    """Adam with bias correction (Kingma and Ba 2015, Algorithm 1); weight decay is added to the gradient.

    m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2;
    theta <- theta - eta (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + epsilon).
    """

    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    def init(self, parameters: Mapping[str, Array]) -> State:
        """Return zero moments and a count of 0."""
        return {"count": 0, "mean": _zeros_like(parameters), "variance": _zeros_like(parameters)}

    def update(
        self,
        gradient: Mapping[str, Array],
        state: State,
        parameters: Mapping[str, Array],
        rates: Mapping[str, float],
        decays: Mapping[str, float],
    ) -> tuple[Parameters, State]:
        """Return the parameters after one step and the new moments."""
        count = state["count"] + 1
        # sqrt(v / c2) + epsilon = (sqrt(v) + epsilon sqrt(c2)) / sqrt(c2): the corrections become two numbers
        root = math.sqrt(1 - self.beta2**count)
        scale = root / (1 - self.beta1**count)
        new, mean, variance = {}, {}, {}
        for name, theta in parameters.items():
            xp = array_module(theta)
            new[name] = xp.ascontiguousarray(gradient[name])
            mean[name], variance[name] = xp.empty_like(theta), xp.empty_like(theta)
            arrays = (new[name], theta, state["mean"][name], state["variance"][name], mean[name], variance[name])
            for g, old, m, v, new_m, new_v in _in_blocks(*arrays):
                if decays[name]:
                    g += decays[name] * old
                xp.square(g, out=new_m)
                new_m *= 1 - self.beta2
                xp.multiply(v, self.beta2, out=new_v)
                new_v += new_m
                xp.multiply(m, self.beta1, out=new_m)
                g *= 1 - self.beta1
                new_m += g
                xp.sqrt(new_v, out=g)
                g += self.epsilon * root
                xp.divide(new_m, g, out=g)
                g *= -rates[name] * scale
                g += old
        return new, {"count": count, "mean": mean, "variance": variance}


@dataclass(frozen=True)
class Update:
    """How the parameters of a run are updated: the optimiser, the learning rates by epoch, and the weight decays.

    ``rates`` maps an epoch (from 0) to the rate of every parameter by name; ``decays`` are by name too.
    """

    optimizer: Optimizer
    rates: Callable[[int], Mapping[str, float]]
    decays: Mapping[str, float]

    def take(
        self, gradient: Mapping[str, Array], state: State, parameters: Mapping[str, Array], epoch: int
    ) -> tuple[Parameters, State]:
        """Return the parameters after one update in ``epoch``, and the new state; ``gradient`` is overwritten."""
        return self.optimizer.update(gradient, state, parameters, self.rates(epoch), self.decays)


def _in_blocks(*arrays: Array) -> Iterator[tuple[Array, ...]]:
    """Yield the same part of all flattened arrays, small enough to stay in the cache between operations."""
    flat = [a.reshape(-1) for a in arrays]
    for block in blocks(flat[0], len(flat) * flat[0].itemsize):
        yield tuple(a[block] for a in flat)


def _zeros_like(parameters: Mapping[str, Array]) -> Parameters:
    return {name: array_module(theta).zeros_like(theta) for name, theta in parameters.items()}


def cosine(epoch: int, rate: float, minimum: float, t_max: int) -> float:
    """Return the rate in an epoch (from 0): minimum + (rate - minimum) (1 + cos(pi epoch / T_max)) / 2, then minimum.

    It stays at the minimum after T_max, where the formula would rise again.
    """
    if epoch >= t_max:
        return minimum
    return minimum + (rate - minimum) * (1 + math.cos(math.pi * epoch / t_max)) / 2
