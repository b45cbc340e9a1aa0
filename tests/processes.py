"""Runs eqnp in several processes under ``mpiexec``, more than there are cores, each start with an end in sight."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from commands import overrides
from places import ROOT

from eqnp.runs import checkpoint

_BESIDE = Path(sys.executable).with_name("mpiexec")  # of a wheel in a virtual environment
MPIEXEC = str(_BESIDE) if _BESIDE.exists() else shutil.which("mpiexec")
MISSING = MPIEXEC is None or importlib.util.find_spec("mpi4py") is None
needs_mpi = pytest.mark.skipif(MISSING, reason="mpi4py or mpiexec is not installed (pip install mpi4py mpich)")
SECONDS = 120  # of one start, on a busy machine
_OF_LAUNCHERS = ("PMI", "OMPI", "HYDRA", "MPI", "SLURM", "EQNP", "MV2")

# 62 samples in batches of 20: of the last two, two processes of four have none.
SMALL = overrides(
    "data.train_samples=62",
    "data.test_samples=30",
    "model.layers=[{conv=3,kernel=5,stride=2,pool='max'},{dense=10}]",
    "dynamics.T1=4",
    "dynamics.T2=2",
    "training.batch_size=20",
    "training.threads=1",
    "training.shards=5",
    "training.epochs=2",
)

# Each process runs every command of a list, one after the other. ``before``: Python that the process runs first.
WORKER = """
import json, os, signal, sys
sys.path[:0] = {paths!r}
from eqnp.backends.launcher import launched
from eqnp.api import plotting
plotting.write_curves = lambda path: None
RANK = launched().rank
commands, before = json.loads(sys.argv[1])
exec(before)
from eqnp.cli.main import main
code = 0
for words in commands:
    code = main(words)
    if code:
        break
sys.exit(code)
"""


@dataclass
class Ended:
    """How processes ended."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """The lines of eqnp's errors."""
        return [line for line in self.err.splitlines() if line.startswith("eqnp: ")]

    def ended_by(self, code: int) -> bool:
        """Whether an error with this exit code ended all. mpiexec may give that of a process that it killed, 9."""
        return self.code == code or (self.code == 9 and "BAD TERMINATION" in self.out)


def environment() -> dict[str, str]:
    """Return an environment without a launcher's variables, in which more processes than cores may start, unseen."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_OF_LAUNCHERS)}
    return kept | {
        "HYDRA_LAUNCHER": "fork",  # needs no name of this host
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "OMPI_MCA_rmaps_base_oversubscribe": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }


def start(count: int, words: list[str], **options) -> subprocess.Popen:
    """Start ``count`` processes of a Python with ``words``, in a process group of their own."""
    command = [MPIEXEC, "-n", str(count), sys.executable, *words]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(
        command, text=True, start_new_session=True, env=environment(), cwd=ROOT, **(pipes | options)
    )


def end(process: subprocess.Popen) -> Ended:
    """Wait for the end of processes. None is left, whatever happens.

    Raises:
        AssertionError: they hang.
    """
    try:
        out, err = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        raise AssertionError(f"hangs\n{out}\n{err}") from None
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    return Ended(process.returncode, out, err)


def worker(commands: list[list[str]], before: str = "") -> list[str]:
    """Return the words after ``python`` that run commands of eqnp."""
    paths = [str(ROOT / "tests"), str(ROOT)]
    return ["-c", WORKER.replace("{paths!r}", repr(paths)), json.dumps([commands, before])]


def together(count: int, *commands: list, before: str = "") -> Ended:
    """Run commands of eqnp in ``count`` processes, one after the other."""
    return end(start(count, worker([[str(word) for word in words] for words in commands], before)))


def content(path):
    """Return what a checkpoint holds but for the seconds, arrays as bytes."""

    def plain(node):
        if isinstance(node, dict):
            return {name: plain(value) for name, value in node.items()}
        return node.tobytes() if hasattr(node, "tobytes") else node

    tree = plain(checkpoint.load(path, kind="training"))
    tree["progress"].pop("seconds")
    tree.pop("config")
    return tree


def table(path):
    """Return the rows of a table but for the seconds."""
    rows = list(csv.DictReader(path.read_text().splitlines()))
    return [{name: text for name, text in row.items() if name != "seconds"} for row in rows]


def same(one, two):
    """Check that two runs have the same bits in all files."""
    for name in ("last.h5", "best.h5"):
        assert content(one / name) == content(two / name), name
    assert {path.name for path in one.iterdir()} == {path.name for path in two.iterdir()}
    for name in ("metrics.csv", "test.csv"):
        if (one / name).exists():
            assert table(one / name) == table(two / name), name
