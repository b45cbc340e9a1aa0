"""A small learner on digits, a batch for it, and its parameters after some updates."""

from __future__ import annotations

import numpy as np

from eqnp.backends.backend import get_backend
from eqnp.backends.sharding import serial_map
from eqnp.data import load as load_data
from eqnp.runs.configfile import load
from eqnp.runs.experiment import make_learner
from eqnp.training import initial_state, train_batch

NUMPY = get_backend("numpy")
LAYERS = "model.layers=[{conv=6,kernel=5,stride=2,pool='max'},{dense=20},{dense=10}]"


def learner(extra=(), backend=NUMPY, dtype="float32"):
    sizes = ["dynamics.T1=30", "dynamics.T2=8", "training.threads=1", f"training.dtype={dtype}"]
    return make_learner(load("digits", [LAYERS, *sizes, *extra]), (28, 28, 1), 10, backend)


def batch(count=16, dtype=np.float32):
    data = load_data("mnist-small", None, count, 10)
    return (data.train_images / 255).astype(dtype), data.train_labels


def trained(made, updates, dtype="float32"):
    state, (x, labels) = initial_state(made, 1.0, dtype), batch(16, dtype)
    for _ in range(updates):
        state = train_batch(made, state, x, labels, serial_map)
    return state.parameters
