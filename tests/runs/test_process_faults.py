"""A process that is killed, stopped or fails ends all others: no hang, one line, and a run that can go on."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import types

import pytest
from commands import assert_fails, overrides, run
from processes import SMALL, end, needs_mpi, same, start, together, worker

from eqnp.api.processes import open_world
from eqnp.backends import mpi
from eqnp.backends.launcher import Launched, launched
from eqnp.cli.main import main
from eqnp.errors import BackendError
from eqnp.runs import checkpoint

RUN = [*SMALL, *overrides("data.validation=10", "data.train_samples=60", "training.epochs=2")]  # 3 batches an epoch
NAMED = re.compile(r"^eqnp: rank \d of \d on [^:]+: ")

# Lets one rank do something at the n-th call of a function: ``at("eqnp.learner:Learner.gradient", 1, 5, act)``.
AT = """
def at(place, rank, number, act):
    import importlib
    module, _, name = place.partition(":")
    owner = importlib.import_module(module)
    *parents, last = name.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    original, count = getattr(owner, last), [0]
    def acting(*args, **kwargs):
        count[0] += 1
        if RANK == rank and count[0] == number:
            act()
        return original(*args, **kwargs)
    setattr(owner, last, acting)
def kill():
    os.kill(os.getpid(), signal.SIGKILL)
def fail(error):
    raise error
"""
# Where a process is killed: 3 batches of 3 shards for rank 0 and 2 for rank 1, then an evaluation and two saves.
STAGES = {
    "start": ("eqnp.api.starting:join", 1),
    "phase": ("eqnp.learner:Learner.gradient", 5),
    "reduction": ("eqnp.backends.mpi:MpiWorld._all_gather", 8),
    "save": ("eqnp.api.training:TrainingRun.write", 2),
    "evaluation": ("eqnp.backends.mpi:MpiWorld.rows", 1),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The run, by one process without a fault."""
    folder = tmp_path_factory.mktemp("faults") / "whole"
    assert main(["train", "--quiet", "--out", str(folder), *RUN]) == 0
    return folder


def go_on(folder, whole):
    """Resume a run by one process, or start it if there is none yet, and compare it with the whole one."""
    begun = (folder / "config.toml").exists()
    words = ["--resume", str(folder)] if begun else ["--out", str(folder), *RUN]
    assert main(["train", "--quiet", *words]) == 0
    (folder / "history.csv").unlink(missing_ok=True)
    same(whole, folder)


def batches(folder):
    """Return the epoch and the batch of the last save."""
    progress = checkpoint.load(folder / "last.h5", kind="training")["progress"]
    return progress["epoch"], progress["batch"]


@needs_mpi
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_process_ends_all(tmp_path, whole, stage, rank):
    place, number = STAGES[stage]
    before = f"{AT}\nat({place!r}, {rank}, {number}, kill)"
    ended = together(2, ["train", "--quiet", "--out", tmp_path / "run", *RUN], before=before)
    assert ended.code not in (0, 1, 2), ended.err
    go_on(tmp_path / "run", whole)


@needs_mpi
@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        ("MemoryError('no room')", 7, ("out of memory (no room)", "start fewer processes")),
        ("RuntimeError('a bug')", 1, ("RuntimeError: a bug",)),
        ("KeyboardInterrupt()", 130, ()),
    ],
)
@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_fails_is_named_and_the_state_is_saved(tmp_path, whole, rank, error, code, words):
    before = f"{AT}\nat('eqnp.training:train_batch', {rank}, 3, lambda: fail({error}))"
    ended = together(2, ["train", "--quiet", "--out", tmp_path / "run", *RUN], before=before)
    assert ended.ended_by(code), ended.err
    if code != 130 and not (code == 1 and rank == 0):  # a bug of rank 0 shows its traceback
        (line,) = ended.lines
        assert NAMED.match(line) and f"rank {rank} of 2" in line, line
        assert all(word in line for word in words) and "--resume" in line, line
    assert batches(tmp_path / "run") == (0, 2)
    go_on(tmp_path / "run", whole)


