"""Runs everything about a GPU in one command, in under 8 minutes: tests, times compared with PyTorch, kernels, memory.

    python -m benchmarks.gpu --out benchmarks/results/gpu

It measures the paper's network on random data, batch 128. eqnp is interleaved with PyTorch in the published method
(autograd of Phi) and with explicit operators, each in strict float32 and in TF32. Without PyTorch it measures eqnp
alone.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
import traceback
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.timing import this_command
from eqnp.analysis.measuring import free_phases, interleave, ratio
from eqnp.analysis.settling import cosine
from eqnp.backends.backend import Backend, get_backend, to_host
from eqnp.backends.sharding import serial_map
from eqnp.data.datasets import IMAGES
from eqnp.learner import Learner
from eqnp.losses import one_hot
from eqnp.prepared import PreparedWeights
from eqnp.runs.configfile import load
from eqnp.runs.environment import describe_environment
from eqnp.runs.experiment import make_learner
from eqnp.stencils import symmetric
from eqnp.training import State, initial_state, train_batch

try:
    import torch

    from benchmarks.pytorch import Baseline, Explicit, ExplicitChannelsFirst, Published
except ImportError:
    torch = None

PRESET = "cifar10-mse-symmetric"
CHEAP = ("dynamics.schedule=even-odd", "dynamics.omega=1.6", "dynamics.T1=40", "dynamics.T2=20")
COPIED = {"H100": 3.0e12, "H200": 4.3e12}  # bytes a second, read and written ones counted, by the card's name
TERAFLOPS = 60e12  # of both: float32 without tensor cores
WARM_UP = 8192  # rows of a product that takes some 15 ms
TESTS_SECONDS = 300
BATCHES = 391  # of an epoch of CIFAR-10


class Case:
    """A learner on a backend with its parameters and a batch of random data."""

    def __init__(self, backend: Backend, preset: str, batch: int, *overrides: str) -> None:
        self.config = load(preset, [f"training.batch_size={batch}", "training.threads=1", *overrides])
        shape = IMAGES[self.config.data.name]
        self.backend = backend
        self.learner: Learner = make_learner(self.config, shape, 10, backend)
        self.state: State = initial_state(self.learner, self.config.model.gain, self.config.training.dtype)
        self.x = np.random.default_rng(0).standard_normal((batch, *shape)).astype(self.config.training.dtype)
        self.labels = np.arange(batch) % 10

    def phase(self, steps: int, way: str = "synchronous") -> Callable[[], object]:
        phases = free_phases(self.learner, self.state.parameters, self.backend.asarray(self.x), steps, serial_map)
        return phases[way]

    def update(self) -> None:
        train_batch(self.learner, self.state, self.x, self.labels, serial_map)
        self.backend.synchronize()

    def gradient(self, T1: int, T2: int) -> dict[str, np.ndarray]:
        target = one_hot(self.labels, 10, self.x.dtype)
        learner = replace(self.learner, phases=replace(self.learner.phases, T1=T1, T2=T2))
        x, y = self.backend.asarray(self.x), self.backend.asarray(target)
        weights = PreparedWeights(learner.network, self.state.parameters)
        found = learner.gradient(weights, x, y, symmetric(learner.beta), None).gradient
        return {name: self.backend.to_host(g).astype(np.float64) for name, g in found.items()}


def on_host(parameters: dict) -> dict[str, np.ndarray]:
    return {name: to_host(p) for name, p in parameters.items()}


def baseline_phase(make: type[Baseline], case: Case, steps: int, tf32: bool) -> Callable[[], object]:
    """Return a free phase in PyTorch, in strict float32 or TF32."""
    baseline = make(case.learner.network.architecture, on_host(case.state.parameters), case.x, "cuda")
    held = [baseline.zero_states()]

    def phase() -> None:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
        torch.backends.cudnn.benchmark = True  # the warm-up looks for its fastest form
        held[0] = baseline.relax(held[0], steps)
        torch.cuda.synchronize()

    return phase


def published_gradient(case: Case, tf32: bool) -> Callable[[], object]:
    """Return one gradient by the published method, with the learner's T1 and T2."""
    learner = case.learner
    baseline = Published(learner.network.architecture, on_host(case.state.parameters), case.x, "cuda")
    target = baseline.tensor(one_hot(case.labels, 10, np.float32))

    def gradient() -> None:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
        baseline.gradient(target, learner.phases.T1, learner.phases.T2, learner.beta)
        torch.cuda.synchronize()

    return gradient


