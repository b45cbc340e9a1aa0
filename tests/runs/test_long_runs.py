"""Runs that last: memory, open files and threads stay as they are; equal runs are equal byte for byte."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys

import pytest
from commands import SMALL_OPTIONS, overrides

# Trains until some seconds have passed, or some epochs; writes a line for each epoch: seconds, bytes, files, threads.
SOAK = """
import json, os, sys, time, threading
import eqnp

seconds, samples, folder = float(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
began = time.monotonic()

def watch(event):
    if event["event"] == "epoch":
        with open("/proc/self/statm") as file:
            pages = int(file.read().split()[1])
        line = [time.monotonic() - began, pages * os.sysconf("SC_PAGESIZE"), len(os.listdir("/proc/self/fd"))]
        print(json.dumps([*line, threading.active_count()]), flush=True)
        return line[0] > seconds

layers = [{"conv": 3, "kernel": 5, "stride": 2, "pool": "max"}, {"dense": 10}]
sizes = {"data.train_samples": samples, "data.test_samples": 40, "data.validation": 20, "data.crop": 2}
times = {"dynamics.T1": 4, "dynamics.T2": 2, "training.batch_size": 20, "training.threads": 2}
eqnp.train("digits", {"model.layers": layers, "training.epochs": 10**6, **sizes, **times}, out=folder,
    callbacks=[watch])
"""


def soak(folder, seconds, samples):
    """Return how much the memory of a run grew after its warm-up, a quarter of the time; files stay open or closed."""
    command = [sys.executable, "-c", SOAK, str(seconds), str(samples), str(folder)]
    out = subprocess.check_output(command, text=True, timeout=2 * seconds + 60)
    lines = [json.loads(line) for line in out.splitlines()]
    warm = [line for line in lines if line[0] > seconds / 4]
    assert len(warm) >= 10
    assert {tuple(line[2:]) for line in warm} == {tuple(warm[0][2:])}, "open files and threads"
    assert len((folder / "metrics.csv").read_text().splitlines()) == 1 + len(lines)
    return warm[-1][1] / warm[0][1] - 1


linux = pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="memory is read from /proc")


@linux
def test_memory_does_not_grow_with_the_epochs(tmp_path):
    assert soak(tmp_path / "run", 8, 60) <= 0.01


@linux
@pytest.mark.slow
def test_memory_does_not_grow_in_minutes(tmp_path):
    """SOAK_SECONDS=3600 for an hour. Longer runs have longer epochs, as in reality; there are 5,000 samples."""
    seconds = float(os.environ.get("SOAK_SECONDS", 120))
    assert soak(tmp_path / "run", seconds, min(5 * int(seconds), 4900)) <= 0.01


# ---- determinism

# Trains with a clock that stands still, so that all files may be compared as bytes.
TRAIN = """
import sys
from eqnp.api import plotting, training
from eqnp.cli.main import main

training.time.monotonic = lambda: 0.0
plotting.write_curves = lambda path: None  # takes longer than a run
for folder in sys.argv[1].split(":"):
    assert main(["train", "--quiet", "--out", folder, *sys.argv[2:]]) == 0
"""
CHANCE = ["training.estimator=random-sign", "model.layers.0.keep=0.8", "data.flip=true", "data.crop=2"]
VARIED = overrides(*CHANCE, "data.validation=20", "optimizer.momentum=0.9")


def test_ten_equal_runs_are_equal_byte_for_byte(tmp_path):
    """In three processes, whose hashes of strings differ, with two threads each."""
    folders = [tmp_path / str(n) for n in range(10)]
    for seed, some in enumerate((folders[:4], folders[4:8], folders[8:])):
        command = [sys.executable, "-c", TRAIN, ":".join(map(str, some)), *SMALL_OPTIONS, *VARIED]
        subprocess.run(command, check=True, env=os.environ | {"PYTHONHASHSEED": str(seed)}, stdout=subprocess.DEVNULL)
    for name in ("last.h5", "best.h5", "metrics.csv", "test.csv", "config.toml"):
        assert len({(folder / name).read_bytes() for folder in folders}) == 1, name
    rows = list(csv.DictReader((folders[0] / "metrics.csv").read_text().splitlines()))
    assert len(rows) == 2 and float(rows[1]["train_loss"]) > 0
