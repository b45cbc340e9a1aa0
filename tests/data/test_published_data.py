"""A dataset is the published one: its counts, its labels, its files whole; every other is refused with what to do."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import datafiles
import numpy as np
import pytest
from commands import assert_fails, run
from datafiles import assert_line

from eqnp.data import describe, load
from eqnp.data.published import DATASETS
from eqnp.errors import DataError

pytestmark = pytest.mark.usefixtures("nowhere")
COUNTS = (12, 10)


@pytest.fixture
def published(monkeypatch):
    """MNIST has 12 and 10 images, CIFAR-10 batches have 4."""
    datafiles.publish(monkeypatch, COUNTS)


def sparse_idx(path, shape, begin=()):
    """Write an IDX file of zeros, which takes no room on the disk."""
    with open(path, "wb") as file:
        header = bytes([0, 0, 8, len(shape)]) + struct.pack(f">{len(shape)}I", *shape)
        file.write(header + bytes(begin))
        file.truncate(len(header) + int(np.prod(shape)))


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_files_of_the_published_counts_are_accepted(tmp_path, name):
    for part, count, begin in zip(("train", "t10k"), (60000, 10000), DATASETS[name].first_labels, strict=True):
        sparse_idx(tmp_path / f"{part}-images-idx3-ubyte", (count, 28, 28))
        sparse_idx(tmp_path / f"{part}-labels-idx1-ubyte", (count,), begin)
    dataset = load(name, tmp_path)
    assert (len(dataset.train_images), len(dataset.test_labels)) == (60000, 10000)
    sparse_idx(tmp_path / "t10k-images-idx3-ubyte", (9999, 28, 28))
    with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte: 9999 test images, but the published .* has 10000"):
        load(name, tmp_path)


def test_cifar10_of_the_published_counts_is_accepted_in_any_order_and_encoding(tmp_path):
    for number in range(6):
        name = f"data_batch_{number}.bin" if number else "test_batch.bin"
        with open(tmp_path / name, "wb") as file:
            file.truncate(10000 * 3073)
    assert load("cifar10", tmp_path).train_images.shape == (50000, 32, 32, 3)
    with open(tmp_path / "data_batch_2.bin", "wb") as file:
        file.truncate(9000 * 3073)
    with pytest.raises(DataError) as error:
        load("cifar10", tmp_path)
    assert_line(error, "data_batch_2.bin: 9000 training images", "has 10000", "run `eqnp data fetch cifar10`")


@pytest.mark.parametrize("form", ["binary", "python"])
@pytest.mark.parametrize("number", [0, 3, 5])
def test_a_cifar_batch_cut_between_records_is_refused(tmp_path, published, form, number):
    datafiles.write_cifar(tmp_path, form)
    assert load("cifar10", tmp_path)
    stem = "test_batch" if number == 5 else f"data_batch_{number + 1}"
    path = tmp_path / (stem + (".bin" if form == "binary" else ""))
    path.write_bytes(getattr(datafiles, f"cifar_{form}")(*datafiles.pictures(3)))
    with pytest.raises(DataError) as error:
        load("cifar10", tmp_path)
    assert_line(error, f"{path}: 3 ", "has 4", "run `eqnp data fetch cifar10`, or put the published files there")


@pytest.mark.parametrize("part", ["train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"])
@pytest.mark.parametrize("compress", [False, True])
def test_mnist_files_of_another_count_are_refused(tmp_path, published, part, compress):
    arrays = datafiles.write_mnist(tmp_path, compress, counts=COUNTS, like="mnist")
    assert load("mnist", tmp_path)
    number = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1").index(part)
    path = tmp_path / f"{part}-ubyte{'.gz' if compress else ''}"
    data = datafiles.idx(arrays[number][:-1])
    path.write_bytes(gzip.compress(data) if compress else data)
    with pytest.raises(DataError) as error:
        load("mnist", tmp_path)
    count = COUNTS[number // 2]
    assert_line(error, f"{path}: {count - 1} ", f"has {count}", "run `eqnp data fetch mnist`")


def test_an_npz_of_another_count_is_refused(tmp_path, published):
    (tmp_path / "mnist.npz").write_bytes(datafiles.keras())
    with pytest.raises(DataError) as error:
        load("mnist", tmp_path)
    assert_line(error, tmp_path, "6 training images", "has 12")


# ---- whose labels they are


def other_labels(folder):
    """Write a dataset of the same form as MNIST that is neither MNIST nor Fashion-MNIST."""
    datafiles.write_mnist(folder, counts=COUNTS, like="mnist")
    for part, count in zip(("train", "t10k"), COUNTS, strict=True):
        labels = np.full(count, 8, np.uint8)
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(datafiles.idx(labels))


@pytest.mark.parametrize("how", ["data.folder", "EQNP_DATA"])
def test_the_folder_of_fashion_mnist_is_not_mnist(tmp_path, monkeypatch, published, how):
    place = tmp_path / "FashionMNIST" / "raw"
    datafiles.write_mnist(place, counts=COUNTS, like="fashion-mnist")
    monkeypatch.setenv("EQNP_DATA", str(place) if how == "EQNP_DATA" else "")
    folder = place if how == "data.folder" else None
    with pytest.raises(DataError) as error:
        load("mnist", folder)
    assert_line(
        error, place, "begin with 9 0 0 3 0 2 7 2 5 5, which are the labels of fashion-mnist", "data fetch mnist"
    )
    assert load("fashion-mnist", folder).classes[9] == "ankle boot"
    if how == "EQNP_DATA":
        assert "labels of fashion-mnist" in describe()["mnist"]
    own = tmp_path / "XDG_DATA_HOME" / "eqnp" / "MNIST" / "raw"
    datafiles.write_mnist(own, counts=COUNTS, like="mnist")
    assert load("mnist", folder).source == f"{own} (idx)"  # the next place has it


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_a_dataset_of_the_same_form_is_neither(tmp_path, published, name):
    other_labels(tmp_path / "KMNIST" / "raw")
    with pytest.raises(DataError) as error:
        load(name, tmp_path / "KMNIST" / "raw")
    assert_line(error, f"begin with 8 8 8 8 8 8 8 8 8 8, which is not {name}")


def test_digits_in_the_folder_of_clothes_are_not_clothes(tmp_path, published):
    datafiles.write_mnist(tmp_path / "FashionMNIST", counts=COUNTS, like="mnist")
    with pytest.raises(DataError, match="which are the labels of mnist"):
        load("fashion-mnist", tmp_path)


def test_test_files_of_another_dataset_are_refused(tmp_path, published):
    datafiles.write_mnist(tmp_path / "other", counts=COUNTS, like="fashion-mnist")
    datafiles.write_mnist(tmp_path, counts=COUNTS, like="mnist")
    for each in (tmp_path / "other").glob("t10k-*"):
        each.rename(tmp_path / each.name)
    with pytest.raises(DataError, match=r"its test labels begin with 9 2 .* labels of fashion-mnist"):
        load("mnist", tmp_path)


# ---- the whole one of two copies


@pytest.mark.parametrize("damage", ["plain", "gz"])
@pytest.mark.parametrize("part", ["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"])
def test_the_whole_file_of_plain_and_gz_is_read(tmp_path, published, damage, part):
    datafiles.write_mnist(tmp_path, True, counts=COUNTS, like="mnist")
    arrays = datafiles.write_mnist(tmp_path, False, counts=COUNTS, like="mnist")
    path = tmp_path / (part + (".gz" if damage == "gz" else ""))
    path.write_bytes(path.read_bytes()[:-3])
    dataset = load("mnist", tmp_path)
    np.testing.assert_array_equal(dataset.train_images[..., 0], arrays[0])
    np.testing.assert_array_equal(dataset.test_labels, arrays[3])


def test_the_whole_form_of_cifar10_is_read(tmp_path, published):
    datafiles.write_cifar(tmp_path / "cifar-10-batches-bin", "binary")
    datafiles.write_cifar(tmp_path / "cifar-10-batches-py", "python")
    assert load("cifar10", tmp_path).source.endswith("(binary)")
    short = tmp_path / "cifar-10-batches-bin" / "data_batch_4.bin"
    short.write_bytes(short.read_bytes()[:-1])
    assert load("cifar10", tmp_path).source.endswith("(python)")


def test_a_whole_copy_in_a_later_place_comes_before_a_damaged_one(tmp_path, monkeypatch, published):
    for place in ("shared", "XDG_DATA_HOME/eqnp/MNIST/raw"):
        datafiles.write_mnist(tmp_path / place, True, counts=COUNTS, like="mnist")
    monkeypatch.setenv("EQNP_DATA", str(tmp_path / "shared"))
    assert "shared" in load("mnist").source
    path = tmp_path / "shared" / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:1000])
    assert "eqnp" in load("mnist").source
    (tmp_path / "XDG_DATA_HOME/eqnp/MNIST/raw/t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError) as error:
        load("mnist")
    assert_line(error, f"{path}: damaged or truncated gzip", "run `eqnp data fetch mnist`")
    assert "train-images-idx3-ubyte.gz holds" in describe()["mnist"] and "fetch mnist" in describe()["mnist"]


# ---- what is missing, and what is no data


@pytest.mark.parametrize("compress", [False, True])
def test_a_missing_file_is_named(tmp_path, capsys, published, compress):
    folder = tmp_path / "place" / "MNIST" / "raw"
    datafiles.write_mnist(folder, compress, counts=COUNTS, like="mnist")
    next(folder.glob("t10k-labels*")).unlink()
    words = f"found 3 of 4 files in {folder}; t10k-labels-idx1-ubyte is missing"
    with pytest.raises(DataError) as error:
        load("mnist", tmp_path / "place")
    assert_line(error, "dataset mnist not found in", words, "eqnp data fetch mnist")
    next(folder.glob("train-labels*")).unlink()
    with pytest.raises(
        DataError, match=r"found 2 of 4 .*; train-labels-idx1-ubyte, t10k-labels-idx1-ubyte are missing"
    ):
        load("mnist", tmp_path / "place")
    assert_fails(run(capsys, "train", "mnist-mlp", "--set", f"data.folder={folder}"), 3, "found 2 of 4 files in")


def test_a_missing_batch_is_named(tmp_path, published):
    folder = Path("data") / "cifar-10-batches-bin"
    datafiles.write_cifar(folder, "binary")
    (folder / "data_batch_5.bin").unlink()
    words = f"found 5 of 6 files in {folder}; data_batch_5.bin is missing"
    with pytest.raises(DataError) as error:
        load("cifar10")
    assert_line(error, words)
    assert describe()["cifar10"] == f"{words}; run `eqnp data fetch cifar10`"


PAGES = {
    "html": (b"\n<!DOCTYPE html><html><body>log in</body></html>", "is a web page, not data"),
    "bare html": (b"<HTML>404</HTML>", "is a web page, not data"),
    "xml": (b"\xef\xbb\xbf<?xml version='1.0'?><Error>AccessDenied</Error>", "is XML, not data"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "is a Git LFS pointer"),
}


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("file", ["train-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte", "mnist.npz"])
def test_a_web_page_saved_as_data(tmp_path, published, page, file):
    if file != "mnist.npz":
        datafiles.write_mnist(tmp_path, file.endswith(".gz"), counts=COUNTS, like="mnist")
    content, what = PAGES[page]
    (tmp_path / file).write_bytes(content)
    with pytest.raises(DataError) as error:
        load("mnist", tmp_path)
    assert_line(error, f"{tmp_path / file}: {what}", "run `eqnp data fetch mnist`")


@pytest.mark.parametrize("form", ["binary", "python"])
def test_a_web_page_saved_as_a_batch(tmp_path, published, form):
    datafiles.write_cifar(tmp_path, form)
    next(tmp_path.glob("test_batch*")).write_bytes(PAGES["html"][0])
    with pytest.raises(DataError, match=r"test_batch.*: is a web page, not data .*; run `eqnp data fetch cifar10`"):
        load("cifar10", tmp_path)


# ---- layouts


@pytest.mark.parametrize(
    "below",
    ["cifar10/cifar-10-batches-py", "CIFAR10/cifar-10-batches-bin", "cifar10", "cifar-10", "cifar10/CIFAR10"],
)
def test_layouts_of_cifar10(tmp_path, published, below):
    datafiles.write_cifar(Path("data") / below, "python" if below.endswith("py") else "binary")
    assert load("cifar10").source.startswith(f"data/{below} (")


@pytest.mark.parametrize("below", ["mnist/MNIST/raw", "MNIST/raw", "mnist/raw", "mnist/mnist", "raw", "MNIST"])
def test_layouts_of_mnist(tmp_path, published, below):
    datafiles.write_mnist(Path("data") / below, counts=COUNTS, like="mnist")
    assert load("mnist").train_images.shape == (12, 28, 28, 1)


@pytest.mark.parametrize("below", ["fashion-mnist/FashionMNIST/raw", "FashionMNIST/raw", "fashion-mnist", "."])
def test_layouts_of_fashion_mnist(tmp_path, published, below):
    datafiles.write_mnist(Path("data") / below, counts=COUNTS, like="fashion-mnist")
    assert load("fashion-mnist").train_images.shape == (12, 28, 28, 1)


@pytest.mark.parametrize("dot", [False, True])
def test_every_file_unpacked_into_a_folder_of_its_own(tmp_path, published, dot):
    datafiles.write_mnist(tmp_path / "flat", dot=dot, counts=COUNTS, like="mnist")
    datafiles.write_cifar(tmp_path / "flat", "binary")
    for path in (tmp_path / "flat").iterdir():
        folder = tmp_path / "place" / path.name.replace(".idx", "-idx")
        folder.mkdir(parents=True)
        path.rename(folder / path.name)
    assert load("mnist", tmp_path / "place").test_images.shape == (10, 28, 28, 1)
    assert load("cifar10", tmp_path / "place").train_images.shape == (20, 32, 32, 3)
