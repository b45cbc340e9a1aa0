"""Data of one's own in a .npz file: every shape and kind, what is refused, and sizes checked before memory is taken."""

from __future__ import annotations

import io
import tomllib
import tracemalloc
import zipfile
from pathlib import Path

import datafiles
import h5py
import numpy as np
import pytest
from commands import assert_fails, overrides, run
from datafiles import assert_line

import eqnp
from eqnp.backends import limits
from eqnp.data import load_npz, npz, statistics
from eqnp.errors import ConfigurationError, DataError

pytestmark = pytest.mark.usefixtures("nowhere")
NET = overrides(
    "model.layers=[{conv=3,kernel=3,stride=2,pool='max'},{dense=10}]",
    *("dynamics.T1=4", "dynamics.T2=2", "training.epochs=2", "training.batch_size=8", "training.threads=1"),
)
FLAT = overrides("model.layers=[{dense=10}]", "model.loss='squared_error'")


def arrays(shape=(9, 8, 1), samples=24, classes=3, dtype=np.uint8):
    """Return (x_train, y_train, x_test, y_test) whose brightness says the class."""
    generator = np.random.default_rng(0)
    y = np.arange(samples) % classes
    x = 70 * y.reshape(-1, *(1 for _ in shape)) + generator.integers(0, 60, (samples, *shape))
    x = x.astype(np.uint8) if dtype == np.uint8 else (x / 255).astype(dtype)
    return x, y, x[:9], y[:9]


def save(path, *parts, compress=False, **more):
    names = ("x_train", "y_train", "x_test", "y_test")
    (np.savez_compressed if compress else np.savez)(path, **dict(zip(names, parts, strict=True)), **more)
    return path


# ---- what is read


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, ">f8"])
@pytest.mark.parametrize("shape", [(9, 8, 1), (9, 8), (5, 6, 4), (7,)])
def test_every_shape_and_kind(tmp_path, shape, dtype, compress):
    x, y, tx, ty = arrays(shape, dtype=dtype)
    dataset = load_npz(save(tmp_path / "a.npz", np.asfortranarray(x), y, tx, ty, compress=compress))
    expected = x[..., None] if len(shape) == 2 else x
    np.testing.assert_array_equal(dataset.train_images, expected)
    np.testing.assert_array_equal(dataset.test_labels, ty)
    assert dataset.train_images.dtype.isnative and dataset.train_labels.dtype == np.int64
    assert (dataset.name, dataset.classes) == ("a.npz", ("0", "1", "2"))


def test_names_of_classes(tmp_path):
    x, y, tx, ty = arrays()
    names = np.array(["cat", "dog", "été"])
    assert load_npz(save(tmp_path / "a.npz", x, y, tx, ty, classes=names)).classes == ("cat", "dog", "été")
    words = load_npz(save(tmp_path / "b.npz", x, names[y], tx, names[ty]))
    assert words.classes == ("cat", "dog", "été") and (words.train_labels == y).all()
    turned = load_npz(save(tmp_path / "c.npz", x, names[y], tx, names[ty], classes=names[::-1]))
    assert turned.classes == ("été", "dog", "cat") and (turned.train_labels == 2 - y).all()
    given = load_npz(tmp_path / "b.npz", ["dog", "cat", "été"])  # as the configuration of a run names them
    assert given.classes == ("dog", "cat", "été") and (given.train_labels == np.array([1, 0, 2])[y]).all()
    hot = load_npz(save(tmp_path / "d.npz", x, np.eye(3)[y], tx, ty), ["a", "b", "c"])
    assert hot.classes == ("a", "b", "c") and (hot.train_labels == y).all()


# ---- what is refused