@needs_mpi
def test_a_process_that_is_gone_is_named_where_the_launcher_ends_nothing(tmp_path, whole):
    """MPICH's mpiexec ends all itself. Here rank 1 does nothing more, and rank 0 is told that it does not exist."""
    before = (
        f"{AT}\nimport time, eqnp.backends.peers as p\nif not RANK: p.Peers.gone = lambda self: 1\n"
        "at('eqnp.training:train_batch', 1, 3, lambda: time.sleep(60))"
    )
    began = time.monotonic()
    ended = together(2, ["train", "--quiet", "--out", tmp_path / "run", *RUN], before=before)
    assert ended.ended_by(1) and time.monotonic() - began < 50
    (line,) = ended.lines
    assert NAMED.match(line) and "rank 1 of 2" in line and "ended without a message" in line and "--resume" in line
    assert batches(tmp_path / "run") == (0, 2)
    go_on(tmp_path / "run", whole)


@needs_mpi
def test_divergence_is_one_line(tmp_path):
    diverging = overrides("optimizer.rates=1e30")
    ended = together(2, ["train", "--quiet", "--out", tmp_path / "run", *RUN, *diverging])
    assert ended.ended_by(6)
    (line,) = ended.lines
    assert line.startswith("eqnp: diverged") and "--resume" in line


@needs_mpi
def test_divergence_in_a_batch_in_which_a_process_has_no_sample(tmp_path):
    """It has nothing to look at, and others say what happened."""
    diverging = overrides("optimizer.rates=1e30", "data.train_samples=22", "training.epochs=1")
    ended = together(3, ["train", "--quiet", "--out", tmp_path / "run", *SMALL, *diverging])
    assert ended.ended_by(6), ended
    (line,) = ended.lines  # by the process that saw it, or by one that was to save its weights then
    assert line.startswith(("eqnp: diverged at epoch 1, batch 2", "eqnp: diverged in epoch 1, before batch 2")), ended


@needs_mpi
@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_to_one_process_stops_all_after_the_batch(tmp_path, whole, rank):
    stop = "lambda: os.kill(os.getpid(), signal.SIGTERM)"
    before = f"{AT}\nat('eqnp.training:train_batch', {rank}, 2, {stop})"
    ended = together(2, ["train", "--quiet", "--out", tmp_path / "run", *RUN], before=before)
    assert ended.code == 143 and ended.err.count("stopped; `eqnp train --resume") == 1, ended.err
    assert batches(tmp_path / "run") == (0, 2)
    go_on(tmp_path / "run", whole)


@needs_mpi
def test_control_c_at_mpiexec_saves_once(tmp_path, capsys):
    words = ["train", "--quiet", "--out", str(tmp_path / "run"), *RUN, *overrides("training.epochs=100000")]
    process = start(2, worker([words]))
    last = time.monotonic() + 60
    while not (tmp_path / "run" / "metrics.csv").exists() and time.monotonic() < last:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    ended = end(process)
    assert ended.code == 130 and ended.err.count("stopped; `eqnp train --resume") == 1, ended.err
    epoch, _ = batches(tmp_path / "run")
    more = overrides(f"training.epochs={epoch + 1}")
    assert run(capsys, "train", "--quiet", "--resume", tmp_path / "run", *more).code == 0


OTHER_DATA = """
import eqnp.api.session as session
from dataclasses import replace
read = session.read_dataset
def other(config):
    data = read(config)
    return replace(data, train_labels=data.train_labels[::-1].copy()) if RANK else data
session.read_dataset = other
"""


@needs_mpi
@pytest.mark.parametrize(
    ("before", "code", "words"),
    [
        (OTHER_DATA, 3, ("rank 1 of 2", "has other data than rank 0", "SHA-256")),
        ("if RANK: commands[0] += ['--set', 'dynamics.beta=0.4']", 2, ("another configuration", "--distributed none")),
        ("import numpy\nif RANK: numpy.__version__ = '2.0.1'", 2, ("has numpy 2.0.1", "rank 0 has")),
    ],
    ids=["data", "configuration", "version"],
)
def test_processes_that_differ_are_refused(tmp_path, before, code, words):
    ended = together(2, ["train", "--quiet", "--out", tmp_path / "run", *RUN], before=before)
    (line,) = ended.lines
    assert ended.ended_by(code) and all(word in line for word in words), ended.err
    assert not (tmp_path / "run").exists()


