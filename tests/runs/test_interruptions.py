"""Runs that are interrupted: every sample is trained once, and one of --resume and --out always leads on."""

from __future__ import annotations

import csv
import errno
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter

import pytest
from commands import SMALL_OPTIONS, assert_fails, overrides, run, same_run, train_small

from eqnp import training
from eqnp.api import signals
from eqnp.api import training as cli_training
from eqnp.data import Batches
from eqnp.runs import checkpoint

ONE_EPOCH = overrides("training.epochs=1", "training.batch_size=10")


@pytest.fixture
def trained(monkeypatch):
    """Samples that were trained, as bytes; ``trained.stop_after`` batches a run ends as one out of memory does."""

    class Trained(list):
        stop_after = None

        def until(self, count):
            self.stop_after = count
            self.clear()

    samples, train_batch, done = Trained(), training.train_batch, [0]

    def recording(learner, state, x, labels, run, **more):
        if samples.stop_after == 0:
            samples.stop_after = None
            raise MemoryError
        if samples.stop_after:
            samples.stop_after -= 1
        after = train_batch(learner, state, x, labels, run, **more)
        samples.extend(image.tobytes() for image in x)
        done[0] += 1
        return after

    monkeypatch.setattr(training, "train_batch", recording)
    monkeypatch.setattr(cli_training, "batch_that_fits", lambda *arguments: 1)
    return samples


def progress(folder):
    return checkpoint.load(folder / "last.h5", kind="training")["progress"]


# ---- samples


@pytest.mark.parametrize("sizes", [(7, 4, 60), (30, 1000, 9), (1, 11, 10), (10, 10, 10)], ids=str)
def test_every_sample_of_an_epoch_is_trained_once_whatever_the_batch_sizes(capsys, tmp_path, trained, sizes):
    """Interrupted, resumed with another size, killed before the next save, resumed again; twice."""
    folder = tmp_path / "run"
    assert train_small(capsys, tmp_path / "whole", *ONE_EPOCH).code == 0
    epoch = Counter(trained)
    trained.until(2)
    assert train_small(capsys, folder, *ONE_EPOCH).code == 7
    kept = Counter(trained)
    for size in sizes[:2]:
        saved = (folder / "last.h5").read_bytes()
        trained.until(1)
        killed = run(capsys, "train", "--resume", folder, *overrides(f"training.batch_size={size}"))
        assert killed.code in (0, 7)
        (folder / "last.h5").write_bytes(saved)  # as if it had been killed before it saved
        trained.until(1)
        assert run(capsys, "train", "--resume", folder).code in (0, 7)
        kept += Counter(trained)
    trained.until(None)
    assert run(capsys, "train", "--resume", folder, *overrides(f"training.batch_size={sizes[2]}")).code == 0
    assert kept + Counter(trained) == epoch and set(epoch.values()) == {1}
    with open(folder / "metrics.csv") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1"]


def test_no_random_stream_is_used_twice_in_an_epoch(capsys, tmp_path, trained, monkeypatch):
    """Batches are numbered on, and begin where the one before them ended, when their size changes."""
    places, batch = [], Batches.batch

    def recording(self, epoch, index, first=None):
        if not self.in_order:
            places.append((index, first))
        return batch(self, epoch, index, first)

    monkeypatch.setattr(Batches, "batch", recording)
    trained.until(2)
    assert train_small(capsys, tmp_path / "run", *ONE_EPOCH).code == 7
    places.clear()
    assert run(capsys, "train", "--resume", tmp_path / "run", *overrides("training.batch_size=15")).code == 0
    assert places == [(2, 20), (3, 35), (4, 50)]