class TimedDevice:
    """A device that records an event before and after each of its operations."""

    def __init__(self, device, cupy) -> None:
        self.device, self.cupy, self.exact = device, cupy, device.exact
        self.events: list = []
        self.threads = device.threads

    def with_tf32(self):
        return TimedDevice(self.device.with_tf32(), self.cupy)

    @property
    def strict(self):
        return self  # strict floats are all that is timed

    def kernel(self, source, name, macros):
        launch = self.device.kernel(source, name, macros)
        return lambda count, *arguments: self._timed(f"{name}, {count}", 0, launch, count, *arguments)

    def multiply(self, a, b, out, transpose_a=False, transpose_b=False):
        depth = a.shape[-2 if transpose_a else -1]
        what = f"product, {' x '.join(map(str, out.shape))} of {depth}"
        return self._timed(what, 2 * out.size * depth, self.device.multiply, a, b, out, transpose_a, transpose_b)

    def _timed(self, name, operations, function, *arguments):
        start, end = self.cupy.cuda.Event(), self.cupy.cuda.Event()
        start.record()
        result = function(*arguments)
        end.record()
        size = sum(a.nbytes for a in arguments if hasattr(a, "nbytes"))
        twice = 2 if name.startswith("transform_back") else 1  # it works in place
        self.events.append((name, operations, twice * size, start, end))
        return result


def kernel_rows(backend: Backend, preset: str, batch: int, steps: int, copied: float) -> list[str]:
    """Return the sections about eqnp's kernels and products, in a step and in an update with short phases."""
    title = f"; floors at {copied / 1e12:g} TB/s, {TERAFLOPS / 1e12:g} TFLOP/s"
    device = TimedDevice(backend.device, backend.xp)
    timed = replace(backend, device=device)
    lines = [f"## Kernels of a synchronous step{title}", ""]
    lines += timed_rows(device, timed, Case(timed, preset, batch).phase(steps), steps, copied)
    short = ("dynamics.T1=2", "dynamics.T2=1")  # so that what comes once in an update is seen
    lines += ["", f"## Kernels of an update with {' and '.join(short)}{title}", ""]
    return lines + timed_rows(device, timed, Case(timed, preset, batch, *short).update, 1, copied)


def timed_rows(
    device: TimedDevice, backend: Backend, phase: Callable[[], object], steps: int, copied: float
) -> list[str]:
    """Return a row for each kernel and product of ``phase``, which has ``steps`` equal parts."""
    phase()
    device.events.clear()
    # Work for some 30 ms, during which the host runs ahead: else short kernels would seem to take what a launch does.
    square = backend.xp.zeros((WARM_UP, WARM_UP), dtype=np.float32)
    backend.xp.matmul(square, backend.xp.matmul(square, square))
    phase()
    found = defaultdict(list)
    for name, operations, size, start, end in device.events:
        milliseconds = backend.xp.cuda.get_elapsed_time(start, end)
        found[name].append((milliseconds, 1e3 * max(operations / TERAFLOPS, size / copied)))
    rows = ["| kernel or product | calls | ms each | its floor, ms | ms |", "|---" * 5 + "|"]
    for name, each in sorted(found.items(), key=lambda item: -sum(t for t, _ in item[1])):
        times = [t for t, _ in each]
        calls = len(each) / steps
        rows.append(f"| {name} | {calls:g} | {median(times):.4f} | {each[0][1]:.4f} | {median(times) * calls:.3f} |")
    return rows


def steps_beside_pytorch(backend: Backend, preset: str, batch: int, runs: int, steps: int) -> list[str]:
    """Return the section about a step, and the gradient in TF32."""
    strict, tf32 = Case(backend, preset, batch), Case(backend, preset, batch, "training.tf32=true")
    work = {
        "eqnp": strict.phase(steps),
        "eqnp, a sweep": strict.phase(steps, "even-odd"),
        "eqnp, a sweep over-relaxed": strict.phase(steps, "over-relaxed"),
        "eqnp, TF32": tf32.phase(steps),
    }
    baselines: dict[str, type[Baseline]] = {}
    if torch:
        baselines = {"published": Published, "explicit": Explicit, "explicit, channels first": ExplicitChannelsFirst}
    for kind, make in baselines.items():
        work[kind] = baseline_phase(make, strict, steps, False)
        work[f"{kind}, TF32"] = baseline_phase(make, strict, steps, True)
    times = interleave(work, runs)
    lines = [f"## A step, batch {batch}", "", "| way | ms a step (min, max) |", "|---|---|"]
    for name, each in times.items():
        lines.append(step_row(name, each, steps))
    for kind in baselines:
        for end in ("", ", TF32"):
            lines += ["", f"{kind}{end} / eqnp{end}: {ratio(times[kind + end], times['eqnp' + end])}"]
    a, b = (case.gradient(60, 20) for case in (strict, tf32))
    return [*lines, "", f"Cosine of the gradient in TF32 with the one in float32 (T1 60, T2 20): {cosine(b, a):.5f}."]


def step_row(name: str, seconds: list[float], steps: int) -> str:
    """Return a row with the time of a step, from those of phases."""
    per_step = [1e3 * t / steps for t in seconds]
    return f"| {name} | {median(per_step):.3f} ({min(per_step):.3f}, {max(per_step):.3f}) |"