@needs_mpi
@pytest.mark.parametrize(
    ("settings", "code", "words"),
    [
        (["training.shards=1"], 2, ("training.shards: 1 for 2 processes", "at least 2")),
        (["training.batch_size=1"], 2, ("training.batch_size: 1 for 2 processes",)),
        (["training.nonsense=2"], 2, ("training.nonsense",)),
    ],
)
def test_wrong_input_is_one_line(tmp_path, settings, code, words):
    ended = together(2, ["train", "--quiet", "--out", tmp_path / "run", *RUN, *overrides(*settings)])
    (line,) = ended.lines
    assert ended.ended_by(code) and all(word in line for word in words), ended.err
    assert "rank" not in line  # all processes say it


@needs_mpi
def test_a_busy_folder_and_two_runs_side_by_side(tmp_path, whole):
    """Two runs of two processes each at once; and a third that wants the folder of the first."""
    long = overrides("training.epochs=100000")
    first = start(2, worker([["train", "--quiet", "--out", str(tmp_path / "first"), *RUN, *long]]))
    last = time.monotonic() + 60
    while not (tmp_path / "first" / "last.h5").exists() and time.monotonic() < last:
        time.sleep(0.05)
    try:
        second = together(2, ["train", "--quiet", "--out", tmp_path / "second", *RUN])
        busy = together(2, ["train", "--quiet", "--resume", tmp_path / "first"])
    finally:
        os.kill(first.pid, signal.SIGTERM)
    assert second.code == 0 and busy.code == 9, busy.err
    (line,) = busy.lines
    assert "in use by process" in line and "rank" not in line
    assert end(first).code == 143
    same(whole, tmp_path / "second")


# ---- in this process


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, (0, 1)),
        ({"PMI_RANK": "2", "PMI_SIZE": "4"}, (2, 4)),
        ({"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2"}, (1, 2)),
        ({"SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "8"}, (3, 8)),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "8"}, (0, 1)),  # a batch script
        ({"PMI_RANK": "5", "PMI_SIZE": "4"}, (0, 1)),
        ({"PMI_RANK": "x", "PMI_SIZE": "4"}, (0, 1)),
    ],
)
def test_launchers_are_known_by_their_variables(variables, expected):
    assert launched(variables) == expected


@pytest.fixture
def one_of_two(monkeypatch):
    """The variables of a launcher that started two processes."""
    monkeypatch.setenv("PMI_RANK", "0")
    monkeypatch.setenv("PMI_SIZE", "2")


def test_without_mpi4py_one_line_says_what_to_install(capsys, monkeypatch, one_of_two, tmp_path):
    monkeypatch.setitem(sys.modules, "mpi4py.MPI", None)
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    assert_fails(run(capsys, "train", "--out", tmp_path / "run", *RUN), 4, "pip install mpi4py mpich", "none")
    assert run(capsys, "train", "--quiet", "--distributed", "none", "--out", tmp_path / "run", *RUN).code == 0


def test_an_mpi_of_another_launcher_is_noticed(monkeypatch):
    alone = types.SimpleNamespace(COMM_WORLD=types.SimpleNamespace(Get_size=lambda: 1))
    monkeypatch.setattr(mpi, "load_mpi", lambda: alone)
    with (
        pytest.raises(BackendError, match="started 2 processes, but mpi4py's MPI sees one"),
        open_world("auto", Launched(0, 2)),
    ):
        pass


def test_a_further_process_is_silent_where_one_acts(capsys, monkeypatch, one_of_two):
    monkeypatch.setenv("PMI_RANK", "1")
    result = run(capsys, "presets")
    assert (result.code, result.out, result.err) == (0, "", "")


def test_a_plain_run_imports_nothing_of_mpi(tmp_path):
    code = (
        "import sys\nfrom eqnp.cli.main import main\n"
        f"assert main(['train', '--quiet', '--out', {str(tmp_path / 'run')!r}, *{RUN!r}]) == 0\n"
        "assert not [m for m in sys.modules if 'mpi4py' in m or m == 'eqnp.backends.mpi']"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
