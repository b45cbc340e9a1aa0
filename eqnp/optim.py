"""Optimisers as init / update on dictionaries of arrays, clipping by the norm, and the learning-rate schedule.

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
AVERAGE, AVERAGED = "average", "averaged"  # names in the state: the average of the parameters, and of how many updates
_START = 0.04  # the share of the learning rate with which a warm-up starts


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
    """v <- mu v + g + lambda theta;  theta <- theta - eta v.

    With ``nesterov``, as in PyTorch: theta <- theta - eta (g + lambda theta + mu v), with the new v. This is Nesterov's
    method in terms of the point at which the gradient is taken (Sutskever et al. 2013).

    Raises:
        ValueError: ``nesterov`` without momentum, which would change nothing.
    """

    momentum: float = 0.0
    nesterov: bool = False

    def __post_init__(self) -> None:
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov: needs momentum above 0")

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
        """Return theta - eta v, or with Nesterov's momentum theta - eta (g + mu v), and the new velocities v."""
        new, velocity = {}, {}
        for name, theta in parameters.items():
            g = gradient[name]
            if decays[name]:
                g += decays[name] * theta
            if self.nesterov:
                velocity[name] = g + self.momentum * state["velocity"][name]
                g += self.momentum * velocity[name]
            elif self.momentum:
                g += self.momentum * state["velocity"][name]
                velocity[name] = g
            new[name] = theta - rates[name] * g
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
    """How the parameters of a run are updated: the optimiser, the learning rates over time, and the weight decays.

    ``rates`` maps a time in epochs (2.5: in the middle of the third) to the rate of every parameter by name; ``decays``
    are by name too. ``clip_norm`` is the largest norm of the whole gradient (``clip_by_norm``), before weight decay is
    added; 0: not clipped. ``average`` is the decay rate per update of a moving average of the parameters
    (``moved_average``), which is part of the state; 0: none.
    """

    optimizer: Optimizer
    rates: Callable[[float], Mapping[str, float]]
    decays: Mapping[str, float]
    clip_norm: float = 0.0
    average: float = 0.0

    def init(self, parameters: Mapping[str, Array]) -> State:
        """Return the state before the first update: the optimiser's, and the average."""
        state = self.optimizer.init(parameters)
        if self.average:
            state |= {AVERAGE: {name: theta.copy() for name, theta in parameters.items()}, AVERAGED: 0}
        return state

    def take(
        self, gradient: Mapping[str, Array], state: State, parameters: Mapping[str, Array], time: float
    ) -> tuple[Parameters, State]:
        """Return the parameters after an update at ``time`` in epochs, and the new state; overwrites ``gradient``."""
        if self.clip_norm:
            clip_by_norm(gradient, self.clip_norm)
        parameters, after = self.optimizer.update(gradient, state, parameters, self.rates(time), self.decays)
        if self.average:
            count = state[AVERAGED] + 1
            after |= {AVERAGE: moved_average(state[AVERAGE], parameters, self.average, count), AVERAGED: count}
        return parameters, after


def moved_average(average: Parameters, parameters: Parameters, decay: float, count: int) -> Parameters:
    """Return the moving average of the parameters after update number ``count``, from the one before it.

        a <- a + (1 - d) (theta - a),    d = min(decay, count / (count + 10))

    The smaller d of the first updates forgets the initial parameters. Nothing passed in is changed.
    """
    move = 1 - min(decay, count / (count + 10))
    return {name: a + move * (parameters[name] - a) for name, a in average.items()}


def clip_by_norm(gradient: Mapping[str, Array], largest: float) -> None:
    """Scale a gradient, in place, so that its Euclidean norm over all parameters together is at most ``largest``.

        g <- g min(1, largest / (|g| + 1e-6))                  |g|^2 = sum over parameters of the sum of squares

    The factor is that of PyTorch's ``clip_grad_norm_``. Squares are summed in float64, which a float32 gradient cannot
    overflow, in the order of the names. The factor stays on the device. With NaN or infinity in any array the result
    has NaN too, so a run that diverged stays visible.
    """
    squares = 0.0
    for name in sorted(gradient):
        squares = squares + _sum_of_squares(gradient[name])
    xp = array_module(squares)
    factor = xp.minimum(largest / (xp.sqrt(squares) + 1e-6), 1.0)
    for g in gradient.values():
        g *= factor.astype(g.dtype)


def _sum_of_squares(g: Array) -> Array:
    """Return the sum of the squares of all entries, a 0-dimensional float64 array or scalar."""
    xp, total = array_module(g), 0.0
    for (part,) in _in_blocks(g):
        total = total + xp.square(part, dtype=xp.float64).sum()
    return total


def _in_blocks(*arrays: Array) -> Iterator[tuple[Array, ...]]:
    """Yield the same part of all flattened arrays, small enough to stay in the cache between operations."""
    flat = [a.reshape(-1) for a in arrays]
    for block in blocks(flat[0], len(flat) * flat[0].itemsize):
        yield tuple(a[block] for a in flat)


def _zeros_like(parameters: Mapping[str, Array]) -> Parameters:
    return {name: array_module(theta).zeros_like(theta) for name, theta in parameters.items()}


def cosine(epoch: float, rate: float, minimum: float, t_max: float) -> float:
    """Return the rate in an epoch (from 0): minimum + (rate - minimum) (1 + cos(pi epoch / T_max)) / 2, then minimum.

    It stays at the minimum after T_max, where the formula would rise again.
    """
    if epoch >= t_max:
        return minimum
    return minimum + (rate - minimum) * (1 + math.cos(math.pi * epoch / t_max)) / 2


def one_cycle(time: float, rate: float, minimum: float, t_max: float, warmup: float) -> float:
    """Return the rate at a time in epochs: up during ``warmup`` (``warm_up``), then down by a cosine.

    With w for ``warmup``: minimum + (rate - minimum) (1 + cos(pi (time - w) / (T_max - w))) / 2, then minimum.
    """
    if time < warmup:
        return rate * warm_up(time, warmup)
    return cosine(time - warmup, rate, minimum, t_max - warmup)


def warm_up(time: float, length: float) -> float:
    """Return the factor of a linear warm-up at a time in epochs: from 0.04 at 0 to 1 at ``length``, then 1."""
    return _START + (1 - _START) * time / length if time < length else 1.0
