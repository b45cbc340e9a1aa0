"""``eqnp predict``: files are preprocessed as the run's data were, and what does not fit is said in one line."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from commands import SMALL_OPTIONS, assert_fails, overrides, run
from tolerances import ORACLE, relative_error

import eqnp
from eqnp.cli.main import main
from eqnp.data import load, load_folder
from eqnp.data.imagefiles import read_images
from eqnp.losses import softmax

Image = pytest.importorskip("PIL.Image")
DIGITS = load("mnist-small").test_images[:4]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run; tests must not change it."""
    folder = tmp_path_factory.mktemp("runs") / "trained"
    assert main(["train", "--quiet", "--out", str(folder), *SMALL_OPTIONS, "--epochs", "1"]) == 0
    return folder


def picture(path, pixels, mode=None, **how):
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    (image.convert(mode) if mode else image).save(path, **how)
    return path


def predicted(capsys, trained, *words):
    result = run(capsys, "predict", trained, *words, "--json")
    assert result.code == 0, result.err
    return [json.loads(line) for line in result.out.splitlines()]


def test_files_are_predicted_as_the_library_predicts_their_pixels(capsys, trained, tmp_path):
    opened = eqnp.open_run(trained)
    scores = softmax(opened.outputs(DIGITS))
    np.save(tmp_path / "all.npy", DIGITS[..., 0])
    np.save(tmp_path / "one.npy", DIGITS[3])
    files = [picture(tmp_path / f"{k}.png", DIGITS[k]) for k in range(3)]
    files.append(picture(tmp_path / "rgb.PNG", DIGITS[3], "RGB"))
    rows = predicted(capsys, trained, *files, tmp_path / "all.npy", tmp_path / "one.npy")
    for row, k in zip(rows, [0, 1, 2, 3, 0, 1, 2, 3, 3], strict=True):
        assert relative_error(row["scores"], scores[k]) <= ORACLE[np.float32]  # in another batch
        assert row["label"] == scores[k].argmax() and row["score"] == max(row["scores"])
    assert [row["index"] for row in rows] == [None] * 4 + [0, 1, 2, 3, None]
    assert rows[0]["file"] == str(files[0]) and rows[0]["name"] == str(rows[0]["label"])


def test_the_table_names_file_class_and_score(capsys, trained, tmp_path):
    result = run(capsys, "predict", trained, picture(tmp_path / "seven.png", DIGITS[0]), "--checkpoint", "last")
    title, row = result.out.splitlines()
    assert title.split() == ["image", "class", "probability", "next"]
    assert row.startswith(str(tmp_path / "seven.png")) and 0 <= float(row.split()[2]) <= 1


def test_with_squared_error_the_score_is_the_output_unit(capsys, tmp_path):
    words = [*SMALL_OPTIONS, "--epochs", "1", *overrides("model.loss=squared_error")]
    assert run(capsys, "train", "--quiet", "--out", tmp_path / "run", *words).code == 0
    result = run(capsys, "predict", tmp_path / "run", picture(tmp_path / "a.png", DIGITS[0]))
    assert "output unit" in result.out
    (row,) = predicted(capsys, tmp_path / "run", tmp_path / "a.png")
    np.testing.assert_array_equal(np.float32(row["scores"]), eqnp.open_run(tmp_path / "run").outputs(DIGITS[:1])[0])


def test_resize_scales_pictures_and_turns_them_upright(capsys, trained, tmp_path):
    large = np.repeat(np.repeat(DIGITS[0], 2, axis=0), 2, axis=1)
    path = picture(tmp_path / "large.png", large)
    assert_fails(run(capsys, "predict", trained, path), 3, "large.png", "56x56", "28x28", "--resize")
    (row,) = predicted(capsys, trained, path, "--resize")
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees
    turned = picture(tmp_path / "turned.png", np.rot90(DIGITS[0]), exif=exif)
    upright = picture(tmp_path / "upright.png", DIGITS[0])
    one, two = predicted(capsys, trained, turned, upright)
    assert one["scores"] == two["scores"] and len(row["scores"]) == 10


