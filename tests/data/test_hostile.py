"""Datasets from strangers: refused in one line, in bounded memory and time, and nothing in them is executed."""

from __future__ import annotations

import os
import random
import signal
import tempfile
import tracemalloc
from contextlib import contextmanager
from pathlib import Path

import datafiles
import hostile
import pytest
from commands import assert_fails, overrides, run

from eqnp.data import load
from eqnp.data.cifar import read_cifar_binary, read_cifar_python
from eqnp.data.datasets import _read_npz
from eqnp.data.idx import read_idx
from eqnp.errors import DataError
from eqnp.shown import LONGEST, shown

SECONDS, MEMORY = 5, 100_000_000  # the largest files below have some megabytes


@contextmanager
def limits(seconds=SECONDS):
    """Raise an error after ``seconds``; check that the memory stays below ``MEMORY``."""
    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < MEMORY
    finally:
        tracemalloc.stop()
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def late(*args):
    raise AssertionError("not done in time")


def assert_refused(name, folder):
    with limits(), pytest.raises(DataError) as error:
        load(name, folder)
    message = str(error.value)
    assert error.value.exit_code == 3
    assert message.isprintable() and len(message) <= LONGEST, message
    assert not Path("executed").exists() and not Path("/tmp/eqnp-evil").exists()
    return message


@pytest.fixture
def small(nowhere, monkeypatch):
    """MNIST has 12 and 5 images, CIFAR-10 20 and 4."""
    datafiles.publish(monkeypatch)


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="no SIGALRM")
class TestCraftedFiles:
    """One file of a dataset is replaced by a hostile one."""

    @pytest.mark.parametrize("part", ["images", "labels"])
    @pytest.mark.parametrize("kind", hostile.IDX)
    def test_idx(self, tmp_path, small, kind, part):
        datafiles.write_mnist(tmp_path, like="mnist")
        name = "train-images-idx3-ubyte" if part == "images" else "train-labels-idx1-ubyte"
        (tmp_path / name).write_bytes(hostile.IDX[kind])
        assert_refused("mnist", tmp_path)

    @pytest.mark.parametrize("kind", hostile.NPZ)
    def test_npz(self, tmp_path, small, kind):
        (tmp_path / "mnist.npz").write_bytes(hostile.NPZ[kind])
        assert "mnist.npz: " in assert_refused("mnist", tmp_path)

    @pytest.mark.parametrize("kind", hostile.PICKLES)
    def test_python(self, tmp_path, small, kind):
        datafiles.write_cifar(tmp_path, "python")
        (tmp_path / "data_batch_1").write_bytes(hostile.PICKLES[kind])
        assert f"{tmp_path / 'data_batch_1'}: " in assert_refused("cifar10", tmp_path)

    @pytest.mark.parametrize("kind", hostile.BINARY)
    def test_binary(self, tmp_path, small, kind):
        datafiles.write_cifar(tmp_path, "binary")
        (tmp_path / "data_batch_1.bin").write_bytes(hostile.BINARY[kind])
        assert f"{tmp_path / 'data_batch_1.bin'}: " in assert_refused("cifar10", tmp_path)


