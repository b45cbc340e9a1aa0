"""Readers of the published formats in every layout, and what is said of files that are damaged."""

from __future__ import annotations

import gzip
import hashlib
import pickle
from pathlib import Path

import datafiles
import numpy as np
import pytest
from datafiles import assert_line

from eqnp.data import cifar, idx, load
from eqnp.errors import ConfigurationError, DataError

CHANNELS_LAST = (0, 2, 3, 1)
pytestmark = pytest.mark.usefixtures("nowhere", "small_files")


# ---- IDX


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("shape", [(7,), (2, 3), (3, 4, 5), (2, 2, 3, 1)])
def test_idx(tmp_path, shape, compress):
    array = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    path = tmp_path / "a"  # compression is told by the bytes
    path.write_bytes(gzip.compress(datafiles.idx(array)) if compress else datafiles.idx(array))
    found = idx.read_idx(path)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("compress", [False, True])
def test_idx_cut_anywhere_is_an_error(tmp_path, compress):
    whole = datafiles.idx(np.arange(24, dtype=np.uint8).reshape(2, 3, 4))
    whole = gzip.compress(whole) if compress else whole
    path = tmp_path / "a"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError) as error:
            idx.read_idx(path)
        assert_line(error, path)
    path.write_bytes(whole + b"more" if not compress else gzip.compress(gzip.decompress(whole) + b"m"))
    with pytest.raises(DataError, match="too long"):
        idx.read_idx(path)


def test_idx_of_another_type_and_a_missing_file(tmp_path):
    data = bytearray(datafiles.idx(np.zeros((2, 2), np.uint8)))
    data[2] = 13  # float32
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(DataError, match="not an IDX file of bytes"):
        idx.read_idx(tmp_path / "a")
    with pytest.raises(DataError, match="no such file"):
        idx.read_idx(tmp_path / "b")
    with pytest.raises(DataError, match="cannot be read"):
        idx.read_idx(tmp_path)


# ---- CIFAR-10


@pytest.mark.parametrize("form", ["binary", "python"])
def test_cifar_forms_hold_the_same(tmp_path, form):
    pixels, labels = datafiles.pictures(5)
    path = tmp_path / "batch"
    path.write_bytes(getattr(datafiles, f"cifar_{form}")(pixels, labels))
    images, found = getattr(cifar, f"read_cifar_{form}")(path)
    np.testing.assert_array_equal(found, labels)
    np.testing.assert_array_equal(images, pixels.reshape(5, 3, 32, 32).transpose(CHANNELS_LAST))
    # red of the second row, third column, of image 4
    assert images[4, 1, 2, 0] == pixels[4, 0 * 1024 + 1 * 32 + 2]


def test_what_pickle_makes_of_our_bytes_is_what_we_read(tmp_path):
    """An independent reader: the bytes are a real pickle of Python 2."""
    pixels, labels = datafiles.pictures(3)
    data = datafiles.cifar_python(pixels, labels).replace(b"numpy.core.multiarray", b"numpy._core.multiarray")
    batch = pickle.loads(data, encoding="bytes")
    np.testing.assert_array_equal(batch[b"data"], pixels)
    assert batch[b"labels"] == labels.tolist()


@pytest.mark.parametrize("form", ["binary", "python"])
def test_a_cut_cifar_batch_is_an_error(tmp_path, form):
    whole = getattr(datafiles, f"cifar_{form}")(*datafiles.pictures(2))
    path = tmp_path / "batch"
    lengths = {*range(0, 200), *range(0, len(whole), 97), *range(len(whole) - 60, len(whole))} - {3073}
    for length in sorted(lengths):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError) as error:
            getattr(cifar, f"read_cifar_{form}")(path)
        assert_line(error, path)


def test_labels_above_nine_are_no_cifar10(tmp_path):
    pixels, labels = datafiles.pictures(3)
    labels[1] = 10
    for form in ("binary", "python"):
        (tmp_path / form).write_bytes(getattr(datafiles, f"cifar_{form}")(pixels, labels))
        with pytest.raises(DataError, match="batch"):
            getattr(cifar, f"read_cifar_{form}")(tmp_path / form)


class _Hostile:
    def __reduce__(self):
        return (Path.touch, (Path("touched"),))


@pytest.mark.parametrize("protocol", range(6))
def test_a_hostile_pickle_runs_nothing(tmp_path, protocol):
    path = tmp_path / "data_batch_1"
    path.write_bytes(pickle.dumps({b"data": _Hostile(), b"labels": [1]}, protocol))
    with pytest.raises(DataError):
        cifar.read_cifar_python(path)
    assert not Path("touched").exists()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"cnumpy\ndtype\n", b"cos\nsystem\n"),
        (b"_reconstruct", b"scalar_like_"),
        (b"U\x02u1", b"U\x02f8"),
        (b"U\x06labels", b"U\x06others"),
        (b"\x80\x02", b"\x80\x04"),
        (b"M\x00\x0c\x86", b"M\x00\x0b\x86"),
        (b"u.", b"u0."),
        (b"}(", b"(("),
    ],
)
def test_a_pickle_of_another_shape_is_refused(tmp_path, old, new):
    data = datafiles.cifar_python(*datafiles.pictures(2))
    assert old in data
    path = tmp_path / "data_batch_1"
    path.write_bytes(data.replace(old, new, 1))
    with pytest.raises(DataError) as error:
        cifar.read_cifar_python(path)
    assert_line(error, path)


