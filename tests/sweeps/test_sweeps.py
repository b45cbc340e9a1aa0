"""Sweeps that are interrupted at ten points and resumed, runs that fail, and several processes in one folder."""

from __future__ import annotations

import errno
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from commands import SMALL, run, same_run
from forking import forking, without_curves

from eqnp.api import signals
from eqnp.api.report import Report
from eqnp.api.signals import StopRequest, name_of_signal
from eqnp.backends.launcher import launched, local_rank, without_launcher
from eqnp.sweeps import child as sweepchild
from eqnp.sweeps import here as sweeping
from eqnp.sweeps.file import read_sweep
from eqnp.sweeps.folder import End, SweepFolder
from eqnp.sweeps.watch import Watch

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

COMMON = "\n".join(each for each in SMALL if "threads" not in each)
RUNS = ("beta_0.1-seed_0", "beta_0.5-seed_0")


def write_sweep(path, rest="seeds = 1\n[grid]\ndynamics.beta = [0.1, 0.5]\n"):
    path.write_text(f"{rest}[set]\n{COMMON}\n")
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("sweeps")


@pytest.fixture(scope="module")
def send():
    with forking() as server:
        yield server


@pytest.fixture
def sweep(send, tmp_path):
    """Run ``eqnp sweep``; return its exit code and what it printed."""

    def command(*words, **order):
        log = tmp_path / "log"
        code = send(words=["sweep", *map(str, words)], log=str(log), **order)
        return code, log.read_text()

    return command


@pytest.fixture(scope="module")
def whole(place, send):
    """A sweep of two runs that was never interrupted, and its file."""
    file = write_sweep(place / "betas.toml")
    assert send(words=["sweep", str(file), "--out", str(place / "whole"), "--jobs", "2"], log=str(place / "log")) == 0
    return file, place / "whole"


def assert_same(whole, folder):
    for name in RUNS:
        same_run(whole / name, folder / name)


# ---- interruptions

KILL, INT = int(signal.SIGKILL), int(signal.SIGINT)


@pytest.mark.parametrize(
    ("who", "at", "number"),
    [
        ("sweep", 1, KILL),  # what the sweep is, is written
        ("sweep", 2, KILL),  # the configuration of the first run
        ("sweep", 7, KILL),  # the first run is going on
        ("sweep", 9, KILL),  # how the first run ended
        ("sweep", 5, INT),
        ("run", 1, KILL),  # its configuration
        ("run", 3, KILL),  # the state at the start
        ("run", 4, KILL),  # the metrics of an epoch whose checkpoint is not written
        ("run", 6, KILL),
        ("run", 5, INT),
    ],
)
def test_an_interrupted_sweep_goes_on_by_the_same_command(sweep, whole, tmp_path, who, at, number):
    file, complete = whole
    words = (file, "--out", tmp_path / "s", "--jobs", 2)
    code, text = sweep(*words, who=who, at=at, signal=number)
    assert Path(f"{tmp_path}/log.signalled").exists()
    if who == "sweep":
        assert code == (-KILL if number == KILL else 130), text
    else:
        assert code == (128 + KILL if number == KILL else 130), text
        other = [name for name in RUNS if f"{name}: test error" in text]
        assert len(other) == 1, "the other run is not disturbed"
    if code == 130:
        assert f"`eqnp sweep {file} --out {tmp_path / 's'} --jobs 2` continues" in text
    if code == 128 + KILL:
        assert "failed: the process was ended by SIGKILL, as the system does if memory runs out" in text
    code, text = sweep(*words)
    assert code == 0 and "2 of 2 runs finished" in text, text
    assert_same(complete, tmp_path / "s")


def test_a_finished_sweep_trains_nothing(sweep, whole, tmp_path):
    file, complete = whole
    shutil.copytree(complete, tmp_path / "s")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "s").glob("beta*/*")}
    code, text = sweep(file, "--out", tmp_path / "s")
    assert code == 0 and "2 runs, 2 finished, 0 to do" in text
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "s").glob("beta*/*")} == before


def test_a_run_that_says_nothing_of_its_end_is_looked_at_again(sweep, whole, tmp_path):
    file, complete = whole
    shutil.copytree(complete, tmp_path / "s")
    (tmp_path / "s" / ".sweep" / f"{RUNS[0]}.end").unlink()
    code, text = sweep(file, "--out", tmp_path / "s")
    assert code == 0 and "1 to do" in text
    assert_same(complete, tmp_path / "s")


# ---- failures


