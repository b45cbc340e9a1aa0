"""The alternatives with which eqnp is compared, in PyTorch, written from the paper's equations.

``Published`` is the published method: Phi as one expression, its derivative by autograd. ``Explicit`` computes the same
step with PyTorch's operators and no autograd. Both take eqnp's parameters and architecture. Their arrays have samples
first and channels second, as usual in PyTorch. Only these benchmarks need PyTorch: pip install torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch.nn import functional as F

from eqnp.architecture import Architecture
from eqnp.connections.layers import ConvLayer, Layer
from eqnp.graph import Edge, colours

ACTIVATIONS = {
    "hard_sigmoid": lambda u: u.clamp(0, 1),
    "half_hard_sigmoid": lambda u: (0.5 * u).clamp(0, 1),
    "sigmoid": lambda u: torch.sigmoid(4 * (u - 0.5)),
    "relu": lambda u: u.clamp(min=0),
    "relu6": lambda u: u.clamp(0, 6),
    "linear": lambda u: u,
    "tanh": torch.tanh,
}

Tensors = list[torch.Tensor]


class Baseline:
    """What all of them share: the weights, the input and the loss."""

    def __init__(
        self, architecture: Architecture, parameters: Mapping[str, np.ndarray], x: np.ndarray, device: str = "cpu"
    ) -> None:
        self.architecture, self.device = architecture, device
        self.edges: Sequence[Edge] = architecture.edges
        states = range(len(architecture.state_shapes))
        own = [architecture.layers[n].activation or architecture.activation for n in states]
        self.activations = [ACTIVATIONS[name] for name in own]
        self.into = [[e for e, edge in enumerate(self.edges) if edge.upper == n + 1] for n in states]
        self.out_of = [[e for e, edge in enumerate(self.edges) if edge.lower == n + 1] for n in states]
        self.weights: list[tuple[torch.Tensor, torch.Tensor | None]] = []
        for edge in self.edges:
            w = to_torch_weight(edge.layer, parameters[f"{edge.name}.weight"], architecture.shapes[edge.lower])
            self.weights.append((self.tensor(w), self.tensor(parameters[edge.bias]) if edge.bias else None))
        if architecture.readout:
            last = architecture.state_shapes[-1]
            w = to_torch_weight(architecture.layers[-1], parameters["readout.weight"], last)
            self.readout = (self.tensor(w), self.tensor(parameters["readout.bias"]))
        self.x = self.tensor(to_torch_state(x))

    def tensor(self, a: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(a)).to(self.device)

    def zero_states(self) -> Tensors:
        shapes = [s if len(s) == 1 else (s[2], s[0], s[1]) for s in self.architecture.state_shapes]
        return [torch.zeros((len(self.x), *shape), dtype=self.x.dtype, device=self.device) for shape in shapes]

    def step(self, states: Tensors, beta: float = 0.0, target: torch.Tensor | None = None) -> Tensors:
        raise NotImplementedError

    def relax(self, states: Tensors, steps: int, beta: float = 0.0, target: torch.Tensor | None = None) -> Tensors:
        for _ in range(steps):
            states = self.step(states, beta, target)
        return states

    def outputs(self, states: Tensors) -> torch.Tensor:
        return F.linear(states[-1].flatten(1), *self.readout) if self.architecture.readout else states[-1]

    def loss(self, states: Tensors, target: torch.Tensor) -> torch.Tensor:
        """Return the loss summed over samples; target one-hot."""
        o = self.outputs(states)
        if self.architecture.loss == "squared_error":
            return 0.5 * ((o - target) ** 2).sum()
        return F.cross_entropy(o, target.argmax(1), reduction="sum")


class Published(Baseline):
    """s <- sigma(d/ds (Phi - beta l)) by autograd: all layers at once, nothing stored between steps."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)
        for pair in [*self.weights, *([self.readout] if self.architecture.readout else [])]:
            for w in pair:
                if w is not None:
                    w.requires_grad_(True)

    def phi(self, states: Tensors) -> torch.Tensor:
        """Return Phi summed over samples."""
        total, layers = 0.0, [self.x, *states]
        for edge, (w, b) in zip(self.edges, self.weights, strict=True):
            total = total + (drive(edge.layer, layers[edge.lower], w, b) * layers[edge.upper]).sum()
        return total

    def energy(self, states: Tensors, beta: float, target: torch.Tensor | None) -> torch.Tensor:
        phi = self.phi(states)
        return phi if target is None or beta == 0 else phi - beta * self.loss(states, target)

    def step(self, states: Tensors, beta: float = 0.0, target: torch.Tensor | None = None) -> Tensors:
        states = [s.detach().requires_grad_(True) for s in states]
        gradients = torch.autograd.grad(self.energy(states, beta, target), states)
        return [sigma(u).detach() for sigma, u in zip(self.activations, gradients, strict=True)]

    def gradient(self, target: torch.Tensor, T1: int, T2: int, beta: float) -> dict[str, torch.Tensor]:
        """Return the symmetric estimate (s_{-beta} against s_{+beta}) of the gradient of the summed loss, by weight."""
        free = self.relax(self.zero_states(), T1)
        named = {}
        for edge, (w, b) in zip(self.edges, self.weights, strict=True):
            named |= {f"{edge.name}.weight": w} | ({edge.bias: b} if edge.bias else {})
        if self.architecture.readout:
            named |= dict(zip(("readout.weight", "readout.bias"), self.readout, strict=True))
        energies = []
        for sign in (1, -1):
            states = [s.detach() for s in self.relax(free, T2, sign * beta, target)]
            energies.append(self.energy(states, sign * beta, target))
        total = (energies[1] - energies[0]) / (2 * beta)
        return dict(zip(named, torch.autograd.grad(total, list(named.values())), strict=True))


