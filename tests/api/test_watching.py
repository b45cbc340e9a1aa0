"""What is seen while a run trains: metrics, events, TensorBoard, and the reasons to stop before the last epoch."""

from __future__ import annotations

import csv
import json
import math
import sys
from dataclasses import replace

import numpy as np
import pytest
from commands import assert_fails, overrides, run, train_small

import eqnp
from eqnp import training, watching
from eqnp.api import training as api_training
from eqnp.api.events import saturation_warning
from eqnp.api.tensorboard import TensorBoard, tag
from eqnp.errors import BackendError
from eqnp.runs import checkpoint


def settings(**changed):
    values = {"data.train_samples": 60, "data.test_samples": 40, "dynamics.T1": 4, "dynamics.T2": 2}
    values |= {"training.epochs": 2, "training.batch_size": 20, "training.threads": 2}
    values["model.layers"] = [{"conv": 3, "kernel": 5, "stride": 2, "pool": "max"}, {"dense": 10}]
    return values | {f"training.{name}": value for name, value in changed.items()}


def rows(folder):
    return list(csv.DictReader((folder / "metrics.csv").read_text().splitlines()))


def weights(folder):
    return checkpoint.load(folder / "last.h5", kind="training")["parameters"]


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


# ---- metrics


@pytest.mark.parametrize(
    "extra", [[], ["model.kind=vector-field", "model.layers.0.keep=0.5"], ["training.algorithm=bptt"]]
)
def test_columns_of_the_last_batch(capsys, tmp_path, monkeypatch, extra):
    """Gradient norm, relative update and units at a bound are those of the last batch, computed here anew."""
    seen, train_batch = [], training.train_batch

    def recording(learner, state, x, labels, run, **more):
        after = train_batch(learner, state, x, labels, run, **more)
        seen.append((learner, state, after))
        return after

    monkeypatch.setattr(training, "train_batch", recording)
    options = overrides("training.epochs=1", "optimizer.momentum=0", "training.threads=3", *extra)
    assert train_small(capsys, tmp_path / "run", *options).code == 0
    (row,) = rows(tmp_path / "run")
    learner, before, after = seen[-1]
    rate = learner.update.rates(0)
    moved = {name: before.parameters[name] - after.parameters[name] for name in before.parameters}
    gradient = {name: move / rate[name] for name, move in moved.items()}
    for prefix in {name.rpartition(".")[0] for name in moved}:
        own = [name for name in moved if name.rpartition(".")[0] == prefix]
        size, norm, moves = (
            math.sqrt(sum((a[n] ** 2).sum() for n in own)) for a in (before.parameters, gradient, moved)
        )
        assert float(row[f"gradient_norm_{prefix}"]) == pytest.approx(norm, rel=1e-4)
        assert float(row[f"relative_update_{prefix}"]) == pytest.approx(moves / size, rel=1e-4)
    assert 0 <= float(row["at_bound_percent_s1"]) <= 100 and list(row)[-1] == "seconds"
    assert float(row["free_steps"]) == 4 and ("nudged_steps" in row) == (learner.bptt is None)


def test_units_at_a_bound_leave_masked_units_out():
    network, _ = eqnp.build("digits")
    states = [np.full((2, *shape), 0.5, np.float32) for shape in network.architecture.state_shapes]
    states[0][0, 0, 0, :4] = [0, 1, 0, 1]
    masks = [np.ones_like(states[0]), None]
    masks[0][0, 0, 0, :2] = 0
    n = states[0].size
    assert watching.units_at_bounds(network, states, None)[0] == (4, n)
    assert watching.units_at_bounds(network, states, masks)[0] == (2, n - 2)
    shards = [watching.units_at_bounds(network, states, each) for each in (None, masks)]
    assert watching.shares_at_bounds(shards) == {"s1": 100 * 6 / (2 * n - 2), "s2": 0.0}


def test_units_that_dropout_scales_have_the_bounds_that_it_scales():
    network, _ = eqnp.build("digits", {"model.layers.0.keep": 0.5, "model.dropout_scaling": "states"})
    states = [np.full((2, *shape), 0.7, np.float32) for shape in network.architecture.state_shapes]
    masks = [np.ones_like(states[0]), None]
    states[0][0, 0, 0, :3] = [2, 1.9, 0]  # a kept unit of 1 is 2
    assert watching.units_at_bounds(network, states, masks)[0] == (2, states[0].size)
    assert watching.units_at_bounds(network, states, None)[0] == (3, states[0].size)