FILES = ["train-images-idx3-ubyte", "train-labels-idx1-ubyte.gz", "mnist.npz", "data_batch_1", "data_batch_1.bin"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names")
@pytest.mark.parametrize("kind", ["a pipe", "/dev/zero", "a folder", "a loop of links", "a terabyte", "a gigabyte"])
@pytest.mark.parametrize("file", FILES)
def test_what_is_no_file_of_a_dataset(tmp_path, small, file, kind):
    cifar, path = file.startswith("data_batch"), tmp_path / file
    if cifar:
        datafiles.write_cifar(tmp_path, "binary" if file.endswith(".bin") else "python")
    elif file != "mnist.npz":
        datafiles.write_mnist(tmp_path, compress=file.endswith(".gz"), like="mnist")
    path.unlink(missing_ok=True)
    if kind == "a pipe":
        os.mkfifo(path)
    elif kind == "/dev/zero":
        path.symlink_to("/dev/zero")
    elif kind == "a folder":
        path.mkdir()
    elif kind == "a loop of links":
        path.symlink_to(path)
    else:
        path.touch()
        os.truncate(path, 10**12 if kind == "a terabyte" else 10**9)
    message = assert_refused("cifar10" if cifar else "mnist", tmp_path)
    if kind in ("a terabyte", "a gigabyte") and file != "mnist.npz":
        assert f"{path}: cannot be read (it has more than " in message


def test_the_command_says_it_in_one_line(capsys, tmp_path, small):
    datafiles.write_cifar(tmp_path, "python")
    (tmp_path / "data_batch_1").write_bytes(hostile.PICKLES["escape codes"])
    result = run(capsys, "train", *overrides("data.name=cifar10", f"data.folder={tmp_path}"))
    assert_fails(result, 3, "data_batch_1: not a CIFAR-10 batch in the published form (opcode GLOBAL", "\\x1b]0;owned")
    assert "\x1b" not in result.err


# ---- random changes


class Bytes:
    """A file in memory."""

    def __init__(self, data):
        self.data = data

    def read_bytes(self):
        return self.data

    def __str__(self):
        return "file"


def read_npz_bytes(file):
    """Read a .npz file in memory through one on disk."""
    with tempfile.NamedTemporaryFile() as whole:
        whole.write(file.data)
        whole.flush()
        return _read_npz(Path(whole.name), 100_000)


FORMATS = {
    "idx": (read_idx, datafiles.idx(hostile.IMAGES[:1])),
    "idx.gz": (read_idx, hostile.gzip.compress(datafiles.idx(hostile.LABELS))),
    "npz": (read_npz_bytes, hostile.npz(x_train=hostile.IMAGES[:2], x_test=hostile.IMAGES[:1])),
    "python": (read_cifar_python, datafiles.cifar_python(*datafiles.pictures(2))),
    "binary": (read_cifar_binary, datafiles.cifar_binary(*datafiles.pictures(2))),
}
POINTED = {"python": 700}  # bytes outside the pixels, at both ends


def mutated(data, chance, dense):
    """Return ``data`` with a few bytes changed, cut out, repeated or zeroed; within ``dense`` bytes of both ends."""
    data = bytearray(data)
    for _ in range(chance.choice([1, 1, 1, 2, 3, 8])):
        near = min(dense, len(data) // 2)
        place = chance.choice([chance.randrange(near + 1), len(data) - 1 - chance.randrange(near + 1)])
        place, length = max(0, place), chance.choice([1, 1, 2, 4, 30])
        what = chance.randrange(5)
        if what == 0:
            data[place : place + 1] = bytes([chance.randrange(256)])
        elif what == 1:
            data[place : place + length] = chance.choice([b"\0", b"\xff", b"\x7f"]) * length
        elif what == 2:
            del data[place : place + length]
        elif what == 3:
            data[place:place] = data[place : place + length]
        elif len(data) > place:
            data[place] ^= 1 << chance.randrange(8)
    return bytes(data)


def try_mutations(kind, count):
    read, good = FORMATS[kind]
    chance, refused = random.Random(kind), 0
    read(Bytes(good))
    with limits(20) if count < 10_000 else tracing():
        for _ in range(count):
            try:
                read(Bytes(mutated(good, chance, POINTED.get(kind, len(good)))))
            except DataError as error:
                refused += 1
                assert shown(str(error)) == str(error)
    assert refused > count / 4


@contextmanager
def tracing():
    yield


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="no SIGALRM")
@pytest.mark.parametrize("kind", FORMATS)
def test_changed_bytes_are_an_array_or_one_line(kind):
    try_mutations(kind, 2_000)


@pytest.mark.slow
@pytest.mark.parametrize("kind", FORMATS)
def test_many_changed_bytes_are_an_array_or_one_line(kind):
    try_mutations(kind, 50_000)


# ---- memory that is short is no fault of the data


@pytest.mark.parametrize("kind", ["npz", "python"])
def test_a_file_is_not_called_damaged_when_memory_is_short(monkeypatch, kind):
    def fail(*args, **kwargs):
        raise MemoryError

    monkeypatch.setattr("zipfile.ZipExtFile.read", fail)
    monkeypatch.setattr("pickletools.genops", fail)
    read, good = FORMATS[kind]
    with pytest.raises(MemoryError):
        read(Bytes(good))
