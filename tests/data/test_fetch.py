"""Fetching against a server on this machine: whole, broken off, gone on with, wrong, missing."""

from __future__ import annotations

import builtins
import errno
import os
import threading
from types import SimpleNamespace

import datafiles
import pytest
from servers import archive, source

from eqnp.data import download, fetch, load
from eqnp.data.fetch import LOCK
from eqnp.data.published import Source
from eqnp.errors import ConfigurationError, DataError, DiskError
from eqnp.runs.locks import FileLock


def test_whole_files_come_once(server, tmp_path):
    what = source(server, a=b"1" * 100_000, b=b"2")
    seen = []
    place = fetch("mnist", tmp_path, source=what, progress=lambda *args: seen.append(args))
    assert place == tmp_path / "there"
    assert (place / "a").read_bytes() == b"1" * 100_000 and (place / "b").read_bytes() == b"2"
    assert ("a", 100_000, 100_000) in seen
    count = len(server.log)
    fetch("mnist", tmp_path, source=what)
    assert len(server.log) == count  # nothing is fetched again
    assert sorted(path.name for path in place.iterdir()) == ["a", "b"]


@pytest.mark.parametrize("ranges", [True, False], ids=["with ranges", "without ranges"])
def test_a_broken_download_goes_on(server, tmp_path, ranges):
    data = bytes(range(256)) * 1000
    what = source(server, a=data)
    server.limit, server.ranges = 90_000, ranges
    with pytest.raises(DataError, match=r"broke off.*run the same command"):
        fetch("mnist", tmp_path, source=what)
    assert not (tmp_path / "there" / "a").exists()
    part = (tmp_path / "there" / "a.part").stat().st_size
    assert 0 < part <= 90_000
    server.limit = None
    fetch("mnist", tmp_path, source=what)
    assert (tmp_path / "there" / "a").read_bytes() == data
    assert server.log[-1] == ("/a", f"bytes={part}-")


def test_a_wrong_file_is_removed(server, tmp_path):
    what = source(server, a=b"right")
    server.files["a"] = b"wrong"
    with pytest.raises(DataError, match=r"not the published file.*SHA-256.*removed"):
        fetch("mnist", tmp_path, source=what)
    assert list((tmp_path / "there").iterdir()) == []
    server.files["a"] = b"right"
    fetch("mnist", tmp_path, source=what)


def test_a_damaged_file_in_place_is_fetched_again(server, tmp_path):
    what = source(server, a=b"right")
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "a").write_bytes(b"damaged")
    fetch("mnist", tmp_path, source=what)
    assert (tmp_path / "there" / "a").read_bytes() == b"right"


def test_a_file_in_place_that_cannot_be_read(server, tmp_path, monkeypatch):
    what = source(server, a=b"right")
    path = fetch("mnist", tmp_path, source=what) / "a"
    real = open

    def guarded(file, *args, **kwargs):
        if file == path:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return real(file, *args, **kwargs)

    monkeypatch.setattr(builtins, "open", guarded)
    with pytest.raises(
        DataError, match=r"a: cannot be read \(Permission denied\); check its permissions, or remove it"
    ):
        fetch("mnist", tmp_path, source=what)
    assert path.read_bytes() == b"right" and len(server.log) == 1


@pytest.mark.skipif(datafiles.READS_ALL, reason="root may read everything")
@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_place_without_permissions(server, tmp_path, what):
    where = fetch("mnist", tmp_path, source=source(server, a=b"right"))
    locked = where / "a" if what == "file" else where
    locked.chmod(0)
    try:
        with pytest.raises((DataError, DiskError), match="Permission denied"):
            fetch("mnist", tmp_path, source=source(server, a=b"right"))
    finally:
        locked.chmod(0o700)


def test_a_part_as_long_as_the_whole_begins_again(server, tmp_path):
    what = source(server, a=b"right")
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "a.part").write_bytes(b"wrong")
    fetch("mnist", tmp_path, source=what)
    assert (tmp_path / "there" / "a").read_bytes() == b"right"


