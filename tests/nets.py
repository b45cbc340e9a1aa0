"""Small networks for the tests: every kind of connection, pooling and loss, in float64, off the kinks."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from eqnp import ops
from eqnp.architecture import Architecture, forward_partner
from eqnp.connections.layers import ConvLayer, DenseLayer, Skip
from eqnp.dynamics import Phase, relax
from eqnp.losses import one_hot
from eqnp.networks import Network, SymmetricNetwork, VectorFieldNetwork
from eqnp.prepared import PreparedNetwork

LOSSES = ("squared_error", "cross_entropy", "cross_entropy_readout")
# Layer 2 of "every edge": a second connection from layer 1, pooled and dense ones from the input, which is 7x9.
PARALLEL, POOLED = Skip(1, (3, 2), 2), Skip(0, 3, 2, 0, "max")
ALL_SKIPS = ConvLayer(4, (2, 2), 1, 0, "max", skips=[POOLED, PARALLEL, Skip(0, dense=True)])
GRAPHS = ("residual", "branches", "every edge")
SHAPES = {
    "dense": ((6,), (DenseLayer(5), DenseLayer(4))),
    "deep dense": ((3, 2, 1), (DenseLayer(5), DenseLayer(4), DenseLayer(6), DenseLayer(3))),
    "max": ((7, 9, 2), (ConvLayer(3, (3, 2), 1, 1, "max"), ConvLayer(4, (2, 2), 1, 0, "max"), DenseLayer(4))),
    "average": ((8, 6, 1), (ConvLayer(3, (3, 3), 1, 1, "average"), DenseLayer(5), DenseLayer(4))),
    "residual": ((6, 5, 2), (ConvLayer(3, 3, 1, 1), ConvLayer(3, 3, 2, 1, skips=[Skip(0, 1, 2)]), DenseLayer(4))),
    "branches": ((6,), (DenseLayer(5), DenseLayer(4, source=0), DenseLayer(3, skips=[Skip(1)]), DenseLayer(4))),
    "every edge": (
        (7, 9, 2),
        (ConvLayer(3, (3, 2), 1, 1, "max"), ALL_SKIPS, DenseLayer(5, skips=[Skip(1)]), DenseLayer(4)),
    ),
    "strided": ((9, 8, 2), (ConvLayer(3, (3, 3), 2, 1, "none"), ConvLayer(2, (2, 3), 1, 1, "max"), DenseLayer(4))),
}
NETS = [(shape, loss) for shape in SHAPES for loss in LOSSES]


def _without_max(layer):
    """The layer with average pooling in place of max-pooling, in its skips too."""
    skips = tuple(_without_max(skip) for skip in getattr(layer, "skips", ()))
    pools = {"pool": "average"} if getattr(layer, "pool", "none") == "max" else {}
    return replace(layer, **pools, **({"skips": skips} if skips else {}))


SMOOTH = {"every edge": "every edge, averaged", "strided": "strided, averaged"}
SHAPES |= {new: (SHAPES[old][0], tuple(map(_without_max, SHAPES[old][1]))) for old, new in SMOOTH.items()}
HOLOMORPHIC = ("dense", "deep dense", "average", "residual", "branches", *SMOOTH.values())


@dataclass
class Case:
    """A network with parameters, a batch and a target."""

    network: Network
    parameters: dict
    x: np.ndarray
    target: np.ndarray
    masks: list | None = None

    def prepare(self):
        return PreparedNetwork(self.network, self.parameters, self.x, self.masks)

    def settle(self, steps=2000, tolerance=1e-15):
        prepared = self.prepare()
        return relax(prepared, prepared.zero_states(), Phase(steps, tolerance))

    def random_states(self, seed=3):
        generator = np.random.default_rng(seed)
        return [generator.uniform(0.1, 0.9, s.shape) for s in self.network.zero_states(self.x)]


KINDS = ("symmetric", "own winners", "forward winners")


def make(
    shape="max",
    loss="squared_error",
    activation="hard_sigmoid",
    gain=0.25,
    samples=3,
    seed=0,
    kind="symmetric",
    tied=False,
    dropout=False,
    feedback=1.0,
) -> Case:
    """Return a case with small weights and biases around 1/2, so that states stay inside the clip.

    ``tied``: the backward weights of a vector field are its forward ones. ``dropout``: hidden layers keep 0.7,
    with scaled weights (True or "weights") or "states".
    """
    input_shape, layers = SHAPES[shape]
    if dropout:
        layers = (*(replace(layer, keep=0.7) for layer in layers[:-1]), layers[-1])
    scaling = "states" if dropout == "states" else "weights"
    architecture = Architecture(input_shape, layers, activation, loss, kind != "symmetric", scaling, feedback=feedback)
    generator = np.random.default_rng(seed)
    parameters = architecture.initial_parameters(generator, gain, np.float64)
    for name in parameters:
        if name.endswith(".bias") and activation != "tanh":
            parameters[name] += 0.35 if shape in GRAPHS else 0.4
        if name.startswith("backward.") and tied:
            parameters[name] = parameters[forward_partner(name)].copy()
    x = generator.uniform(-1, 1, (samples, *input_shape))
    target = one_hot(generator.integers(0, architecture.classes, samples), architecture.classes, np.float64)
    network = VectorFieldNetwork(architecture, kind == "own winners") if kind != "symmetric" else None
    masks = [
        None if keep == 1 else (generator.random((samples, *s)) < keep).astype(np.float64)
        for keep, s in zip(architecture.keep, architecture.state_shapes, strict=True)
    ]
    network = network or SymmetricNetwork(architecture)
    return Case(network, parameters, x, target, masks if dropout else None)


def make_settling(*args, **options) -> Case:
    """Return the first case, by seed, that settles (a vector field may go round in circles) off all ties and clips."""
    for seed in range(80):
        case = make(*args, **options, seed=seed)
        free = case.settle(200)
        masks = case.masks or [np.ones(s.shape) for s in free.states]
        graph = args[0] in GRAPHS
        clipped = [sigma.bounded for sigma in case.network.activations] if graph else [True] * (len(masks) - 1)
        whole = [np.ones(s.shape) if m is None and graph else m for s, m in zip(free.states, masks, strict=True)]
        hidden = [s[m == 1] for s, m, its in zip(free.states, whole, clipped, strict=False) if m is not None and its]
        away = 0.08 if graph else 0.03  # a skip moves a state further
        inside = all(s.min() > away and s.max() < 1 - away for s in hidden)
        if free.residual <= 1e-14 and inside and margin(case, free.states) > 2e-4:
            return case
    raise AssertionError("no seed settles")


def spinning() -> Case:
    """Return a linear net whose backward weights are -1.44 times orthogonal forward ones.

    Its free steps have eigenvalues +-1.2 i, so synchronous steps grow; damped ones settle.
    """
    case = make("dense", "squared_error", "linear", kind="own winners")
    w = np.zeros((5, 4))
    w[:4] = np.linalg.qr(np.random.default_rng(3).standard_normal((4, 4)))[0]
    case.parameters["forward.1.weight"] = w
    case.parameters["backward.1.weight"] = -1.44 * w
    return case


def margin(case, states) -> float:
    """Return the smallest distance between the two largest entries of any window of a maximum pooling."""
    smallest, parameters = np.inf, case.prepare().parameters
    for edge in case.network.edges:
        if not isinstance(edge.layer, ConvLayer) or edge.layer.pool != "max":
            continue
        s = states[edge.lower - 1] if edge.lower else case.x
        for name in {edge.name, edge.backward if case.network.own_winners and edge.lower else edge.name}:
            u = ops.conv2d(s, parameters[f"{name}.weight"], edge.layer.stride, edge.layer.padding)
            samples, h, w, c = u.shape
            windows = u[:, : h // 2 * 2, : w // 2 * 2].reshape(samples, h // 2, 2, w // 2, 2, c)
            entries = np.sort(np.moveaxis(windows, (2, 4), (-2, -1)).reshape(-1, 4), axis=1)
            smallest = min(smallest, float((entries[:, 3] - entries[:, 2]).min()))
    return smallest


def direction(parameters, seed=11):
    """Return a random direction in the space of parameters."""
    generator = np.random.default_rng(seed)
    return {name: generator.standard_normal(p.shape) for name, p in parameters.items()}


def moved(parameters, along, step):
    """Return parameters moved by ``step`` along a direction."""
    return {name: p + step * along[name] for name, p in parameters.items()}


def dot(gradient, along) -> float:
    """Return the derivative along a direction."""
    return float(sum((g * along[name]).sum() for name, g in gradient.items()))
