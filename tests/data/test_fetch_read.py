"""After a fetch the dataset is what a run would read."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

import datafiles
import pytest
from commands import run
from servers import archive, source

from eqnp.data import fetch, load
from eqnp.data.published import SOURCES
from eqnp.errors import DataError


def mnist_source(server, tmp_path):
    """Return the source of a small MNIST, and what its plain files hold."""
    datafiles.write_mnist(tmp_path / "made", counts=(12, 10), like="mnist")
    plain = {path.name: path.read_bytes() for path in (tmp_path / "made").iterdir()}
    return source(server, "MNIST/raw", **{f"{name}__gz": gzip.compress(data) for name, data in plain.items()}), plain


@pytest.mark.parametrize("damage", ["cut", "other bytes"])
def test_a_damaged_plain_file_beside_what_is_fetched_is_renamed(server, tmp_path, monkeypatch, damage):
    datafiles.publish(monkeypatch, (12, 10))
    what, plain = mnist_source(server, tmp_path)
    place = tmp_path / "x" / "MNIST" / "raw"
    place.mkdir(parents=True)
    good, bad = "t10k-images-idx3-ubyte", "train-images-idx3-ubyte"
    (place / good).write_bytes(plain[good])
    data = plain[bad]
    (place / bad).write_bytes(data[:-1] if damage == "cut" else data[:-1] + bytes([data[-1] ^ 1]))
    said = []
    fetch("mnist", tmp_path / "x", source=what, message=said.append)
    assert [f"{place / bad}: differs from the published {bad}.gz; renamed to {bad}.damaged"] == said
    assert (place / good).exists() and not (place / bad).exists() and (place / f"{bad}.damaged").exists()
    assert load("mnist", tmp_path / "x").train_images[-1, -1, -1, 0] == data[-1]


def test_a_short_batch_is_replaced(server, tmp_path, small_files):
    batches = [datafiles.cifar_binary(*datafiles.pictures(3, seed)) for seed in range(6)]
    what, said = source(server, ".", cifar__tar__gz=archive(batches)), []
    folder = fetch("cifar10", tmp_path, source=what)
    (folder / "data_batch_2.bin").write_bytes(batches[1][:3073])
    (folder / "data_batch_3.bin").write_bytes(batches[3])
    fetch("cifar10", tmp_path, source=what, message=said.append)
    assert [(folder / f"data_batch_{n}.bin").read_bytes() for n in range(1, 6)] == batches[:5]
    assert [line.partition(":")[2] for line in said] == [" differs from the published archive; replaced"] * 2


def test_an_archive_without_a_batch(server, tmp_path):
    out = io.BytesIO()
    tarfile.open(fileobj=out, mode="w:gz").close()
    with pytest.raises(DataError, match=r"cifar\.tar\.gz: does not hold data_batch_1\.bin"):
        fetch("cifar10", tmp_path, source=source(server, ".", cifar__tar__gz=out.getvalue()))


def test_the_command_says_what_train_would_read(server, tmp_path, monkeypatch, nowhere, capsys):
    datafiles.publish(monkeypatch, (12, 10))
    what, _ = mnist_source(server, tmp_path)
    monkeypatch.setitem(SOURCES, "mnist", what)
    result = run(capsys, "data", "fetch", "mnist")
    own = tmp_path / "XDG_DATA_HOME" / "eqnp" / "MNIST" / "raw"
    assert (result.code, result.out, result.err) == (0, f"mnist is in {own}\n", "")
    result = run(capsys, "data", "fetch", "mnist", "--folder=~/x")
    assert result.out == f"mnist is in {tmp_path}/HOME/x/MNIST/raw\n"
    assert f"eqnp reads mnist from {own} by default" in result.err and "--set data.folder=" in result.err
    assert not any(path.name.startswith("~") for path in Path().iterdir())
    datafiles.write_mnist(tmp_path / "HOME" / "x", True, counts=(12, 9), like="mnist")
    (own / "train-labels-idx1-ubyte.gz").unlink()
    monkeypatch.setenv("EQNP_DATA", str(tmp_path / "HOME" / "x"))
    assert run(capsys, "data", "fetch", "mnist").code == 0  # whole again
    assert "HOME" in load("mnist").source
