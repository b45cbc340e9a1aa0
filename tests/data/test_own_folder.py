"""A folder of PNG or JPEG images: layouts, pixel formats, sizes, and what is refused; and contact sheets."""

from __future__ import annotations

import struct
import sys
import tomllib
import zlib
from pathlib import Path

import datafiles
import numpy as np
import pytest
from commands import assert_fails, overrides, run
from datafiles import assert_line

from eqnp.analysis.sheet import choose
from eqnp.backends import limits
from eqnp.data import load_folder
from eqnp.errors import BackendError, DataError

Image = pytest.importorskip("PIL.Image")
pytestmark = pytest.mark.usefixtures("nowhere")
NET = overrides(
    "model.layers=[{conv=3,kernel=3,stride=2,pool='max'},{dense=10}]",
    *("dynamics.T1=4", "dynamics.T2=2", "training.epochs=2", "training.batch_size=8", "training.threads=1"),
)


def picture(seed, size=(9, 8), channels=1):
    """Return a random image (H, W) or (H, W, C)."""
    x = np.random.default_rng(seed).integers(0, 256, (*size, channels), np.uint8)
    return x[..., 0] if channels == 1 else x


def save(path, array, **options):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


def write(root, counts=(("cat", 3), ("dog", 2)), channels=1, size=(9, 8)):
    """Write train and test folders, and return the images by file name, relative to the root."""
    made = {}
    for part in ("train", "test"):
        for seed, (name, count) in enumerate(counts):
            for n in range(count):
                path = f"{part}/{name}/{n}.png"
                made[path] = picture(100 * seed + n + 1000 * (part == "test"), size, channels)
                save(Path(root) / path, made[path])
    return made


# ---- what is read


@pytest.mark.parametrize("channels", [1, 3])
def test_classes_alternate_and_keep_their_names(tmp_path, channels):
    made = write(tmp_path, channels=channels)
    dataset = load_folder(tmp_path)
    assert dataset.classes == ("cat", "dog") and dataset.name == tmp_path.name
    order = ["cat/0", "dog/0", "cat/1", "dog/1", "cat/2"]
    for part, images in (("train", dataset.train_images), ("test", dataset.test_images)):
        expected = np.stack([made[f"{part}/{each}.png"].reshape(9, 8, channels) for each in order])
        np.testing.assert_array_equal(images, expected)
    assert dataset.train_labels.tolist() == [0, 1, 0, 1, 0]


def test_images_below_and_hidden_ones_and_other_files(tmp_path):
    write(tmp_path)
    save(tmp_path / "train/cat/more/a.PNG", picture(7))
    for name in (".hidden.png", "notes.txt", "Thumbs.db", ".git/x.png"):
        path = tmp_path / "train/cat" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"no image")
    (tmp_path / "train" / ".cache").mkdir()
    dataset = load_folder(tmp_path)
    assert len(dataset.train_images) == 6 and dataset.classes == ("cat", "dog")
    np.testing.assert_array_equal(dataset.train_images[-1][..., 0], picture(7))


def test_a_class_without_test_images_and_one_grey_image_among_colours(tmp_path):
    write(tmp_path, channels=3)
    save(tmp_path / "train/axolotl/a.png", picture(5))
    dataset = load_folder(tmp_path)
    assert dataset.classes == ("axolotl", "cat", "dog") and set(dataset.test_labels) == {1, 2}
    np.testing.assert_array_equal(dataset.train_images[0], np.repeat(picture(5)[..., None], 3, axis=2))


def formats():
    """Yield (name, Pillow's image, expected pixels or None if refused)."""
    grey, colour = picture(1), picture(2, channels=3)
    opaque = np.concatenate([colour, np.full((9, 8, 1), 255, np.uint8)], axis=2)
    clear = opaque.copy()
    clear[3, 4, 3] = 254
    palette = Image.fromarray(colour).quantize(16)
    yield "grey", Image.fromarray(grey), grey[..., None]
    yield "black and white", Image.fromarray(grey > 99), np.where(grey > 99, 255, 0).astype(np.uint8)[..., None]
    yield "opaque", Image.fromarray(opaque), colour
    yield "palette", palette, np.asarray(palette.convert("RGB"))
    yield "transparent", Image.fromarray(clear), None
    yield "16 bits", Image.fromarray(grey.astype(np.uint16) * 256), None