def test_the_next_address_is_tried(server, tmp_path):
    what = source(server, a=b"right")
    both = Source((server.url + "gone/", server.url), what.folder, what.files)
    fetch("mnist", tmp_path, source=both)
    assert [path for path, _ in server.log] == ["/gone/a", "/a"]


def test_missing_refused_and_not_https(server, tmp_path):
    what = source(server, a=b"right")
    del server.files["a"]
    with pytest.raises(DataError, match="Not Found"):
        fetch("mnist", tmp_path, source=what)
    closed = Source(("http://127.0.0.1:9/",), "there", what.files)
    with pytest.raises(DataError, match="refused"):
        fetch("mnist", tmp_path, source=closed)
    with pytest.raises(ConfigurationError, match="only https"):
        fetch("mnist", tmp_path, source=Source(("http://example.org/",), "there", what.files))
    with pytest.raises(ConfigurationError, match="'imagenet' cannot be fetched; choose one of mnist"):
        fetch("imagenet", tmp_path)


def test_a_place_that_cannot_be_written(server, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DiskError, match="file"):
        fetch("mnist", tmp_path / "file", source=source(server, a=b"right"))


def test_cifar_is_unpacked_and_found(server, tmp_path, small_files):
    data = archive([datafiles.cifar_binary(*datafiles.pictures(3, seed)) for seed in range(6)])
    what = source(server, ".", cifar__tar__gz=data)
    assert fetch("cifar10", tmp_path, source=what) == tmp_path / "cifar-10-batches-bin"
    assert load("cifar10", tmp_path).train_images.shape == (15, 32, 32, 3)
    assert not (tmp_path / "outside").exists()
    (tmp_path / "cifar-10-batches-bin" / "test_batch.bin").unlink()
    fetch("cifar10", tmp_path, source=what)  # the archive is whole: unpacked again, not fetched
    assert len(server.log) == 1 and load("cifar10", tmp_path)


def test_an_archive_that_cannot_be_unpacked(server, tmp_path):
    with pytest.raises(DataError, match=r"cifar\.tar\.gz: cannot be unpacked"):
        fetch("cifar10", tmp_path, source=source(server, ".", cifar__tar__gz=b"no archive"))


def test_two_fetches_at_once_both_succeed(server, tmp_path):
    for round_number in range(10):
        what = source(server, f"round{round_number}", a=os.urandom(600_000), b=os.urandom(300_000))
        begin, failed = threading.Barrier(2), []

        def one(what=what, begin=begin, failed=failed):
            try:
                begin.wait(10)
                fetch("mnist", tmp_path, source=what)
            except BaseException as error:
                failed.append(error)

        threads = [threading.Thread(target=one) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert not failed
        assert sorted(path.name for path in (tmp_path / what.folder).iterdir()) == ["a", "b"]
        assert (tmp_path / what.folder / "a").read_bytes() == server.files["a"]
    assert len(server.log) == 20  # the one that waited finds the files


def test_the_second_of_two_fetches_says_whom_it_waits_for(server, tmp_path):
    what, said = source(server, a=b"right"), []
    lock = FileLock(tmp_path / LOCK)
    assert lock.acquire()
    timer = threading.Timer(0.5, lock.release)
    timer.start()
    fetch("mnist", tmp_path, source=what, message=said.append)
    timer.join()
    assert len(said) == 1 and f"process {os.getpid()} on " in said[0] and "waiting" in said[0]


def test_where_nothing_can_be_locked_and_no_thread_started(server, tmp_path, monkeypatch):
    def no_locks(self):
        raise DiskError(f"{self.path}: cannot be locked")

    def no_threads(self):
        raise RuntimeError("can't start new thread")

    class Unstartable(threading.Thread):
        start = no_threads

    monkeypatch.setattr(FileLock, "acquire", no_locks)
    monkeypatch.setattr(download, "threading", SimpleNamespace(Thread=Unstartable))
    place = fetch("mnist", tmp_path, source=source(server, a=b"right"))
    assert (place / "a").read_bytes() == b"right"
