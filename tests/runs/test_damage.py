"""Files of a run that were damaged by accident: no other number, no traceback, no hang."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
from commands import SMALL_OPTIONS, assert_fails, overrides, run, train_small

from eqnp.cli.main import main
from eqnp.errors import ConfigurationError, EqnpError
from eqnp.runs import checkpoint
from eqnp.runs.configfile import load
from eqnp.runs.runfolder import RunFolder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("damage") / "run"
    assert main(["train", "--quiet", "--out", str(folder), *SMALL_OPTIONS]) == 0
    assert main(["train", "--quiet", "--resume", str(folder), *overrides("training.epochs=3", "data.flip=true")]) == 0
    assert (folder / "history.csv").exists()
    return folder


def damages(data, count, seed):
    """Yield flips of bits, cuts, parts of zeros, swapped and repeated parts, and bytes that are no text."""
    generator = np.random.default_rng(seed)
    for _ in range(count):
        other = bytearray(data)
        a, b = map(int, generator.integers(len(data), size=2))
        length = int(generator.integers(1, 600))
        match generator.integers(6):
            case 0:
                other[a] ^= 1 << int(generator.integers(8))
            case 1:
                del other[a:]
            case 2:
                other[a : a + length] = bytes(len(other[a : a + length]))
            case 3:
                other[a : a + length] = data[b : b + length]
            case 4:
                del other[a : a + length]
            case 5:
                other[a:a] = generator.bytes(length)
        if other != data:
            yield bytes(other)


def check_text(folder, name, count, seed):
    """Read damaged tables and configurations: what is read has its form, or one line says where the damage is."""
    path = folder / name
    data = path.read_bytes()
    for damaged in damages(data, count, seed):
        path.write_bytes(damaged)
        try:
            if name == "config.toml":
                load(str(path))
            elif name == "environment.toml":
                RunFolder(folder).environment()
            else:
                rows = RunFolder(folder).rows(path)
                assert all(isinstance(cell, str) and row["epoch"].isdecimal() for row in rows for cell in row.values())
        except ConfigurationError as error:
            text = str(error)
            assert text.startswith(str(path)) and text.isprintable() and len(text) < 2500


TEXTS = ("metrics.csv", "history.csv", "config.toml", "environment.toml")


@pytest.mark.parametrize("name", TEXTS)
def test_damaged_text(tmp_path, folder, name):
    shutil.copytree(folder, tmp_path / "run")
    check_text(tmp_path / "run", name, 250, 0)


def check_checkpoint(path, count, seed):
    data = path.read_bytes()
    for damaged in damages(data, count, seed):
        path.write_bytes(damaged)
        with pytest.raises(EqnpError) as error:
            checkpoint.load(path, kind="training")
        assert str(error.value).startswith(f"{path}: ") and str(error.value).isprintable()


def test_a_damaged_checkpoint_is_never_read(tmp_path, folder):
    shutil.copy(folder / "last.h5", tmp_path)
    check_checkpoint(tmp_path / "last.h5", 1000, 0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 11))
def test_damage_in_many_places(tmp_path, folder, seed):
    shutil.copytree(folder, tmp_path / "run")
    check_checkpoint(tmp_path / "run" / "last.h5", 6000, seed)
    for name in TEXTS:
        check_text(tmp_path / "run", name, 1000, seed)


# ---- a disk without room


def test_room_for_the_checkpoints_is_looked_at_before_training(capsys, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "disk_usage", lambda path: (10**9, 10**9, 1000))
        result = train_small(capsys, tmp_path / "run")
        assert_fails(result, 8, "0 MB are free", "free some space", f"--resume {tmp_path / 'run'}` continues")
        assert_fails(run(capsys, "train", "--resume", tmp_path / "run"), 8, "are free")
        patched.setattr(shutil, "disk_usage", lambda path: (0, 0, 0))  # it does not know
        assert run(capsys, "train", "--resume", tmp_path / "run").code == 0
        patched.setattr(shutil, "disk_usage", lambda path: (10**9, 10**9, 1000))
        assert run(capsys, "train", "--resume", tmp_path / "run").code == 0  # nothing to train
    assert os.path.exists(tmp_path / "run" / "best.h5")
