"""Computes one short update of a preset and prints this process's peak memory in MB, for benchmarks.compare.

python -m benchmarks.one_batch cifar10-mse-symmetric eqnp
"""

from __future__ import annotations

import sys

import numpy as np

from benchmarks.timing import prepared_preset
from eqnp.analysis.measuring import peak_memory
from eqnp.backends.sharding import thread_map
from eqnp.losses import one_hot
from eqnp.training import State, train_batch


def main() -> None:
    preset, way = sys.argv[1:]
    T1, T2 = 4, 3
    _, learner, parameters, x = prepared_preset(preset, f"dynamics.T1={T1}", f"dynamics.T2={T2}")
    labels = np.arange(len(x)) % 10
    if way == "published":
        import torch  # eqnp's process is measured without it

        from benchmarks.pytorch import Published

        baseline = Published(learner.network.architecture, parameters, x)
        baseline.gradient(torch.from_numpy(one_hot(labels, 10, np.float32)), T1, T2, learner.beta)
    else:
        with thread_map(learner.threads) as run:
            train_batch(learner, State(parameters, learner.update.optimizer.init(parameters)), x, labels, run)
    print(peak_memory(learner.backend))


if __name__ == "__main__":
    main()
