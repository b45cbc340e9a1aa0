"""One synchronous step, direct and by Winograd's form, interleaved: time, ratio of medians and its spread.

    python -m benchmarks.step --presets cifar10-mse-symmetric cifar10-small --out benchmarks/results/winograd.md

A batch is cut into shards over threads as training does, each with one BLAS thread; a run is several steps of all.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from statistics import median

import numpy as np
from threadpoolctl import threadpool_limits

from eqnp.architecture import ConvLayer
from eqnp.backend import get_backend
from eqnp.configfile import load
from eqnp.connections import connect
from eqnp.dynamics import relax
from eqnp.environment import available_cores, describe_environment
from eqnp.experiment import make_learner
from eqnp.prepared import PreparedNetwork
from eqnp.sharding import thread_map
from eqnp.training import initial_state
from eqnp.workspace import Workspace

FORMS = ("direct", "winograd")
SHAPES = {"mnist-small": (28, 28, 1), "mnist": (28, 28, 1), "cifar10": (32, 32, 3)}


def prepare(preset: str, form: str, threads: int):
    """Return one prepared network for every shard of a batch of the preset."""
    config = load(preset, [f"training.convolution={form}", f"training.threads={threads}"])
    shape = SHAPES[config.data.name]
    learner = make_learner(config, shape, 10, get_backend("numpy"))
    parameters = initial_state(learner, config.model.gain, "float32").parameters
    x = np.random.default_rng(0).standard_normal((config.training.batch_size, *shape), np.float32)
    return [PreparedNetwork(learner.network, parameters, x[shard]) for shard in learner.shards(len(x))]


def measure(preset: str, threads: int, steps: int, runs: int) -> dict[str, list[float]]:
    """Return milliseconds a step of every run and form; the forms are checked to agree first."""
    networks = {form: prepare(preset, form, threads) for form in FORMS}
    states = [relax(n, n.zero_states(), 3).states for n in networks["direct"]]
    for a, b in zip(networks["direct"][0].step(states[0]), networks["winograd"][0].step(states[0]), strict=True):
        assert np.abs(a - b).max() < 1e-4, "the forms differ"
    times: dict[str, list[float]] = {form: [] for form in FORMS}
    with thread_map(threads) as run:
        for _ in range(runs):
            for form in FORMS:
                began = time.perf_counter()
                run(lambda k, form=form: relax(networks[form][k], states[k], steps), range(len(states)))
                times[form].append(1e3 * (time.perf_counter() - began) / steps)
    return times


def measure_layers(preset: str, runs: int) -> list[str]:
    """Return a row for every convolution above the first: drive and feedback of 32 samples on one thread."""
    config = load(preset)
    network = make_learner(config, SHAPES[config.data.name], 10, get_backend("numpy")).network
    generator, rows = np.random.default_rng(0), []
    for n, layer in enumerate(network.architecture.layers):
        if n == 0 or not isinstance(layer, ConvLayer):
            continue
        below = network.architecture.state_shapes[n - 1]
        s = generator.random((32, *below), np.float32)
        w = generator.standard_normal((*layer.kernel, below[-1], layer.channels), np.float32)
        b, times = np.zeros(layer.channels, np.float32), {form: [] for form in FORMS}
        forms = {form: connect(layer, below, form) for form in FORMS}
        kernels, spaces = {f: c.prepare(w) for f, c in forms.items()}, {form: Workspace() for form in FORMS}
        for _ in range(runs + 1):
            for form, connection in forms.items():
                began = time.perf_counter()
                d, winner = connection.drive(kernels[form], b, s, spaces[form])
                connection.feedback(kernels[form], d, winner, spaces[form])
                times[form].append(1e3 * (time.perf_counter() - began))
        direct, winograd = (median(times[form][1:]) for form in FORMS)
        where = f"{below[-1]} to {layer.channels} on {below[0]}x{below[1]}"
        rows.append(f"| {where} | {direct:.1f} | {winograd:.1f} | {direct / winograd:.2f} |")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", nargs="+", required=True)
    parser.add_argument("--threads", type=int, default=available_cores())
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    environment = describe_environment("numpy")
    lines = [
        f"{options.threads} threads, {environment['blas']}, NumPy {environment['numpy']}; ",
        f"{options.runs} interleaved runs of {options.steps} steps.",
        "",
        "| preset | batch | direct, ms a step | Winograd, ms a step | direct / Winograd (least, most) |",
        "|---|---|---|---|---|",
    ]
    for preset in options.presets:
        times = measure(preset, options.threads, options.steps, options.runs)
        direct, winograd = (median(times[form]) for form in FORMS)
        ratios = [a / b for a, b in zip(*times.values(), strict=True)]
        lines.append(
            f"| `{preset}` | {load(preset).training.batch_size} | {direct:.1f} | {winograd:.1f} | "
            f"{direct / winograd:.2f} ({min(ratios):.2f}, {max(ratios):.2f}) |"
        )
        print(lines[-1], flush=True)
    lines += ["", "Drive and feedback of one layer, 32 samples, one thread:", ""]
    lines += ["| channels | direct, ms | Winograd, ms | direct / Winograd |", "|---|---|---|---|"]
    with threadpool_limits(1, user_api="blas"):
        for preset in options.presets:
            lines += measure_layers(preset, 3 * options.runs)
    print("\n".join(lines[-8:]))
    if options.out:
        options.out.write_text("# Direct and Winograd's form of a step\n\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
