"""The names and the layout of weights in the published PyTorch code, and how they become eqnp's and back.

The published code (github.com/Laborieux-Axel/Equilibrium-Propagation) keeps images and states channels first. eqnp has
channels last, so axes move, but no number changes:

| eqnp | published |
|---|---|
| ``forward.n.weight``, ``readout.weight`` of a convolution, (KH, KW, C, K) | ``synapses.n.weight``, (K, C, KH, KW) |
| the same of a dense layer, (in, out), in = (H, W, C) flattened | ``synapses.n.weight``, (out, in), in = (C, H, W) |
| ``forward.n.bias``, ``readout.bias`` | ``synapses.n.bias`` |
| ``backward.n.weight``, as its forward weight | ``B_syn.m.weight``, m = n - 1, as its forward weight |
| the same in a network without convolutions | ``B_syn.m.weight``, (in, out) |

A readout is the last of the ``synapses``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import numpy as np

from eqnp.architecture import Architecture
from eqnp.connections.layers import ConvLayer, Shape
from eqnp.errors import CheckpointError, ConfigurationError


def to_published(architecture: Architecture, parameters: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return ``parameters`` by the names and in the layout of the published code's ``state_dict``.

    Raises:
        ConfigurationError: the network has connections, or weak feedback, that the published code does not have.
    """
    names = published_names(architecture)
    return {names[name]: _to(architecture, name, parameters[name]) for name in parameters}


def from_published(architecture: Architecture, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the parameters in ``arrays``, a ``state_dict`` of the published code.

    Raises:
        ConfigurationError: the network has connections, or weak feedback, that the published code does not have.
        CheckpointError: a name is missing, unknown, or its array has another shape; the message names the first one.
    """
    names = published_names(architecture)
    if unknown := [name for name in arrays if name not in names.values()]:
        raise CheckpointError(f"this network has no {unknown[0]}; its names are {_some(names.values())}")
    result = {}
    for name, shape in architecture.parameter_shapes().items():
        if names[name] not in arrays:
            raise CheckpointError(f"{names[name]} is missing; it has {_some(arrays)}")
        a = arrays[names[name]]
        expected = _to(architecture, name, np.empty(shape, np.int8)).shape
        if a.shape != expected:
            raise CheckpointError(f"{names[name]} has shape {a.shape}, but the configuration needs {expected}")
        result[name] = _from(architecture, name, a, shape)
    return result


def published_names(architecture: Architecture) -> dict[str, str]:
    """Return the published code's name of every parameter.

    Raises:
        ConfigurationError: the network has connections, or weak feedback, that the published code does not have.
    """
    if architecture.feedback != 1:
        raise ConfigurationError(
            f"model.feedback: {architecture.feedback:g}; in the published code feedback is as strong as the drives, so "
            "with these weights its network would settle elsewhere"
        )
    return {name: _published_name(architecture, name) for name in architecture.parameter_shapes()}


def _published_name(architecture: Architecture, name: str) -> str:
    prefix, _, kind = name.rpartition(".")
    if prefix == "readout":
        return f"synapses.{len(architecture.layers) - 1}.{kind}"
    match = re.fullmatch(r"(forward|backward)\.(\d+)", prefix)
    if match is None:
        raise ConfigurationError(
            f"{name}: the published PyTorch code has no connection of this kind; export to safetensors or npz"
        )
    number = int(match[2])
    return f"synapses.{number}.{kind}" if match[1] == "forward" else f"B_syn.{number - 1}.{kind}"


def _below(architecture: Architecture, name: str) -> Shape:
    """Return the shape of the layer below the connection of a weight."""
    shapes = (architecture.input_shape, *architecture.layer_shapes)
    prefix = name.rpartition(".")[0]
    return shapes[len(architecture.layers) - 1 if prefix == "readout" else int(prefix.rpartition(".")[2])]


def _transposed(architecture: Architecture, name: str) -> bool:
    """Return whether the published code stores a dense weight as (out, in)."""
    has_convolutions = any(isinstance(layer, ConvLayer) for layer in architecture.layers)
    return has_convolutions or not name.startswith("backward.")


def _to(architecture: Architecture, name: str, a: np.ndarray) -> np.ndarray:
    if a.ndim == 4:
        return np.ascontiguousarray(a.transpose(3, 2, 0, 1))  # (KH, KW, C, K) -> (K, C, KH, KW)
    if a.ndim == 2 and len(below := _below(architecture, name)) == 3:
        h, w, c = below  # (H, W, C, out) -> (C, H, W, out)
        a = a.reshape(h, w, c, -1).transpose(2, 0, 1, 3).reshape(a.shape)
    if a.ndim == 2 and _transposed(architecture, name):
        a = a.T
    return np.ascontiguousarray(a)


def _from(architecture: Architecture, name: str, a: np.ndarray, shape: Shape) -> np.ndarray:
    if a.ndim == 4:
        return np.ascontiguousarray(a.transpose(2, 3, 1, 0))  # (K, C, KH, KW) -> (KH, KW, C, K)
    if a.ndim == 2 and _transposed(architecture, name):
        a = a.T
    if a.ndim == 2 and len(below := _below(architecture, name)) == 3:
        h, w, c = below  # (C, H, W, out) -> (H, W, C, out)
        a = a.reshape(c, h, w, -1).transpose(1, 2, 0, 3).reshape(shape)
    return np.ascontiguousarray(a)


def _some(names: Iterable[str]) -> str:
    few = list(names)
    return ", ".join(map(str, few[:4])) + (", ..." if len(few) > 4 else "") if few else "none"
