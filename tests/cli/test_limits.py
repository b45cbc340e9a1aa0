"""Memory, time and devices at the command line: what does not fit, what it takes, what is not there."""

from __future__ import annotations

import csv
import json
import re
import signal
import tomllib
import weakref

import numpy as np
import pytest
from commands import SMALL_OPTIONS, assert_fails, overrides, run, train_small
from fakecuda import CUDADriverError

from eqnp import training
from eqnp.api import training as cli_training
from eqnp.backends.backend import Backend
from eqnp.dynamics import WAYS
from eqnp.learner import Learner


@pytest.mark.parametrize("error", [MemoryError, CUDADriverError])
def test_out_of_memory_is_exit_7_and_says_what_would_fit(capsys, tmp_path, monkeypatch, error):
    """A run that fails in its second epoch is saved there, and goes on from there with the batch size that it names."""
    run_folder, gradient = tmp_path / "run", Learner.gradient
    small = overrides("data.train_samples=60", "training.batch_size=20", "training.epochs=1")
    assert train_small(capsys, run_folder, *small).code == 0

    def exhausted(self, parameters, x, *arguments):
        if len(x) > 6:
            raise error("out of memory allocating 9 TiB")
        return gradient(self, parameters, x, *arguments)

    monkeypatch.setattr(Learner, "gradient", exhausted)
    monkeypatch.setattr(Backend, "available_memory", lambda self: 10**6)
    result = run(capsys, "train", "--resume", run_folder, *overrides("training.epochs=2"))
    line = result.err.splitlines()[-1]
    assert result.code == 7 and "training.batch_size = 20" in line and "9 TiB" in line and "--resume" in line
    fits = int(re.search(r"--set training.batch_size=(\d+) would fit", line)[1])
    assert 1 <= fits < 20
    result = run(capsys, "train", "--resume", run_folder, *overrides("training.batch_size=6"))
    assert result.code == 0, result.err
    with open(run_folder / "metrics.csv") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2"]


def test_a_failed_batch_holds_no_memory_while_one_that_fits_is_looked_for(capsys, tmp_path, monkeypatch):
    made = []

    def exhausted(self, parameters, x, *arguments):
        states = np.ones_like(x)
        made.append(weakref.ref(states))
        raise MemoryError

    def fits(*arguments):
        assert made and made[0]() is None
        return 3

    monkeypatch.setattr(Learner, "gradient", exhausted)
    monkeypatch.setattr(cli_training, "batch_that_fits", fits)
    result = train_small(capsys, tmp_path / "run")
    assert result.code == 7 and "training.batch_size = 20; --set training.batch_size=3 would fit" in result.err


def test_a_run_goes_on_in_the_middle_of_an_epoch_with_another_batch_size(capsys, tmp_path, monkeypatch):
    calls, train_batch = [], training.train_batch

    def interrupted(learner, state, x, labels, run, **more):
        if len(calls) == 3:
            raise MemoryError
        calls.append(len(x))
        return train_batch(learner, state, x, labels, run, **more)

    monkeypatch.setattr(training, "train_batch", interrupted)
    small = overrides("data.train_samples=60", "training.batch_size=10", "training.epochs=1")
    assert train_small(capsys, tmp_path / "run", *small).code == 7
    monkeypatch.setattr(
        training, "train_batch", lambda *a, **more: (calls.append(len(a[2])), train_batch(*a, **more))[1]
    )
    result = run(capsys, "train", "--resume", tmp_path / "run", *overrides("training.batch_size=7"))
    assert result.code == 0, result.err
    assert calls == [10, 10, 10, 7, 7, 7, 7, 2], "30 samples are done, and each of the other 30 comes once"