def test_a_run_that_fails_is_shown_and_stops_no_other(sweep, tmp_path):
    file = write_sweep(
        tmp_path / "rates.toml",
        "[[runs]]\nname = 'wild'\noptimizer.rates = 1e30\n[[runs]]\nname = 'tame'\noptimizer.rates = 0.1\n",
    )
    code, text = sweep(file, "--out", tmp_path / "s")
    assert code == 6, text
    assert "1/2  wild-seed_0: failed: " in text and "2/2  tame-seed_0: test error" in text
    assert "1 of 2 runs finished, 1 failed" in text
    table = text[text.index("Test error after") :]
    assert re.search(r"seed 0 +failed .*wild-seed_0 \(.*diverged at epoch 1", table), table
    code, again = sweep(file, "--out", tmp_path / "s", "--no-retry")
    assert code == 0 and "1 finished, 0 to do" in again
    code, again = sweep(file, "--out", tmp_path / "s", "--format", "csv")
    assert code == 6 and "1/1  wild-seed_0: failed" in again and "wild" in again.splitlines()[-2]


def test_a_run_is_no_rank_and_takes_no_settings_from_variables(monkeypatch):
    given = {
        "PMI_RANK": "1",
        "PMIX_RANK": "1",
        "OMPI_COMM_WORLD_SIZE": "4",
        "OMPI_COMM_WORLD_RANK": "1",
        "SLURM_PROCID": "3",
        "SLURM_NTASKS": "4",
        "EQNP_TRAINING_EPOCHS": "9",
    }
    kept = {
        "SLURM_JOB_ID": "7",
        "SLURM_CPUS_PER_TASK": "2",
        "EQNP_DATA": "there",
        "HOME": "home",
        "OMP_PLACES": "cores",
    }
    monkeypatch.setattr(os, "environ", given | kept)
    found = sweepchild._environment(3)
    assert not set(given) & set(found) and found.items() >= kept.items()
    assert found["OMP_NUM_THREADS"] == "3"
    monkeypatch.setattr(os, "environ", {"OMP_NUM_THREADS": "2"})
    assert sweepchild._environment(3)["OMP_NUM_THREADS"] == "2" and "OMP_NUM_THREADS" in sweepchild._environment(None)
    assert without_launcher(given) == {"EQNP_TRAINING_EPOCHS": "9"}
    assert (launched({}).size, launched(given).size, local_rank({"SLURM_LOCALID": "2"}), local_rank({})) == (1, 4, 2, 0)


def test_the_cores_are_shared_out(sweep, whole):
    """A run writes the number of its threads, and keeps it."""
    _, complete = whole
    for name in RUNS:
        text = (complete / name / "config.toml").read_text()
        assert "threads = 1" in text


def test_ends():
    assert End(0, "epochs").finished and not End(0, "max_minutes").finished and not End(0, "max_minutes").failed
    assert End(137).failed and End(6).failed and not End(130).failed and not End(143).finished
    assert name_of_signal(9) == "SIGKILL" and name_of_signal(999) == "signal 999"


# ---- the loop


class Fake:
    """In place of a run's process: ends with the given codes one after the other, the last one for ever."""

    def __init__(self, *codes):
        self.codes, self.signals, self.released = list(codes), [], False

    def events(self):
        return []

    def ended(self):
        code = self.codes.pop(0) if len(self.codes) > 1 else self.codes[0]
        return None if code is None else End(code, "epochs")

    def signal(self, number):
        self.signals.append(number)
        if len(self.signals) == 2:
            self.codes = [130]

    def release(self):
        self.released = True


@pytest.fixture
def watch(tmp_path, monkeypatch):
    monkeypatch.setattr(sweeping, "PAUSE", 0.001)
    monkeypatch.setattr(sweeping, "BUSY_PAUSE", 0.01)
    made = read_sweep(write_sweep(tmp_path / "f.toml"))
    return Watch(made, SweepFolder(tmp_path / "s"), Report(), 2, 2)


def test_both_signals_reach_every_run_and_no_further_run_starts(watch, monkeypatch):
    monkeypatch.setattr(signals, "SAME_SECONDS", -1.0)
    child, pauses = Fake(None), [0]

    def pause(seconds):
        pauses[0] += 1
        if pauses[0] in (3, 6):
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(sweeping, "time", SimpleNamespace(sleep=pause, monotonic=time.monotonic))
    started = []
    with StopRequest() as stop:
        sweeping.run_here(watch.sweep.entries, 1, lambda entry, slot: started.append(entry) or child, watch, stop)
    assert stop.exit_code == 130 and child.signals == [INT, INT] and len(started) == 1


