"""What Python offers for a finished run: a page, a figure, predictions, weights; on a GPU's arrays and on a user's."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from commands import run as command
from tolerances import ORACLE, relative_error

import eqnp

SMALL = {
    "data.train_samples": 60,
    "data.test_samples": 40,
    "model.layers": [{"conv": 3, "kernel": 5, "stride": 2, "pool": "max"}, {"dense": 10}],
    "dynamics.T1": 4,
    "dynamics.T2": 2,
    "training.epochs": 1,
    "training.batch_size": 20,
}
RNG = np.random.default_rng(0)


def content(page):
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    return json.loads(text)


def test_a_page_of_a_run(tmp_path):
    run = eqnp.train("digits", SMALL, out=tmp_path / "run")
    page = content(eqnp.show_run(run, samples=[3]))
    assert page["title"] == "How run settles" and [each["index"] for each in page["samples"]] == [3]
    assert len(content(eqnp.show_run(run, split="train"))["samples"]) == 10


@pytest.mark.parametrize("kind", ["pixels", "colour", "floats", "features"])
def test_a_page_of_arrays_of_a_user(tmp_path, kind):
    y = RNG.integers(0, 3, 30)
    x = {
        "pixels": RNG.integers(0, 256, (30, 40, 9), np.uint8),  # larger than a map on the page
        "colour": RNG.integers(0, 256, (30, 9, 8, 3), np.uint8),
        "floats": RNG.random((30, 9, 8, 2)),
        "features": RNG.standard_normal((30, 7)),
    }[kind]
    layers = [{"dense": 5}, {"dense": 3}] if kind == "features" else [{"conv": 2, "kernel": 3}, {"dense": 3}]
    run = eqnp.train("digits", SMALL | {"model.layers": layers}, data=(x, y, x, y), out=tmp_path / "run")
    run = eqnp.open_run(tmp_path / "run", data=(x, y, x, y))
    page = content(eqnp.show_run(run))
    image, layer = page["samples"][0]["image"], page["layers"][0]
    shapes = {"pixels": (9, 40, 1), "colour": (8, 9, 3), "floats": (8, 9, 1), "features": (3, 3, 1)}
    assert (image["width"], image["height"], image["channels"]) == shapes[kind]
    expected = {"pixels": (19, 3), "colour": (7, 6), "floats": (7, 6), "features": (1, 1)}[kind]
    assert (layer["height"], layer["width"]) == expected
    assert ("averaged over 2x2" in layer["note"]) == (kind == "pixels")


def test_everything_on_the_stand_in_for_a_gpu(capsys, tmp_path, standin_for_cupy, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = eqnp.train("digits", SMALL, out="run", backend="cupy")
    here = eqnp.open_run("run")
    images = RNG.integers(0, 256, (2, 28, 28), np.uint8)
    np.save("two.npy", images)
    on_gpu, on_cpu = (eqnp.predict_files(each, ["two.npy"]) for each in (run, here))
    for one, two in zip(on_gpu, on_cpu, strict=True):
        assert relative_error(np.array(one.scores), np.array(two.scores)) < ORACLE[np.float32]
    eqnp.export_run(run, "a.npz", card=False)
    eqnp.import_run("a.npz", "other")
    other = eqnp.open_run("other", checkpoint="last")
    assert all((other.parameters[name] == p).all() for name, p in here.parameters.items())
    gpu = ["--backend", "cupy"]
    assert command(capsys, "show", "run", "--samples", "0", *gpu).code == 0
    assert command(capsys, "predict", "run", "two.npy", *gpu).code == 0
    pytest.importorskip("matplotlib")
    assert command(capsys, "plot", "run", *gpu).code == 0


def test_a_figure_and_a_survey(tmp_path):
    pytest.importorskip("matplotlib")
    eqnp.train("digits", SMALL, out=tmp_path / "run")
    figure = eqnp.draw_runs([tmp_path / "run"])
    assert len(figure.axes) == 6  # one of them without curves
    (row,) = eqnp.survey([tmp_path / "run"]).rows
    assert row.mean == eqnp.open_run(tmp_path / "run").metrics[-1]["test_error_percent"]