def fuzz_cifar(tmp_path, count, seed=0):
    """Flip bytes: either the same shape comes out or a DataError, nothing else."""
    generator = np.random.default_rng(seed)
    whole = np.frombuffer(datafiles.cifar_python(*datafiles.pictures(1)), np.uint8)
    path = tmp_path / "batch"
    for _ in range(count):
        data = whole.copy()
        head = np.concatenate([np.arange(200), np.arange(len(data) - 40, len(data))])
        data[generator.choice(head, generator.integers(1, 4))] = generator.integers(0, 256)
        path.write_bytes(data.tobytes())
        try:
            images, labels = cifar.read_cifar_python(path)
        except DataError as error:
            assert "\n" not in str(error)
        else:
            assert images.shape == (len(labels), 32, 32, 3)


def test_fuzzed_pickles(tmp_path):
    fuzz_cifar(tmp_path, 300)


@pytest.mark.slow
def test_fuzzed_pickles_at_length(tmp_path):
    fuzz_cifar(tmp_path, 30_000, seed=1)


# ---- where they are found


@pytest.mark.parametrize(
    ("compress", "dot", "below"),
    [(False, False, "MNIST/raw"), (True, False, "mnist"), (True, True, "."), (False, True, "MNIST")],
)
def test_mnist_is_found_in_every_layout(tmp_path, compress, dot, below):
    x, y, tx, ty = datafiles.write_mnist(tmp_path / "place" / below, compress, dot)
    dataset = load("mnist", tmp_path / "place")
    np.testing.assert_array_equal(dataset.train_images, x[..., None])
    np.testing.assert_array_equal(dataset.train_labels, y)
    np.testing.assert_array_equal(dataset.test_images, tx[..., None])
    np.testing.assert_array_equal(dataset.test_labels, ty)
    assert dataset.train_labels.dtype == np.int64 and dataset.classes[3] == "3"
    assert "place" in dataset.source and "idx" in dataset.source


@pytest.mark.parametrize(
    ("form", "below"),
    [
        ("binary", "cifar-10-batches-bin"),
        ("python", "cifar-10-batches-py"),
        ("python", "cifar-10-batches-py-target/cifar-10-batches-py"),
        ("binary", "."),
    ],
)
def test_cifar_is_found_in_every_layout(tmp_path, form, below):
    batches = datafiles.write_cifar(tmp_path / "place" / below, form)
    dataset = load("cifar10", tmp_path / "place")
    pixels = np.concatenate([p for p, _ in batches[:5]])
    np.testing.assert_array_equal(dataset.train_images, pixels.reshape(-1, 3, 32, 32).transpose(CHANNELS_LAST))
    np.testing.assert_array_equal(dataset.test_labels, batches[5][1])
    assert dataset.classes[6] == "frog"


def test_keras_npz(tmp_path):
    x, y = datafiles.digits(6)
    place = Path.home() / ".keras" / "datasets"
    place.mkdir(parents=True)
    np.savez(place / "mnist.npz", x_train=x, y_train=y, x_test=x[:2], y_test=y[:2])
    dataset = load("mnist")
    np.testing.assert_array_equal(dataset.train_images[..., 0], x)
    data = (place / "mnist.npz").read_bytes()
    (place / "mnist.npz").write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match=r"mnist\.npz"):
        load("mnist")


def bytes_damaged_inside():
    data = bytearray(datafiles.keras())
    start = data.index(b"x_train.npy") + len(b"x_train.npy")
    data[start : start + 4] = b"\xff" * 4  # no block of deflate; the directory of the archive is whole
    return bytes(data)


