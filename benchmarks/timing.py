"""What the benchmarks share: interleaved runs, ratios of medians with their spread, and a preset's learner."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from statistics import median

import numpy as np

from eqnp.backend import get_backend
from eqnp.configfile import load
from eqnp.environment import describe_environment
from eqnp.experiment import make_learner
from eqnp.training import initial_state

SHAPES = {"mnist-small": (28, 28, 1), "mnist": (28, 28, 1), "cifar10": (32, 32, 3)}


def interleave(work: Mapping[str, Callable[[], object]], runs: int, warm_up: int = 1) -> dict[str, list[float]]:
    """Return the seconds of every run of every function, all of them run in turn, ``warm_up`` turns not counted."""
    times: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(warm_up + runs):
        for name, function in work.items():
            began = time.perf_counter()
            function()
            times[name].append(time.perf_counter() - began)
    return {name: each[warm_up:] for name, each in times.items()}


def ratio(slow: list[float], fast: list[float]) -> str:
    """Return the ratio of medians, and the least and the most of two runs that follow each other."""
    each = [a / b for a, b in zip(slow, fast, strict=True)]
    return f"{median(slow) / median(fast):.2f} ({min(each):.2f}, {max(each):.2f})"


def where_measured(runs: int) -> str:
    """Return one line about machine and libraries."""
    found = describe_environment("numpy")
    return f"{found['cores']} cores, {found['blas']}, NumPy {found['numpy']}; {runs} interleaved runs."


def prepared_preset(preset: str, *overrides: str):
    """Return (config, learner, parameters, x): a preset's learner, its initial parameters and a batch of noise."""
    config = load(preset, list(overrides))
    shape = SHAPES[config.data.name]
    learner = make_learner(config, shape, 10, get_backend("numpy"))
    parameters = initial_state(learner, config.model.gain, "float32").parameters
    x = np.random.default_rng(0).standard_normal((config.training.batch_size, *shape), np.float32)
    return config, learner, parameters, x
