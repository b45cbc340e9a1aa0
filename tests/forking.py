"""A process that has imported eqnp and forks commands: a sweep and the processes of its runs start at once.

``python forking.py`` reads orders from stdin, one JSON object a line, and answers each with an exit code. "words" is a
command, "log" gets its output. "who" ("sweep" or "run"), "at" and "signal": that process gets the signal when it gives
a file its name for the ``at``-th time; of several runs the first to come there.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager


class Forked:
    """In place of ``subprocess.Popen`` for a run of a sweep: a fork of this process."""

    order = None  # what the process was asked to do

    def __init__(self, words, stdin, stdout, stderr, env, start_new_session):
        from eqnp.cli import leashed
        from eqnp.cli.main import main

        assert words[1:4] == ["-P", "-m", "eqnp.cli.leashed"] and start_new_session
        read, write = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            os.setsid()
            os.environ.clear()
            os.environ.update(env)
            for source, target in ((read, 0), (stdout.fileno(), 1), (stderr.fileno(), 2)):
                os.dup2(source, target)
            os.closerange(3, 64)
            sys.stdout, sys.stderr = (os.fdopen(n, "w", buffering=1) for n in (1, 2))
            threading.Thread(target=leashed._watch, daemon=True).start()
            signal_at(self.order, "run")
            code = main(words[4:])
            sys.stdout.flush()
            os._exit(code)
        os.close(read)
        self.stdin = os.fdopen(write, "wb")
        self.returncode = None

    def poll(self):
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait(self):
        while self.poll() is None:
            time.sleep(0.01)

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)


def signal_at(order, who):
    """Let this process get the order's signal when it has named files often enough."""
    if order.get("who") != who:
        return
    replace, count = os.replace, [0]

    def counting(source, target):
        count[0] += 1
        if count[0] == order["at"] and first(order):
            os.kill(os.getpid(), order["signal"])
            time.sleep(0.001)
        replace(source, target)

    os.replace = counting


def first(order):
    """Whether no other process was here before."""
    try:
        os.close(os.open(order["log"] + ".signalled", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def serve():
    from eqnp.api import plotting
    from eqnp.cli.main import main
    from eqnp.sweeps import child as sweepchild
    from eqnp.sweeps import here as sweeping

    plotting.write_curves = lambda path: None
    sweepchild.subprocess = type("subprocess", (), {"Popen": Forked, "PIPE": None})
    sweeping.PAUSE, sweeping.BUSY_PAUSE = 0.01, 0.1
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if not child:
            Forked.order = order
            sys.stdout = sys.stderr = open(order["log"], "w", buffering=1)  # noqa: SIM115
            signal_at(order, "sweep")
            os._exit(main(order["words"]))
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


@contextmanager
def forking():
    """Give a function that sends an order and returns the exit code: -9 for a process that was killed."""
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )

    def send(**order):
        process.stdin.write(json.dumps(order) + "\n")
        process.stdin.flush()
        return int(process.stdout.readline())

    yield send
    process.stdin.close()
    assert process.wait(30) == 0
    process.stdout.close()


def without_curves(folder):
    """A folder for PYTHONPATH without matplotlib, which takes longer to import than a run takes."""
    (folder / "sitecustomize.py").write_text(
        "import importlib.util\nfind = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *more: None if name == 'matplotlib' else find(name, *more)\n"
    )
    return folder


if __name__ == "__main__":
    serve()