class Explicit(Baseline):
    """The same step by explicit operators, channels-last, without autograd; the drives of the input are computed once.

    ``sweep`` moves the layers colour by colour, as eqnp does; each drive and each feedback is computed once a sweep.
    """

    memory_format = torch.channels_last

    def __init__(self, *args: object) -> None:
        super().__init__(*args)
        self.weights = [(self._arranged(w), b) for w, b in self.weights]
        with torch.no_grad():
            from_input = [e for e, edge in enumerate(self.edges) if edge.lower == 0]
            self.from_input = {e: self._drive(e, self.x) for e in from_input}
        self.colours = colours(self.edges, len(self.activations))

    def zero_states(self) -> Tensors:
        return [self._arranged(s) for s in super().zero_states()]

    @torch.no_grad()
    def step(self, states: Tensors, beta: float = 0.0, target: torch.Tensor | None = None) -> Tensors:
        up = [self._drive_of(e, states) for e in range(len(self.edges))]
        return [self._moved(n, states, up, beta, target) for n in range(len(states))]

    @torch.no_grad()
    def sweep(self, states: Tensors, found: list) -> Tensors:
        """Return the states after a free sweep; ``found``, the drives of all edges at ``states``, is updated."""
        new = list(states)
        for layers in self.colours:
            for n in (layer - 1 for layer in layers):
                for e in self.into[n]:
                    found[e] = self._drive_of(e, new)
                new[n] = self._moved(n, new, found, 0.0, None)
        return new

    def sweeps(self, states: Tensors, count: int) -> Tensors:
        """Return the states after ``count`` free sweeps."""
        with torch.no_grad():
            found = [self._drive_of(e, states) for e in range(len(self.edges))]
        for _ in range(count):
            states = self.sweep(states, found)
        return states

    def _drive_of(self, e: int, states: Tensors) -> tuple[torch.Tensor, tuple | None]:
        return self.from_input[e] if e in self.from_input else self._drive(e, states[self.edges[e].lower - 1])

    def _moved(self, n: int, states: Tensors, up: Sequence, beta: float, target: torch.Tensor | None) -> torch.Tensor:
        u = up[self.into[n][0]][0]
        for e in self.into[n][1:]:
            u = u + up[e][0]
        for e in self.out_of[n]:
            u = u + self._feedback(e, states[self.edges[e].upper - 1], up[e][1], states[n].shape)
        if n + 1 == len(states) and target is not None and beta != 0:
            u = u - beta * self._dl_ds(states, target)
        return self.activations[n](u)

    def _arranged(self, t: torch.Tensor) -> torch.Tensor:
        return t.contiguous(memory_format=self.memory_format) if t.ndim == 4 else t

    def _drive(self, e: int, s: torch.Tensor) -> tuple[torch.Tensor, tuple | None]:
        layer, (w, b) = self.edges[e].layer, self.weights[e]
        if not isinstance(layer, ConvLayer):
            return F.linear(s.flatten(1), w, b), None
        u = F.conv2d(s, w, b, layer.stride, layer.padding)
        if layer.pool == "max":
            p, indices = F.max_pool2d(u, 2, return_indices=True)
            return p, (indices, u.shape)
        return (F.avg_pool2d(u, 2), (None, u.shape)) if layer.pool == "average" else (u, (None, u.shape))

    def _feedback(self, e: int, v: torch.Tensor, found: tuple | None, shape: torch.Size) -> torch.Tensor:
        layer, (w, _) = self.edges[e].layer, self.weights[e]
        if not isinstance(layer, ConvLayer):
            return F.linear(v, w.T).view(shape)
        indices, size = found
        if layer.pool == "max":
            v = F.max_unpool2d(v, indices, 2, output_size=size[2:])
        elif layer.pool == "average":
            v = F.interpolate(0.25 * v, scale_factor=2)
            v = F.pad(v, (0, size[3] - v.shape[3], 0, size[2] - v.shape[2]))
        extra = [
            m - ((p - 1) * layer.stride + k - 2 * layer.padding)
            for m, p, k in zip(shape[2:], size[2:], layer.kernel, strict=True)
        ]
        return F.conv_transpose2d(v, w, None, layer.stride, layer.padding, extra)

    def _dl_ds(self, states: Tensors, target: torch.Tensor) -> torch.Tensor:
        o = self.outputs(states)
        dl_do = o - target if self.architecture.loss == "squared_error" else o.softmax(1) - target
        return (dl_do @ self.readout[0]).view(states[-1].shape) if self.architecture.readout else dl_do