X, Y, TX, TY = arrays()
NAMES = np.array(["a", "b", "c"])
REFUSED = {
    "missing": (dict(x_train=X, y_train=Y, x_test=TX), ["has no array y_test", "it has x_train, y_train, x_test"]),
    "objects": (dict(x_train=X, y_train=Y.astype(object), x_test=TX, y_test=TY), ["y_train holds Python objects"]),
    "records": (dict(x_train=np.zeros(3, "i4,f4"), y_train=Y, x_test=TX, y_test=TY), ["x_train holds records"]),
    "counts": (dict(x_train=X, y_train=Y[1:], x_test=TX, y_test=TY), ["23 labels for 24 samples"]),
    "from one": (dict(x_train=X, y_train=Y + 1, x_test=TX, y_test=TY), ["must start from 0"]),
    "shapes": (dict(x_train=X, y_train=Y, x_test=TX[:, 1:], y_test=TY), ["x_test has shape (9, 8, 8, 1)"]),
    "kinds": (dict(x_train=X, y_train=Y, x_test=TX / 255, y_test=TY), ["x_train is uint8", "x_test float64"]),
    "channels first": (
        dict(x_train=np.zeros((4, 3, 8, 8), np.uint8), y_train=Y[:4], x_test=TX, y_test=TY),
        ["channels come last"],
    ),
    "nan": (dict(x_train=np.full((3, 4), np.nan), y_train=Y[:3], x_test=np.ones((1, 4)), y_test=TY[:1]), ["NaN"]),
    "one string": (
        dict(x_train=X, y_train=NAMES[Y], x_test=TX, y_test=TY),
        ["y_test is int64 (9,): labels that are strings must be so in both"],
    ),
    "no class": (
        dict(x_train=X, y_train=NAMES[Y], x_test=TX, y_test=np.array(["z"] * 9)),
        ["y_test has the label 'z', which is no class of a, b, c"],
    ),
    "few names": (dict(x_train=X, y_train=Y, x_test=TX, y_test=TY, classes=NAMES[:2]), ["2 names of classes"]),
    "twice": (dict(x_train=X, y_train=Y, x_test=TX, y_test=TY, classes=NAMES[[0, 0, 1]]), ["different strings"]),
    "numbers": (dict(x_train=X, y_train=Y, x_test=TX, y_test=TY, classes=np.arange(3)), ["different strings"]),
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_does_not_fit_is_named_with_its_file(tmp_path, why):
    content, words = REFUSED[why]
    np.savez(tmp_path / "a.npz", **content)
    with pytest.raises(DataError) as error:
        load_npz(tmp_path / "a.npz")
    assert_line(error, f"{tmp_path / 'a.npz'}: ", *words)
    assert len(str(error.value)) < len(str(tmp_path)) + 300


def test_no_file_no_archive_and_a_web_page(tmp_path):
    for name, content, words in (
        ("none.npz", None, ["there is no such file"]),
        ("text.npz", b"hello", ["damaged or not a .npz file"]),
        ("page.npz", b"<html>404</html>", ["is a web page, not data"]),
        ("lfs.npz", b"version https://git-lfs.github.com/spec/v1", ["Git LFS pointer"]),
    ):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError) as error:
            load_npz(tmp_path / name)
        assert_line(error, tmp_path / name, *words)
    with pytest.raises(DataError, match="cannot be read"):
        load_npz(tmp_path)


def test_a_file_cut_or_changed_anywhere_is_an_error_of_one_line(tmp_path):
    path = save(tmp_path / "a.npz", *arrays((3, 2), 6), compress=True)
    whole, generator = path.read_bytes(), np.random.default_rng(0)
    expected = load_npz(path)
    cuts = [whole[:n] for n in range(0, len(whole), 7)]
    flips = []
    for _ in range(200):
        data = bytearray(whole)
        data[generator.integers(len(data))] ^= 1 << generator.integers(8)
        flips.append(bytes(data))
    for data in cuts + flips:
        path.write_bytes(data)
        try:
            found = load_npz(path)
        except DataError as error:
            assert "\n" not in str(error)
        else:  # a byte that does not matter, such as a date
            np.testing.assert_array_equal(found.train_images, expected.train_images)


# ---- sizes


def header(shape, dtype="|u1"):
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}"
    return datafiles.npy_header(text.ljust(117).encode() + b"\n")


def hostile(path, x_train, method=zipfile.ZIP_DEFLATED):
    """Write a .npz file whose x_train has these bytes."""
    with zipfile.ZipFile(path, "w", method) as file:
        for name, value in (("y_train", Y), ("x_test", TX), ("y_test", TY)):
            file.writestr(f"{name}.npy", datafiles.npy(value))
        file.writestr("x_train.npy", x_train)
    return path