def test_a_unit_of_relu_has_one_bound_and_a_linear_one_none():
    network, _ = eqnp.build("digits", {"model.activation": "relu", "model.loss": "squared_error"})
    states = [np.full((2, *shape), 9.0, np.float32) for shape in network.architecture.state_shapes]
    states[0][0, 0, 0, :3] = 0
    counts = watching.units_at_bounds(network, states, None)
    assert counts[0] == (3, states[0].size)
    linear = replace_activations(network, "linear")
    assert watching.units_at_bounds(linear, states, None) == [None] * len(states)


def replace_activations(network, name):
    layers = [replace(layer, activation=name) for layer in network.architecture.layers]
    return type(network)(replace(network.architecture, layers=layers))


def test_a_net_of_relu_whose_units_have_died_ends_with_its_message(capsys, tmp_path):
    """As one of relu6 does."""
    words = overrides("model.activation=relu", "optimizer.rates=30", "model.gain=0.5", "training.epochs=8")
    result = train_small(capsys, tmp_path / "run", *words)
    assert result.code == 6 and "every unit of s" in result.err, result.err


def saturated(mistakes, **shares):
    measured = {f"at_bound_percent_{name}": share for name, share in shares.items()}
    tally = training.Tally(samples=100, mistakes=mistakes, residual=0.5)
    return training.State({}, {}, tally=tally, measured=measured)


def test_a_layer_at_its_bounds_in_an_epoch_that_only_guessed_is_said():
    """Its gradient is not zero, since the phases have not settled; it means nothing all the same."""
    line = saturation_warning(saturated(90, s1=60.0, s2=100.0), 10)
    assert "every unit of s2 is at a bound" in line and "residual 5e-01" in line and "dynamics.T1" in line
    assert saturation_warning(saturated(60, s1=60.0, s2=100.0), 10) == "", "it has learned"
    assert saturation_warning(saturated(90, s1=60.0, s2=99.9), 10) == ""
    assert saturation_warning(saturated(90), 10) == ""