class ExplicitChannelsFirst(Explicit):
    """The same with channels first, which may be faster on a GPU."""

    memory_format = torch.contiguous_format


def drive(layer: Layer, s: torch.Tensor, w: torch.Tensor, b: torch.Tensor | None) -> torch.Tensor:
    """Return P(w * s + b), or w s + b."""
    if not isinstance(layer, ConvLayer):
        return F.linear(s.flatten(1), w, b)
    u = F.conv2d(s, w, b, layer.stride, layer.padding)
    if layer.pool == "max":
        return F.max_pool2d(u, 2)
    return F.avg_pool2d(u, 2) if layer.pool == "average" else u


def to_torch_state(s: np.ndarray) -> np.ndarray:
    """Return (N, H, W, C) as (N, C, H, W); (N, K) as it is."""
    return s.transpose(0, 3, 1, 2) if s.ndim == 4 else s


def to_torch_weight(layer: Layer, w: np.ndarray, below: tuple[int, ...]) -> np.ndarray:
    """Return (KH, KW, C, K) as (K, C, KH, KW); (H W C, K) as (K, C H W), whose rows PyTorch flattens channels first."""
    if isinstance(layer, ConvLayer):
        return w.transpose(3, 2, 0, 1)
    if len(below) == 3:
        w = w.reshape(*below, -1).transpose(2, 0, 1, 3).reshape(w.shape)
    return w.T


def from_torch_weight(layer: Layer, w: np.ndarray, below: tuple[int, ...]) -> np.ndarray:
    """Return the inverse of ``to_torch_weight``."""
    if isinstance(layer, ConvLayer):
        return w.transpose(2, 3, 1, 0)
    w = w.T
    if len(below) == 3:
        h, wide, c = below
        w = w.reshape(c, h, wide, -1).transpose(1, 2, 0, 3).reshape(w.shape)
    return w
