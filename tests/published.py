"""Reads what the authors' code computed (``tests/fixtures/README.md``) into eqnp's names and channels-last layout."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eqnp.architecture import Architecture
from eqnp.backends.backend import Backend, get_backend
from eqnp.connections.layers import ConvLayer, DenseLayer, Layer, Skip

NUMPY = get_backend("numpy")
FOLDER = Path(__file__).parent / "fixtures"
ACTIVATIONS = {
    "mysig": "sigmoid",
    "hard_sigmoid": "hard_sigmoid",
    "my_hard_sig": "half_hard_sigmoid",
    "ctrd_hard_sig": "centered_hard_sigmoid",
    "tanh": "tanh",
    # those of the graphs
    "hard-sigmoid": "hard_sigmoid",
    "relu6": "relu6",
    "linear": "linear",
}
POOLS = {"m": "max", "a": "average", "i": "none"}


def paths() -> list[Path]:
    """Return the fixtures of the project and those in the folder named by EQNP_FIXTURES."""
    folders = [FOLDER, *(Path(p) for p in [os.environ.get("EQNP_FIXTURES")] if p)]
    return [path for folder in folders for path in sorted(folder.glob("*.npz"))]


def graphs() -> list[Path]:
    """Return the fixtures of networks with skips."""
    return [path for path in paths() if model(path) == "graph"]


def chains() -> list[Path]:
    """Return all other fixtures."""
    return [path for path in paths() if model(path) != "graph"]


@dataclass
class Published:
    """One fixture, its arrays already in eqnp's layout."""

    config: dict
    architecture: Architecture
    arrays: dict[str, np.ndarray]
    convolution: str = "auto"
    backend: Backend = NUMPY

    def group(self, prefix: str) -> dict[str, np.ndarray]:
        """Return the arrays below ``prefix``, by the rest of their name."""
        return {key[len(prefix) + 1 :]: a for key, a in self.arrays.items() if key.startswith(prefix + "/")}

    def states(self, phase: str) -> list[np.ndarray]:
        """Return the states s^1 .. s^L of a phase."""
        group = self.group(phase)
        return [group[str(n)] for n in range(len(group))]


def model(path: Path) -> str:
    """Return the kind of network in a fixture: MLP, CNN, VFMLP or VFCNN, or that of another format, such as graph."""
    with np.load(path, allow_pickle=False) as file:
        config = json.loads(str(file["config"]))
    return str(config.get("model", config.get("kind")))


def read(path: Path) -> Published:
    """Read one fixture and permute its arrays."""
    with np.load(path, allow_pickle=False) as file:
        raw = {key: file[key] for key in file.files}
    config = json.loads(str(raw.pop("config")))
    architecture = _graph(config) if config.get("kind") == "graph" else _architecture(config)
    layout = _GraphLayout(config) if config.get("kind") == "graph" else _Layout(architecture)
    return Published(config, architecture, {layout.name(k): layout.permute(k, a) for k, a in raw.items()})


def _architecture(config: dict) -> Architecture:
    loss = "squared_error" if config["loss"] == "mse" else "cross_entropy"
    loss += "_readout" if config.get("softmax") else ""
    activation, vector_field = ACTIVATIONS[config["act"]], config["model"].startswith("VF")
    if config["model"].endswith("MLP"):
        sizes = config["archi"]
        return Architecture((sizes[0],), tuple(DenseLayer(n) for n in sizes[1:]), activation, loss, vector_field)
    size, channels = config["in_size"], config["channels"]
    rows = zip(channels[1:], config["kernels"], config["strides"], config["paddings"], config["pools"], strict=True)
    convs = [ConvLayer(k, (kernel, kernel), s, p, POOLS[pool]) for k, kernel, s, p, pool in rows]
    layers = (*convs, *map(DenseLayer, config["fc"]))
    return Architecture((size, size, channels[0]), layers, activation, loss, vector_field)


def _own(config: dict) -> dict[int, int]:
    """Return, for each layer of a graph, the number of the edge that is its own connection; the others are skips."""
    own: dict[int, int] = {}
    for e, edge in enumerate(config["edges"]):
        lower, upper = edge["between"]
        if upper not in own or lower == upper - 1 > config["edges"][own[upper]]["between"][0]:
            own[upper] = e
    return own


