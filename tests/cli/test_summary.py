"""``eqnp summary`` and ``eqnp train --dry-run``: what is said before a run."""

from __future__ import annotations

import pytest
from commands import SMALL_OPTIONS, assert_fails, overrides, run, train_small

from eqnp.analysis import calibration
from eqnp.api.summary import summarize
from eqnp.api.titles import flops, memory
from eqnp.backends.backend import get_backend
from eqnp.cli.summaries import duration
from eqnp.runs import presets
from eqnp.runs.configfile import load


@pytest.mark.parametrize("name", presets.names())
def test_a_summary_of_every_preset_fits_and_needs_no_data(capsys, nowhere, name):
    result = run(capsys, "summary", name, "--no-time")
    assert result.code == 0, result.err
    assert all(len(line) <= 80 for line in result.out.splitlines()), result.out
    assert "memory" not in result.out and f"\nparameters  {parameters(name)}, " in result.out


def parameters(name):
    return summarize(load(name), get_backend("numpy"), measure=False)["parameters"]


@pytest.mark.parametrize("columns", [57, 60, 72])
def test_a_summary_fits_a_narrow_terminal(capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    for name in ("digits", "small-resnet"):
        out = run(capsys, "summary", name, "--no-time").out
        assert all(len(line) <= columns for line in out.splitlines()), out


def test_a_summary_measures_memory_and_time(capsys):
    result = run(capsys, "summary", *SMALL_OPTIONS)
    assert result.code == 0, result.err
    assert all(len(line) <= 80 for line in result.out.splitlines()), result.out
    for words in (
        "conv 3, 5x5",
        "max pooling",
        "readout, outside",
        "\nmemory ",
        "\ntime ",
        "all 2 epochs",
        "the only form",
    ):
        assert words in result.out, words


def test_a_summary_of_a_run_is_that_of_its_configuration(capsys, tmp_path):
    folder = tmp_path / "run"
    assert train_small(capsys, folder, "--epochs", "0", "--quiet").code == 0
    of_run = run(capsys, "summary", folder, "--no-time").out
    assert of_run == run(capsys, "summary", *SMALL_OPTIONS, "--epochs", "0", "--no-time").out
    assert_fails(run(capsys, "summary", tmp_path), 2, "not a run folder")
    assert_fails(run(capsys, "summary", "--set", "model.layers=[{dense=5},{dense=3}]"), 2, "10 classes")


def test_a_named_form_that_does_not_suit_is_said(capsys):
    out = " ".join(run(capsys, "summary", "--no-time", *overrides("training.convolution=merged")).out.split())
    assert "forward.0: direct, the configured form does not suit" in out
    out = " ".join(run(capsys, "summary", "--no-time", *overrides("training.convolution=winograd-2x2")).out.split())
    assert "forward.1: winograd-2x2, as configured" in out


@pytest.mark.parametrize("extra", [[], ["training.algorithm=bptt"], ["model.kind=vector-field"]], ids=str)
def test_a_part_of_an_update_is_scaled_to_the_whole(monkeypatch, extra):
    """Without time for a whole update a smaller part is measured; every work's time is then its FLOPs."""
    measured = []

    def timed(learner, state, batch, samples, run):
        measured.append(calibration.Part(samples, learner.phases.T1, learner.phases.T2))
        return 1e-9 * calibration._flops(learner, measured[-1])

    monkeypatch.setattr(calibration, "_measure", timed)
    config = load("digits", ["training.batch_size=64", *extra])
    content = summarize(config, get_backend("numpy"), measure=False)
    whole = 64 * content["flops"]["gradient"] * 1e-9
    for seconds, full in ((1e9, True), (0.5 * whole, False)):
        monkeypatch.setattr(calibration, "SECONDS", seconds)
        times = summarize(config, get_backend("numpy"))["time"]
        assert times["update"] == pytest.approx(whole) and times["whole_update_measured"] is full
        judged = 1000 * content["flops"]["evaluation"] * 1e-9
        assert times["epoch"] == pytest.approx(79 * whole + judged)
        assert times["run"] == pytest.approx(4 * times["epoch"])


def test_memory_scales_from_a_part_of_a_batch(monkeypatch):
    monkeypatch.setattr(calibration, "SECONDS", 0.0)
    config = load("small-ce-symmetric", ["training.batch_size=64", "training.threads=1"])
    whole = summarize(config, get_backend("numpy"))["memory"]
    flops_of_two = (
        2
        * summarize(load("small-ce-symmetric", ["dynamics.T1=1", "dynamics.T2=1"]), get_backend("numpy"), False)[
            "flops"
        ]["gradient"]
    )
    monkeypatch.setattr(calibration, "MEMORY_FLOPS", 16 * flops_of_two)
    assert summarize(config, get_backend("numpy"))["memory"] == pytest.approx(whole, rel=0.3)


def test_numbers_in_words():
    assert [flops(n) for n in (999, 1234, 99_960_000, 6.286e9)] == ["999 FLOP", "1.23 kFLOP", "100 MFLOP", "6.29 GFLOP"]
    assert memory(999_600) == "1.00 MB"
    assert [duration(s) for s in (0.0123, 5.04, 61, 3661, 864000)] == [
        "12.3 ms",
        "5.04 s",
        "1:01 min",
        "1:01:01 h",
        "10 days",
    ]


def test_a_dry_run_writes_nothing(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(capsys, "train", "--dry-run", *SMALL_OPTIONS)
    assert (result.code, result.out) == (0, "") and not list(tmp_path.iterdir())
    assert "digits: conv 3, 5x5" in result.err and " - dense 10 on mnist-small, " in result.err
    assert "4 free and 2 x 2 nudged steps, 1.43 MFLOP an update of 20 samples, from the start\n" in result.err
    assert_fails(
        run(capsys, "train", "--dry-run", "--epochs", "2", "--set", "model.layers=[{dense=5},{dense=3}]"), 2, "classes"
    )


def test_a_dry_run_checks_its_folder(capsys, tmp_path):
    (tmp_path / "run").mkdir()
    assert run(capsys, "train", "--dry-run", *SMALL_OPTIONS, "--out", tmp_path / "run").code == 0
    assert run(capsys, "train", "--dry-run", *SMALL_OPTIONS, "--out", tmp_path / "new").code == 0
    (tmp_path / "run" / "mine.txt").write_text("")
    result = run(capsys, "train", "--dry-run", *SMALL_OPTIONS, "--out", tmp_path / "run")
    assert_fails(result, 2, "not empty")
    assert not (tmp_path / "new").exists()


def test_a_dry_resume_writes_nothing(capsys, tmp_path):
    folder = tmp_path / "run"
    assert train_small(capsys, folder, "--quiet").code == 0
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    result = run(capsys, "train", "--resume", folder, "--dry-run")
    assert result.code == 0 and "nothing to do" in result.err
    more = ("--resume", folder, "--dry-run", "--epochs", "4", "--lr", "0.05", *overrides("optimizer.T_max=4"))
    result = run(capsys, "train", *more)
    assert result.code == 0, result.err
    assert "optimizer.rates = 0.05 instead of 0.1" in result.err and "from epoch 3, batch 1" in result.err
    assert_fails(run(capsys, "train", "--resume", folder, "--dry-run", "--seed", "5"), 2, "training.seed")
    assert before == {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_single_layer_has_steps_that_cost_nothing(capsys):
    result = run(capsys, "summary", *overrides("model.loss=squared_error", "model.layers=[{dense=10}]"))
    assert result.code == 0, result.err
