"""Every call of the system that a run makes fails once: the old files stay, one line says what, and the run goes on."""

from __future__ import annotations

import errno
import os

import pytest
from commands import SMALL_OPTIONS, overrides, run, same_run, train_small

from eqnp.cli.main import main
from eqnp.runs import checkpoint

CALLS = ("write", "fsync", "replace", "open", "close", "unlink", "mkdir", "listdir")
CODES = (errno.ENOSPC, errno.EIO, errno.EACCES, errno.EMFILE, errno.EROFS, "memory")
RUN = overrides("training.epochs=2", "data.train_samples=40")


os_close = os.close


class Failing:
    """Counts the calls of one function of ``os``, and lets some fail."""

    def __init__(self, monkeypatch, name, code=None, first=0, last=0):
        self.count, self.code, self.first, self.last = 0, code, first, last
        self.original = getattr(os, name)
        monkeypatch.setattr(os, name, self)

    def __call__(self, *arguments, **options):
        self.count += 1
        if self.first <= self.count <= self.last:
            if self.original is os_close:
                os_close(*arguments)  # it is closed all the same
                if self.code == "memory":  # closing allocates nothing
                    return None
            raise MemoryError if self.code == "memory" else OSError(self.code, os.strerror(self.code))
        return self.original(*arguments, **options)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A finished run without failures."""
    folder = tmp_path_factory.mktemp("failures") / "whole"
    assert main(["train", "--quiet", "--out", str(folder), *SMALL_OPTIONS, *RUN]) == 0
    return folder


def calls_of(monkeypatch, capsys, folder, name):
    with monkeypatch.context() as patched:
        counter = Failing(patched, name)
        assert train_small(capsys, folder, *RUN).code == 0
        return counter.count


def fail(monkeypatch, capsys, folder, whole, failing):
    """Let a run fail, and bring it to its end."""
    with monkeypatch.context() as patched:
        failing = Failing(patched, *failing)
        result = train_small(capsys, folder, *RUN)
    case = f"{failing.original.__name__} {failing.first}: {failing.code}: {result}"
    expected = 7 if failing.code == "memory" else 8
    assert result.code in (0, expected), case
    assert "Traceback" not in result.err, case
    if result.code:
        assert result.err.splitlines()[-1].startswith("eqnp: ") and result.out == "", case
    for name in ("last.h5", "best.h5"):
        if (folder / name).exists():
            checkpoint.load(folder / name, kind="training")
    assert not list(folder.glob(".eqnp-*")), case
    begun = (folder / "config.toml").exists()
    again = run(capsys, "train", "--resume", folder) if begun else train_small(capsys, folder, *RUN)
    assert again.code == 0, f"{case}\n{again}"
    same_run(whole, folder)


@pytest.mark.parametrize("name", CALLS)
def test_any_one_call_may_fail(capsys, tmp_path, monkeypatch, whole, name):
    """The n-th call for all n, each with one of the errors."""
    count = calls_of(monkeypatch, capsys, tmp_path / "count", name)
    for n in range(1, count + 1):
        code = CODES[n % len(CODES)]
        fail(monkeypatch, capsys, tmp_path / str(n), whole, (name, code, n, n))


@pytest.mark.parametrize("name", ["write", "fsync", "replace"])
def test_a_disk_may_stay_full(capsys, tmp_path, monkeypatch, whole, name):
    count = calls_of(monkeypatch, capsys, tmp_path / "count", name)
    for n in range(1, count + 1, 3):
        fail(monkeypatch, capsys, tmp_path / str(n), whole, (name, errno.ENOSPC, n, 10**9))


@pytest.mark.slow
@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("name", CALLS)
def test_any_one_call_may_fail_in_any_way(capsys, tmp_path, monkeypatch, whole, name, code):
    count = calls_of(monkeypatch, capsys, tmp_path / "count", name)
    for n in range(1, count + 1):
        for last in (n, 10**9):
            fail(monkeypatch, capsys, tmp_path / f"{n}-{last}", whole, (name, code, n, last))
