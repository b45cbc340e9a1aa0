"""The network: its primitive function Phi, the step that ascends it, and Phi's derivatives by parameters.

    Phi(x, s, theta) = sum over n of  s^{n+1} . d_n(s^n),      s^0 = x
    dPhi/ds^n        = d_{n-1}(s^{n-1}) + f_n(s^{n+1})         drive from below, feedback from above
    s               <- sigma(dPhi/ds - beta dl/ds)             all layers at once, from the old states

Weights and input stand still during a relaxation, so a network is first *prepared* with them: the drive of the static
input is computed once, and all buffers are made once. Then it is stepped.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from copy import copy

from eqnp.architecture import Architecture
from eqnp.backend import Array, array_module
from eqnp.connections import Winner, connect_all, inner_product
from eqnp.losses import CrossEntropy, Loss, SquaredError
from eqnp.ops.activations import ACTIVATIONS, LINEAR, Activation
from eqnp.ops.dense import dense, dense_transpose, dense_weight_gradient, flatten
from eqnp.workspace import Workspace

Parameters = Mapping[str, Array]
States = Sequence[Array]  # s^1 .. s^L, each (N, ...)
Beta = float | Array  # a number, or one per sample (N, 1)


class Network(ABC):
    """A chain of layers that settles. It holds no weights and no states: both are arguments."""

    def __init__(self, architecture: Architecture) -> None:
        self.architecture = architecture
        self.connections = connect_all(architecture)
        self.loss: Loss = SquaredError() if architecture.loss == "squared_error" else CrossEntropy()
        hidden = ACTIVATIONS[architecture.activation]
        linear_output = self.loss.linear_output and not architecture.readout
        last = LINEAR if linear_output else hidden
        self.activations: tuple[Activation, ...] = (*[hidden] * (len(self.connections) - 1), last)

    @abstractmethod
    def feedback_weight(self, parameters: Parameters, n: int) -> Array:
        """Return the weights by which connection n carries s^{n+1} back to s^n."""

    def prepare(self, parameters: Parameters, x: Array) -> PreparedNetwork:
        """Fix weights and input (N, ...) for a relaxation."""
        return PreparedNetwork(self, parameters, x)

    def zero_states(self, x: Array) -> list[Array]:
        """Return the states from which a free phase starts: zeros for every sample of x."""
        xp = array_module(x)
        return [xp.zeros((x.shape[0], *shape), dtype=x.dtype) for shape in self.architecture.state_shapes]

    def outputs(self, parameters: Parameters, states: States) -> Array:
        """Return what the loss looks at (N, K): the output units, or the readout's logits w_out s^L + b_out."""
        if not self.architecture.readout:
            return states[-1]
        logits = dense(flatten(states[-1]), parameters["readout.weight"])
        logits += parameters["readout.bias"]
        return logits

    def loss_value(self, parameters: Parameters, states: States, target: Array) -> Array:
        """Return the loss of every sample (N,) at ``states``; target (N, K) one-hot."""
        return self.loss.value(self.outputs(parameters, states), target)

    def dl_ds(self, parameters: Parameters, states: States, target: Array) -> Array:
        """Return dl/ds^L (N, ...): dl/do, carried back by w_out^T where o is a readout of s^L."""
        dl_do = self.loss.gradient(self.outputs(parameters, states), target)
        if not self.architecture.readout:
            return dl_do
        return dense_transpose(dl_do, parameters["readout.weight"]).reshape(states[-1].shape)

    def dl_dtheta(self, parameters: Parameters, states: States, target: Array) -> dict[str, Array]:
        """Return dl/dtheta at fixed states, summed over samples: the readout's parameters, no others hold l."""
        if not self.architecture.readout:
            return {}
        dl_do = self.loss.gradient(self.outputs(parameters, states), target)
        return {
            "readout.weight": dense_weight_gradient(flatten(states[-1]), dl_do),
            "readout.bias": dl_do.sum(axis=0),
        }


class SymmetricNetwork(Network):
    """The network of the poster's first part: one weight both ways, so that Phi exists and the step ascends it."""

    def feedback_weight(self, parameters: Parameters, n: int) -> Array:
        """Return the forward weight of connection n: it is its own transpose's partner."""
        return parameters[f"forward.{n}.weight"]

    def primitive_function(self, parameters: Parameters, x: Array, states: States) -> Array:
        """Return Phi = sum over n of s^{n+1} . d_n(s^n) for every sample (N,)."""
        drives, _ = self.prepare(parameters, x).drives(states)
        return sum(inner_product(s, d) for s, d in zip(states, drives, strict=True))


