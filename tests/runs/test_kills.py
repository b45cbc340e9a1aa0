"""kill -9 at any moment, and processes that want the same folder: what was acknowledged stays, and one process wins."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
from commands import SMALL_OPTIONS, overrides, same_run

from eqnp.cli.main import main
from eqnp.runs import checkpoint, locks

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

EPOCHS = 8
RUN = [*SMALL_OPTIONS, *overrides(f"training.epochs={EPOCHS}", "training.threads=1", "optimizer.T_max=8")]

# Imports eqnp once, then forks a process for each line of stdin: {"run": [words], "log": file} and when it is killed,
# {"after": seconds} or {"call": function of os, "number": n}. A write that is killed has written half of its bytes.
SERVER = """
import json, os, signal, sys, threading, time
import eqnp.api.starting, eqnp.cli.train
from eqnp.cli.main import main

def die(name, number):
    original, count = getattr(os, name), [0]
    def dying(*arguments):
        count[0] += 1
        if count[0] == number:
            if name == "write":
                original(arguments[0], arguments[1][: len(arguments[1]) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments)
    setattr(os, name, dying)

for line in sys.stdin:
    order = json.loads(line)
    child = os.fork()
    if not child:
        sys.stderr = open(order["log"], "w", buffering=1)
        sys.stdout = sys.stderr
        if "call" in order:
            die(order["call"], order["number"])
        os._exit(main(order["run"]))
    if "after" in order:
        time.sleep(order["after"])
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
"""


@pytest.fixture(scope="module")
def server():
    """Send an order, return the exit code: -9 if the process was killed."""
    process = subprocess.Popen([sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def send(**order):
        process.stdin.write(json.dumps(order) + "\n")
        process.stdin.flush()
        return int(process.stdout.readline())

    yield send
    process.stdin.close()
    assert process.wait(30) == 0
    process.stdout.close()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kills") / "whole"
    assert main(["train", "--quiet", "--out", str(folder), *RUN]) == 0
    return folder


def moment(generator):
    """Return when to kill: half of the times somewhere inside a save."""
    if generator.integers(2):
        return {"after": generator.uniform(0, 0.4)}
    call = ("write", "fsync", "replace", "open")[generator.integers(4)]
    return {"call": call, "number": int(generator.integers(1, 20))}


def acknowledged(log):
    return max([0, *(int(epoch) for epoch in re.findall(r"^epoch (\d+)/", log.read_text(), re.MULTILINE))])


def campaign(server, tmp_path, whole, kills, seed):
    """Kill runs and resume them, again and again; compare each that ends with the one that was never killed."""
    generator = np.random.default_rng(seed)
    folder, log, number, known, finished = tmp_path / "run0", tmp_path / "log", 0, 0, 0
    while kills:
        if (folder / "config.toml").exists():
            words = ["train", "--quiet", "--resume", str(folder)]
        else:
            words = ["train", "--quiet", "--out", str(folder), *RUN]
        code = server(run=words, log=str(log), **moment(generator))
        assert code in (0, -signal.SIGKILL), log.read_text()
        kills -= code != 0
        known = max(known, acknowledged(log))
        assert len(list(folder.glob(".eqnp-*"))) <= 1
        if (folder / "last.h5").exists():
            assert checkpoint.load(folder / "last.h5", kind="training")["progress"]["epoch"] >= known
        else:
            assert not known
        if code == 0:
            same_run(whole, folder)
            assert not list(folder.glob(".eqnp-*"))
            number, known, finished = number + 1, 0, finished + 1
            folder = tmp_path / f"run{number}"
    return finished


def test_a_killed_run_loses_nothing_that_it_acknowledged(server, tmp_path, whole):
    assert campaign(server, tmp_path, whole, 40, 0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 6))
def test_a_run_killed_a_hundred_times(server, tmp_path, whole, seed):
    assert campaign(server, tmp_path, whole, 100, seed)


# ---- races

# Two processes at a time want the lock of one folder at the same moment.
RACES = """
import errno, json, os, sys, time
from pathlib import Path
from eqnp.errors import EqnpError
from eqnp.runs import locks
from eqnp.runs.runfolder import RunFolder

way, kind, folders = sys.argv[1], sys.argv[2], sys.argv[3:]

locks._TRIES = 1000  # this machine may be busy

def refuse(descriptor):
    raise OSError(errno.ENOLCK, "no locks")

if kind == "soft":
    locks._lock = refuse

def contend(folder, start, done, out):
    os.read(start, 1)  # ends for both at once, when the parent closes its end
    try:
        held = RunFolder.create(folder, "a = 1") if way == "create" else RunFolder.open(folder, lock=True)
        answer = ["won", os.getpid()]
    except EqnpError as error:
        answer = [type(error).__name__, str(error), os.getpid()]
    os.write(out, (json.dumps(answer) + chr(10)).encode())
    os.read(done, 1)  # holds the lock until the other has answered
    os._exit(0)

for folder in folders:
    start, go = os.pipe()
    done, end = os.pipe()
    answers, out = os.pipe()
    children = []
    for _ in range(2):
        child = os.fork()
        if not child:
            os.close(go), os.close(end), os.close(answers)
            contend(folder, start, done, out)
        children.append(child)
    os.close(start), os.close(done), os.close(out)
    os.close(go)
    text = b""
    while text.count(b"\\n") < 2:
        text += os.read(answers, 4096)
    os.close(end), os.close(answers)
    for child in children:
        os.waitpid(child, 0)
    print(json.dumps([json.loads(line) for line in text.splitlines()]), flush=True)
"""


@pytest.mark.parametrize("kind", ["flock", "soft", "stale"])
@pytest.mark.parametrize("way", ["create", "open"])
def test_of_two_processes_one_gets_the_folder(tmp_path, way, kind):
    folders = [tmp_path / str(n) for n in range(50)]
    if way == "open":
        for folder in folders:
            folder.mkdir()
            (folder / "config.toml").write_text("a = 1\n")
    if kind == "stale":  # the lock of a process that was killed
        gone = subprocess.Popen([sys.executable, "-c", ""])
        gone.wait()
        name = locks._this_process().split("\n")
        held = "\n".join([name[0].replace(f"process {os.getpid()} ", f"process {gone.pid} "), *name[1:3], ""])
        for folder in folders:
            folder.mkdir(exist_ok=True)
            (folder / ".lock-held").write_text(held)
    command = [sys.executable, "-c", RACES, way, "flock" if kind == "flock" else "soft", *map(str, folders)]
    lines = subprocess.check_output(command, text=True, timeout=120).splitlines()
    assert len(lines) == len(folders)
    for line in map(json.loads, lines):
        winner, loser = sorted(line, key=lambda answer: answer[0] != "won")
        assert winner[0] == "won" and loser[0] != "won", line
        if loser[0] == "RunBusyError":
            assert f"in use by process {winner[1]} on" in loser[1], line
        else:  # the winner was already done with the configuration
            assert way == "create" and loser[0] == "ConfigurationError" and "has a run already" in loser[1], line
