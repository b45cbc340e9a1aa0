"""Where datasets are looked for, in which order, and what is said of places that cannot be looked into."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import datafiles
import pytest
from commands import assert_fails, overrides, run
from datafiles import assert_line

from eqnp.data import describe, fetch, load
from eqnp.data.published import SOURCES
from eqnp.errors import ConfigurationError, DataError

pytestmark = pytest.mark.usefixtures("nowhere", "small_files")


def test_the_folder_named_comes_first_then_the_variable_then_eqnps_own(tmp_path, monkeypatch):
    datafiles.write_mnist(tmp_path / "XDG_DATA_HOME" / "eqnp" / "MNIST" / "raw", counts=(11, 5))
    assert len(load("mnist").train_images) == 11
    datafiles.write_mnist(tmp_path / "b" / "mnist", counts=(12, 5))
    monkeypatch.setenv("EQNP_DATA", f"{tmp_path / 'none'}:{tmp_path / 'b'}")
    assert len(load("mnist").train_images) == 12
    datafiles.write_mnist(tmp_path / "c", counts=(13, 5))
    assert len(load("mnist", tmp_path / "c").train_images) == 13
    datafiles.write_mnist(tmp_path / "work" / "data" / "MNIST" / "raw", counts=(14, 5))
    monkeypatch.setenv("EQNP_DATA", "")
    assert len(load("mnist").train_images) == 11


def test_fashion_mnist_is_not_taken_for_mnist(tmp_path):
    datafiles.write_mnist(tmp_path / "work" / "data" / "FashionMNIST" / "raw")
    assert load("fashion-mnist").classes[9] == "ankle boot"
    with pytest.raises(DataError):
        load("mnist")
    datafiles.write_mnist(tmp_path / "bare")
    assert load("fashion-mnist", tmp_path / "bare").name == "fashion-mnist"


def test_a_missing_dataset_says_where_it_was_looked_for_and_what_to_do(tmp_path):
    with pytest.raises(DataError) as error:
        load("cifar10", tmp_path / "here")
    assert_line(error, tmp_path / "here", ".keras", "eqnp data fetch cifar10", "data.folder")
    found = describe()
    assert "eqnp data fetch cifar10" in found["cifar10"]


def test_every_missing_dataset_can_be_fetched_and_is_said_to_be():
    assert set(SOURCES) == set(describe()) - {"mnist-small"}
    for name in SOURCES:
        assert f"run `eqnp data fetch {name}`" in describe()[name]
        _, hint = describe()[name].split("not found; ")
        with pytest.raises(DataError, match=f"; {hint} or name its folder"):
            load(name)


def forbid(monkeypatch, folder):
    """Let nobody look into a folder, not even root."""
    stat = os.stat

    def guarded(path, *args, **kwargs):
        if not isinstance(path, int) and str(path).startswith(str(folder) + os.sep):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return stat(path, *args, **kwargs)

    monkeypatch.setattr(os, "stat", guarded)


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "kmnist", "cifar10", "cifar100"])
@pytest.mark.parametrize("how", ["data.folder", "EQNP_DATA", "home"])
def test_a_folder_that_cannot_be_looked_into(tmp_path, monkeypatch, name, how):
    place = Path.home() / "datasets" if how == "home" else tmp_path / "place"
    datafiles.write_mnist(place / "MNIST" / "raw")
    monkeypatch.setenv("EQNP_DATA", str(place) if how == "EQNP_DATA" else "")
    with monkeypatch.context() as patched:
        forbid(patched, place)
        with pytest.raises(DataError) as error:
            load(name, place if how == "data.folder" else None)
        assert_line(error, f"{place} (Permission denied)")
        assert "not found" in describe()[name]
        datafiles.write_mnist(tmp_path / "work" / "data" / "MNIST" / "raw")
        assert load("mnist").source == "data/MNIST/raw (idx)"  # the next place is tried


def test_a_folder_inside_that_cannot_be_looked_into(tmp_path, monkeypatch):
    datafiles.write_mnist(tmp_path / "place" / "MNIST" / "raw")
    forbid(monkeypatch, tmp_path / "place" / "MNIST")
    with pytest.raises(DataError) as error:
        load("mnist", tmp_path / "place")
    assert_line(error, f"{tmp_path / 'place'} (MNIST: Permission denied)")


@pytest.mark.skipif(datafiles.READS_ALL, reason="root may read everything")
def test_a_folder_without_permissions(tmp_path):
    datafiles.write_mnist(tmp_path / "place")
    (tmp_path / "place").chmod(0)
    try:
        with pytest.raises(DataError, match=r"place \(Permission denied\)"):
            load("mnist", tmp_path / "place")
    finally:
        (tmp_path / "place").chmod(0o700)


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "kmnist", "cifar10", "cifar100"])
@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("~nosuchuser/x", "~nosuchuser/x (no such home folder), "),
        ("x" * 300, "xxx (File name too long), "),
        ("file", "file (Not a directory), "),
        ("nowhere", "nowhere, "),
        ("a\0b", "not found in a"),
    ],
    ids=["no such user", "too long", "a file", "missing", "zero byte"],
)
def test_a_place_that_cannot_be(tmp_path, monkeypatch, name, place, reason):
    Path("file").touch()
    with pytest.raises(DataError) as error:
        load(name, place)
    assert_line(error, reason)
    if "\0" not in place:  # which no variable holds
        monkeypatch.setenv("EQNP_DATA", place)
        with pytest.raises(DataError) as error:
            load(name)
        assert_line(error, reason)
        assert "not found" in describe()[name]


@pytest.fixture
def homeless(monkeypatch):
    """A user whom the machine does not know, without HOME."""

    def unknown(user):
        raise KeyError(user)

    monkeypatch.delenv("HOME")
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setattr(pytest.importorskip("pwd"), "getpwuid", unknown)


def test_without_a_home_the_other_places_are_searched(tmp_path, homeless):
    assert "not found" in describe()["mnist"]
    with pytest.raises(DataError) as error:
        load("mnist", "named")
    assert_line(error, "not found in named, data, datasets; ")
    with pytest.raises(DataError, match=r"not found in ~/x \(no such home folder\), data"):
        load("mnist", "~/x")
    datafiles.write_mnist(tmp_path / "named")
    assert len(load("mnist", tmp_path / "named").train_images) == 12


def test_without_a_home_nothing_is_fetched_to_it(homeless):
    with pytest.raises(ConfigurationError, match=r"no home folder is known; set HOME, or name a folder: --folder"):
        fetch("mnist")
    assert list(Path().iterdir()) == []


def test_bare_clothes_in_the_variable_are_not_taken_for_those_of_the_folder(tmp_path, monkeypatch):
    datafiles.write_mnist(tmp_path / "work")
    monkeypatch.setenv("EQNP_DATA", ".")
    with pytest.raises(DataError):
        load("fashion-mnist", "")


@pytest.mark.skipif(os.name == "nt", reason="a working directory cannot be removed there")
def test_a_working_directory_that_has_been_removed_is_one_line(capsys, tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    result = run(capsys, "train", *overrides("data.name=mnist", "data.folder=x"))
    assert_fails(result, 2, "the working directory has been removed; change to another one")
