"""The average of the weights (``optimizer.average``): training does not see it, everything else uses it."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from commands import overrides, run, train_small

import eqnp
from eqnp.runs import checkpoint


@pytest.fixture
def folders(capsys, tmp_path):
    """The same run of two epochs, with and without an average."""
    paths = tmp_path / "averaged", tmp_path / "plain"
    for path, average in zip(paths, (0.9, 0.0), strict=True):
        assert train_small(capsys, path, *overrides(f"optimizer.average={average}")).code == 0
    return paths


def last(folder):
    return checkpoint.load(folder / "last.h5", kind="training")


def test_the_weights_that_are_trained_are_those_of_a_run_without_it(folders):
    averaged, plain = map(last, folders)
    assert set(averaged["optimizer"]) - set(plain["optimizer"]) == {"average", "averaged"}
    for name, p in plain["parameters"].items():
        np.testing.assert_array_equal(averaged["parameters"][name], p)
        assert (averaged["optimizer"]["average"][name] != p).any()


def test_a_run_that_is_opened_has_the_average_as_its_weights(folders):
    averaged, plain = folders
    for folder, weights in ((averaged, last(averaged)["optimizer"]["average"]), (plain, last(plain)["parameters"])):
        opened = eqnp.open_run(folder, checkpoint="last")
        for name, p in weights.items():
            np.testing.assert_array_equal(opened.parameters[name], p)


def test_an_evaluation_uses_the_average_and_says_so(capsys, folders):
    for folder, word in zip(folders, (True, False), strict=True):
        row = list(csv.DictReader((folder / "metrics.csv").read_text().splitlines()))[-1]
        result = run(capsys, "evaluate", folder, "--checkpoint", "last")
        assert result.code == 0 and f"{float(row['test_error_percent']):.2f} %" in result.out
        assert ("averaged over updates" in result.out) == word
    losses = [
        float(list(csv.DictReader((folder / "metrics.csv").read_text().splitlines()))[-1]["test_loss"])
        for folder in folders
    ]
    assert losses[0] != losses[1]


def test_an_exported_run_that_is_imported_has_the_average_as_its_weights(folders, tmp_path):
    averaged, _ = folders
    (file, *_) = eqnp.export_run(eqnp.open_run(averaged, checkpoint="last"), tmp_path / "weights.npz", card=False)
    eqnp.import_run(file, tmp_path / "imported")
    weights, found = last(averaged)["optimizer"]["average"], last(tmp_path / "imported")
    opened = eqnp.open_run(tmp_path / "imported", checkpoint="last")
    for name, p in weights.items():
        for other in (found["parameters"][name], found["optimizer"]["average"][name], opened.parameters[name]):
            np.testing.assert_array_equal(other, p)
