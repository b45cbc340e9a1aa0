"""Locks: where the file system has none, where a process was killed, and where it fails."""

from __future__ import annotations

import errno
import os
import platform
import subprocess
import sys

import pytest
from commands import assert_fails, overrides, run, train_small

from eqnp.errors import DiskError
from eqnp.runs import locks
from eqnp.runs.locks import FileLock

NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)


@pytest.fixture(params=NO_LOCKS, ids=lambda code: errno.errorcode[code])
def no_flock(monkeypatch, request):
    """A file system without locks."""

    def refuse(descriptor):
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(locks, "_lock", refuse)


def test_a_run_trains_where_the_file_system_has_no_locks(capsys, tmp_path, no_flock):
    assert train_small(capsys, tmp_path / "run", *overrides("training.epochs=1")).code == 0
    assert run(capsys, "train", "--resume", tmp_path / "run", *overrides("training.epochs=2")).code == 0
    assert not list((tmp_path / "run").glob(".lock-*"))


def test_a_soft_lock_excludes_others_and_names_its_holder(capsys, tmp_path, no_flock):
    train_small(capsys, tmp_path / "run", *overrides("training.epochs=0"))
    lock, other = FileLock(tmp_path / "run" / ".lock"), FileLock(tmp_path / "run" / ".lock")
    assert lock.acquire() and not other.acquire()
    assert other.holder() == f"process {os.getpid()} on {platform.node()}"
    assert_fails(run(capsys, "train", "--resume", tmp_path / "run"), 9, f"in use by process {os.getpid()} on")
    other.release()  # does not hold it
    assert not other.acquire()
    lock.release()
    assert other.acquire()
    other.release()


HOLDING = """
import os, sys
from pathlib import Path
from eqnp.runs import locks
def refuse(descriptor):
    raise OSError(95, "no locks")
locks._lock = refuse
lock = locks.FileLock(Path(sys.argv[1]))
print(lock.acquire(), flush=True)
sys.stdin.read()
"""


def killed_holder(path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDING, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "True\n"
    yield process
    process.kill()
    process.communicate()
    yield process


def test_a_soft_lock_of_a_killed_process_is_taken_over(tmp_path, no_flock):
    lock, holder = FileLock(tmp_path / "lock"), killed_holder(tmp_path / "lock")
    process = next(holder)
    assert not lock.acquire() and lock.holder() == f"process {process.pid} on {platform.node()}"
    next(holder)
    assert f"process {process.pid} on" in lock.holder()
    assert lock.acquire() and str(os.getpid()) in lock.holder()
    lock.release()
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_a_soft_lock_is_left_to_its_host_boot_and_namespace(tmp_path, no_flock, monkeypatch):
    """What this host cannot judge is held, and the message says what a person can do."""
    lock = FileLock(tmp_path / "lock")
    assert lock.acquire()
    mine = lock.soft_path.read_text().split("\n")
    lock.release()
    gone = f"process 999999999 on {platform.node()}"
    for other in (
        ["process 12 on elsewhere", *mine[1:]],
        [gone, "another boot", *mine[2:]],
        [gone, mine[1], "another namespace", mine[3]],
        [gone],
        [""],
    ):
        lock.soft_path.write_text("\n".join(other))
        assert not lock.acquire()
        assert lock.holder() == f"{other[0] or 'another process'} (if that is gone, delete {lock.soft_path})"
    lock.soft_path.write_text("\n".join([mine[0], *mine[1:3], "1"]))  # a process of this number began later
    assert lock.acquire() == sys.platform.startswith("linux")


def test_a_lock_respects_the_soft_lock_of_a_host_that_sees_no_locks(tmp_path):
    lock = FileLock(tmp_path / "lock")
    lock.soft_path.write_text("process 12 on elsewhere\n")
    assert not lock.acquire()
    lock.soft_path.unlink()
    assert lock.acquire()
    lock.release()


def test_a_full_disk_leaves_no_soft_lock_without_a_name(tmp_path, no_flock, monkeypatch):
    lock = FileLock(tmp_path / "lock")
    with monkeypatch.context() as patched:

        def full(*arguments):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        patched.setattr(os, "write", full)
        with pytest.raises(DiskError, match="free some space"):
            lock.acquire()
    assert lock.acquire()
    lock.release()


@pytest.mark.parametrize("name", ["_unlock", "close"])
def test_an_error_of_the_disk_at_the_end_of_a_lock_changes_no_outcome(capsys, tmp_path, monkeypatch, name):
    """The run is done and says so; and the first error of one that failed is the one that is told."""
    close, unlock = os.close, locks._unlock
    descriptors = set()

    def failing_unlock(descriptor):
        unlock(descriptor)
        if name == "_unlock":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        descriptors.add(descriptor)

    def failing_close(descriptor):
        close(descriptor)
        if descriptor in descriptors:
            descriptors.remove(descriptor)
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(locks, "_unlock", failing_unlock)
    monkeypatch.setattr(os, "close", failing_close)
    result = train_small(capsys, tmp_path / "run")
    assert result.code == 0 and "Traceback" not in result.err
    result = run(
        capsys,
        "train",
        "--resume",
        tmp_path / "run",
        *overrides("training.epochs=3", "optimizer.rates=1e38", "optimizer.T_max=3"),
    )
    assert result.code == 6 and "diverged" in result.err.splitlines()[-1]


def test_the_first_error_of_a_write_is_told_not_that_of_closing(tmp_path, monkeypatch):
    from eqnp.runs.storage import write_atomic

    close = os.close

    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def failing_close(descriptor):
        close(descriptor)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        patched.setattr(os, "close", failing_close)
        with pytest.raises(DiskError, match="free some space"):
            write_atomic(tmp_path / "a", b"x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["flock", "soft"])
@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt])
def test_a_lock_that_could_not_be_taken_whole_is_given_back(tmp_path, monkeypatch, kind, error):
    def fail(*arguments):
        raise error

    if kind == "soft":
        monkeypatch.setattr(locks, "_lock", lambda descriptor: fail_with(errno.ENOLCK))
    lock = FileLock(tmp_path / "lock")
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", fail)
        with pytest.raises(error):
            lock.acquire()
    other = FileLock(tmp_path / "lock")
    assert other.acquire()
    other.release()


def fail_with(code):
    raise OSError(code, os.strerror(code))


def test_a_lock_is_never_written_through_a_link(capsys, tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("mine")
    train_small(capsys, tmp_path / "run", *overrides("training.epochs=0"))
    lock = tmp_path / "run" / ".lock"
    lock.unlink()
    lock.symlink_to(precious)
    assert_fails(run(capsys, "train", "--resume", tmp_path / "run"), 8, ".lock: is a link", "delete it")
    lock.unlink()
    os.mkfifo(lock)
    assert_fails(run(capsys, "train", "--resume", tmp_path / "run"), 8, ".lock: is not a regular file")
    assert precious.read_text() == "mine"
