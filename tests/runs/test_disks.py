"""Disks that are really full, out of inodes, read-only or gone in the middle of a run: exit 8, and nothing is lost.

A process mounts small disks (tmpfs) in a name space of its own, which needs Linux and the right to make one.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest
from commands import SMALL_OPTIONS, overrides

RUN = [*SMALL_OPTIONS, *overrides("training.epochs=3", "training.threads=1", "data.train_samples=40")]

# Trains on a disk of its own for each scenario, writes a line of JSON for each.
SCENARIOS = """
import contextlib, errno, io, json, os, shutil, subprocess, sys
from pathlib import Path
from eqnp.api import plotting
from eqnp.api import training as api_training
from eqnp.cli.main import main
from eqnp.runs import checkpoint

root, run, steps = Path(sys.argv[1]), sys.argv[3:], json.loads(sys.argv[2])
disk, other, evaluate = root / "disk", root / "other", api_training.evaluate
plotting.write_curves = lambda path: None
disk.mkdir(), other.mkdir()

def mount(*words):
    subprocess.run(["mount", *map(str, words)], check=True)

def command(*words, at=0, act=None):
    count = [0]
    def acting(*arguments):
        count[0] += 1
        if count[0] == at:
            act()
        return evaluate(*arguments)
    api_training.evaluate = acting
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(["train", "--quiet", *map(str, words)])
    return {"code": code, "out": out.getvalue(), "err": err.getvalue()}

def saved(folder):
    return checkpoint.load(folder / "last.h5", kind="training")["progress"]["epoch"] if folder.exists() else None

def weights(folder):
    loaded = checkpoint.load(folder / "last.h5", kind="training")["parameters"]
    rows = (folder / "metrics.csv").read_text().splitlines()
    return [p.tobytes() for p in loaded.values()], [row.rpartition(",")[0] for row in rows]