@pytest.mark.parametrize("size", [1, 7, 60, 1000])
def test_an_evaluation_may_be_interrupted_again_with_another_batch_size(capsys, tmp_path, trained, monkeypatch, size):
    folder = tmp_path / "run"

    def exhausted(*arguments):
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(cli_training, "evaluate", exhausted)
        assert train_small(capsys, folder, *ONE_EPOCH).code == 7
        trained.clear()
        changed = overrides(f"training.batch_size={size}")
        assert run(capsys, "train", "--resume", folder, *changed).code == 7
        assert run(capsys, "train", "--resume", folder).code == 7
    result = run(capsys, "train", "--resume", folder)
    assert result.code == 0 and not trained, result.err
    assert progress(folder)["epoch"] == 1


def test_a_checkpoint_of_an_older_eqnp_goes_on_after_the_samples_it_counted(capsys, tmp_path, trained):
    """It counted batches in the size of the moment: here 4 of 7 after 3 of 10."""
    folder = tmp_path / "run"
    trained.until(3)
    assert train_small(capsys, folder, *ONE_EPOCH).code == 7
    before = Counter(trained)
    content = checkpoint.load(folder / "last.h5", kind="training")
    content["progress"]["batch"] = 4
    checkpoint.save(folder / "last.h5", content, kind="training")
    trained.until(None)
    assert run(capsys, "train", "--resume", folder, *overrides("training.batch_size=7")).code == 0
    assert len(trained) == 30 and not before & Counter(trained)


# ---- before anything is saved


def fail_at(monkeypatch, name, code=errno.ENOSPC):
    """Let the disk fail when the file called ``name`` would get its name."""
    replace = os.replace

    def failing(source, target):
        if os.path.basename(target) == name:
            raise OSError(code, os.strerror(code))
        replace(source, target)

    monkeypatch.setattr(os, "replace", failing)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO], ids=["full", "I/O error"])
@pytest.mark.parametrize("name", ["environment.toml", "last.h5"])
def test_a_disk_that_fails_before_the_first_save_leaves_a_run_to_begin(capsys, tmp_path, monkeypatch, name, code):
    folder = tmp_path / "run"
    with monkeypatch.context() as patched:
        fail_at(patched, name, code)
        result = train_small(capsys, folder)
        assert_fails(result, 8, name, f"`eqnp train --resume {folder}` starts the run")
    assert_fails(train_small(capsys, folder), 2, f"--resume {folder}")
    assert_fails(run(capsys, "evaluate", folder), 5, "nothing of this run was saved yet", f"--resume {folder}")
    result = run(capsys, "train", "--resume", folder)
    assert result.code == 0 and "from the start" in result.err, result.err
    assert {path.name for path in folder.iterdir()} >= {"environment.toml", "last.h5", "best.h5", "metrics.csv"}
    assert train_small(capsys, tmp_path / "whole").code == 0
    same_run(tmp_path / "whole", folder)


