"""The commands as a user meets them: what they print, what they leave, how they fail."""

from __future__ import annotations

import csv
import os
import re
import signal
import subprocess
import sys
import time
import tomllib

import h5py
import numpy as np
import pytest
from commands import SMALL_OPTIONS, assert_fails, overrides, run, train_small

from eqnp.cli.main import main
from eqnp.cli.selection import parse_selection
from eqnp.errors import ConfigurationError
from eqnp.runs import checkpoint


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run that is done; tests must not change it."""
    folder = tmp_path_factory.mktemp("runs") / "finished"
    assert main(["train", "--quiet", "--out", str(folder), *SMALL_OPTIONS]) == 0
    return folder


def test_training_leaves_a_whole_run_folder(finished):
    files = {path.name for path in finished.iterdir() if not path.name.startswith(".")}
    assert files == {"config.toml", "metrics.csv", "environment.toml", "last.h5", "best.h5"}
    config = tomllib.loads((finished / "config.toml").read_text())
    assert config["training"]["epochs"] == 2 and config["training"]["threads"] == 2
    assert tomllib.loads((finished / "environment.toml").read_text())["backend"] == "numpy"
    rows = list(csv.DictReader((finished / "metrics.csv").read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert all(np.isfinite(float(value)) for row in rows for value in row.values())


def test_training_says_where_everything_is(capsys, tmp_path):
    result = train_small(capsys, tmp_path / "run")
    assert result.code == 0
    for name in (
        "last test error",
        "lowest test error",
        "metrics.csv",
        "config.toml",
        "best.h5",
        "last.h5",
        "eqnp evaluate",
    ):
        assert name in result.out
    assert result.err.count("epoch 1/2: ") == 1 and "residual" in result.err


def test_without_out_the_folder_is_named_after_run_and_time(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(capsys, "train", *SMALL_OPTIONS, *overrides("name=tiny", "training.epochs=0")).code == 0
    (folder,) = (tmp_path / "runs").iterdir()
    assert re.fullmatch(r"tiny-\d{8}-\d{6}", folder.name)


def same_weights(a, b):
    one, two = (checkpoint.load(folder / "last.h5", kind="training") for folder in (a, b))
    for weights, others in ((one["parameters"], two["parameters"]), *_averages(one, two)):
        for name, value in weights.items():
            np.testing.assert_array_equal(value, others[name], err_msg=name)
    return one, two


def _averages(one, two):
    return [(one["optimizer"]["average"], two["optimizer"]["average"])] if "average" in one["optimizer"] else []


NEW = ("optimizer.schedule=one-cycle", "optimizer.warmup=0.4", "optimizer.average=0.9", "training.label_smoothing=0.1")


@pytest.mark.parametrize("optimizer", ["sgd", "nesterov", "adam", "averaged"])
@pytest.mark.parametrize("estimator", ["symmetric", "random-sign"])
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(capsys, tmp_path, optimizer, estimator):
    extra = overrides(f"training.estimator={estimator}", "data.flip=true", "data.crop=2")
    extra += overrides("optimizer.name=adam", "optimizer.rates=0.01") if optimizer == "adam" else []
    extra += overrides("optimizer.nesterov=true", "optimizer.clip_norm=0.05") if optimizer == "nesterov" else []
    extra += overrides("optimizer.T_max=2")  # more epochs do not stretch a cosine
    extra += overrides(*NEW) if optimizer == "averaged" else []
    extra += overrides("optimizer.momentum=0") if optimizer == "adam" else []
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train_small(capsys, whole, *extra).code == 0
    assert train_small(capsys, parts, *extra, *overrides("training.epochs=1")).code == 0
    assert run(capsys, "train", "--resume", parts, *overrides("training.epochs=2")).code == 0
    one, two = same_weights(whole, parts)
    assert {k: v for k, v in one["progress"].items() if k != "seconds"} == {
        k: v for k, v in two["progress"].items() if k != "seconds"
    }
    rows = [list(csv.DictReader((folder / "metrics.csv").read_text().splitlines())) for folder in (whole, parts)]
    for row in (*rows[0], *rows[1]):
        del row["seconds"]
    assert rows[0] == rows[1]


def test_a_signal_inside_an_epoch_saves_and_the_run_goes_on_bit_for_bit(capsys, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    slow = overrides("data.train_samples=4000", "data.test_samples=40", "training.epochs=1", "training.batch_size=10")
    assert train_small(capsys, whole, *slow).code == 0
    command = [sys.executable, "-m", "eqnp.cli", "train", "--out", str(parts), *SMALL_OPTIONS, *slow]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    while not (parts / "last.h5").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    assert "--resume" in err and out == ""
    progress = checkpoint.load(parts / "last.h5", kind="training")["progress"]
    assert 0 < progress["batch"] < 400
    assert run(capsys, "train", "--resume", parts).code == 0
    same_weights(whole, parts)


def test_evaluate_agrees_with_the_metrics(capsys, finished):
    rows = list(csv.DictReader((finished / "metrics.csv").read_text().splitlines()))
    result = run(capsys, "evaluate", finished, "--checkpoint", "last")
    assert result.code == 0
    assert f"{float(rows[-1]['test_error_percent']):.2f} %" in result.out
    assert "of 40 samples" in result.out
    assert "of 60 samples" in run(capsys, "evaluate", finished, "--split", "train").out


def test_states_are_named_and_complete(capsys, finished, tmp_path):
    out = tmp_path / "states.h5"
    assert run(capsys, "states", finished, "--out", out, "--samples", "3,5:7", "--steps", "0,2:5").code == 0
    with h5py.File(out) as file:
        assert list(file["samples/index"]) == [3, 5, 6]
        assert list(file["phases/free/steps"]) == [0, 2, 3, 4]
        assert list(file["phases/plus/steps"]) == [0, 2]
        assert file["phases/free/s1"].shape == (4, 3, 6, 6, 3)
        assert file["phases/plus/beta"][()] == -file["phases/minus/beta"][()] > 0
        assert not file["phases/free/s1"][0].any()  # a free phase starts from zeros
        np.testing.assert_array_equal(file["phases/free/s1"][-1], file["phases/plus/s1"][0])
        assert (file["phases/plus/s1"][-1] != file["phases/minus/s1"][-1]).any()
    assert_fails(run(capsys, "states", finished, "--out", out), 2, "exists", "--force")
    assert_fails(run(capsys, "states", finished, "--out", tmp_path, "--force"), 2, "is a folder")
    assert_fails(run(capsys, "states", finished, "--out", tmp_path / "no" / "x"), 8, "make the folder first")
    assert run(capsys, "states", finished, "--out", out, "--force", "--samples", "3,4", "--steps", "4").code == 0
    with h5py.File(out) as file:  # there is no step 4 of a nudged phase
        assert file["phases/free/s1"].shape == (1, 2, 6, 6, 3) and file["phases/plus/s1"].shape == (0, 2, 6, 6, 3)


def test_check_of_fresh_and_of_trained_weights(capsys, finished, tmp_path):
    out = tmp_path / "check"
    arguments = ("--samples", "0:6", "--set", "dynamics.T1=60", "--set", "dynamics.T2=6", "--set", "dynamics.beta=0.01")
    for target in (["digits", *SMALL_OPTIONS], [finished]):
        result = run(capsys, "check", *target, *arguments, "--out", out, "--force", "--plots", "svg")
        assert result.code == 0, result.err
        assert all(len(line) <= 80 for line in result.out.splitlines()[:-1]), result.out
        assert "forward.0.weight" in result.out and "readout.weight" in result.out
        assert {path.name for path in out.iterdir()} == {"check.h5", "cumulative.svg", "ratio.svg", "bias.svg"}
    with h5py.File(out / "check.h5") as file:
        for name in ("one-sided", "symmetric", "bptt"):
            assert file[f"steps/{name}/forward.0.weight/cumulative"].shape == (7,)
        assert file["steps/bptt/forward.0.weight/cumulative"][-1] == pytest.approx(1)
        assert file["steps/symmetric/forward.0.weight/relative_error"][()] < 0.05
        assert abs(file["bias/symmetric/slope"][()] - 2) < 0.1 and abs(file["bias/one-sided/slope"][()] - 1) < 0.1
    assert_fails(run(capsys, "check", finished, "--out", out, "--plots", "svg"), 2, "exists", "--force")


def test_check_of_how_many_steps(capsys, finished, tmp_path):
    out = tmp_path / "check"
    result = run(capsys, "check", finished, "--settle", "--samples", "0:6", "--steps", "300", "--out", out)
    assert result.code == 0, result.err
    assert all(len(line) <= 80 for line in result.out.splitlines()[:-1]), result.out
    assert "advice: " in result.out and {path.name for path in out.iterdir()} == {"settling.h5", "settling.png"}
    with h5py.File(out / "settling.h5") as file:
        for way in ("synchronous", "even-odd", "over-relaxed"):
            assert file[f"{way}/own"][-1, -1] == pytest.approx(1, abs=1e-6)
            assert (np.diff(file[f"{way}/largest"][()][[0, 2, 4]]) <= 0).all()
        assert file["advice/cosine"][()] >= file["configured/cosine"][()]
    assert_fails(run(capsys, "check", finished, "--settle", "--out", out), 2, "settling.h5 exists", "--force")
    assert_fails(run(capsys, "check", finished, "--settle", "--steps", "3"), 2, "--steps 3", "T1")


def test_check_of_a_vector_field_says_that_it_is_no_gradient(capsys):
    kind = overrides("model.kind=vector-field", "dynamics.beta=0.01", "dynamics.T1=40")
    result = run(capsys, "check", "digits", *SMALL_OPTIONS, *kind, "--samples", "0:6")
    assert result.code == 0 and "EP is not the gradient" in result.out


DEEP_FIELD = ("model.kind=vector-field", "model.layers=[{dense=12},{dense=8},{dense=10}]", "dynamics.T2=20")


def test_check_compares_the_kinds_of_nudging_of_a_vector_field(capsys):
    settings = overrides(*DEEP_FIELD, "dynamics.beta=0.01", "dynamics.T1=60")
    result = run(capsys, "check", "digits", *SMALL_OPTIONS, *settings, "--samples", "0:6")
    assert result.code == 0, result.err
    kinds = result.out[result.out.index("bias of plain nudging") :].splitlines()
    plain, common, one_sided, *_ = next(line for line in kinds if line.startswith("slope")).split()[1:]
    assert abs(float(plain)) < 0.2 and abs(float(common)) < 0.2 and float(one_sided) == pytest.approx(1, abs=0.1)


def test_check_of_asymmetric_nudging_finds_the_gradient(capsys):
    settings = overrides(*DEEP_FIELD, "training.nudging=asymmetric", "dynamics.beta=0.01", "dynamics.T1=60")
    result = run(capsys, "check", "digits", *SMALL_OPTIONS, *settings, "--samples", "0:6")
    assert result.code == 0 and "asymmetric nudging" in result.out and "not the gradient" not in result.out
    assert "verdict  good" in result.out


def test_check_without_matplotlib_is_exit_4(capsys, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    result = run(capsys, "check", "digits", *SMALL_OPTIONS, "--out", tmp_path / "out")
    assert_fails(result, 4, "pip install matplotlib", "--plots none")
    assert not (tmp_path / "out").exists()
    assert run(capsys, "check", "digits", *SMALL_OPTIONS, "--out", tmp_path / "out", "--plots", "none").code == 0


@pytest.mark.parametrize(
    "extra",
    [
        ["model.kind=vector-field"],
        ["model.kind=vector-field", "model.feedback_winners=forward", "training.common_update=true"],
        ["model.kind=vector-field", "training.nudging=asymmetric", "model.layers.0.keep=0.8"],
        ["training.algorithm=bptt"],
        ["training.algorithm=bptt", "model.kind=vector-field", "training.common_update=true"],
        ["model.layers.0.keep=0.8"],
        ["training.algorithm=bptt", "model.layers.0.keep=0.8", "training.memory_gb=1e-4"],
        ["training.estimator=four-point", "model.loss=squared_error"],
        ["dynamics.schedule=even-odd"],
        ["dynamics.schedule=even-odd", "dynamics.omega=1.6", "model.kind=vector-field"],
    ],
    ids=" ".join,
)
def test_every_way_of_training_resumes_bit_for_bit(capsys, tmp_path, extra):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    layers = "model.layers=[{conv=3,kernel=5,stride=2,pool='max'},{dense=12},{dense=10}]"
    settings = overrides(layers, "optimizer.T_max=2", *extra)  # more epochs do not stretch a cosine
    assert train_small(capsys, whole, *settings).code == 0
    assert train_small(capsys, parts, *settings, *overrides("training.epochs=1")).code == 0
    assert run(capsys, "train", "--resume", parts, *overrides("training.epochs=2")).code == 0
    same_weights(whole, parts)
    rows = list(csv.DictReader((whole / "metrics.csv").read_text().splitlines()))
    kind = "model.kind=vector-field" in extra
    assert ("angle_backward.1" in rows[0]) == kind
    assert run(capsys, "evaluate", parts).code == 0


def test_bptt_says_when_it_computes_states_twice(capsys, tmp_path):
    extra = overrides("training.algorithm=bptt", "dynamics.T1=9", "dynamics.T2=9", "training.batch_size=20")
    needed = 20 * (6 * 6 * 3) * 4  # bytes of the states of one step
    short = overrides(f"training.memory_gb={7 * needed / 1e9}", "training.epochs=0")
    assert "segments of 3 steps" in train_small(capsys, tmp_path / "a", *extra, *short).err
    assert "segments" not in train_small(capsys, tmp_path / "b", *extra, "--set", "training.epochs=0").err


def test_bptt_that_does_not_fit_is_exit_7_and_says_how_much_it_needs(capsys, tmp_path):
    extra = overrides("training.algorithm=bptt", "training.memory_gb=1e-6")
    assert_fails(train_small(capsys, tmp_path / "run", *extra), 7, "needs", "GB", "training.batch_size")
    assert not (tmp_path / "run").exists()


def test_data_presets_and_doctor(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert "mnist-small" in run(capsys, "data", "list").out
    presets = run(capsys, "presets")
    assert presets.code == 0 and "mnist-mlp" in presets.out
    assert "conv 32, 3x3 / 2 + 4" in presets.out
    assert tomllib.loads(run(capsys, "presets", "mnist-mlp").out)["training"]["batch_size"] == 50
    doctor = run(capsys, "doctor")
    assert doctor.code == 0
    for word in ("numpy", "blas", "cores", "cupy", "mnist-small", "cifar10"):
        assert word in doctor.out


def test_a_picture_of_a_network(capsys, tmp_path):
    for name, words in (("small-resnet", ("s7:", "1x1 / 2", "dense")), ("digits", ("readout", "5x5, max 2x2"))):
        path = tmp_path / f"{name}.svg"
        assert run(capsys, "presets", name, "--picture", path).code == 0
        drawn = path.read_text()
        assert all(f"<!-- {word}" in drawn for word in words)
    assert_fails(run(capsys, "presets", "--picture", tmp_path / "a.svg"), 2, "--picture", "name")
    assert_fails(run(capsys, "presets", "digits", "--picture", tmp_path / "a.txt"), 2, "--picture", ".svg")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["trian"], ["'train'"]),
        (["train", "--bakend", "numpy"], ["--backend"]),
        (["train", "--backend", "torch"], ["numpy", "cupy"]),
        (["train", "mnist-mpl"], ["mnist-mlp"]),
        (["train", "nowhere.toml"], ["nowhere.toml", "no such file"]),
        (["train", "--set", "training.epoch=1"], ["training.epoch", "'epochs'"]),
        (["train", "--set", "training.epochs=many"], ["training.epochs", "whole number", "'many'"]),
        (["train", "--set", "dynamics.beta=-1"], ["dynamics.beta", "above 0"]),
        (["train", "--set", "model.layers=[{conv=4,kernel=30},{dense=10}]"], ["model.layers.0", "30x30", "28x28"]),
        (["train", "--set", "model.layers=[{dense=10},{conv=4},{dense=10}]"], ["model.layers.1", "image"]),
        (["train", "--set", "model.layers=[{conv=4},{dense=7}]"], ["model.layers.1", "10 classes"]),
        (["train", "--set", "data.train_samples=6000"], ["data.train_samples", "5000"]),
        (["train", "--resume", "nowhere"], ["nowhere"]),
        (["train", "digits", "--resume", "nowhere"], ["--resume"]),
        (["train", "--set", "training.common_update=true"], ["training.common_update", "vector-field"]),
        (["train", "--set", "training.nudging=asymmetric"], ["training.nudging", "vector-field", "changes nothing"]),
        (["train", "small-vf-bptt", "--set", "training.nudging=asymmetric"], ["training.nudging", "algorithm = ep"]),
        (
            ["train", "small-kp-vf", "--set", "training.nudging=asymmetric"],
            ["training.nudging", "training.common_update"],
        ),
        (["train", "--set", "training.nudging=asymetric"], ["training.nudging", "did you mean 'asymmetric'"]),
        (["train", "--set", "model.feedback_winners=forward"], ["model.feedback_winners", "vector-field"]),
        (["train", "--set", "training.algorithm=bptt", "--set", "dynamics.T2=99"], ["dynamics.T2", "T1 = 20"]),
        (["train", "--set", "training.algorithm=bptt", "--set", "dynamics.schedule=even-odd"], ["dynamics.schedule"]),
        (["train", "--set", "training.algorithm=bptt", "--set", "dynamics.omega=1.6"], ["dynamics.omega"]),
        (["train", "--set", "dynamics.omega=2"], ["dynamics.omega", "not below 2"]),
        (["train", "--set", "dynamics.omega=0"], ["dynamics.omega", "above 0"]),
        (["train", "--set", "model.layers.1.keep=1.5"], ["model.layers.1.keep", "1.5"]),
        (["train", "--set", "model.layers.2.keep=0.5"], ["model.layers.2", "no dropout"]),
        (["check", "nowhere"], ["nowhere"]),
        (["check", "--samples", "x"], ["--samples"]),
        (["evaluate", "nowhere"], ["nowhere", "no such folder"]),
        (["evaluate"], ["RUN"]),
        (["data", "fetch", "imagenet"], ["imagenet", "mnist"]),
    ],
    ids=" ".join,
)
def test_bad_usage_is_one_line_and_exit_2(capsys, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    assert_fails(run(capsys, *arguments), 2, *words)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_dataset_is_exit_3(capsys, tmp_path, monkeypatch):
    for name in ("HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert_fails(run(capsys, "train", "mnist-mlp"), 3, "mnist", "eqnp data fetch mnist")


def test_no_cupy_is_exit_4(capsys, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    monkeypatch.chdir(tmp_path)
    assert_fails(run(capsys, "train", "--backend", "cupy"), 4, "cupy", "pip install", "--backend numpy")
    assert list(tmp_path.iterdir()) == []
    assert run(capsys, "train", "--backend", "auto", *SMALL_OPTIONS).code == 0  # falls back to NumPy


def test_damaged_missing_and_foreign_checkpoints_are_exit_5(capsys, tmp_path):
    folder = tmp_path / "run"
    train_small(capsys, folder)
    path = folder / "best.h5"
    whole = path.read_bytes()
    path.write_bytes(whole[:-7])
    assert_fails(run(capsys, "evaluate", folder), 5, "best.h5", "damaged")
    path.unlink()
    assert_fails(run(capsys, "evaluate", folder), 5, "best.h5")
    path.write_bytes(whole)
    wider = overrides("model.layers=[{conv=4,kernel=5,stride=2,pool='max'},{dense=10}]")
    train_small(capsys, tmp_path / "wider", *wider)
    path.write_bytes((tmp_path / "wider" / "best.h5").read_bytes())
    assert_fails(run(capsys, "evaluate", folder), 5, "forward.0.weight")


@pytest.mark.parametrize("batch", [20, 60], ids=["within an epoch", "by its last update"])
def test_divergence_is_exit_6_and_keeps_the_last_good_state(capsys, tmp_path, batch):
    """In one line, and with no warning of NumPy's before it."""
    folder = tmp_path / "run"
    assert train_small(capsys, folder, *overrides("training.epochs=1", "optimizer.T_max=2")).code == 0
    before = {name: (folder / name).read_bytes() for name in ("last.h5", "best.h5", "metrics.csv")}
    wrong = overrides("training.epochs=2", f"training.batch_size={batch}", "optimizer.rates=1e38")
    result = run(capsys, "train", "--resume", folder, "--quiet", *wrong)
    lines = [line for line in result.err.splitlines() if not line.startswith("from epoch 2, batch 1: ")]  # the changes
    assert result.code == 6 and len(lines) == 2, result.err  # what is trained, and the error
    for words in ("diverged", "epoch 2", "--set optimizer.rates=", "continues from last.h5"):
        assert words in result.err
    assert before == {name: (folder / name).read_bytes() for name in before}
    assert run(capsys, "train", "--resume", folder, *overrides("optimizer.rates=0.01")).code == 0


