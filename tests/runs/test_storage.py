"""Rare failures of places: what changes while it is opened, folders that cannot be synced, disks that do not answer."""

from __future__ import annotations

import errno
import os
import shutil

import pytest

from eqnp.errors import DiskError
from eqnp.runs import storage
from eqnp.runs.runfolder import RunFolder
from eqnp.runs.storage import open_regular, require_place, require_space, write_atomic

posix = pytest.mark.skipif(os.name == "nt", reason="folders cannot be synced, and there are no pipes")


def failing(code):
    def fail(*args):
        raise OSError(code, os.strerror(code))

    return fail


@posix
def test_a_file_that_becomes_a_pipe_while_it_is_opened_is_closed_again(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"x")
    os.mkfifo(tmp_path / "pipe")
    regular = os.stat(tmp_path / "file")
    with monkeypatch.context() as patched:
        patched.setattr(storage.os, "stat", lambda path: regular)
        before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else None
        with pytest.raises(OSError, match="a device or a pipe"):
            open_regular(tmp_path / "pipe")
        after = None if before is None else len(os.listdir("/proc/self/fd"))
    assert before == after


@posix
def test_folders_that_cannot_be_synced_pass_and_disks_that_fail_are_reported(tmp_path, monkeypatch):
    sync = os.fsync

    def of_folders(code):
        def fsync(descriptor):
            if os.path.isdir(f"/proc/self/fd/{descriptor}") or os.fstat(descriptor).st_nlink > 1:
                raise OSError(code, os.strerror(code))
            sync(descriptor)

        return fsync

    for code in (errno.EINVAL, errno.ENOTSUP):
        monkeypatch.setattr(storage.os, "fsync", of_folders(code))
        write_atomic(tmp_path / "a", b"new")
        assert (tmp_path / "a").read_bytes() == b"new"
    monkeypatch.setattr(storage.os, "fsync", of_folders(errno.EIO))
    with pytest.raises(DiskError, match="check the disk"):
        write_atomic(tmp_path / "a", b"newer")
    assert sorted(os.listdir(tmp_path)) == ["a"]


def test_windows_syncs_no_folders(tmp_path, monkeypatch):
    monkeypatch.setattr(storage.os, "open", failing(errno.EACCES))
    with monkeypatch.context() as patched:
        patched.setattr(storage.os, "name", "nt")
        storage._sync_folder(tmp_path)
    if os.name != "nt":
        with pytest.raises(PermissionError):
            storage._sync_folder(tmp_path)


def test_a_disk_that_does_not_say_how_much_is_free_passes(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", failing(errno.EIO))
    require_space(tmp_path, 10**18)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: (0, 0, 0))
    require_space(tmp_path, 10**18)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: (100, 60, 40))
    require_space(tmp_path, 40)
    with pytest.raises(DiskError, match="free some space"):
        require_space(tmp_path, 41)


def test_a_place_that_may_not_be_written_is_found_before_the_work(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(storage.os, "access", lambda path, mode: asked.append(mode))
    with pytest.raises(DiskError, match="check the permissions"):
        require_place(tmp_path / "new", force=False)
    assert asked == [os.W_OK | os.X_OK]


def test_a_run_folder_that_cannot_be_cleared_is_unlocked_again(tmp_path, monkeypatch):
    (tmp_path / "config.toml").touch()
    with monkeypatch.context() as patched:
        patched.setattr(RunFolder, "_remove_unfinished", failing(errno.EIO))
        with pytest.raises(OSError):
            RunFolder.open(tmp_path, lock=True)
    RunFolder.open(tmp_path, lock=True).close()