def test_a_saturated_layer_is_said_once(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(api_training, "saturation_warning", lambda state, classes: "warning: full")
    assert train_small(capsys, tmp_path / "run", "--epochs", "3").err.count("warning: full") == 1


def test_steps_are_those_that_phases_took(capsys, tmp_path):
    options = overrides("dynamics.tolerance=1e-3", "dynamics.T1=300", "training.epochs=1")
    assert train_small(capsys, tmp_path / "run", *options).code == 0
    (row,) = rows(tmp_path / "run")
    assert 1 < float(row["free_steps"]) < 300 and 1 <= float(row["nudged_steps"]) <= 2


def test_metrics_of_an_older_run_get_the_new_columns(capsys, tmp_path):
    folder = tmp_path / "run"
    assert train_small(capsys, folder, "--epochs", "1").code == 0
    (row,) = rows(folder)
    old = {
        name: value
        for name, value in row.items()
        if not name.startswith(("gradient", "relative", "at_b", "free", "nudged"))
    }
    (folder / "metrics.csv").write_text(f"{','.join(old)}\n{','.join(old.values())}\n")
    content = checkpoint.load(folder / "last.h5", kind="training")
    for name in ("free_steps", "nudged_steps"):
        del content["progress"][name]
    checkpoint.save(folder / "last.h5", content, kind="training")
    assert run(capsys, "train", "--resume", folder, "--epochs", "2", *overrides("optimizer.T_max=2")).code == 0
    first, second = rows(folder)
    assert first["gradient_norm_forward.0"] == "" and float(second["gradient_norm_forward.0"]) > 0
    assert math.isnan(eqnp.open_run(folder).metrics[0]["gradient_norm_forward.0"])


def test_the_angle_with_the_exact_gradient_every_few_epochs(capsys, tmp_path):
    options = overrides(
        "training.epochs=3", "training.check_every=2", "dynamics.T1=60", "dynamics.T2=20", "dynamics.beta=0.05"
    )
    checked, plain = tmp_path / "checked", tmp_path / "plain"
    assert train_small(capsys, checked, *options).code == 0
    assert train_small(capsys, plain, *options, *overrides("training.check_every=0")).code == 0
    first, second, third = rows(checked)
    assert first["angle_exact"] == third["angle_exact"] == ""
    assert 0 <= float(second["angle_exact"]) < 10 and float(second["exact_residual"]) < 1e-3
    assert same(weights(checked), weights(plain)) and "angle_exact" not in rows(plain)[0]


# ---- events


def events_of(text):
    return [json.loads(line) for line in text.splitlines()]


def test_json_is_one_object_a_line_on_stdout(capsys, tmp_path):
    folder = tmp_path / "run"
    result = train_small(capsys, folder, "--json", "--quiet")
    assert result.code == 0, result.err
    start, progress, *epochs, end = events_of(result.out)
    assert (start["event"], start["run"], start["epochs"]) == ("start", str(folder), 2)
    assert start["config"]["training"]["batch_size"] == 20
    assert progress["event"] == "progress" and progress["batches"] == 3
    assert [each["epoch"] for each in epochs] == [1, 2]
    for event, row in zip(epochs, rows(folder), strict=True):
        assert {name: str(value) for name, value in event.items() if name != "event"} == row
    assert (end["event"], end["reason"], end["epoch"]) == ("end", "epochs", 2)
    assert end["best_error_percent"] == min(each["test_error_percent"] for each in epochs)
    assert "epoch 1/2: " in result.err
    again = run(capsys, "train", "--resume", folder, "--json")
    assert [each["event"] for each in events_of(again.out)] == ["end"]


def test_a_run_that_fails_ends_with_an_event(capsys, tmp_path):
    result = train_small(capsys, tmp_path / "run", "--json", "--lr", "1e38")
    assert result.code == 6
    end = events_of(result.out)[-1]
    assert (end["event"], end["reason"], end["epoch"]) == ("end", "error", 0)


def test_numbers_that_json_lacks_are_null(capsys, tmp_path):
    result = train_small(capsys, tmp_path / "run", "--json", "--epochs", "0")
    assert events_of(result.out)[-1]["best_error_percent"] is None


def test_callbacks_get_events_and_may_stop(tmp_path):
    events = []

    def stop_after_first(event):
        events.append(event)
        return event["event"] == "epoch"

    made = eqnp.train("digits", settings(epochs=5), out=tmp_path / "run", callbacks=[stop_after_first])
    assert [event["event"] for event in events] == ["start", "progress", "epoch", "end"]
    assert events[-1]["reason"] == "callback" and made.state.epoch == 1
    whole = eqnp.train("digits", settings(epochs=5), out=tmp_path / "whole")
    assert eqnp.resume(tmp_path / "run").metrics[-1]["train_loss"] == whole.metrics[-1]["train_loss"]
    assert same(weights(tmp_path / "run"), weights(tmp_path / "whole"))


def test_an_error_in_a_callback_loses_nothing(tmp_path):
    def wrong(event):
        if event["event"] == "epoch":
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        eqnp.train("digits", settings(), out=tmp_path / "run", callbacks=[wrong])
    assert len(rows(tmp_path / "run")) == 1
    assert checkpoint.load(tmp_path / "run" / "last.h5", kind="training")["progress"]["epoch"] == 1
    eqnp.resume(tmp_path / "run")
    assert len(rows(tmp_path / "run")) == 2


def test_tensorboard_has_the_metrics(capsys, tmp_path):
    pytest.importorskip("tensorboardX")
    folder = tmp_path / "run"
    assert train_small(capsys, folder, "--tensorboard", "--epochs", "1").code == 0
    more = overrides("optimizer.T_max=2")
    assert run(capsys, "train", "--resume", folder, "--tensorboard", "--epochs", "2", *more).code == 0
    written = scalars(folder / "tensorboard")
    for number, row in enumerate(rows(folder), start=1):
        assert {name: value for (name, step), value in written.items() if step == number} == {
            tag(name): pytest.approx(float(value), rel=1e-6) for name, value in row.items() if name != "epoch"
        }
    assert tag("test_error_percent") == "error_percent/test" and tag("angle_exact") == "angle/exact"


def scalars(folder):
    """Return the scalars in the event files of a folder by (tag, step)."""
    from tensorboardX.proto.event_pb2 import Event

    found = {}
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        while data:
            length = int.from_bytes(data[:8], "little")
            event = Event.FromString(data[12 : 12 + length])
            data = data[16 + length :]
            found |= {(each.tag, event.step): each.simple_value for each in event.summary.value}
    return found


def test_tensorboard_on_a_disk_that_fails_is_one_line(capsys, tmp_path, monkeypatch):
    writers = pytest.importorskip("tensorboardX.event_file_writer")

    write = writers.EventsWriter.write_event

    def full(self, event):
        if event.HasField("summary"):
            raise OSError(28, "No space left on device")
        write(self, event)

    monkeypatch.setattr(writers.EventsWriter, "write_event", full)
    result = train_small(capsys, tmp_path / "run", "--tensorboard")
    assert result.code == 8 and result.err.splitlines()[-1].startswith("eqnp: ") and "tensorboard" in result.err
    assert "continues from last.h5" in result.err
    monkeypatch.undo()
    assert run(capsys, "train", "--resume", tmp_path / "run", "--tensorboard").code == 0
    assert len(rows(tmp_path / "run")) == 2


def test_without_tensorboardx_nothing_is_begun(capsys, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX.event_file_writer", None)
    assert_fails(train_small(capsys, tmp_path / "run", "--tensorboard"), 4, "pip install tensorboardX")
    assert not (tmp_path / "run").exists()
    with pytest.raises(BackendError, match="tensorboardX"):
        TensorBoard()


# ---- reasons to stop


@pytest.fixture
def errors(monkeypatch):
    """The errors of the next evaluations, in percent."""
    coming, evaluate = [], api_training.evaluate

    def scripted(*arguments):
        result = evaluate(*arguments)
        mistakes = round(coming.pop(0) * result.samples / 100) if coming else result.mistakes
        return training.Tally(result.samples, result.loss_sum, mistakes, result.residual)

    monkeypatch.setattr(api_training, "evaluate", scripted)
    return coming


def test_patience(capsys, tmp_path, errors):
    folder = tmp_path / "run"
    errors += [50, 40, 45, 40, 30]
    result = train_small(capsys, folder, "--epochs", "9", "--json", *overrides("training.patience=2"))
    assert result.code == 0, result.err
    assert "stopped after epoch 4: the test error has not been lower for 2 epochs (training.patience)" in result.err
    end = events_of(result.out)[-1]
    assert (end["reason"], end["epoch"], end["best_error_percent"], end["best_epoch"]) == ("patience", 4, 40, 2)
    assert len(rows(folder)) == 4 and errors == [30]
    again = run(capsys, "train", "--resume", folder)
    assert again.code == 0 and "stopped after epoch 4" in again.err and errors == [30]
    on = run(
        capsys, "train", "--resume", folder, "--epochs", "5", *overrides("training.patience=0", "optimizer.T_max=9")
    )
    assert on.code == 0 and len(rows(folder)) == 5


def test_patience_with_a_validation_set_evaluates_the_test_set(capsys, tmp_path, errors):
    folder = tmp_path / "run"
    errors += [50, 60]
    options = overrides("training.patience=1", "data.validation=20")
    result = train_small(capsys, folder, "--epochs", "9", *options)
    assert result.code == 0 and "the validation error has not been lower for an epoch" in result.err
    assert (folder / "test.csv").exists() and "test error" in result.out


def test_a_time_budget_ends_inside_an_epoch_and_resumes_bitwise(capsys, tmp_path, monkeypatch):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    options = overrides("data.train_samples=60", "training.batch_size=10", "data.validation=20", "optimizer.T_max=2")
    assert train_small(capsys, whole, *options).code == 0
    train_batch, clock = training.train_batch, [0.0]

    def slow(*arguments, **more):
        clock[0] += 60
        return train_batch(*arguments, **more)

    monkeypatch.setattr(training, "train_batch", slow)
    monkeypatch.setattr(api_training.time, "monotonic", lambda: clock[0])
    limit = overrides("training.max_minutes=4")
    result = train_small(capsys, parts, *options, *limit, "--json")
    assert result.code == 0, result.err
    assert "stopped in epoch 1, after batch 4: 4 minutes have passed (training.max_minutes)" in result.err
    assert not (parts / "metrics.csv").exists() and not (parts / "test.csv").exists()
    left = [event["seconds_left"] for event in events_of(result.out) if event["event"] == "progress"]
    assert left and max(left) <= 4 * 60, "more than the budget"
    for expected in (0, 0):  # batches 5 to 8 of 12, then 9 to 12
        assert run(capsys, "train", "--resume", parts).code == expected
    assert same(weights(whole), weights(parts))
    assert [row | {"seconds": ""} for row in rows(whole)] == [row | {"seconds": ""} for row in rows(parts)]
    assert (parts / "test.csv").read_text() == (whole / "test.csv").read_text()