def test_a_busy_run_folder_is_exit_9(capsys, tmp_path):
    from eqnp.runs.runfolder import RunFolder

    folder = tmp_path / "run"
    train_small(capsys, folder)
    with RunFolder.open(folder, lock=True):
        assert_fails(run(capsys, "train", "--resume", folder), 9, str(folder), str(os.getpid()))
        assert run(capsys, "evaluate", folder).code == 0  # reading needs no lock


def test_a_folder_that_holds_something_is_left_alone(capsys, tmp_path):
    (tmp_path / "precious").write_text("mine")
    result = train_small(capsys, tmp_path)
    assert_fails(result, 2, str(tmp_path))
    assert (tmp_path / "precious").read_text() == "mine"


@pytest.mark.parametrize(
    ("text", "expected"), [("3", [3]), ("1,4", [1, 4]), ("0:3", [0, 1, 2]), ("0:9:4,1", [0, 4, 8, 1])]
)
def test_selection(text, expected):
    assert parse_selection("--samples", text, 10) == expected


@pytest.mark.parametrize("text", ["", "x", "1:2:3:4", "10", "-1", "5:20", "0:5:0", "3:3", "1,,2"])
def test_bad_selections_say_so(text):
    with pytest.raises(ConfigurationError, match="--samples"):
        parse_selection("--samples", text, 10)