@pytest.mark.parametrize(("name", "image", "expected"), [pytest.param(*each, id=each[0]) for each in formats()])
def test_pixel_formats(tmp_path, name, image, expected):
    for part in ("train", "test"):
        (tmp_path / part / "a").mkdir(parents=True)
        image.save(tmp_path / part / "a" / "0.png")
    if expected is None:
        with pytest.raises(DataError) as error:
            load_folder(tmp_path)
        assert_line(error, "0.png", "transparent" if name == "transparent" else "8 bits")
    else:
        np.testing.assert_array_equal(load_folder(tmp_path).train_images[0], expected)


def test_jpeg_is_turned_upright(tmp_path):
    x = np.zeros((16, 32), np.uint8)
    x[:8, :8] = 255  # bright at the upper left
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise
    for part in ("train", "test"):
        save(tmp_path / part / "a" / "0.jpg", x, exif=exif, quality=95)
    dataset = load_folder(tmp_path)
    assert dataset.train_images.shape == (1, 32, 16, 1)
    bright = dataset.train_images[0, ..., 0] > 128
    assert bright[:8, 8:].all() and bright.sum() == 64


def test_resizing_only_when_asked(tmp_path):
    write(tmp_path)
    save(tmp_path / "train/dog/9.png", picture(3, (20, 16)))
    with pytest.raises(DataError) as error:
        load_folder(tmp_path)
    assert_line(error, "0.png is 8 x 9", "9.png 16 x 20", "--set data.resize=8")
    dataset = load_folder(tmp_path, (10, 6))
    assert dataset.train_images.shape == (6, 10, 6, 1)
    expected = Image.fromarray(picture(3, (20, 16))).resize((6, 10), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(dataset.train_images[5, ..., 0], np.asarray(expected))


# ---- what is refused


def broken(root, how):
    """Make one mistake in a good folder and return the words of its message."""
    cat = root / "train" / "cat"
    if how == "cut":
        data = (cat / "1.png").read_bytes()
        (cat / "1.png").write_bytes(data[: len(data) // 2])
        return ["train/cat/1.png", "damaged or not a PNG or JPEG picture", "replace it"]
    if how == "text":
        (cat / "1.png").write_text("hello")
        return ["train/cat/1.png", "not a PNG or JPEG picture"]
    if how == "another format":
        Image.fromarray(picture(1)).save(cat / "1.gif")
        return ["train/cat/1.gif", "only PNG and JPEG are read"]
    if how == "disguised":
        Image.fromarray(picture(1)).save(cat / "1.png", format="GIF")
        return ["train/cat/1.png", "not a PNG or JPEG"]
    if how == "an empty class":
        (root / "train" / "eel").mkdir()
        return ["train/eel", "has no PNG or JPEG images; remove the folder"]
    if how == "a class of test alone":
        save(root / "test/eel/a.png", picture(1))
        return ["test/eel", "not in train, which has cat, dog"]
    if how == "no test":
        (root / "test").rename(root / "val")
        return ["test: no such folder", "train/CLASS and test/CLASS, but it has train, val"]
    if how == "no classes":
        for path in (root / "train").iterdir():
            path.rename(root / path.name)
        return ["train: has no folders"]
    if how == "no folder":
        root.rename(root.with_name("away"))
        return ["does not exist"]
    assert how == "a control character"
    cat.rename(root / "train" / "c\nat")
    return ["needs another name"]


HOWS = ["cut", "text", "another format", "disguised", "an empty class", "a class of test alone", "no test"]


@pytest.mark.parametrize("how", [*HOWS, "no classes", "no folder", "a control character"])
def test_what_is_refused_is_named(tmp_path, capsys, how):
    root = tmp_path / "photos"
    write(root)
    words = broken(root, how)
    result = run(capsys, "train", "--out", "a", *NET, *overrides("data.name=folder", f"data.folder={root}"))
    assert_fails(result, 3, *words)
    assert not Path("a").exists()


@pytest.mark.skipif(datafiles.READS_ALL, reason="root may read everything")
def test_without_permission(tmp_path):
    write(tmp_path)
    (tmp_path / "train" / "cat").chmod(0)
    try:
        with pytest.raises(DataError, match="cannot be read"):
            load_folder(tmp_path)
    finally:
        (tmp_path / "train" / "cat").chmod(0o700)


def claimed(width, height):
    """Return a PNG file of a few bytes that claims a size."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(60_000, 60_000), (10_000, 9_000)])
def test_an_image_that_claims_to_be_huge(tmp_path, size):
    write(tmp_path)
    (tmp_path / "train/cat/1.png").write_bytes(claimed(*size))
    with pytest.raises(DataError) as error:
        load_folder(tmp_path, (9, 8))
    assert_line(error, "train/cat/1.png")


def test_images_that_do_not_fit_in_memory(tmp_path, monkeypatch):
    write(tmp_path)
    monkeypatch.setattr(limits, "memory", lambda: limits.Limit(100, "the machine"))
    with pytest.raises(DataError, match=r"its arrays take .* available"):
        load_folder(tmp_path)


def test_without_pillow_is_exit_4(tmp_path, capsys, monkeypatch):
    write("photos")
    monkeypatch.setitem(sys.modules, "PIL", None)
    result = run(capsys, "train", *NET, *overrides("data.name=folder", "data.folder=photos"))
    assert_fails(result, 4, "reading images needs Pillow", "pip install pillow")
    with pytest.raises(BackendError):
        load_folder("photos")


# ---- runs


def test_a_run_on_a_folder(tmp_path, capsys):
    write("photos", (("cat", 12), ("dog", 12), ("été", 12)))
    settings = [*NET, *overrides("data.name=folder", "data.folder=photos", "data.resize=[8, 8]")]
    settings += overrides("data.validation=6", "data.normalisation=standard", "data.randaugment=1")
    assert run(capsys, "train", "--out", "a", "--quiet", *settings).code == 0
    kept = tomllib.loads(Path("a/config.toml").read_text())["data"]
    assert kept["classes"] == ["cat", "dog", "été"] and kept["shape"] == [8, 8, 1] and kept["resize"] == [8, 8]
    assert kept["folder"] == str(Path("photos").absolute())
    assert "of 6 samples of photos" in run(capsys, "evaluate", "a", "--split", "validation").out
    assert run(capsys, "train", "--resume", "a", "--quiet", "--epochs", "3").code == 0
    assert run(capsys, "states", "a", "--out", "s.h5", "--samples", "0:2").code == 0
    save("photos/train/eel/a.png", picture(1))
    result = run(capsys, "evaluate", "a")
    assert_fails(result, 3, "has 4 classes, but data.classes has 3; class 2 is 'eel' instead of 'été'")


def test_the_first_samples_have_all_classes(tmp_path, capsys):
    write("photos", (("cat", 5), ("dog", 5), ("eel", 5)))
    settings = [*NET, *overrides("data.name=folder", "data.folder=photos", "data.train_samples=3")]
    assert run(capsys, "train", "--out", "a", "--quiet", *settings).code == 0
    assert "of 3 samples" in run(capsys, "evaluate", "a", "--split", "train").out


# ---- contact sheets


def test_a_sheet_takes_equally_many_of_every_class():
    labels = np.arange(3000) % 3
    chosen = choose(labels, 3, 100)
    assert np.bincount(labels[chosen]).tolist() == [30, 30, 30]
    assert (np.diff(labels[chosen]) >= 0).all()
    assert len(choose(np.arange(500) % 100, 100, 100)) == 100
    assert choose(np.arange(500) % 100, 100, 7).tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert np.bincount(choose(np.array([0, 1, 1, 1, 2]), 4, 8)).tolist() == [1, 1, 1, 0, 1]


SHOWN = {
    "a dataset": (["mnist-small", "--count", "20"], "mnist-small.png"),
    "a folder": (["photos"], "photos.png"),
    "a file": (["mine.npz", "--split", "train", "--set", "data.randaugment=2"], "mine.png"),
    "a place": (["mine.npz", "--out", "b.svg"], "b.svg"),
    "floats": (["floats.npz", "--out", "c.pdf"], "c.pdf"),
    "validation": (["mine.npz", "--split", "validation", "--set", "data.validation=0.5"], "mine.png"),
}


@pytest.mark.parametrize("what", SHOWN)
def test_a_sheet_is_written_and_the_data_are_summed_up(capsys, what):
    pytest.importorskip("matplotlib")
    write("photos", (("cat$", 3), ("a very long name of a class", 2)))
    x, y = np.stack([picture(n, channels=3) for n in range(8)]), np.arange(8) % 2
    np.savez("mine.npz", x_train=x, y_train=y, x_test=x, y_test=y, classes=np.array(["up", "down"]))
    np.savez("floats.npz", x_train=x[..., :2] / 255, y_train=y, x_test=x[..., :2] / 255, y_test=y)
    words, place = SHOWN[what]
    result = run(capsys, "data", "show", *words)
    assert result.code == 0, result.err
    assert result.out.splitlines()[-1].split() == ["written", place]
    begin = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}[Path(place).suffix]
    assert Path(place).read_bytes().startswith(begin)
    if what == "a file":
        assert "8 training, 8 test samples of 9 x 8 x 3, uint8" in result.out and "up, down" in result.out
        assert_fails(run(capsys, "data", "show", *words), 2, "mine.png: the file exists", "--force")
        assert run(capsys, "data", "show", *words, "--force").code == 0


def test_the_sheet_of_a_run(capsys):
    pytest.importorskip("matplotlib")
    write("photos", (("cat", 5), ("dog", 5)))
    settings = [*NET, *overrides("data.name=folder", "data.folder=photos")]
    assert run(capsys, "train", "--out", "a", "--quiet", *settings).code == 0
    result = run(capsys, "data", "show", "a")
    assert result.code == 0 and Path("a.png").exists() and "cat, dog" in result.out


NOT_SHOWN = [
    (["mnst"], 2, ["no dataset, file or folder 'mnst'; did you mean 'mnist'?"]),
    (["xyz"], 2, ["choose one of mnist-small", "a .npz file or a folder"]),
    (["mnist-small", "--out", "a.jpg"], 2, ["--out a.jpg: the ending must be one of .png, .svg, .pdf"]),
    (["mnist"], 3, ["dataset mnist not found", "eqnp data fetch mnist"]),
    (["flat.npz"], 2, ["flat.npz: samples of shape (4,) are not images"]),
    (["mnist-small", "--split", "validation"], 2, ["data.validation=0.1"]),
    (["none.npz"], 3, ["none.npz: there is no such file"]),
    (["mnist-small", "--set", "data.flop=true"], 2, ["did you mean 'flip'"]),
]


@pytest.mark.parametrize(("words", "code", "said"), NOT_SHOWN, ids=lambda value: str(value)[:30])
def test_what_cannot_be_shown(capsys, words, code, said):
    np.savez("flat.npz", x_train=np.eye(4), y_train=np.arange(4) % 2, x_test=np.eye(4), y_test=np.arange(4) % 2)
    assert_fails(run(capsys, "data", "show", *words), code, *said)
    assert not list(Path().glob("*.png"))


def test_a_sheet_without_matplotlib_is_exit_4(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    result = run(capsys, "data", "show", "mnist-small")
    assert_fails(result, 4, "plots need matplotlib; `pip install matplotlib`")
    assert "--plots" not in result.err