def fill():
    with open(disk / "filler", "wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))

def use_inodes():
    with contextlib.suppress(OSError):
        for n in range(10_000):
            (disk / f"file{n}").touch()

def free():
    for path in disk.glob("fil*"):
        path.unlink()

def read_only():
    mount("--bind", disk, disk)  # the disk itself is busy, since the lock is open
    mount("-o", "remount,bind,ro", disk)

def writable():
    subprocess.run(["umount", str(disk)], check=True)

def unplug():
    subprocess.run(["umount", "-l", str(disk)], check=True)

def plug():
    mount("--bind", other, disk)

def report(name, folder, *results, **more):
    print(json.dumps({"name": name, "results": results, "same": weights(folder) == expected, **more}), flush=True)
    subprocess.run(["umount", "-l", str(disk)], check=True)

assert command("--out", root / "whole", *run)["code"] == 0
expected = weights(root / "whole")
folder = disk / "run"
for name, act, mend in (("full", fill, free), ("no inodes", use_inodes, free), ("read-only", read_only, writable)):
    for at in (1, 2, 3):
        mount("-t", "tmpfs", "-o", "size=2m,nr_inodes=60", "tmpfs", disk)
        result = command("--out", folder, *run, at=at, act=act)
        epoch = saved(folder)
        again = command("--resume", folder)  # still so
        mend()
        report(f"{name} {at}", folder, result, again, command("--resume", folder), epoch=epoch)

mount("-t", "tmpfs", "-o", "size=2m", "tmpfs", other)
plug()
result = command("--out", folder, *run, at=2, act=unplug)
plug()
report("gone", folder, result, command("--resume", folder), epoch=saved(other / "run"))

mount("-t", "tmpfs", "-o", "size=2m", "tmpfs", disk)
result = command("--out", folder, *run, at=2, act=lambda: shutil.rmtree(folder))
made = command("--out", folder, *run)
report("deleted", folder, result, made)

for pages in steps:  # what there is room for: a part of the first file, of the second, ...
    mount("-t", "tmpfs", "-o", f"size={4096 * pages}", "tmpfs", disk)
    result = command("--out", folder, *run)
    left = sorted(path.name for path in folder.glob(".eqnp-*")) if folder.exists() else []
    mount("-o", "remount,size=2m", disk)
    begun = (folder / "config.toml").exists()
    again = command("--resume", folder) if begun else command("--out", folder, *run)
    report(f"{pages} pages", folder, result, again, left=left)
"""
STEPS = [1, 2, 4, 7, 12, 20, 30, 40]


def mounted(folder, steps, timeout=200):
    """Return what each scenario gave, by its name; skip where no disk can be mounted."""
    if not sys.platform.startswith("linux") or not shutil.which("unshare"):
        pytest.skip("disks are mounted in a name space, which Linux has")
    space = ["unshare", "-rm"]
    probe = [*space, "mount", "-t", "tmpfs", "tmpfs", str(folder)]
    if subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("this system lets nobody mount a disk in a name space")
    command = [*space, sys.executable, "-c", SCENARIOS, str(folder), json.dumps(steps), *RUN]
    out = subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout)
    assert out.returncode == 0, out.stderr
    return {line["name"]: line for line in map(json.loads, out.stdout.splitlines())}


@pytest.fixture(scope="module")
def scenarios(tmp_path_factory):
    return mounted(tmp_path_factory.mktemp("disks"), STEPS)


def assert_disk_error(result, *words):
    """Check for one line, after those on the progress."""
    *progress, last = result["err"].splitlines()
    assert result["code"] == 8 and result["out"] == "" and last.startswith("eqnp: "), result
    assert not any(line.startswith(("eqnp: ", "Traceback")) for line in progress), result
    for word in words:
        assert word in last, result


WORDS = {"full": ["No space left", "free some space"], "no inodes": ["No space left"], "read-only": ["Read-only file"]}


@pytest.mark.parametrize("epoch", [1, 2, 3])
@pytest.mark.parametrize("name", WORDS)
def test_a_disk_that_fails_in_the_middle_loses_nothing(scenarios, name, epoch):
    found = scenarios[f"{name} {epoch}"]
    first, again, mended = found["results"]
    assert_disk_error(first, *WORDS[name], "continues from last.h5")
    assert_disk_error(again)
    assert found["epoch"] == epoch - 1 and mended["code"] == 0, found
    assert found["same"]


def test_a_disk_that_is_gone_is_said_and_its_run_goes_on_when_it_is_back(scenarios):
    found = scenarios["gone"]
    assert_disk_error(found["results"][0], "the run folder was moved or deleted while the run trained")
    assert found["results"][1]["code"] == 0 and found["epoch"] == 3 and found["same"]


def test_a_run_folder_that_is_deleted_is_said(scenarios):
    first, made = scenarios["deleted"]["results"]
    assert_disk_error(first, "the run folder was moved or deleted while the run trained")
    assert made["code"] == 0 and scenarios["deleted"]["same"]


def assert_small_disks(scenarios, steps):
    codes = []
    for pages in steps:
        found = scenarios[f"{pages} pages"]
        first, again = found["results"]
        if first["code"]:
            assert_disk_error(first)
        assert not found["left"] and again["code"] == 0 and found["same"], found
        codes.append(first["code"])
    assert codes == sorted(codes, reverse=True) and set(codes) == {0, 8}
    return [scenarios[f"{pages} pages"]["results"][0]["err"] for pages in steps]


def test_a_disk_without_room_for_a_run_is_said_at_its_start(scenarios):
    """With room for the first checkpoint alone, the two that follow are missed before anything is trained."""
    errors = assert_small_disks(scenarios, STEPS)
    assert any("the checkpoints of this run need" in error for error in errors), errors


@pytest.mark.slow
def test_disks_of_every_size(tmp_path):
    steps = list(range(1, 60))
    assert_small_disks(mounted(tmp_path, steps, 600), steps)


LIMITED = """
import resource, sys
from eqnp.api import plotting
from eqnp.cli.main import main
plotting.write_curves = lambda path: None
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no limits on file sizes")
def test_a_limit_on_the_size_of_files_is_said(tmp_path):
    """Where no disk can be mounted, this is a real failure of the system, too."""
    folder = tmp_path / "run"
    command = [sys.executable, "-c", LIMITED, "8000", "train", "--quiet", "--out", str(folder), *RUN]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}  # it writes
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=environment)
    found = {"code": result.returncode, "out": result.stdout, "err": result.stderr}
    assert_disk_error(found, "last.h5: cannot be written (File too large); raise the limit on file sizes (ulimit -f)")
    assert not list(folder.glob(".eqnp-*"))
    command[3] = "10_000_000"
    command[3:] = ["10_000_000", "train", "--quiet", "--resume", str(folder)]
    assert subprocess.run(command, capture_output=True, check=False, timeout=60).returncode == 0
