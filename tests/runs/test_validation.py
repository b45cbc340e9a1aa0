"""Which samples choose between epochs: a validation set, or else the test set, and what that is called."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from commands import SMALL_OPTIONS, assert_fails, overrides, run, train_small

from eqnp.api import training as cli_training
from eqnp.data import hold_out, load, validation_count
from eqnp.errors import ConfigurationError
from eqnp.runs import checkpoint
from eqnp.runs.configfile import load as load_config
from eqnp.training import Tally

DIGITS = load("mnist-small")


def table(path):
    return list(csv.DictReader(path.read_text().splitlines()))


@pytest.mark.parametrize(("validation", "count"), [(0.1, 500), (0.02, 100), (500, 500), (1, 1), (37, 37)])
def test_held_out_samples_are_apart_and_of_all_classes(validation, count):
    cut = hold_out(DIGITS, validation, seed=3)
    assert len(cut.validation_labels) == len(cut.validation_images) == count
    assert len(cut.train_labels) == len(cut.train_images) == 5000 - count
    every = np.concatenate([cut.train_images, cut.validation_images]).reshape(5000, -1)
    np.testing.assert_array_equal(np.unique(every, axis=0), np.unique(DIGITS.train_images.reshape(5000, -1), axis=0))
    shares = np.bincount(DIGITS.train_labels, minlength=10) * count / 5000
    assert (np.abs(np.bincount(cut.validation_labels, minlength=10) - shares) < 1).all()
    assert cut.test_labels is DIGITS.test_labels


def test_the_validation_set_is_a_function_of_the_seed_and_not_of_train_samples():
    one, same, limited, other = (hold_out(DIGITS, 0.1, *a) for a in ((0,), (0,), (0, 200), (1,)))
    np.testing.assert_array_equal(one.validation_images, same.validation_images)
    np.testing.assert_array_equal(one.validation_images, limited.validation_images)
    np.testing.assert_array_equal(one.train_images[:200], limited.train_images)
    assert (one.validation_images != other.validation_images).any()


@pytest.mark.parametrize("validation", [5000, 6000, 0.00001, 0.99999])
def test_a_validation_set_leaves_something_on_both_sides(validation):
    with pytest.raises(ConfigurationError, match=r"data\.validation: .* 5000 training samples; give 1 to 4999"):
        hold_out(DIGITS, validation, 0)
    assert validation_count(0, 5000) == 0


def test_a_validation_that_is_no_number_of_samples(capsys, tmp_path):
    for text, words in (("2.5", "neither a fraction below 1 nor a whole number"), ("-1", "at least 0")):
        result = train_small(capsys, tmp_path / "run", *overrides(f"data.validation={text}"))
        assert_fails(result, 2, "data.validation", words)
    both = overrides("data.validation=100", "data.train_samples=4950")
    assert_fails(train_small(capsys, tmp_path / "run", *both), 2, "data.train_samples", "4950", "holds out 100")
    assert not (tmp_path / "run").exists()
    assert load_config("digits", ["data.validation=0.25"]).data.validation == 0.25


def fake_errors(monkeypatch, errors):
    """Let evaluations find these errors, by number of samples, one after another; return which were asked for."""
    asked = []

    def evaluate(learner, parameters, batches, run, progress=None):
        samples = len(batches.labels)
        asked.append(samples)
        return Tally(samples, 1.0, round(errors[samples].pop(0) * samples / 100), 0.0)

    monkeypatch.setattr(cli_training, "evaluate", evaluate)
    return asked


def test_with_a_validation_set_it_chooses_and_the_test_set_is_evaluated_once(capsys, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    asked = fake_errors(monkeypatch, {50: [40, 20, 30], 40: [25]})
    settings = overrides("data.validation=50", "training.epochs=3")
    result = train_small(capsys, folder, *settings)
    assert result.code == 0, result.err
    assert asked == [50, 50, 50, 40], "three times the validation set, then the test set"
    assert "best validation error  20.00 % after epoch 2" in result.out
    assert "test error             25.00 % with the weights of best.h5" in result.out
    assert "60 samples to train on, 50 for validation" in result.err and "validation loss" in result.err
    assert checkpoint.load(folder / "best.h5", kind="training")["progress"]["epoch"] == 2
    rows = table(folder / "metrics.csv")
    assert [float(row["validation_error_percent"]) for row in rows] == [40, 20, 30]
    assert not any("test" in column for column in rows[0])
    (row,) = table(folder / "test.csv")
    assert (row["epoch"], row["best_epoch"], row["samples"], float(row["test_error_percent"])) == ("3", "2", "40", 25)


def test_a_finished_run_with_a_validation_set_does_not_look_at_the_test_set_again(capsys, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    assert train_small(capsys, folder, *overrides("data.validation=50")).code == 0
    asked = fake_errors(monkeypatch, {40: [25], 50: [90, 10]})
    before = (folder / "test.csv").read_bytes()
    result = run(capsys, "train", "--resume", folder)
    assert result.code == 0 and asked == [] and (folder / "test.csv").read_bytes() == before
    (folder / "test.csv").unlink()  # as a run that was stopped before it
    assert "25.00 %" in run(capsys, "train", "--resume", folder).out and asked == [40]


def test_evaluation_of_the_test_set_can_be_stopped_and_done_later(capsys, tmp_path, monkeypatch):
    folder, evaluate = tmp_path / "run", cli_training.evaluate

    def stopped(learner, parameters, batches, run_shards, progress):
        if len(batches.labels) == 40:
            import signal

            signal.raise_signal(signal.SIGTERM)
        return evaluate(learner, parameters, batches, run_shards, progress)

    with monkeypatch.context() as patched:
        patched.setattr(cli_training, "evaluate", stopped)
        result = train_small(capsys, folder, *overrides("data.validation=50"))
    assert result.code == 143 and "before the test set was evaluated" in result.err and "--resume" in result.err
    result = run(capsys, "train", "--resume", folder)
    assert result.code == 0 and len(table(folder / "test.csv")) == 1, result.err


def test_without_a_validation_set_the_lowest_is_not_called_best_and_the_last_is_shown(capsys, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    with monkeypatch.context() as patched:
        fake_errors(patched, {40: [40, 20, 30]})
        result = train_small(capsys, folder, *overrides("training.epochs=3"))
    assert result.code == 0, result.err
    assert "last test error    30.00 % after epoch 3, the one to report" in result.out
    assert "lowest test error  20.00 % after epoch 2" in result.out
    assert "best " not in result.out.replace("best.h5 ", "")
    assert not (folder / "test.csv").exists()
    result = run(capsys, "evaluate", folder)
    assert "best.h5 after 2 epochs, with the lowest test error" in result.out
    assert "last error   30.00 % after epoch 3, the one to report" in result.out
    assert "to report" not in run(capsys, "evaluate", folder, "--checkpoint", "last").out


def test_the_validation_set_wherever_there_are_splits(capsys, tmp_path):
    folder, there = tmp_path / "run", ["--split", "validation"]
    assert train_small(capsys, folder, *overrides("data.validation=0.01")).code == 0
    result = run(capsys, "evaluate", folder, *there)
    assert "validation error" in result.out and "of 50 samples" in result.out
    assert f"{float(table(folder / 'metrics.csv')[-1]['validation_error_percent']):.2f} %" in result.out
    assert max(map(len, result.out.splitlines())) < 80
    assert "with the best validation error" in result.out and "to report" not in result.out
    assert run(capsys, "states", folder, "--out", tmp_path / "s.h5", *there, "--samples", "49").code == 0
    assert "2 validation samples" in run(capsys, "check", folder, *there, "--samples", "0:2").out
    plain = ["check", "digits", *SMALL_OPTIONS, *there]
    assert_fails(run(capsys, *plain), 2, "--split validation", "no samples are held out")
    quick = ["--runs", "1", "--steps", "1", *overrides("data.validation=0.5", "data.train_samples=0")]
    out = tmp_path / "bench.json"
    assert run(capsys, "bench", "digits", *SMALL_OPTIONS, *quick, "--out", out).code == 0
    assert json.loads(out.read_text())["samples"] == 2500


def test_a_run_with_a_validation_set_resumes_bit_for_bit(capsys, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    settings = overrides("data.validation=50", "optimizer.T_max=2")
    assert train_small(capsys, whole, *settings).code == 0
    assert train_small(capsys, parts, *settings, *overrides("training.epochs=1")).code == 0
    assert run(capsys, "train", "--resume", parts, *overrides("training.epochs=2")).code == 0
    one, two = (checkpoint.load(folder / "last.h5", kind="training") for folder in (whole, parts))
    for name, value in one["parameters"].items():
        np.testing.assert_array_equal(value, two["parameters"][name], err_msg=name)
    assert [row["epoch"] for row in table(parts / "test.csv")] == ["1", "2"], "it was looked at twice, and that shows"