def _graph(config: dict) -> Architecture:
    own, layers = _own(config), []
    for upper in range(1, len(config["shapes"])):
        mine = config["edges"][own[upper]]
        others = [e for k, e in enumerate(config["edges"]) if e["between"][1] == upper and k != own[upper]]
        lower, units = mine["between"][0], config["shapes"][upper][0]
        more: dict = {"activation": ACTIVATIONS[config["activations"][upper]], "skips": [*map(_skip, others)]}
        more["source"] = None if lower == upper - 1 else lower
        layer: Layer = DenseLayer(units, **more) if mine["type"] == "dense" else ConvLayer(units, *_conv(mine), **more)
        layers.append(layer)
    shape = _channels_last(config["shapes"][0])
    return Architecture(shape, tuple(layers), "hard_sigmoid", "squared_error")


def _conv(edge: dict) -> tuple:
    return tuple(edge["shape"][2:]), edge["stride"], edge["padding"], "max" if "max_pool" in edge["type"] else "none"


def _skip(edge: dict) -> Skip:
    return Skip(edge["between"][0], *(() if edge["type"] == "dense" else _conv(edge)))


def _channels_last(shape: list[int]) -> tuple[int, ...]:
    return (*shape[1:], shape[0])


class _GraphLayout:
    """The same for graphs: weights by the number of their edge, biases by layer."""

    def __init__(self, config: dict) -> None:
        own, seen = _own(config), list[str]()
        self.names, self.below = {}, {}
        order = sorted(range(len(config["edges"])), key=lambda e: (e not in own.values(), e))
        for e in order:
            lower, upper = config["edges"][e]["between"]
            name = f"forward.{lower}" if own[upper] == e and lower == upper - 1 else f"forward.{lower}-{upper}"
            again = seen.count(name) + 1
            seen.append(name)
            self.names[f"weight.{e}"] = f"{name}.weight" if again == 1 else f"{name}.{again}.weight"
            if config["edges"][e]["type"] == "dense":
                self.below[f"weight.{e}"] = config["shapes"][lower]
        self.names |= {f"bias.{n}": f"forward.{n - 1}.bias" for n in range(1, len(config["shapes"]))}

    def name(self, key: str) -> str:
        kind, _, rest = key.partition("/")
        return f"{kind}/{self.names[rest]}" if rest in self.names else key

    def permute(self, key: str, a: np.ndarray) -> np.ndarray:
        _, _, rest = key.partition("/")
        if not rest.startswith("weight"):
            return np.moveaxis(a, 1, -1) if a.ndim == 4 and key != "y" else a  # (N, C, H, W) -> (N, H, W, C)
        if rest not in self.below:  # (K, C, KH, KW) -> (KH, KW, C, K)
            return np.moveaxis(a, (0, 1), (-1, -2))
        # (C, H, W, units) -> (H W C, units)
        return np.moveaxis(a, 0, 2).reshape(-1, a.shape[-1]) if len(self.below[rest]) == 3 else a


class _Layout:
    """Knows which published array becomes which of ours, and how its axes move."""

    def __init__(self, architecture: Architecture) -> None:
        self.architecture = architecture
        self.last = len(architecture.layers) - 1
        self.below = (architecture.input_shape, *architecture.layer_shapes)

    def name(self, key: str) -> str:
        if self.architecture.readout:
            key = key.replace(f"forward.{self.last}.", "readout.")
        # backward.I is the weight of connection I + 1
        return re.sub(r"backward\.(\d+)", lambda match: f"backward.{int(match[1]) + 1}", key)

    def permute(self, key: str, a: np.ndarray) -> np.ndarray:
        kind, _, rest = key.partition("/")
        lead = 1 if kind.startswith("per_step") else 0  # time comes first
        if rest.endswith(".weight"):
            return self._weight(rest, a, lead)
        return np.moveaxis(a, lead + 1, -1) if a.ndim == 4 + lead else a  # (N, C, H, W) -> (N, H, W, C)

    def _weight(self, rest: str, a: np.ndarray, lead: int) -> np.ndarray:
        side, number, _ = rest.split(".")
        n = int(number) + (side == "backward")  # backward.I is the weight of connection I + 1
        if a.ndim == 4 + lead:  # (K, C, KH, KW) -> (KH, KW, C, K)
            return np.moveaxis(a, (lead, lead + 1), (-1, -2))
        if side == "backward" and not isinstance(self.architecture.layers[0], ConvLayer):
            return a  # a VFMLP stores them as (in, out)
        shape = self.below[n]
        if len(shape) == 3:  # columns run over (C, H, W)
            h, w, c = shape
            a = np.moveaxis(a.reshape(*a.shape[:-1], c, h, w), -3, -1).reshape(*a.shape)
        return np.swapaxes(a, -1, -2)  # (out, in) -> (in, out)
