"""Trains a dense network on MNIST to the same error: eqnp compared with the published training loop in PyTorch.

    python -m benchmarks.epoch --epochs 2 --seeds 3 --set dynamics.schedule=even-odd --set dynamics.T1=10 ...

Both train the preset ``mnist-mlp`` from the same weights on the same batches. PyTorch takes synchronous steps, T1 30
and T2 10, with autograd of Phi and its own Adam; eqnp takes the settings of ``--set``. The epochs are interleaved.
Needs PyTorch and MNIST.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch

from benchmarks.pytorch import Published, from_torch_weight
from benchmarks.timing import where_measured
from eqnp.analysis.measuring import ratio
from eqnp.api.session import Session
from eqnp.backends.backend import get_backend
from eqnp.backends.limits import available_cores
from eqnp.backends.sharding import thread_map
from eqnp.learner import Learner
from eqnp.losses import one_hot
from eqnp.runs.configfile import load
from eqnp.runs.experiment import with_threads
from eqnp.training import evaluate, next_epoch, train_epoch

PRESET = "mnist-mlp"


class Loop:
    """The published training loop."""

    def __init__(self, learner: Learner, parameters: dict, rate: float) -> None:
        self.learner = learner
        self.net = Published(learner.network.architecture, parameters, np.zeros((1, 784), np.float32))
        self.optimizer = torch.optim.Adam([p for pair in self.net.weights for p in pair], lr=rate)

    def epoch(self, batches, epoch: int) -> None:
        learner, net = self.learner, self.net
        for index in range(batches.count):
            x, labels = batches.batch(epoch, index)
            net.x = torch.from_numpy(x)
            target = torch.from_numpy(one_hot(labels, 10, x.dtype))
            gradients = net.gradient(target, learner.phases.T1, learner.phases.T2, learner.beta).values()
            for p, g in zip((p for pair in net.weights for p in pair), gradients, strict=True):
                p.grad = g / len(x)
            self.optimizer.step()

    def parameters(self) -> dict:
        result, architecture = {}, self.learner.network.architecture
        below = (architecture.input_shape, *architecture.state_shapes)
        for n, (w, b) in enumerate(self.net.weights):
            weight = from_torch_weight(architecture.layers[n], w.detach().numpy(), below[n])
            result[f"forward.{n}.weight"] = np.ascontiguousarray(weight)
            result[f"forward.{n}.bias"] = b.detach().numpy()
        return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    parser.add_argument("--data", default="", help="the folder of MNIST")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(available_cores())
    common = [f"data.folder={options.data}"] if options.data else []
    lines, times = [], {"published": [], "eqnp": []}
    lines = ["| seed | epoch | published, s | error, % | eqnp, s | error, % |", "|---|---|---|---|---|---|"]
    for seed in range(options.seeds):
        seeded = [*common, f"training.seed={seed}"]
        judge = Session.start(load(PRESET, seeded), get_backend("numpy"))
        own = Session.start(with_threads(load(PRESET, [*seeded, *options.overrides])), get_backend("numpy"))
        state, batches, test = own.initial_state(), own.training_batches(), judge.ordered_batches("test")
        loop = Loop(judge.learner, state.parameters, judge.learner.update.rates(0)["forward.0.weight"])
        with thread_map(own.learner.threads) as run:
            for epoch in range(options.epochs):
                began = time.perf_counter()
                loop.epoch(batches, epoch)
                middle = time.perf_counter()
                for after in train_epoch(own.learner, state, batches, run):
                    state = after
                end = time.perf_counter()
                state = next_epoch(state)
                times["published"].append(middle - began)
                times["eqnp"].append(end - middle)
                errors = [  # both by the preset's own free phase
                    evaluate(judge.learner, p, test, run).error for p in (loop.parameters(), state.parameters)
                ]
                lines.append(
                    f"| {seed} | {epoch + 1} | {middle - began:.1f} | {errors[0]:.2f} | {end - middle:.1f} | "
                    f"{errors[1]:.2f} |"
                )
                print(lines[-1], flush=True)
    head = f"{where_measured(len(times['eqnp']))} PyTorch {torch.__version__}. eqnp with {' '.join(options.overrides)}."
    tail = f"Median epoch {median(times['published']):.1f} and {median(times['eqnp']):.1f} s; ratio "
    lines = [head, "", *lines, "", tail + ratio(times["published"], times["eqnp"]) + "."]
    print(lines[-1])
    if options.out:
        options.out.write_text("# mnist-mlp, an epoch to the same error\n\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
