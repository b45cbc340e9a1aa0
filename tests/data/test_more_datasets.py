"""CIFAR-100, KMNIST and Fashion-MNIST: read in every form and layout, told apart from others, and fetched."""

from __future__ import annotations

import gzip
import hashlib
import io
import pickle
import tarfile
from dataclasses import replace

import datafiles
import numpy as np
import pytest
from commands import SMALL, assert_fails, overrides, run
from datafiles import assert_line

from eqnp.data import Normalisation, describe, load
from eqnp.data.cifar import CIFAR100, read_cifar_binary, read_cifar_python
from eqnp.data.published import DATASETS, SOURCES, File
from eqnp.errors import DataError

pytestmark = pytest.mark.usefixtures("nowhere")
READERS = {"binary": read_cifar_binary, "python": read_cifar_python}
CHANNELS_LAST = (0, 2, 3, 1)


@pytest.fixture
def published(monkeypatch):
    """MNIST and the like have 12 and 10 images, CIFAR-100 6 and 3."""
    datafiles.publish(monkeypatch, (12, 10))


# ---- CIFAR-100


@pytest.mark.parametrize(
    ("form", "below"),
    [
        ("binary", "cifar-100-binary"),
        ("python", "cifar-100-python"),
        ("python", "CIFAR100/cifar-100-python"),
        ("python", "cifar100"),
        ("binary", "."),
    ],
)
def test_cifar100_is_found_in_every_layout_with_its_fine_labels(tmp_path, published, form, below):
    parts = datafiles.write_cifar100(tmp_path / below, form)
    dataset = load("cifar100", tmp_path)
    for (pixels, coarse, fine), images, labels in zip(
        parts,
        (dataset.train_images, dataset.test_images),
        (dataset.train_labels, dataset.test_labels),
        strict=True,
    ):
        np.testing.assert_array_equal(images, pixels.reshape(-1, 3, 32, 32).transpose(CHANNELS_LAST))
        np.testing.assert_array_equal(labels, fine)
        assert (labels != coarse).any()
    assert dataset.source.endswith(f"({form})")


def test_the_names_of_the_hundred_classes_are_in_the_published_order():
    names = DATASETS["cifar100"].classes
    assert len(names) == 100 and list(names) == sorted(names)
    assert (names[0], names[1], names[41], names[99]) == ("apple", "aquarium fish", "lawn mower", "worm")


def test_what_pickle_makes_of_our_bytes_is_what_we_read():
    """An independent reader: the bytes are a real pickle of Python 2."""
    pixels, coarse, fine = datafiles.pictures100(3)
    data = datafiles.cifar_python(pixels, coarse, fine)
    batch = pickle.loads(data.replace(b"numpy.core.multiarray", b"numpy._core.multiarray"), encoding="bytes")
    assert (batch[b"coarse_labels"], batch[b"fine_labels"]) == (coarse.tolist(), fine.tolist())
    np.testing.assert_array_equal(batch[b"data"], pixels)


@pytest.mark.parametrize("form", ["binary", "python"])
def test_a_cut_or_wrong_file_of_cifar100_is_an_error(tmp_path, form):
    write = getattr(datafiles, f"cifar_{form}")
    pixels, coarse, fine = datafiles.pictures100(2)
    whole, path = write(pixels, coarse, fine), tmp_path / "train"
    for length in {*range(0, 200, 3), *range(0, len(whole), 97), *range(len(whole) - 60, len(whole))} - {3074}:
        path.write_bytes(whole[:length])
        with pytest.raises(DataError) as error:
            READERS[form](path, CIFAR100)
        assert_line(error, path, "CIFAR-100")
    for wrong in (write(pixels, coarse, fine + np.uint8(100)), write(pixels, fine)):  # no class; CIFAR-10
        path.write_bytes(wrong)
        with pytest.raises(DataError, match="not a CIFAR-100 batch"):
            READERS[form](path, CIFAR100)


def test_a_damaged_form_of_cifar100_is_passed_over_and_a_missing_file_is_named(tmp_path, published):
    datafiles.write_cifar100(tmp_path / "cifar-100-binary", "binary")
    datafiles.write_cifar100(tmp_path / "cifar-100-python", "python")
    short = tmp_path / "cifar-100-binary" / "train.bin"
    short.write_bytes(short.read_bytes()[:-1])
    assert load("cifar100", tmp_path).source.endswith("(python)")
    for path in (short, tmp_path / "cifar-100-python" / "test"):
        path.unlink()
    with pytest.raises(DataError) as error:
        load("cifar100", tmp_path)
    assert_line(error, "found 1 of 2 files", "train.bin is missing", "eqnp data fetch cifar100")


def test_the_published_normalisation_of_cifar100():
    x = datafiles.pictures(2)[0].reshape(2, 32, 32, 3)
    mean, deviation = np.array([0.5071, 0.4867, 0.4408]), np.array([0.2675, 0.2565, 0.2761])
    found = Normalisation.named("published", "cifar100")(x, np.float64)
    np.testing.assert_allclose(found, (x / 255 - mean) / deviation, atol=1e-14)


# ---- KMNIST


@pytest.mark.parametrize("below", ["KMNIST/raw", "kmnist", "kmnist/KMNIST/raw", "."])
def test_kmnist_is_found(tmp_path, published, below):
    x, y, *_ = datafiles.write_mnist(tmp_path / below, counts=(12, 10))
    dataset = load("kmnist", tmp_path)
    np.testing.assert_array_equal(dataset.train_images[..., 0], x)
    np.testing.assert_array_equal(dataset.train_labels, y)
    assert dataset.classes == ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")


