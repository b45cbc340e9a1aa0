"""Compares a step of eqnp with PyTorch: the published method (autograd of Phi) and explicit operators, interleaved.

    python -m benchmarks.compare --presets cifar10-mse-symmetric mnist-cnn mnist-mlp --out benchmarks/results/pytorch.md

Needs PyTorch (pip install torch). ``--mkl`` also times eqnp with oneMKL's products (pip install mkl). First all are
checked to compute the same states and the same gradient. A run is a phase of ``--steps`` steps. Peak memory is that of
a process that computes one batch.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from statistics import median

import numpy as np
import torch

from benchmarks.pytorch import Baseline, Explicit, Published, from_torch_weight, to_torch_state
from benchmarks.timing import prepared_preset, where_measured
from eqnp.analysis.measuring import free_phases, interleave, ratio
from eqnp.backends.limits import available_cores
from eqnp.backends.sharding import thread_map
from eqnp.dynamics import Phase, Phases, relax
from eqnp.estimators import estimate
from eqnp.losses import one_hot
from eqnp.prepared import PreparedNetwork
from eqnp.stencils import symmetric

BASELINES: dict[str, type[Baseline]] = {"published": Published, "explicit": Explicit}


def check_same_numbers(preset: str) -> str:
    """Compare states and gradient in float64 on a few samples, and return the differences."""
    _, learner, parameters, x = prepared_preset(preset, "training.batch_size=4")
    parameters, x = {name: p.astype(np.float64) for name, p in parameters.items()}, x.astype(np.float64)
    architecture = learner.network.architecture
    target = one_hot(np.arange(4), 10, np.float64)
    T1, T2 = 12, 4
    own = estimate(learner.network, parameters, x, target, symmetric(learner.beta), Phases(T1, T2))
    apart = {}
    for name, make in BASELINES.items():
        baseline = make(architecture, parameters, x)
        states = baseline.relax(baseline.zero_states(), T1)
        pairs = zip(own.free.states, states, strict=True)
        apart[f"{name} states"] = max(np.abs(to_torch_state(a) - b.detach().numpy()).max() for a, b in pairs)
    baseline = Explicit(architecture, parameters, x)
    swept = relax(
        PreparedNetwork(learner.network, parameters, x), learner.network.zero_states(x), Phase(T1, 0, "even-odd")
    )
    pairs = zip(swept.states, baseline.sweeps(baseline.zero_states(), T1), strict=True)
    apart["sweeps"] = max(np.abs(to_torch_state(a) - b.numpy()).max() for a, b in pairs)
    gradient = Published(architecture, parameters, x).gradient(torch.from_numpy(target), T1, T2, learner.beta)
    places = {edge.name: (edge.layer, architecture.shapes[edge.lower]) for edge in architecture.edges}
    if architecture.readout:
        places["readout"] = (architecture.layers[-1], architecture.state_shapes[-1])
    errors = []
    for name, (layer, below) in places.items():
        g = from_torch_weight(layer, gradient[f"{name}.weight"].numpy(), below)
        expected = own.gradient[f"{name}.weight"]
        errors.append(np.abs(g - expected).max() / max(np.abs(expected).max(), 1e-300))
    apart["gradient, relative"] = max(errors)
    assert max(apart.values()) < 1e-8, f"{preset}: they do not compute the same: {apart}"
    return ", ".join(f"{what} {value:.0e}" for what, value in apart.items())


def measure(preset: str, steps: int, runs: int, mkl: bool) -> tuple[dict[str, list[float]], int]:
    """Return milliseconds per step by method, and the batch size."""
    _, learner, parameters, x = prepared_preset(preset)
    torch.set_num_threads(available_cores())
    work, held = {}, {}
    for name, make in BASELINES.items():
        baseline = make(learner.network.architecture, parameters, x)
        held[name] = baseline.zero_states()

        def phase(name=name, baseline=baseline):
            held[name] = baseline.relax(held[name], steps)

        work[name] = phase
    explicit = Explicit(learner.network.architecture, parameters, x)
    held["explicit sweep"] = explicit.zero_states()

    def sweeps():
        held["explicit sweep"] = explicit.sweeps(held["explicit sweep"], steps)

    work["explicit sweep"] = sweeps
    with thread_map(learner.threads) as run:
        work |= free_phases(learner, parameters, x, steps, run)
        if mkl:
            other = prepared_preset(preset, "training.products=mkl")[1]
            work["mkl"] = free_phases(other, parameters, x, steps, run)["synchronous"]
        times = interleave(work, runs, rest=0.5)  # OpenMP threads spin for 0.2 s
    return {name: [1e3 * t / steps for t in each] for name, each in times.items()}, len(x)


def peak_memory(preset: str, way: str, runs: int) -> list[float]:
    """Return the peak memory in MB of processes that compute one batch each."""
    command = [sys.executable, "-m", "benchmarks.one_batch", preset, way]
    return [float(subprocess.check_output(command, text=True).split()[-1]) for _ in range(runs)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", nargs="+", required=True)
    parser.add_argument("--steps", type=int, nargs="+", default=[20], help="steps of a run; one, or one a preset")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--mkl", action="store_true", help="eqnp with oneMKL's products as well")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    steps = options.steps * len(options.presets) if len(options.steps) == 1 else options.steps
    own_mkl = f", oneMKL {version('mkl')} in the last two columns" if options.mkl else ""
    lines = [f"{where_measured(options.runs)} PyTorch {torch.__version__}{own_mkl}.", ""]
    same = [f"- `{preset}`: {check_same_numbers(preset)}" for preset in options.presets]
    lines += ["Both compute the same numbers (float64, 4 samples, T1 12, T2 4). Largest differences:", "", *same, ""]
    lines += ["| preset | batch | published, ms | explicit, ms | explicit sweep, ms | eqnp, ms | sweep, ms "]
    lines[-1] += "| published / eqnp | explicit / eqnp | explicit sweep / sweep | sweep / eqnp | over-relaxed / eqnp |"
    lines[-1] += " eqnp with oneMKL, ms | published / it |" if options.mkl else ""
    lines += ["|---" * (14 if options.mkl else 12) + "|"]
    for preset, count in zip(options.presets, steps, strict=True):
        times, batch = measure(preset, count, options.runs, options.mkl)
        own = times["synchronous"]
        shown = ("published", "explicit", "explicit sweep", "synchronous", "even-odd")
        cells = [f"{median(times[name]):.3g}" for name in shown]
        cells += [ratio(times[name], own) for name in ("published", "explicit")]
        cells += [ratio(times["explicit sweep"], times["even-odd"])]
        cells += [ratio(times[name], own) for name in ("even-odd", "over-relaxed")]
        if options.mkl:
            cells += [f"{median(times['mkl']):.3g}", ratio(times["published"], times["mkl"])]
        lines.append(f"| `{preset}` | {batch} | " + " | ".join(cells) + " |")
        print(lines[-1], flush=True)
    lines += ["", "Peak memory of a process that computes one update, including all imports; medians (min, max):", ""]
    lines += ["| preset | published, MB | eqnp, MB | ratio |", "|---|---|---|---|"]
    for preset in options.presets:
        published, own = (peak_memory(preset, way, options.runs) for way in ("published", "eqnp"))
        cells = [f"{median(each):.0f} ({min(each):.0f}, {max(each):.0f})" for each in (published, own)]
        lines.append(f"| `{preset}` | {' | '.join(cells)} | {median(published) / median(own):.2f} |")
        print(lines[-1], flush=True)
    if options.out:
        options.out.write_text("# A step compared with PyTorch\n\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
