"""The first minutes on a machine with a GPU: does eqnp work there, and how fast is it? About 5 minutes, no network.

    python -m benchmarks.first OUT

OUT gets a text file for each part. A part that fails or runs out of time stops no other. `python -m benchmarks.row` is
the next step.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from eqnp.backends.backend import Backend, get_backend, to_host
from eqnp.losses import one_hot
from eqnp.prepared import PreparedWeights
from eqnp.runs.configfile import load
from eqnp.runs.experiment import make_learner
from eqnp.training import initial_state

SHOWN = 12  # lines of each part on the terminal
# The tests that say most: every kernel by itself, and whole runs.
KERNELS = (
    "tests/connections/test_kernels.py",
    "tests/ops/test_ties.py",
    "tests/backends/test_gpu.py",
    "tests/backends/test_nccl.py",
)
MACHINE = "import sys, cupy, numpy, h5py; print(sys.version, cupy.__version__, numpy.__version__, h5py.__version__)"


class Part(NamedTuple):
    """A command, its limit in seconds, and its name."""

    name: str
    limit: int
    command: tuple[str, ...]


def parts(out: Path) -> list[Part]:
    """Return what is run, in order."""
    gpu_tests = ("pytest", "-m", "gpu", "-rfE", "--tb=short", "--maxfail=25", "-q", "-p", "no:cacheprovider")
    # A missing package or a warning of a newer one must not hide what the GPU does.
    gpu_tests += ("-W", "default", "--continue-on-collection-errors")
    others = tuple(f"--ignore={path}" for path in KERNELS)
    return [
        Part("machine", 20, ("-c", MACHINE)),
        Part("doctor", 60, ("-m", "eqnp", "doctor")),
        Part("digits", 75, ("-m", "eqnp", "train", "--backend", "cupy", "--out", str(out / "digits"), "--quiet")),
        Part("same", 60, ("-m", "benchmarks.first", "--same")),
        Part("kernels", 120, ("-m", *gpu_tests, *KERNELS)),
        Part("tests", 150, ("-m", *gpu_tests, *others)),
        Part(
            "bench",
            200,
            ("-m", "benchmarks.gpu", "--no-tests", "--runs", "5", "--steps", "30", "--out", str(out / "gpu")),
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, nargs="?", default=Path("gpu-first"))
    parser.add_argument("--same", action="store_true", help="only compare NumPy with CuPy, here")
    options = parser.parse_args()
    if options.same:
        for name, distance in distances(get_backend("cupy")).items():
            print(f"{name} {distance:.1e}")
        return
    options.out.mkdir(parents=True, exist_ok=True)
    for part in parts(options.out):
        run(part, options.out)


def run(part: Part, out: Path) -> None:
    """Run a part, write its output to a file, and show its end."""
    began, file = time.monotonic(), out / f"{part.name}.txt"
    with open(file, "w") as stream:
        try:
            command = [sys.executable, *part.command]
            code = subprocess.run(command, stdout=stream, stderr=subprocess.STDOUT, timeout=part.limit).returncode
        except subprocess.TimeoutExpired:
            code = "none, out of time"
    print(f"== {part.name}: exit {code}, {time.monotonic() - began:.0f} s", flush=True)
    print("\n".join(file.read_text(errors="replace").splitlines()[-SHOWN:]), flush=True)


def distances(backend: Backend) -> dict[str, float]:
    """Return the largest distance of the default net's gradient on ``backend`` from NumPy's, in float64.

    By parameter, relative to the largest entry.
    """
    gradients = []
    for place in (get_backend("numpy"), backend):
        learner = make_learner(load("digits", ["training.dtype=float64", "training.threads=1"]), (28, 28, 1), 10, place)
        state, generator = initial_state(learner, 1.0, "float64"), np.random.default_rng(0)
        x, y = generator.random((20, 28, 28, 1)), one_hot(generator.integers(0, 10, 20), 10, np.float64)
        weights = PreparedWeights(learner.network, state.parameters)
        found = learner.gradient(weights, place.asarray(x), place.asarray(y), learner.stencil(0, 0), None).gradient
        gradients.append({name: to_host(g) for name, g in found.items()})
    here, there = gradients
    return {name: float(np.abs(there[name] - g).max() / np.abs(g).max()) for name, g in here.items()}


if __name__ == "__main__":
    main()