LIES = {
    "too large": header((10**12, 28, 28)),
    "larger than memory can be": header((2**62, 4)),
    "negative": header((-1, -8)) + bytes(8),
    "too small": header((2, 3)) + bytes(100),
    "of wide strings": header((4,), "<U1000000000"),
    "a long header": b"\x93NUMPY\x02\x00" + (1 << 31).to_bytes(4, "little") + bytes(200_000),
    "another version": b"\x93NUMPY\x03\x00" + (10).to_bytes(4, "little") + bytes(10),
    "nothing": b"",
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lying_header_takes_no_memory(tmp_path, lie):
    path = hostile(tmp_path / "a.npz", LIES[lie])
    tracemalloc.start()
    try:
        with pytest.raises(DataError) as error:
            load_npz(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert_line(error, path)
    assert peak < 3e6


def bomb(path, size):
    """Write a .npz file of a few kilobytes whose x_train really unpacks to ``size`` zeros."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, value in (("y_train", Y), ("x_test", TX), ("y_test", TY)):
            file.writestr(f"{name}.npy", datafiles.npy(value))
        with file.open("x_train.npy", "w") as member:
            member.write(header((size // 100, 10, 10)))
            for _ in range(size // 100_000):
                member.write(bytes(100_000))
    return path


def test_a_zip_bomb_is_refused_before_it_unpacks(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(npz, "LARGE", 1_000_000)  # so that the test is quick
    path = bomb(tmp_path / "a.npz", 20_000_000)
    assert path.stat().st_size < 100_000
    tracemalloc.start()
    try:
        result = run(capsys, "train", *overrides("data.name=npz", f"data.file={path}"))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert_fails(result, 3, f"{path}: its arrays would unpack from", "MB to 0.02 GB, mostly x_train", "np.savez")
    assert peak < 10e6
    monkeypatch.setattr(npz, "LARGE", 100_000_000)
    with pytest.raises(DataError, match="y_train has 24 labels for 200000 samples"):
        load_npz(path)


def test_arrays_that_do_not_fit_in_memory_are_refused(tmp_path, monkeypatch, capsys):
    path = save(tmp_path / "a.npz", *arrays())
    monkeypatch.setattr(limits, "memory", lambda: limits.Limit(1000, "ulimit -v"))
    result = run(capsys, "train", *overrides("data.name=npz", f"data.file={path}"))
    assert_fails(result, 3, "its arrays take", "but only 1e-06 GB of memory are available (ulimit -v)")


def test_another_compression_is_refused(tmp_path):
    path = hostile(tmp_path / "a.npz", datafiles.npy(X), zipfile.ZIP_BZIP2)
    with pytest.raises(DataError, match="compressed in another way than by NumPy"):
        load_npz(path)


def test_a_bomb_in_the_place_of_keras_mnist(tmp_path, monkeypatch):
    monkeypatch.setattr(npz, "LARGE", 1_000_000)
    bomb(tmp_path / "mnist.npz", 20_000_000)
    with pytest.raises(DataError, match=r"would unpack .* it is not the mnist\.npz of Keras"):
        eqnp.data.load("mnist", tmp_path)


# ---- mean and deviation


@pytest.mark.parametrize("shape", [(9, 8, 3), (7,)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_statistics(shape, dtype):
    x = arrays(shape, dtype=dtype)[0]
    flat = (x / 255 if dtype == np.uint8 else x.astype(np.float64)).reshape(-1, shape[-1])
    mean, deviation = statistics(x)
    np.testing.assert_allclose(mean, flat.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(deviation, flat.std(axis=0), rtol=1e-12)
    x[..., 1] = 7
    assert statistics(x)[1][1] == 1.0  # a channel that is the same everywhere becomes 0


# ---- runs


def config(folder):
    return tomllib.loads((Path(folder) / "config.toml").read_text())["data"]


def weights(folder):
    with h5py.File(Path(folder) / "last.h5") as file:
        return {name: values[()] for name, values in file["parameters"].items()}


def test_a_run_keeps_shape_names_and_file_and_resumes_bitwise(tmp_path, capsys):
    x, y, tx, ty = arrays()
    save("mine.npz", x, y, tx, ty, classes=np.array(["cat", "dog", "cow"]))
    settings = [*NET, *overrides("data.name=npz", "data.file=mine.npz", "data.validation=0.25", "data.randaugment=2")]
    settings += overrides("data.normalisation=standard", "data.flip=true", "data.crop=1")
    assert run(capsys, "train", "--out", "a", "--quiet", *settings).code == 0
    kept = config("a")
    assert kept["classes"] == ["cat", "dog", "cow"] and kept["shape"] == [9, 8, 1]
    assert kept["file"] == str(Path("mine.npz").absolute()) and len(kept["mean"]) == len(kept["deviation"]) == 1
    assert run(capsys, "train", "--out", "b", "--quiet", *settings, "--epochs", "1").code == 0
    result = run(capsys, "train", "--resume", "b", "--quiet", "--epochs", "2", *overrides("optimizer.T_max=0"))
    assert result.code == 0, result.err
    for name, values in weights("a").items():
        np.testing.assert_array_equal(values, weights("b")[name])
    assert "of 6 samples of mine.npz" in run(capsys, "evaluate", "a", "--split", "validation").out
    run_of = eqnp.open_run("a")
    assert run_of.predict(x).shape == (24,) and run_of.config.data.classes == ("cat", "dog", "cow")


@pytest.mark.parametrize("normalisation", ["unit", "standard"])
def test_floats_and_features(tmp_path, capsys, normalisation):
    save("f.npz", *arrays((7,), dtype=np.float32))
    settings = [*NET, *FLAT, *overrides("data.name=npz", "data.file=f.npz", f"data.normalisation={normalisation}")]
    assert run(capsys, "train", "--out", "a", "--quiet", *settings).code == 0
    kept = config("a")
    assert kept["normalisation"] == "none" and len(kept["mean"]) == (7 if normalisation == "standard" else 0)
    session = eqnp.open_run("a")
    with pytest.raises(ValueError, match="trained on floats"):
        session.predict(np.zeros((2, 7), np.uint8))
    assert session.evaluate().samples == 9
    assert run(capsys, "bench", "--runs", "1", "--steps", "1", *settings).code == 0


def test_flat_pixels_are_divided_by_255(tmp_path, capsys):
    save("p.npz", *arrays((7,)))
    assert (
        run(
            capsys, "train", "--out", "a", "--quiet", *NET, *FLAT, "--set", "data.name=npz", "--set", "data.file=p.npz"
        ).code
        == 0
    )
    assert config("a")["normalisation"] == "unit"


def test_a_run_notices_other_data(tmp_path, capsys):
    x, y, tx, ty = arrays()
    save("mine.npz", x, y, tx, ty, classes=np.array(["cat", "dog", "cow"]))
    assert (
        run(
            capsys, "train", "--out", "a", "--quiet", *NET, "--set", "data.name=npz", "--set", "data.file=mine.npz"
        ).code
        == 0
    )
    save("other.npz", x, y, tx, ty, classes=np.array(["cat", "cow", "dog"]))
    save("small.npz", x[:, 1:], y, tx[:, 1:], ty)
    for name, words in (
        ("other.npz", ["class 1 is 'cow' instead of 'dog'"]),
        ("small.npz", ["samples are (8, 8, 1), but data.shape is (9, 8, 1)", "--set data.shape=[]"]),
        ("none.npz", ["none.npz: there is no such file"]),
    ):
        change = ("--set", f"data.file={name}")
        assert_fails(run(capsys, "evaluate", "a", *change), 3, *words)
        assert_fails(run(capsys, "train", "--resume", "a", "--epochs", "3", *change), 3, *words)
    result = run(capsys, "train", "--resume", "a", "--epochs", "3", "--set", "data.classes=['a','b','c']")
    assert_fails(result, 2, "data.classes")


MISTAKES = [
    (["data.name=npz"], 2, ["data.file: name your file"]),
    (["data.name=folder"], 2, ["data.folder: name the folder"]),
    (["data.file=a.npz"], 2, ["data.file: needs data.name = npz", "--set data.file=''"]),
    (["data.resize=28"], 2, ["data.resize: needs data.name = folder"]),
    (["data.classes=['a']"], 2, ["data.classes: needs data.name = npz or folder or arrays"]),
    (["data.mean=[0.5]"], 2, ["data.mean and data.deviation: 1 and 0 numbers"]),
    (["data.mean=[0.5]", "data.deviation=[0.5]"], 2, ["need data.normalisation = standard"]),
    (["data.deviation=[0.0]"], 2, ["data.deviation", "above 0"]),
    (["data.mean=0.5"], 2, ["data.mean", "a list of finite numbers"]),
    (["data.classes=[1]"], 2, ["data.classes", "a list of strings"]),
    (["data.magnitude=31"], 2, ["data.magnitude", "from 0 to 30"]),
    (["data.name=npz", "data.file=m.npz", "data.normalisation=published"], 2, ["published needs a published dataset"]),
    (["data.name=npz", "data.file=m.npz", "data.normalisation=none"], 2, ["none needs floats", "uint8"]),
    (["data.name=npz", "data.file=two.npz", "data.randaugment=2"], 2, ["images of 1 or 3 channels, not 2"]),
    (["data.name=npz", "data.file=f.npz", "data.randaugment=2"], 2, ["randaugment", "not floats"]),
    (["data.name=npz", "data.file=m.npz", "data.classes=['a','b']"], 3, ["2 names of classes for labels from 0 to 2"]),
    (["data.name=npz", "data.file=m.npz", "data.train_samples=99"], 2, ["99 requested, m.npz has 24"]),
    (["data.name=npz", "data.file=m.npz", "data.validation=24"], 2, ["data.validation"]),
]


@pytest.mark.parametrize(("settings", "code", "words"), MISTAKES, ids=lambda value: str(value)[:40])
def test_mistakes_in_the_configuration(capsys, settings, code, words):
    save("m.npz", *arrays())
    save("two.npz", *arrays((9, 8, 2)))
    save("f.npz", *arrays(dtype=np.float32))
    assert_fails(run(capsys, "train", "--out", "a", *NET, *overrides(*settings)), code, *words)
    assert not Path("a").exists()


def test_the_functions_take_the_names(tmp_path):
    save("mine.npz", *arrays())
    settings = {"data.name": "npz", "data.file": "mine.npz", "model.layers": [{"dense": 6}, {"dense": 10}]}
    network, _ = eqnp.build("digits", settings)
    assert network.architecture.input_shape == (9, 8, 1) and network.architecture.classes == 3
    with pytest.raises(ConfigurationError, match=r"eqnp\.data\.load_npz"):
        eqnp.data.load("npz")


def test_arrays_in_python_by_mean_and_deviation(tmp_path):
    x, y, *_ = arrays()
    small = {"model.layers": [{"dense": 6}, {"dense": 10}], "training.epochs": 1, "dynamics.T1": 4, "dynamics.T2": 2}
    for images, name in ((x, "standard"), (x / 255, "none")):
        data = (images, y, images[:9], y[:9])
        run_of = eqnp.train("digits", small | {"data.normalisation": "standard"}, data=data, out=tmp_path / name)
        kept = run_of.config.data
        assert kept.normalisation == name
        np.testing.assert_allclose(kept.mean, x.mean() / 255)
        more = eqnp.resume(tmp_path / name, {"training.epochs": 2, "optimizer.T_max": 2}, data=data)
        assert more.config.data == kept
        other = images / 255 if name == "standard" else x
        with pytest.raises(ValueError, match="the run has"):
            eqnp.resume(tmp_path / name, {"training.epochs": 3}, data=(other, y, other[:9], y[:9]))


def test_the_bytes_of_an_array_of_numpy_are_read(tmp_path):
    """An independent writer: what NumPy writes, version 2 of the format included."""
    out = io.BytesIO()
    np.lib.format.write_array(out, X, version=(2, 0))
    path = hostile(tmp_path / "a.npz", out.getvalue())
    np.testing.assert_array_equal(load_npz(path).train_images, X)
