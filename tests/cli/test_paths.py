"""Paths as users write them: ~ in every option, and data that is found from another working directory."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import datafiles
import pytest
from commands import SMALL_OPTIONS, assert_fails, run, train_small

from eqnp.data import lasting_folder

pytestmark = pytest.mark.usefixtures("nowhere")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("evaluate", "~/none"), "none"),
        (("states", "~/none", "--out", "x.h5"), "none"),
        (("states", "run", "--out=~/there.h5"), "there.h5"),
        (("train", "--resume=~/none"), "none"),
        (("train", "~/none.toml"), "none.toml"),
        (("train", "--out=~/there.h5"), "there.h5"),
        (("bench", "~/none.toml"), "none.toml"),
        (("bench", "--out=~/there.h5"), "there.h5"),
        (("check", "~/none.toml"), "none.toml"),
        (("check", "--out=~/folder", "--plots", "none"), "folder"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_the_home_folder_in_every_path(capsys, words, named):
    (Path.home() / "folder").mkdir(parents=True)
    for path in ("there.h5", "folder/check.h5"):
        (Path.home() / path).touch()
    result = run(capsys, *words)
    assert result.code != 0 and str(Path.home() / named) in result.err, result.err
    assert list(Path().iterdir()) == []


def test_a_run_in_the_home_folder(capsys):
    Path.home().mkdir()
    assert train_small(capsys, "~/runs/a").code == 0
    assert (Path.home() / "runs" / "a" / "best.h5").exists() and not Path("~").exists()
    assert run(capsys, "evaluate", "~/runs/a").code == 0


def test_a_home_folder_that_nobody_has(capsys):
    result = run(capsys, "train", "--out=~nosuchuser/a")
    assert_fails(result, 2, "no such home folder is known; write ./~nosuchuser/a")
    assert list(Path().iterdir()) == []


@pytest.fixture
def digits(monkeypatch):
    """MNIST has 60 and 40 images."""
    datafiles.publish(monkeypatch, (60, 40))
    return lambda folder: datafiles.write_mnist(folder, counts=(60, 40), like="mnist")


@pytest.mark.parametrize(
    ("place", "setting"),
    [
        ("my", "data.folder=my"),
        ("my", "data.folder=./my/../my"),
        ("data/MNIST/raw", ""),
        ("HOME/my", "data.folder=~/my"),
    ],
)
def test_a_run_finds_its_data_from_another_folder(tmp_path, monkeypatch, capsys, digits, place, setting):
    folder = tmp_path / place if place.startswith("HOME") else Path(place)
    digits(folder)
    words = ["--set", "data.name=mnist", *(["--set", setting] if setting else [])]
    assert train_small(capsys, "run", *words).code == 0
    with open("run/config.toml", "rb") as file:
        assert tomllib.load(file)["data"]["folder"] == str(folder.resolve())
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    result = run(capsys, "evaluate", tmp_path / "work" / "run")
    assert result.code == 0 and "of 40 samples of mnist" in result.out


def test_a_resumed_run_finds_data_that_was_named_anew(tmp_path, monkeypatch, capsys, digits):
    digits(Path("my"))
    assert train_small(capsys, "run", "--set", "data.name=mnist").code == 3
    assert train_small(capsys, "run", "--set", "data.name=mnist", "--set", "data.folder=my").code == 0
    Path("my").rename("new")
    again = ("--set", "training.epochs=3", "--set", "data.folder=new")
    assert run(capsys, "train", "--resume", "run", *again).code == 0
    monkeypatch.chdir(tmp_path)
    assert run(capsys, "evaluate", "work/run").code == 0


def test_a_folder_stays_as_it_is_where_it_says_more_than_a_place(tmp_path, monkeypatch, digits):
    digits(tmp_path / "XDG_DATA_HOME" / "eqnp" / "mnist")
    assert lasting_folder("mnist", "") == ""  # found from everywhere
    assert lasting_folder("mnist-small", "") == lasting_folder("imagenet", "") == ""
    assert lasting_folder("mnist", "~nosuchuser/x") == "~nosuchuser/x"
    assert lasting_folder("mnist", "/a") == "/a" and lasting_folder("mnist", "a") == str(Path("a").absolute())
    if os.name == "posix":
        odd = Path(os.fsdecode(b"\xff"))
        odd.mkdir()
        monkeypatch.chdir(odd)
        assert lasting_folder("mnist", "a") == "a"  # a configuration cannot hold the whole


def test_without_a_data_folder_nothing_is_written_into_the_configuration(capsys):
    assert run(capsys, "train", "--out", "run", *SMALL_OPTIONS).code == 0
    assert 'folder = ""' in Path("run/config.toml").read_text()