def simple_tier(backend: Backend, preset: str, batch: int, runs: int, steps: int) -> list[str]:
    """Return the section about a step by array operations alone."""
    few = max(1, steps // 5)
    times = interleave({"simple": Case(replace(backend, device=None), preset, batch).phase(few)}, runs)
    title = ["## A step of the simple tier", "", "| way | ms a step (min, max) |", "|---|---|"]
    return [*title, step_row("simple", times["simple"], few)]


def batches_beside_pytorch(backend: Backend, preset: str, batch: int, runs: int) -> list[str]:
    """Return the section about a batch."""
    strict = Case(backend, preset, batch)
    cheap = Case(backend, preset, batch, *CHEAP)
    cheap_tf32 = Case(backend, preset, batch, *CHEAP, "training.tf32=true")
    T1, T2 = cheap.learner.phases.T1, cheap.learner.phases.T2
    over_relaxed = f"eqnp, over-relaxed {T1} + {T2} + {T2}"
    batches = {
        "eqnp, published schedule": strict.update,
        over_relaxed: cheap.update,
        f"{over_relaxed}, TF32": cheap_tf32.update,
    }
    if torch:
        batches["published"] = published_gradient(strict, False)
        batches["published, TF32"] = published_gradient(strict, True)
    times = interleave(batches, runs)
    lines = ["## A batch, and the epoch and 120 epochs that it makes", ""]
    lines += ["| way | s a batch (min, max) | min an epoch | h for 120 |", "|---|---|---|---|"]
    for name, each in times.items():
        t = median(each)
        epoch = t * BATCHES
        lines.append(f"| {name} | {t:.3f} ({min(each):.3f}, {max(each):.3f}) | {epoch / 60:.1f} | {epoch / 30:.2f} |")
    return lines


def memory(backend: Backend, preset: str, batch: int) -> list[str]:
    """Return the section about the peak memory of an update."""
    case = Case(backend, preset, batch)
    lines = ["## Memory of an update", "", f"eqnp: {backend.peak_of(case.update) / 2**20:.0f} MB in CuPy's pool."]
    if torch:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        published_gradient(case, False)()
        lines.append(f"Published: {torch.cuda.max_memory_allocated() / 2**20:.0f} MB in PyTorch.")
    return lines


def run_tests(out: Path) -> str:
    """Run ``pytest -m gpu`` with its output in ``out``, and return one line about it."""
    options = ["-o", "addopts=--import-mode=importlib", "-m", "gpu", "-rfE", "--tb=short"]  # with pytest's own summary
    with open(out, "w") as file:
        try:
            command = [sys.executable, "-m", "pytest", *options]
            code = subprocess.run(command, stdout=file, stderr=file, timeout=TESTS_SECONDS, check=False).returncode
        except subprocess.TimeoutExpired:
            return f"`pytest -m gpu` was stopped after {TESTS_SECONDS} s: {out.name}"
    last = out.read_text().strip().splitlines()[-1:]
    return f"`pytest -m gpu`: exit code {code}; {''.join(last).strip('= ')}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--preset", default=PRESET)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--no-tests", action="store_true")
    options = parser.parse_args()
    backend = get_backend("cupy")
    options.out.mkdir(parents=True, exist_ok=True)
    machine = describe_environment("cupy")
    with open(options.out / "machine.csv", "w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(machine.items())
    copied = next((rate for name, rate in COPIED.items() if name in str(machine["gpu"])), COPIED["H200"])
    title = f"{machine['gpu']}, CUDA {machine['cuda']}, CuPy {machine['cupy']}, "
    lines = [
        "# On a GPU",
        "",
        this_command(),
        "",
        title + (f"PyTorch {torch.__version__}." if torch else "no PyTorch."),
    ]
    preset, batch = options.preset, options.batch
    sections: dict[str, Callable[[], list[str]]] = {
        "tests": lambda: [run_tests(options.out / "tests.txt")],
        "steps": lambda: steps_beside_pytorch(backend, preset, batch, options.runs, options.steps),
        "kernels": lambda: kernel_rows(backend, preset, batch, 5, copied),
        "batches": lambda: batches_beside_pytorch(backend, preset, batch, max(3, options.runs // 2)),
        "memory": lambda: memory(backend, preset, batch),
        "simple": lambda: simple_tier(backend, preset, batch, options.runs, options.steps),
    }
    if options.no_tests:
        del sections["tests"]
    for name, section in sections.items():
        try:
            found = section()
        except Exception as error:  # what is known is kept, should one part fail
            traceback.print_exc()
            found = [f"{name}: {type(error).__name__}: {error}"]
        lines += ["", *found]
        print("\n".join(["", *found]), flush=True)
        (options.out / "gpu.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