class PreparedNetwork:
    """A network with its weights and input fixed, and the buffers of its steps. For one thread."""

    def __init__(self, network: Network, parameters: Parameters, x: Array) -> None:
        self.network = network
        self.parameters = parameters
        self.x = x
        self._spaces = [Workspace() for _ in network.connections]
        self._space = Workspace()
        # The input does not move: neither do its drive and the winners of its windows. No other call uses this
        # workspace.
        self.input_drive, self.input_winner = self._drive(0, x, Workspace())

    def zero_states(self) -> list[Array]:
        """Return zeros for every state."""
        return self.network.zero_states(self.x)

    def repeated(self, times: int) -> PreparedNetwork:
        """Return the same network with its samples repeated ``times`` times, one set after the other."""
        xp, twin = array_module(self.x), copy(self)
        twin.x = xp.concatenate([self.x] * times)
        twin.input_drive = xp.concatenate([self.input_drive] * times)
        if self.input_winner is not None:
            twin.input_winner = xp.concatenate([self.input_winner] * times)
        twin._spaces, twin._space = [Workspace() for _ in self._spaces], Workspace()
        return twin

    def drives(self, states: States) -> tuple[list[Array], list[Winner]]:
        """Return d_n(s^n) for every connection n, and the winners found on the way."""
        drives, winners = [self.input_drive], [self.input_winner]
        for n, s in enumerate(states[:-1], start=1):
            d, winner = self._drive(n, s, self._spaces[n])
            drives.append(d)
            winners.append(winner)
        return drives, winners

    def dphi_ds(self, states: States) -> list[Array]:
        """Return drive + feedback for every state; dPhi/ds where a Phi exists. Buffers: valid until the next call."""
        drives, winners = self.drives(states)
        xp = array_module(self.x)
        total = []
        for n, d in enumerate(drives):
            u = self._space.take(n, d.shape, d)
            if n + 1 < len(drives):
                xp.add(d, self._feedback(n + 1, states[n + 1], winners[n + 1]), out=u)
            else:
                u[...] = d
            total.append(u)
        return total

    def step(
        self, states: States, beta: Beta = 0.0, target: Array | None = None, out: States | None = None
    ) -> list[Array]:
        """Return sigma(dPhi/ds - beta dl/ds): one synchronous step of all layers.

        ``out`` are arrays to write to, none of them among ``states``. ``target`` (N, K) is needed where beta is not 0.
        """
        u = self.dphi_ds(states)
        if target is not None:
            dl_ds = self.network.dl_ds(self.parameters, states, target)
            if getattr(beta, "ndim", 0):
                beta = beta.reshape(-1, *[1] * (dl_ds.ndim - 1))  # (N, 1) -> (N, 1, 1, 1) on a state with places
            u[-1] -= beta * dl_ds
        out = [None] * len(u) if out is None else out
        return [sigma.value(un, out=o) for sigma, un, o in zip(self.network.activations, u, out, strict=True)]

    def dphi_dtheta(self, states: States, connections: Sequence[int] | None = None) -> dict[str, Array]:
        """Return dPhi/dw and dPhi/db at ``states``, summed over samples, for all or the given ``connections``."""
        _, winners = self.drives(states)
        numbers = range(len(states)) if connections is None else connections
        gradient = {}
        for n in numbers:
            below = self.x if n == 0 else states[n - 1]
            gradient |= self._weight_gradient(n, below, states[n], winners[n])
        return gradient

    def input_gradient(self, s1: Array) -> dict[str, Array]:
        """Return dPhi/dw and dPhi/db of connection 0, which are linear in s^1 since the input stands still."""
        return self._weight_gradient(0, self.x, s1, self.input_winner)

    def _drive(self, n: int, s: Array, space: Workspace) -> tuple[Array, Winner]:
        w, b = self.parameters[f"forward.{n}.weight"], self.parameters[f"forward.{n}.bias"]
        return self.network.connections[n].drive(w, b, s, space)

    def _feedback(self, n: int, v: Array, winner: Winner) -> Array:
        w = self.network.feedback_weight(self.parameters, n)
        return self.network.connections[n].feedback(w, v, winner, self._spaces[n])

    def _weight_gradient(self, n: int, s: Array, v: Array, winner: Winner) -> dict[str, Array]:
        dw, db = self.network.connections[n].weight_gradient(s, v, winner, self._spaces[n])
        return {f"forward.{n}.weight": dw, f"forward.{n}.bias": db}