def test_a_run_in_use_is_tried_again_for_a_while(watch, monkeypatch):
    tries = [Fake(9), Fake(0), Fake(0)]
    started = []

    def start(entry, slot):
        started.append(entry.index)
        return tries[len(started) - 1]

    with StopRequest() as stop:
        sweeping.run_here(watch.sweep.entries, 2, start, watch, stop)
    assert sorted(started) == [0, 0, 1] and {n: end.code for n, end in watch.ends.items()} == {0: 0, 1: 0}
    monkeypatch.setattr(sweeping, "BUSY_SECONDS", -1.0)
    sweeping.run_here(watch.sweep.entries[:1], 1, lambda entry, slot: Fake(9), watch, stop)
    assert watch.ends[0].code == 9 and watch.exit_code() == 9


def test_an_error_of_the_sweep_lets_its_runs_save_and_stop(watch, monkeypatch):
    child = Fake(None)
    monkeypatch.setattr(watch, "shows", lambda: 1 / 0)
    with StopRequest() as stop, pytest.raises(ZeroDivisionError):
        sweeping.run_here(watch.sweep.entries, 1, lambda entry, slot: child, watch, stop)
    assert child.released


def test_a_system_without_room_for_a_process(capsys, tmp_path, monkeypatch):
    def refused(*words, **options):
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(sweepchild.subprocess, "Popen", refused)
    result = run(capsys, "sweep", write_sweep(tmp_path / "f.toml"), "--out", tmp_path / "s")
    assert result.code == 7 and "lower --jobs" in result.err and "Traceback" not in result.err


def test_runs_go_to_the_gpus_in_turn(capsys, standin_for_cupy, monkeypatch, tmp_path):
    words = []

    class Recorded(Fake):
        def __init__(self, folder, name, options, cores):
            super().__init__(None, None, 3)
            words.append(" ".join(options))

    monkeypatch.setattr(sweeping, "Child", Recorded)
    file = write_sweep(tmp_path / "f.toml", "seeds = 3\n")
    given = ["sweep", file, "--backend", "cupy", "--jobs", 3]
    assert run(capsys, *given, "--out", tmp_path / "a").code == 3
    assert words == ["--backend cupy --device 0", "--backend cupy --device 1", "--backend cupy --device 0"]
    words.clear()
    assert run(capsys, *given, "--device", 1, "--out", tmp_path / "b").code == 3
    assert words == ["--backend cupy --device 1"] * 3


# ---- several processes


def test_the_processes_of_a_job_array_share_a_folder_and_two_sweeps_do_not(whole, sweep, tmp_path):
    file, complete = whole
    words = [sys.executable, "-m", "eqnp.cli", "sweep", str(file), "--out", str(tmp_path / "s")]
    environment = os.environ | {"PYTHONPATH": str(without_curves(tmp_path)), "OPENBLAS_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": environment}
    processes = [subprocess.Popen([*words, "--index", str(n)], **pipes) for n in range(2)]
    for process in processes:
        out, err = process.communicate(timeout=100)
        assert process.returncode == 0 and "1 of 1 run finished" in err and out == "", err
    assert_same(complete, tmp_path / "s")
    folder = SweepFolder(tmp_path / "s")
    assert folder._lock.acquire()
    code, text = sweep(file, "--out", tmp_path / "s")
    assert code == 9 and f"process {os.getpid()} on" in text and "--index" in text
    assert sweep(file, "--out", tmp_path / "s", "--index", 0)[0] == 0
    folder.close()


MPIEXEC = shutil.which("mpiexec", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))


@pytest.mark.skipif(MPIEXEC is None or importlib.util.find_spec("mpi4py") is None, reason="no mpi4py and mpiexec")
def test_the_ranks_of_mpiexec_train_the_runs(whole, tmp_path):
    file, complete = whole
    environment = os.environ | {"PYTHONPATH": str(without_curves(tmp_path)), "OPENBLAS_NUM_THREADS": "1"}
    words = [MPIEXEC, "-n", "2", sys.executable, "-m", "eqnp.cli", "sweep", str(file), "--out", str(tmp_path / "s")]
    options = {"capture_output": True, "text": True, "env": environment, "timeout": 100, "check": False}
    done = subprocess.run([*words, "--executor", "mpi", "--json"], **options)
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [e["status"] for e in events if e["event"] == "run_end"] == ["finished"] * 2
    assert sum(e["event"] == "epoch" for e in events) == 4
    assert_same(complete, tmp_path / "s")
    refused = subprocess.run(words, **options)
    assert refused.returncode == 2 and "mpiexec started 2 of this command: add --executor mpi" in refused.stderr


def test_without_mpi4py(capsys, monkeypatch, whole):
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    result = run(capsys, "sweep", whole[0], "--executor", "mpi")
    assert result.code == 4 and "pip install mpi4py mpich" in result.err
