"""What a resume does to the record of a run: keys that cannot change, changes that are dated, nothing to do."""

from __future__ import annotations

import csv
import tomllib

import pytest
from commands import assert_fails, overrides, run, train_small

from eqnp.api import training as cli_training
from eqnp.runs import checkpoint
from eqnp.runs.changes import Change, differences, flat
from eqnp.runs.config import Config
from eqnp.runs.configfile import load
from eqnp.runs.history import environment_changes, new_rows


def table(path):
    return list(csv.DictReader(path.read_text().splitlines()))


def contents(folder):
    """Return every file of a run but its lock, as bytes."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}


@pytest.fixture
def folder(capsys, tmp_path):
    """A run of two epochs that is done."""
    assert train_small(capsys, tmp_path / "run").code == 0
    return tmp_path / "run"


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("model.gain=2", ["model.gain", "1.0", "2.0"]),
        ("model.activation=tanh", ["model.activation", "half_hard_sigmoid", "tanh"]),
        ("model.loss=squared_error", ["model.loss"]),
        ("model.layers.0.conv=4", ["model.layers.0.conv", "3", "4"]),
        ("model.layers.0.keep=0.5", ["model.layers.0.keep"]),
        ("model.layers=[{dense=10}]", ["model.layers.0."]),
        ("training.seed=7", ["training.seed", "0", "7"]),
        ("training.dtype=float64", ["training.dtype", "float32"]),
        ("data.name=mnist", ["data.name", "mnist-small"]),
        ("data.normalisation=published", ["data.normalisation"]),
        ("data.validation=10", ["data.validation"]),
        ("optimizer.momentum=0", ["optimizer.momentum", "velocities"]),
        ("optimizer.average=0.9", ["optimizer.average", "from the start"]),
    ],
)
def test_what_says_what_the_weights_are_cannot_change(capsys, folder, setting, words):
    before = contents(folder)
    result = run(capsys, "train", "--resume", folder, *overrides("training.epochs=3", setting))
    assert_fails(result, 2, *words, "since the start of the run", f"eqnp train {folder}/config.toml --set ")
    assert contents(folder) == before


def test_another_optimiser_cannot_go_on(capsys, folder):
    other = overrides("training.epochs=3", "optimizer.name=adam", "optimizer.momentum=0")
    assert_fails(run(capsys, "train", "--resume", folder, *other), 2, "optimizer.name", "sgd", "adam")


def test_a_configuration_that_was_edited_by_hand_is_found_out(capsys, folder):
    """The checkpoint says what it was trained with."""
    text = (folder / "config.toml").read_text()
    (folder / "config.toml").write_text(text.replace('"half_hard_sigmoid"', '"tanh"'))
    more = overrides("training.epochs=3")
    assert_fails(run(capsys, "train", "--resume", folder, *more), 2, "model.activation", "half_hard_sigmoid")
    assert_fails(run(capsys, "evaluate", folder), 2, "model.activation", "half_hard_sigmoid")
    (folder / "config.toml").write_text(text.replace("rates = 0.1", "rates = 0.05"))
    assert run(capsys, "train", "--resume", folder, *more).code == 0
    rows = table(folder / "history.csv")
    assert ("optimizer.rates", "0.1", "0.05") in {(row["key"], row["old"], row["new"]) for row in rows}


def test_changes_are_dated_before_the_run_goes_on(capsys, folder, monkeypatch):
    def killed(*arguments):
        raise KeyboardInterrupt

    settings = overrides("training.epochs=3", "dynamics.T1=3", "optimizer.T_max=2")
    with monkeypatch.context() as patched:
        patched.setattr(cli_training, "train_epoch", killed)
        patched.setattr(cli_training.TrainingRun, "_save", lambda *arguments: None)  # as by kill -9
        assert run(capsys, "train", "--resume", folder, *settings).code == 130
    rows = table(folder / "history.csv")
    assert {row["key"]: (row["old"], row["new"]) for row in rows} == {
        "training.epochs": ("2", "3"),
        "dynamics.T1": ("4", "3"),
        "optimizer.T_max": ("0", "2"),
    }
    for row in rows:
        assert (row["epoch"], row["batch"]) == ("3", "0") and row["version"] and "T" in row["time"] and row["command"]
    config = tomllib.loads((folder / "config.toml").read_text())
    assert config["dynamics"]["T1"] == 3 and config["training"]["epochs"] == 3
    result = run(capsys, "train", "--resume", folder)  # the same changes, dated once
    assert result.code == 0 and table(folder / "history.csv") == rows, result.err
    assert "from epoch 3, batch 1: dynamics.T1 = 3 instead of 4" in result.err


def test_a_change_that_was_dated_but_never_written_is_taken_back(capsys, folder, monkeypatch):
    """As by a kill between the two files."""
    with monkeypatch.context() as patched:
        patched.setattr(
            "eqnp.runs.runfolder.RunFolder.write_config", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt)
        )
        settings = overrides("training.epochs=3", "optimizer.rates=0.05")
        assert run(capsys, "train", "--resume", folder, *settings).code == 130
    assert run(capsys, "train", "--resume", folder, *overrides("training.epochs=3")).code == 0
    last = {row["key"]: row["new"] for row in table(folder / "history.csv")}
    assert last["optimizer.rates"] == "0.1" and last["training.epochs"] == "3"


def test_a_resume_without_changes_rewrites_nothing(capsys, folder):
    with open(folder / "config.toml", "a") as file:
        file.write("# mine\n")
    last = folder / "last.h5"
    last.write_bytes((folder / "best.h5").read_bytes())
    before = contents(folder)
    result = run(capsys, "train", "--resume", folder)
    assert result.code == 0, result.err
    after = contents(folder)
    assert after["config.toml"] == before["config.toml"] and after["environment.toml"] == before["environment.toml"]
    assert "history.csv" not in after


@pytest.mark.parametrize("settings", [[], ["training.epochs=1"], ["training.epochs=2", "optimizer.rates=0.3"]])
def test_nothing_to_do_is_exit_0_and_changes_nothing(capsys, folder, settings):
    before = contents(folder)
    result = run(capsys, "train", "--resume", folder, *overrides(*settings))
    assert result.code == 0, result.err
    assert result.err.startswith("nothing to do: 2 epochs are done") and result.err.count("\n") == 1
    assert ("nothing was changed" in result.err) == bool(settings)
    assert "last test error" in result.out and contents(folder) == before
    command = result.err.split("`")[1].split()
    assert run(capsys, *command[1:]).code == 0
    assert len(table(folder / "metrics.csv")) == 4


@pytest.mark.parametrize("setting", ["data.test_samples=100", "data.train_samples=50", "dynamics.T1=6"])
def test_errors_that_cannot_be_compared_start_anew(capsys, tmp_path, setting):
    folder = tmp_path / "run"
    assert train_small(capsys, folder, *overrides("data.test_samples=1", "optimizer.T_max=5")).code == 0
    content = checkpoint.load(folder / "last.h5", kind="training")
    content["progress"]["best_error"] = 0.0  # of one sample: no error is lower
    checkpoint.save(folder / "last.h5", content, kind="training")
    same = run(capsys, "train", "--resume", folder, *overrides("training.epochs=3"))
    assert "lowest test error  0.00 %" in same.out and "starts anew" not in same.err
    result = run(capsys, "train", "--resume", folder, *overrides("training.epochs=4", setting))
    assert result.code == 0, result.err
    assert f"change of {setting.split('=')[0]}" in " ".join(result.err.split()) and "starts anew" in result.err
    assert "after epoch 4" in result.out.splitlines()[1]
    assert checkpoint.load(folder / "best.h5", kind="training")["progress"]["epoch"] == 4


def test_fewer_epochs_than_done_of_a_run_that_was_stopped(capsys, folder):
    """The command that goes on is the plain one, since config.toml still asks for two epochs."""
    content = checkpoint.load(folder / "last.h5", kind="training")
    content["progress"]["epoch"] = 1
    checkpoint.save(folder / "last.h5", content, kind="training")
    before = contents(folder)
    result = run(capsys, "train", "--resume", folder, *overrides("training.epochs=1"))
    assert result.code == 0 and contents(folder) == before
    assert (
        f"1 epoch is done and training.epochs is 1; nothing was changed; `eqnp train --resume {folder}`" in result.err
    )
    assert run(capsys, *result.err.split("`")[1].split()[1:]).code == 0
    assert checkpoint.load(folder / "last.h5", kind="training")["progress"]["epoch"] == 2


def rates(folder):
    return [float(row["largest_rate"]) for row in table(folder / "metrics.csv")]


def test_more_epochs_do_not_move_the_rate_of_a_cosine(capsys, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train_small(capsys, whole, *overrides("training.epochs=5")).code == 0
    assert train_small(capsys, parts, *overrides("training.epochs=5", "data.train_samples=40")).code == 0
    result = run(capsys, "train", "--resume", parts, *overrides("training.epochs=7"))
    assert result.code == 0 and "the rate does not jump" in result.err, result.err
    assert rates(parts)[:5] == rates(whole) and rates(parts)[5:] == [0.005, 0.005]
    assert tomllib.loads((parts / "config.toml").read_text())["optimizer"]["T_max"] == 5
    assert run(capsys, "train", "--resume", parts, *overrides("training.epochs=8")).code == 0
    assert rates(parts)[7:] == [0.005]


def test_fewer_epochs_do_not_move_the_rate_of_a_cosine_either(capsys, folder, tmp_path):
    assert train_small(capsys, tmp_path / "long", *overrides("training.epochs=4")).code == 0
    (folder / "config.toml").write_bytes((tmp_path / "long" / "config.toml").read_bytes())
    for name in ("best.h5", "last.h5"):
        (folder / name).write_bytes((tmp_path / "long" / name).read_bytes())
    state = checkpoint.load(folder / "last.h5", kind="training")
    state["progress"]["epoch"] = 2  # as it was after two of four
    checkpoint.save(folder / "last.h5", state, kind="training")
    assert run(capsys, "train", "--resume", folder, *overrides("training.epochs=3")).code == 0
    assert rates(folder)[2] == rates(tmp_path / "long")[2]


def test_more_epochs_do_not_move_the_rate_of_a_one_cycle(capsys, tmp_path):
    cycle = overrides("optimizer.schedule=one-cycle", "optimizer.warmup=0.5")
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train_small(capsys, whole, *cycle).code == 0
    assert train_small(capsys, parts, *cycle).code == 0
    result = run(capsys, "train", "--resume", parts, *overrides("training.epochs=3"))
    assert result.code == 0 and "the rate does not jump" in result.err, result.err
    assert rates(parts) == [*rates(whole), 0.005] and rates(whole)[1] > rates(whole)[0] > 0


def test_epochs_at_a_rate_of_zero_are_refused_with_what_to_do(capsys, tmp_path):
    folder = tmp_path / "run"
    assert train_small(capsys, folder, *overrides("optimizer.minimum_rate=0")).code == 0
    before = contents(folder)
    result = run(capsys, "train", "--resume", folder, *overrides("training.epochs=4"))
    assert_fails(result, 2, "training.epochs", "epoch 3", "optimizer.T_max=4", "optimizer.minimum_rate")
    assert contents(folder) == before
    proposed = run(capsys, "train", "--resume", folder).err.split("`")[1].split()
    assert "optimizer.T_max=4" in proposed and run(capsys, *proposed[1:]).code == 0
    assert rates(folder)[3] > 0


def test_a_cosine_that_is_given_is_taken_and_not_called_kept(capsys, folder):
    result = run(capsys, "train", "--resume", folder, *overrides("training.epochs=4", "optimizer.T_max=4"))
    assert result.code == 0 and "does not jump" not in result.err, result.err
    assert "optimizer.T_max = 4 instead of 0" in result.err and rates(folder)[2] > rates(folder)[3] > 0.005
    assert "T_max" not in run(capsys, "train", "--resume", folder).err


def test_a_run_that_has_not_begun_may_have_another_cosine(capsys, tmp_path):
    folder = tmp_path / "run"
    assert train_small(capsys, folder, *overrides("training.epochs=0")).code == 0
    assert run(capsys, "train", "--resume", folder, *overrides("training.epochs=2")).code == 0
    assert rates(folder) == [0.1, 0.0525]


def test_no_epochs_leave_initial_weights_and_commands_that_work(capsys, tmp_path):
    folder = tmp_path / "run"
    result = train_small(capsys, folder, *overrides("training.epochs=0"))
    assert result.code == 0 and "best.h5" not in result.out and "metrics.csv" not in result.out
    assert "last.h5 (the initial weights)" in result.out and "not measured" in result.out
    proposed = result.out.splitlines()[-1].split()[2:]
    assert proposed == ["evaluate", str(folder), "--checkpoint", "last"]
    assert run(capsys, *proposed).code == 0
    resumed = run(capsys, "train", "--resume", folder)
    assert resumed.code == 0 and resumed.err.startswith("nothing to do: 0 epochs are done")
    assert run(capsys, *resumed.err.split("`")[1].split()[1:]).code == 0
    assert run(capsys, "evaluate", folder).code == 0


def test_going_back_to_an_older_checkpoint_dates_its_changes_again(capsys, tmp_path):
    folder = tmp_path / "run"
    assert train_small(capsys, folder, *overrides("training.epochs=1", "optimizer.T_max=9")).code == 0
    old = (folder / "last.h5").read_bytes()
    assert run(capsys, "train", "--resume", folder, *overrides("training.epochs=2")).code == 0
    assert run(capsys, "train", "--resume", folder, *overrides("training.epochs=3", "optimizer.rates=0.05")).code == 0
    (folder / "last.h5").write_bytes(old)
    assert run(capsys, "train", "--resume", folder).code == 0
    assert rates(folder)[1] < 0.05
    found = [(row["epoch"], row["new"]) for row in table(folder / "history.csv") if row["key"] == "optimizer.rates"]
    assert found == [("3", "0.05"), ("2", "0.05")]


def test_a_checkpoint_of_before_there_was_a_record_still_opens(capsys, folder):
    for name in ("last.h5", "best.h5"):
        content = checkpoint.load(folder / name, kind="training")
        del content["config"], content["progress"]["best_epoch"]
        checkpoint.save(folder / name, content, kind="training")
    assert run(capsys, "evaluate", folder).code == 0
    assert run(capsys, "train", "--resume", folder).code == 0
    assert_fails(run(capsys, "train", "--resume", folder, *overrides("model.gain=2")), 2, "model.gain")
    result = run(capsys, "train", "--resume", folder, *overrides("training.epochs=3"))
    assert result.code == 0 and table(folder / "history.csv")[0]["key"] == "training.epochs", result.err


def test_another_machine_or_version_is_dated_too(capsys, folder):
    text = (folder / "environment.toml").read_text()
    (folder / "environment.toml").write_text(
        text.replace('eqnp = "', 'eqnp = "0.0.').replace('backend = "', 'backend = "x')
    )
    result = run(capsys, "train", "--resume", folder, *overrides("training.epochs=3"))
    assert result.code == 0 and 'environment.backend = "numpy" instead of "xnumpy"' in result.err
    rows = table(folder / "history.csv")
    assert {"environment.eqnp", "environment.backend", "training.epochs"} <= {row["key"] for row in rows}
    assert run(capsys, "train", "--resume", folder, *overrides("training.epochs=4")).code == 0
    assert len(table(folder / "history.csv")) == len(rows) + 1


@pytest.mark.parametrize("text", ["x\n1\n", "epoch,key\n1,a\n", "epoch,batch,key,old,new\nx,0,a,1,2\n"])
def test_a_damaged_history_is_refused_and_kept(capsys, folder, text):
    (folder / "history.csv").write_text(text)
    before = contents(folder)
    result = run(capsys, "train", "--resume", folder, *overrides("training.epochs=3"))
    assert_fails(result, 2, "history.csv", "damaged")
    assert contents(folder) == before


@pytest.mark.parametrize(
    "command", [["evaluate"], ["check", "--samples", "0:2"], ["states", "--out", "s.h5"]], ids=lambda c: c[0]
)
def test_what_is_changed_for_a_run_is_refused_or_shown(capsys, folder, monkeypatch, command):
    monkeypatch.chdir(folder.parent)
    words = [command[0], folder, *command[1:]]
    for setting in ("model.activation=tanh", "model.layers.0.pool=average", "training.seed=3", "data.validation=0.1"):
        assert_fails(run(capsys, *words, *overrides(setting)), 2, setting.split("=")[0], "since the start of the run")
    settings = ("dynamics.T1=5", "dynamics.T2=2", "training.batch_size=9", "optimizer.rates=0.5")
    shown = run(capsys, *words, *overrides(*settings))
    assert shown.code == 0, shown.err
    assert [line.split()[1:] for line in shown.out.splitlines() if line.startswith("with ")] == [
        ["dynamics.T1", "=", "5", "instead", "of", "4"],
        ["training.batch_size", "=", "9", "instead", "of", "20"],
        ["optimizer.rates", "=", "0.5", "instead", "of", "0.1", "(no", "effect", "here)"],
    ]


@pytest.mark.parametrize("command", ["train", "evaluate", "check", "states", "bench"])
def test_auto_says_which_backend_it_took_and_why(capsys, folder, monkeypatch, tmp_path, command):
    monkeypatch.setitem(__import__("sys").modules, "cupy", None)
    more = {
        "train": ["--resume", folder, *overrides("training.epochs=3")],
        "evaluate": [folder],
        "check": [folder, "--samples", "0:2"],
        "states": [folder, "--out", tmp_path / "s.h5"],
        "bench": [folder / "config.toml", "--runs", "1", "--steps", "1"],
    }
    result = run(capsys, command, *more[command], "--backend", "auto")
    assert result.code == 0 and result.err.count("backend auto: numpy (CuPy cannot be imported (") == 1, result.err
    assert "backend auto" not in run(capsys, command, *more[command], *["--force"] * (command == "states")).err


def test_auto_on_a_gpu_says_so(capsys, folder, standin_for_cupy):
    result = run(capsys, "evaluate", folder, "--backend", "auto", "--device", "1")
    assert result.code == 0 and result.err == "backend auto: cupy (GPU 1 is available)\n"


def test_differences_name_keys_and_layers():
    one = load("digits")
    two = load("digits", ["model.layers.0.conv=8", "optimizer.rates=[0.1, 0.2, 0.3]", "training.epochs=9"])
    assert [change.key for change in differences(one, two)] == [
        "model.layers.0.conv",
        "training.epochs",
        "optimizer.rates",
    ]
    assert str(differences(one, two)[2]) == "optimizer.rates = [0.1, 0.2, 0.3] instead of 0.1"
    assert differences(one, one) == []
    assert set(flat(Config())) >= {"name", "data.validation", "dynamics.T1", "optimizer.T_max"}


def test_the_value_of_a_key_in_an_epoch_can_be_read_from_the_history():
    rows = []
    for epoch, batch, old, new in ((4, 0, 1, 2), (4, 7, 2, 3), (2, 0, 1, 3)):
        rows += new_rows(rows, [Change("a", old, new)], {"a": new}, epoch, batch)
    rows += new_rows(rows, [], {"a": 3}, 6, 0)

    def value(epoch):
        found = [row["new"] for row in rows if (row["epoch"], row["batch"]) <= (epoch, 0)]
        return found[-1] if found else rows[0]["old"]

    assert len(rows) == 3 and [value(epoch) for epoch in (1, 2, 3, 5, 6)] == ["1", "1", "3", "3", "3"]
    assert new_rows(rows, [], {"a": 3}, 1, 0)[0]["epoch"] == 2  # back before all of them
    assert environment_changes({}, [], {"eqnp": "1"}) == []


def test_more_epochs_in_the_first_one_do_not_move_the_rate_of_a_one_cycle(capsys, tmp_path):
    cycle = overrides("optimizer.schedule=one-cycle", "optimizer.warmup=0.5", "training.max_minutes=1e-9")
    folder = tmp_path / "run"
    assert "stopped in epoch 1" in train_small(capsys, folder, *cycle).err
    result = run(capsys, "train", "--resume", folder, *overrides("training.epochs=3", "training.max_minutes=0"))
    assert result.code == 0 and "the rate does not jump" in result.err, result.err
