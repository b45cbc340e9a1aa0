"""Commands on data of one's own before it was ever trained on: its shape and its classes are those of the file."""

from __future__ import annotations

import numpy as np
import pytest
from commands import assert_fails, run

NAMES = np.array(["cat", "dog", "owl"])


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """The folder to work in, with mine.toml on mine.npz: samples of 12x10 in three classes, for a net of ten."""
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    x, y = generator.integers(0, 256, (30, 12, 10), np.uint8), NAMES[np.arange(30) % 3]
    np.savez("mine.npz", x_train=x, y_train=y, x_test=x[:9], y_test=y[:9])
    lines = ['base = "digits"', "[data]", 'name = "npz"', 'file = "mine.npz"', "validation = 0.2"]
    layers = 'layers = [{ conv = 3, kernel = 3, pool = "max" }, { dense = 10 }]'
    (tmp_path / "mine.toml").write_text("\n".join([*lines, "[model]", layers, ""]))
    return tmp_path


def test_check_and_summary_know_the_shape_and_the_classes(capsys, mine):
    checked = run(capsys, "config", "check", "mine.toml")
    assert (checked.code, checked.err) == (0, "") and "conv 3, 3x3 - dense 3 on mine.npz" in checked.out
    result = run(capsys, "summary", "mine.toml", "--no-time")
    assert (result.code, result.err) == (0, "")
    assert "on mine.npz: 24 samples of 12x10x1 in 3 classes" in result.out and "dense 3 " in result.out
    assert sorted(each.name for each in mine.iterdir()) == ["mine.npz", "mine.toml"]


@pytest.mark.parametrize("command", ["config check mine.toml", "summary mine.toml", "train mine.toml --dry-run"])
def test_without_the_file_it_is_named(capsys, mine, command):
    (mine / "mine.npz").unlink()
    assert_fails(run(capsys, *command.split()), 3, "mine.npz: there is no such file")


def test_a_run_keeps_both_so_that_its_configuration_is_checked_without_the_data(capsys, mine):
    trained = run(capsys, "train", "mine.toml", "--out", "run", "--epochs", "0", "--quiet")
    assert trained.code == 0, trained.err
    (mine / "mine.npz").unlink()
    checked = run(capsys, "config", "check", "run/config.toml")
    assert checked.code == 0 and "dense 3 on npz" in checked.out


def test_layers_that_do_not_fit_it(capsys, mine):
    text = (mine / "mine.toml").read_text().replace("kernel = 3", "kernel = 11")
    (mine / "mine.toml").write_text(text)
    for command in ("config check mine.toml", "summary mine.toml", "train mine.toml --dry-run"):
        assert_fails(run(capsys, *command.split()), 2, "11x11", "12x10")