DAMAGE = {
    "damaged inside": bytes_damaged_inside(),
    "a bare array": datafiles.npy(np.arange(6)),
    "no archive": b"<html>404</html>",
    "empty": b"",
    "a header cut short": datafiles.keras(x_train=datafiles.npy_header(b"{'descr': '|u1', 'shape': (6,\n")),
    "a header that claims 90 PiB": datafiles.keras(
        x_train=datafiles.npy_header(b"{'descr': '|u1', 'fortran_order': False, 'shape': (100000000000000000,)}\n")
    ),
    "a member that is text": datafiles.keras(y_train=b"5, 0, 4"),
    "an array of 64 dimensions": datafiles.keras(x_train=np.zeros((1,) * 64, np.uint8)),
    "a member of objects": datafiles.keras(y_train=datafiles.npy(np.array([None] * 6))),
    "a pickle": pickle.dumps([1, 2, 3]),
    "an unknown compression": datafiles.zip_fields(datafiles.keras(), 8, 99),
    "encrypted": datafiles.zip_fields(datafiles.keras(), 6, 1),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_npz_is_an_error_of_one_line(tmp_path, damage):
    (tmp_path / "mnist.npz").write_bytes(DAMAGE[damage])
    with pytest.raises(DataError) as error:
        load("mnist", tmp_path)
    assert_line(error, tmp_path)
    assert len(str(error.value)) < len(str(tmp_path)) + 250


@pytest.mark.filterwarnings("error")
def test_a_header_that_warns_is_an_error_and_no_warning(tmp_path, recwarn):
    header = datafiles.npy_header(rb"{'descr': '\h', 'fortran_order': False, 'shape': (6,)}" + b"\n")
    (tmp_path / "mnist.npz").write_bytes(datafiles.keras(y_train=header))
    with pytest.raises(DataError, match=r"mnist\.npz: damaged"):
        load("mnist", tmp_path)
    assert not recwarn.list


LABELS = {
    "negative": np.array([0, 1, -1, 3, 4, 5]),
    "too large": np.array([0, 1, 10, 3, 4, 5], np.uint64),
    "fractional": np.array([0, 1, 2.5, 3, 4, 5]),
    "not a number": np.array([0, 1, np.nan, 3, 4, 5]),
    "truths": np.array([True] * 6),
    "times": np.array([0, 1, 2, 3, 4, 5], "m8[s]"),
    "strings": np.array(list("012345")),
    "in a column": np.arange(6)[:, None],
    "one number": np.array(6),
    "too few": np.arange(5),
    "none": np.arange(0),
}


@pytest.mark.parametrize("part", ["train", "test"])
@pytest.mark.parametrize("labels", LABELS)
def test_labels_that_are_no_classes(tmp_path, part, labels):
    x, _ = datafiles.digits(6)
    (tmp_path / "mnist.npz").write_bytes(datafiles.keras(**{f"x_{part}": x, f"y_{part}": LABELS[labels]}))
    with pytest.raises(DataError) as error:
        load("mnist", tmp_path)
    assert_line(error, "label", "training" if part == "train" else "test", tmp_path, "put the published files there")


def test_labels_of_every_kind_of_integer(tmp_path):
    for kind in ("u1", "i1", "<i8", ">i2", "u8"):
        (tmp_path / "mnist.npz").write_bytes(datafiles.keras(y_train=np.arange(6).astype(kind)))
        labels = load("mnist", tmp_path).train_labels
        assert labels.dtype == np.int64 and labels.tolist() == [0, 1, 2, 3, 4, 5]


def test_images_of_another_kind(tmp_path):
    (tmp_path / "mnist.npz").write_bytes(datafiles.keras(x_train=np.zeros((6, 28, 28))))
    with pytest.raises(DataError, match=r"images are float64 \(28, 28, 1\), not uint8 \(28, 28, 1\)"):
        load("mnist", tmp_path)


@pytest.mark.parametrize(("name", "hint"), [("mnst", "'mnist'"), ("imagenet", "cifar10")])
def test_an_unknown_dataset(name, hint):
    with pytest.raises(ConfigurationError, match=hint):
        load(name)


def test_a_subset_is_the_first_samples(tmp_path):
    datafiles.write_mnist(tmp_path)
    whole, part = load("mnist", tmp_path), load("mnist", tmp_path, 3, 2)
    np.testing.assert_array_equal(part.train_images, whole.train_images[:3])
    assert len(part.test_labels) == 2
    with pytest.raises(ConfigurationError, match=r"data\.test_samples: 6 requested, mnist has 5"):
        load("mnist", tmp_path, 3, 6)


def test_files_that_do_not_belong_together(tmp_path):
    datafiles.write_mnist(tmp_path)
    images, labels = datafiles.digits(3)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(datafiles.idx(labels))
    with pytest.raises(DataError, match="12 training images but 3 labels"):
        load("mnist", tmp_path)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(datafiles.idx(images))
    with pytest.raises(DataError, match="not the images"):
        load("mnist", tmp_path)
    datafiles.write_mnist(tmp_path)
    small, labels = datafiles.digits(12, size=14)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(datafiles.idx(small))
    with pytest.raises(DataError, match="14, 14"):
        load("mnist", tmp_path)
    datafiles.write_mnist(tmp_path)
    labels[2] = 10
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(datafiles.idx(labels))
    with pytest.raises(DataError, match="label is 10"):
        load("mnist", tmp_path)


# ---- what is embedded


def test_the_embedded_digits_are_those_that_were_put_there():
    dataset = load("mnist-small")
    assert dataset.train_images.shape == (5000, 28, 28, 1) and dataset.test_images.shape == (1000, 28, 28, 1)
    assert np.bincount(dataset.train_labels).min() > 400
    digest = hashlib.sha256()
    for array in (dataset.train_images, dataset.train_labels, dataset.test_images, dataset.test_labels):
        digest.update(np.ascontiguousarray(array).tobytes())
    assert digest.hexdigest() == "865c69bbdfdbb7dd17192fb9cdbc723a29e415676bc2eac617f554b2b14bf5c2"