def test_a_disk_that_fails_before_the_configuration_leaves_a_folder_to_use(capsys, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    with monkeypatch.context() as patched:
        fail_at(patched, "config.toml")
        assert_fails(train_small(capsys, folder), 8, "config.toml", "free some space")
    assert_fails(run(capsys, "train", "--resume", folder), 2, "holds no run yet", "--out")
    assert train_small(capsys, folder).code == 0


KILLED = """
import os, sys
from eqnp.cli.main import main
calls, replace = [0], os.replace
def killed(source, target):
    calls[0] += 1
    if calls[0] == int(sys.argv[1]):
        os._exit(9)
    replace(source, target)
os.replace = killed
main(sys.argv[2:])
"""


@pytest.mark.parametrize(("call", "way"), [(1, "--out"), (2, "--resume"), (3, "--resume")])
def test_a_kill_before_the_first_save_leaves_one_way_that_works_and_is_named(capsys, tmp_path, call, way):
    """And the unfinished file that it leaves is in nobody's way."""
    folder = tmp_path / "run"
    command = [sys.executable, "-c", KILLED, str(call), "train", "--quiet", "--out", str(folder), *SMALL_OPTIONS]
    assert subprocess.run(command, check=False, timeout=60).returncode == 9
    assert list(folder.glob(".eqnp-*.part"))
    ways = {"--out": lambda: train_small(capsys, folder), "--resume": lambda: run(capsys, "train", "--resume", folder)}
    (other,) = set(ways) - {way}
    assert_fails(ways[other](), 2, way)
    assert list(folder.glob(".eqnp-*.part"))
    assert ways[way]().code == 0
    assert not list(folder.glob(".eqnp-*.part"))


def test_a_run_whose_checkpoints_are_gone_keeps_its_metrics(capsys, tmp_path):
    folder = tmp_path / "run"
    assert train_small(capsys, folder).code == 0
    metrics = (folder / "metrics.csv").read_bytes()
    shutil.copy(folder / "last.h5", tmp_path)
    for name in ("last.h5", "best.h5"):
        (folder / name).unlink()
    assert_fails(run(capsys, "train", "--resume", folder), 5, "last.h5", "restore a copy, or start a new run")
    assert (folder / "metrics.csv").read_bytes() == metrics
    shutil.copy(tmp_path / "last.h5", folder)
    assert run(capsys, "train", "--resume", folder, *overrides("training.epochs=3")).code == 0


def test_metrics_that_cannot_be_written_cost_no_training(capsys, tmp_path, trained, monkeypatch):
    folder = tmp_path / "run"
    with monkeypatch.context() as patched:
        fail_at(patched, "metrics.csv")
        assert train_small(capsys, folder, *ONE_EPOCH).code == 8
    trained.clear()
    assert run(capsys, "train", "--resume", folder).code == 0
    assert not trained and progress(folder)["epoch"] == 1


# ---- signals


def signals_in_batch(monkeypatch, number, *kinds):
    """Send this process signals, one right after the other, while batch ``number`` (from 1) of a run is computed."""
    train_batch, count = training.train_batch, [0]

    def interrupted(*arguments, **more):
        count[0] += 1
        if count[0] == number:
            for kind in kinds:
                signal.raise_signal(kind)
        return train_batch(*arguments, **more)

    monkeypatch.setattr(training, "train_batch", interrupted)


@pytest.mark.parametrize(
    ("seconds", "done", "words"),
    [(0.5, 4, "stopped; `"), (-1.0, 3, "stopped at once, without batch 4 of epoch 1; `")],
    ids=["one key that bounces", "a second, deliberate one"],
)
def test_two_signals_lose_nothing_that_was_trained(capsys, tmp_path, monkeypatch, seconds, done, words):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train_small(capsys, whole, *ONE_EPOCH).code == 0
    with monkeypatch.context() as patched:
        patched.setattr(signals, "SAME_SECONDS", seconds)
        signals_in_batch(patched, 4, signal.SIGINT, signal.SIGINT)
        result = train_small(capsys, parts, *ONE_EPOCH)
    assert result.code == 130 and words in result.err and f"--resume {parts}` continues" in result.err, result.err
    assert progress(parts)["batch"] == done
    assert run(capsys, "train", "--resume", parts).code == 0
    same_run(whole, parts)


@pytest.mark.parametrize("name", ["last.h5", "best.h5", "metrics.csv"])
def test_a_signal_inside_a_save_does_not_break_it(capsys, tmp_path, monkeypatch, name):
    """Neither the first, nor a second one."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train_small(capsys, whole).code == 0
    replace = os.replace

    def interrupted(source, target):
        if os.path.basename(target) == name and (parts / "last.h5").exists():
            for _ in range(3):
                signal.raise_signal(signal.SIGTERM)
        replace(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(signals, "SAME_SECONDS", -1.0)
        patched.setattr(os, "replace", interrupted)
        result = train_small(capsys, parts)
    assert result.code == 143 and "stopped; `" in result.err and "Traceback" not in result.err
    assert progress(parts)["epoch"] == 1
    assert run(capsys, "train", "--resume", parts).code == 0
    same_run(whole, parts)