@pytest.mark.parametrize("code", [7, 143], ids=["for want of memory", "by a signal"])
def test_what_was_learned_outlives_an_evaluation_that_ends_early(capsys, tmp_path, monkeypatch, code):
    whole, parts, evaluate = tmp_path / "whole", tmp_path / "parts", cli_training.evaluate
    assert train_small(capsys, whole).code == 0

    def ended(*arguments):
        if code == 7:
            raise MemoryError
        signal.raise_signal(signal.SIGTERM)
        return evaluate(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(cli_training, "evaluate", ended)
        assert train_small(capsys, parts).code == code
    monkeypatch.setattr(training, "train_batch", forbidden_in_first_epoch(training.train_batch))
    assert run(capsys, "train", "--resume", parts).code == 0
    rows = [list(csv.reader((folder / "metrics.csv").read_text().splitlines())) for folder in (whole, parts)]
    assert len(rows[0]) == 3 and [row[:-1] for row in rows[0]] == [row[:-1] for row in rows[1]]  # but for the seconds


def forbidden_in_first_epoch(train_batch):
    def train(learner, state, *arguments, **more):
        assert state.epoch == 1, "the first epoch was over"
        return train_batch(learner, state, *arguments, **more)

    return train


def test_bench(capsys, tmp_path, monkeypatch):
    out = tmp_path / "bench.json"
    quick = [*SMALL_OPTIONS, "--runs", "2", "--steps", "3"]
    result = run(capsys, "bench", "digits", *quick, "--out", out)
    assert result.code == 0, result.err
    assert all(len(line) <= 80 for line in result.out.splitlines()[:-1]), result.out
    assert "step, even-odd" in result.out and "epoch, estimated" in result.out and "MB  of this process" in result.out
    content = json.loads(out.read_text())
    assert {name: len(times) for name, times in content["steps"].items()} == dict.fromkeys(WAYS, 2)
    assert len(content["batch"]) == 2
    own = run(capsys, "bench", "digits", *quick, *overrides("dynamics.schedule=up-down")).out
    assert "step, up-down " in own, "the way of the configuration is among those that are measured"
    assert content["batches"] * content["batch_size"] >= content["samples"] and content["inputs"] == "mnist-small"
    for name in ("HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    quick = ["--runs", "1", "--steps", "1", "--seconds", "0", "--set", "dynamics.T1=2", "--set", "dynamics.T2=1"]
    result = run(capsys, "bench", "mnist-mlp", *quick)
    assert result.code == 0 and "random data (dataset not found)" in result.out and "1200 batches" in result.out
    assert_fails(run(capsys, "bench", "mnist-mlp", "--set", f"data.folder={tmp_path}"), 3, "mnist not found")
    once = ["bench", "digits", *SMALL_OPTIONS, "--runs", "1", "--out"]
    assert_fails(run(capsys, *once, tmp_path / "no" / "b"), 8, "make the folder first")
    assert_fails(run(capsys, *once, out), 2, "exists", "--force")
    assert_fails(run(capsys, *once, tmp_path), 2, "is a folder")
    result = run(capsys, *once, "/dev/full", "--force")
    assert result.code == 8 and "step, even-odd" in result.out and "Traceback" not in result.err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--device", "1"], "--device needs a GPU: add --backend cupy"),
        (["--device-memory", "2"], "--device-memory needs a GPU: add --backend cupy"),
        (["--backend", "cupy", "--device-memory", "nan"], "nan is not a finite number"),
        (["--tf32"], "training.tf32: needs --backend cupy"),
        (["--tf32", "--dtype", "float64"], "training.tf32: needs training.dtype"),
    ],
)
def test_options_of_a_gpu_without_one(capsys, tmp_path, words, expected):
    assert_fails(train_small(capsys, tmp_path / "run", *words), 2, expected)
    assert not (tmp_path / "run").exists()


def test_dtype_is_an_option(capsys, tmp_path):
    assert train_small(capsys, tmp_path / "run", "--dtype", "float64", *overrides("training.epochs=1")).code == 0
    assert tomllib.loads((tmp_path / "run" / "config.toml").read_text())["training"]["dtype"] == "float64"
