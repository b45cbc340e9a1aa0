"""What the benchmarks share: the line about the machine, and the learner of a preset."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from eqnp.backends.backend import get_backend
from eqnp.backends.products import best_numpy_products
from eqnp.data.datasets import IMAGES
from eqnp.runs.configfile import load
from eqnp.runs.environment import describe_environment
from eqnp.runs.experiment import make_learner, with_threads
from eqnp.training import initial_state


def this_command() -> str:
    """Return the running command, for the head of a file of results."""
    return f"`{shlex.join(['python', '-m', f'benchmarks.{Path(sys.argv[0]).stem}', *sys.argv[1:]])}`"


def where_measured(runs: int) -> str:
    """Return one line about command, machine and libraries."""
    found = describe_environment("numpy")
    return (
        f"{this_command()}\n\n{found['cores']} cores, {found['cpu']}, {found['blas']}, NumPy {found['numpy']}; "
        f"{runs} interleaved runs."
    )


def write_table(title: str, lines: list[str], rows: Iterable[str], out: Path | None) -> None:
    """Print the ``rows`` of a table as they come, and write ``lines`` and rows to ``out`` (None: nowhere)."""
    for row in rows:
        lines.append(row)
        print(row, flush=True)
    if out:
        out.write_text(f"# {title}\n\n" + "\n".join(lines) + "\n")


def prepared_preset(preset: str, *overrides: str):
    """Return (config, learner, parameters, x): a preset's learner, its initial parameters and a batch of random data.

    Products are NumPy's, oneMKL installed or not, unless the overrides say something else.
    """
    config = with_threads(load(preset, [f"training.products={best_numpy_products()}", *overrides]))
    shape = IMAGES[config.data.name]
    learner = make_learner(config, shape, 10, get_backend("numpy"))
    parameters = initial_state(learner, config.model.gain, "float32").parameters
    x = np.random.default_rng(0).standard_normal((config.training.batch_size, *shape), np.float32)
    return config, learner, parameters, x