def test_a_checkpoint_of_another_net_is_named(capsys, finished, tmp_path):
    other = overrides("model.layers=[{dense=5},{dense=10}]")
    train_small(capsys, tmp_path / "run", *other)
    (tmp_path / "run" / "config.toml").write_bytes((finished / "config.toml").read_bytes())
    assert_fails(run(capsys, "evaluate", tmp_path / "run"), 5, str(tmp_path / "run" / "best.h5"), "forward.")


def test_no_command_shows_the_help(capsys):
    for arguments in ([], ["data"]):
        result = run(capsys, *arguments)
        assert result.code == 2 and result.out == "" and "Commands:" in result.err


def test_help_is_quick_because_it_imports_no_arrays():
    code = (
        "import sys; from eqnp.cli.main import main; main(['--help']);"
        "print(sorted({'numpy', 'h5py', 'cupy', 'scipy'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]" and "train" in done.stdout


HELP = ["", "train", "evaluate", "check", "states", "bench", "data", "data list", "data fetch", "presets", "doctor"]


@pytest.mark.parametrize("words", HELP)
def test_every_help_fits_80_columns_and_no_line_is_cut(capsys, monkeypatch, words):
    monkeypatch.setenv("COLUMNS", "80")
    result = run(capsys, *words.split(), "--help")
    assert result.code == 0
    for line in result.out.splitlines():
        assert len(line) < 80 and not line.removesuffix("[ARGS]...").endswith("..."), line


def test_checks_fit_60_columns(capsys, finished, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    for more in ((), ("--settle", "--steps", "50")):
        result = run(capsys, "check", finished, "--samples", "0:4", *more)
        assert result.code == 0, result.err
        shown = [line for line in result.out.splitlines() if not line.startswith("  eqnp train ")]
        assert all(len(line) <= 60 for line in shown), result.out