def test_a_picture_has_the_pixels_that_training_gives_it(tmp_path):
    """Resized, turned, grey or not: `predict` reads a file as training on its folder does."""
    rng = np.random.default_rng(0)
    exif = Image.Exif()
    exif[0x0112] = 6
    for channels, ending in ((1, ".png"), (3, ".png"), (3, ".jpg")):
        folder = tmp_path / f"{channels}{ending}"
        for part in ("train", "test"):
            (folder / part / "a").mkdir(parents=True)
            pixels = rng.integers(0, 256, (20, 30, channels), dtype=np.uint8).squeeze()
            Image.fromarray(pixels).save(folder / part / "a" / f"0{ending}", exif=exif)
        dataset = load_folder(folder, (8, 6))
        (seen,) = read_images(folder / "train" / "a" / f"0{ending}", (8, 6, channels), resize=True)
        np.testing.assert_array_equal(seen, dataset.train_images[0])
        upright = load_folder(folder).train_images[0]
        assert upright.shape == (30, 20, channels)
        np.testing.assert_array_equal(read_images(folder / "train" / "a" / f"0{ending}", upright.shape)[0], upright)


def broken(tmp_path):
    """Yield a file that cannot be predicted, and words of its message."""
    yield tmp_path / "none.png", ["no such file"]
    yield tmp_path, ["is a folder"]
    for name, data, words in (
        ("a.gif", b"GIF89a", [".png", ".npy"]),
        ("text.png", b"hello", ["damaged or not a PNG"]),
        ("text.npy", b"hello", ["damaged or not an array"]),
        ("short.png", picture(tmp_path / "s.png", DIGITS[0]).read_bytes()[:200], ["damaged"]),
    ):
        (tmp_path / name).write_bytes(data)
        yield tmp_path / name, words
    deep = Image.fromarray(DIGITS[0, ..., 0].astype(np.uint16) * 256)
    deep.save(tmp_path / "deep.png")
    yield tmp_path / "deep.png", ["8 bits for each channel"]
    clear = Image.fromarray(DIGITS[0, ..., 0]).convert("RGBA")
    clear.putalpha(100)
    clear.save(tmp_path / "clear.png")
    yield tmp_path / "clear.png", ["transparent"]
    for name, array, words in (
        ("large.npy", np.zeros((5, 30, 30), np.uint8), ["(5, 30, 30"]),
        ("first.npy", np.zeros((5, 1, 28, 28), np.uint8), ["channels come last"]),
        ("pixels.npy", 255.0 * (DIGITS > 100), ["astype(np.uint8)"]),
        ("nan.npy", np.full((28, 28), np.nan), ["NaN"]),
        ("wide.npy", np.full((28, 28), 1.5), ["from 0 to 1"]),
    ):
        np.save(tmp_path / name, array)
        yield tmp_path / name, words
    np.save(tmp_path / "pickle.npy", np.array([object()]), allow_pickle=True)
    yield tmp_path / "pickle.npy", ["damaged or not an array"]


def test_what_cannot_be_predicted_is_one_line_that_names_the_file(capsys, trained, tmp_path):
    good = picture(tmp_path / "good.png", DIGITS[0])
    for path, words in broken(tmp_path):
        assert_fails(run(capsys, "predict", trained, good, path), 3, path.name, *words)


def test_without_pillow_its_package_is_named(capsys, trained, tmp_path, monkeypatch):
    path = picture(tmp_path / "a.png", DIGITS[0])
    np.save(tmp_path / "a.npy", DIGITS[0])
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert_fails(run(capsys, "predict", trained, path), 4, "pip install pillow")
    assert run(capsys, "predict", trained, tmp_path / "a.npy").code == 0