@pytest.mark.parametrize("other", ["mnist", "fashion-mnist"])
def test_others_of_the_same_form_are_not_kmnist(tmp_path, published, monkeypatch, other):
    datafiles.write_mnist(tmp_path / "KMNIST", counts=(12, 10), like=other)
    with pytest.raises(DataError) as error:
        load("kmnist", tmp_path)
    assert_line(error, f"which are the labels of {other}", "eqnp data fetch kmnist")
    datafiles.write_mnist(tmp_path / "bare", counts=(12, 10), like=other)
    monkeypatch.setenv("EQNP_DATA", str(tmp_path / "bare"))
    with pytest.raises(DataError, match="dataset kmnist not found"):
        load("kmnist")


# ---- everywhere that a dataset is named


@pytest.mark.parametrize("name", ["cifar100", "kmnist"])
def test_the_commands_take_the_names(tmp_path, capsys, small_files, name):
    if name == "cifar100":
        datafiles.write_cifar100(tmp_path / "d", "python", (40, 40))
    else:
        datafiles.write_mnist(tmp_path / "d", counts=(60, 40))
    classes = len(DATASETS[name].classes)
    settings = overrides(
        *SMALL, f"data.name={name}", f"data.folder={tmp_path / 'd'}", f"model.layers.1.dense={classes}"
    )
    settings += overrides("data.train_samples=40", "data.normalisation=published")
    assert run(capsys, "train", "--out", "r", "--quiet", *settings).code == 0
    assert f"samples of {name}" in run(capsys, "evaluate", "r").out
    assert run(capsys, "bench", "--runs", "1", "--steps", "1", *settings).code == 0
    wrong = run(capsys, "train", *settings, "--set", "model.layers.1.dense=7")
    assert_fails(wrong, 2, f"the data has {classes} classes, so the last layer needs {classes} units")
    assert name in describe()


# ---- fetched


SUMS = {  # as torchvision gives them
    "fashion-mnist": [
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "25c81989df183df01b3e8a0aad5dffbe",
        "bef4ecab320f06d8554ea6380940ec79",
        "bb300cfdad3c16e7a12a480ee83cd310",
    ],
    "cifar100": ["eb9058c3a382ffc7106e4002c42a8d85"],
    "kmnist": [
        "bdb82020997e1d708af4cf47b453dcf7",
        "e144d726b3acfaa3e44228e80efcd344",
        "5c965bf0a639b31b8f53240b1b52f4d7",
        "7320c461ea6c1c855c0b718fb2a4b134",
    ],
}


@pytest.mark.parametrize("name", SUMS)
def test_the_published_sums_and_safe_addresses(name):
    assert [file.md5 for file in SOURCES[name].files] == SUMS[name]
    assert all(len(file.sha256) == 64 and file.size > 5000 for file in SOURCES[name].files)
    assert all(url.startswith("https://") and url.endswith("/") for url in SOURCES[name].urls)


def serve(monkeypatch, name, files):
    """Let the source of a dataset have these files, already in their folder: nothing is downloaded."""
    sums = [
        File(file, len(data), hashlib.sha256(data).hexdigest(), hashlib.md5(data).hexdigest())
        for file, data in files.items()
    ]
    monkeypatch.setitem(SOURCES, name, replace(SOURCES[name], files=tuple(sums), urls=("http://127.0.0.1:9/",)))


def archive(parts):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, data in {**parts, "meta": b"names", "../outside": b"escape"}.items():
            member = tarfile.TarInfo(f"cifar-100-python/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return out.getvalue()


def test_cifar100_is_unpacked_and_found(tmp_path, published, monkeypatch, capsys):
    parts = {
        part: datafiles.cifar_python(*datafiles.pictures100(count, seed))
        for seed, (part, count) in enumerate({"train": 6, "test": 3}.items())
    }
    data = archive(parts)
    (tmp_path / "cifar-100-python.tar.gz").write_bytes(data)
    serve(monkeypatch, "cifar100", {"cifar-100-python.tar.gz": data})
    result = run(capsys, "data", "fetch", "cifar100", "--folder", tmp_path)
    assert (result.code, result.out) == (0, f"cifar100 is in {tmp_path / 'cifar-100-python'}\n"), result.err
    assert load("cifar100", tmp_path).train_images.shape == (6, 32, 32, 3)
    assert not (tmp_path / "outside").exists()


@pytest.mark.parametrize(("name", "like"), [("fashion-mnist", "fashion-mnist"), ("kmnist", None)])
def test_files_in_place_are_checked_and_read(tmp_path, published, monkeypatch, capsys, name, like):
    folder = tmp_path / SOURCES[name].folder
    datafiles.write_mnist(folder, True, counts=(12, 10), like=like)
    files = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    serve(monkeypatch, name, files)
    result = run(capsys, "data", "fetch", name, "--folder", tmp_path)
    assert (result.code, result.out) == (0, f"{name} is in {folder}\n"), result.err


def test_a_file_with_another_md5_is_fetched_again(tmp_path, published, monkeypatch, capsys):
    data = gzip.compress(b"x")
    serve(monkeypatch, "kmnist", {"a.gz": data})
    (file,) = SOURCES["kmnist"].files
    wrong = replace(SOURCES["kmnist"], files=(replace(file, md5="0" * 32),))
    monkeypatch.setitem(SOURCES, "kmnist", wrong)
    (tmp_path / "KMNIST" / "raw").mkdir(parents=True)
    (tmp_path / "KMNIST" / "raw" / "a.gz").write_bytes(data)
    result = run(capsys, "data", "fetch", "kmnist", "--folder", tmp_path)
    assert result.code == 3 and "not the published file; fetching it again" in result.err
