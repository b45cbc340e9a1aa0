"""Run folders from elsewhere, or changed while a run trains: nothing outside is written, nothing blocks or is lost."""

from __future__ import annotations

import csv
import os
import shutil
import time

import pytest
from commands import assert_fails, overrides, run, train_small

from eqnp.api import training as api_training
from eqnp.api.plotting import write_curves
from eqnp.errors import ConfigurationError, DiskError
from eqnp.runs import checkpoint
from eqnp.runs.configfile import load
from eqnp.runs.runfolder import RunFolder

WRITTEN = ("config.toml", "environment.toml", "metrics.csv", "last.h5", "best.h5")
MORE = overrides("training.epochs=3", "optimizer.T_max=3")


def epochs(folder):
    with open(folder / "metrics.csv", newline="") as file:
        return [row["epoch"] for row in csv.DictReader(file)]


@pytest.fixture
def finished(capsys, tmp_path):
    folder = tmp_path / "run"
    assert train_small(capsys, folder).code == 0
    return folder


@pytest.mark.parametrize("name", WRITTEN)
def test_a_link_in_a_run_folder_is_replaced_and_never_written_through(capsys, tmp_path, finished, name):
    outside = tmp_path / "outside"
    shutil.copy(finished / name, outside)
    before = outside.read_bytes()
    (finished / name).unlink()
    (finished / name).symlink_to(outside)
    assert run(capsys, "train", "--resume", finished, *MORE, *overrides("data.flip=true")).code == 0
    assert outside.read_bytes() == before
    if name not in ("environment.toml", "best.h5"):  # these are not written again here
        assert not (finished / name).is_symlink()
    assert epochs(finished) == ["1", "2", "3"]


@pytest.mark.parametrize("name", ["history.csv", "last.h5", "best.h5", "metrics.csv"])
def test_a_link_to_nothing_creates_nothing_outside(capsys, tmp_path, finished, name):
    kept = (finished / "last.h5").read_bytes()
    (finished / name).unlink(missing_ok=True)
    (finished / name).symlink_to(tmp_path / "outside")
    result = run(capsys, "train", "--resume", finished, *MORE)
    assert result.code == (5 if name == "last.h5" else 0), result.err
    assert not (tmp_path / "outside").exists()
    if name == "last.h5":
        (finished / name).unlink()
        (finished / name).write_bytes(kept)
        assert run(capsys, "train", "--resume", finished, *MORE).code == 0


def test_a_run_folder_may_itself_be_a_link(capsys, tmp_path, finished):
    (tmp_path / "latest").symlink_to(finished)
    assert run(capsys, "train", "--resume", tmp_path / "latest", *MORE).code == 0
    assert (tmp_path / "latest").is_symlink() and epochs(finished) == ["1", "2", "3"]


@pytest.mark.parametrize("kind", ["pipe", "endless", "link to a pipe", "folder"])
@pytest.mark.parametrize("name", [*WRITTEN[:-1], "history.csv", ".lock-held"])
def test_what_is_not_a_file_neither_blocks_nor_fills_memory(capsys, tmp_path, finished, name, kind):
    path = finished / name
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "endless":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    else:
        os.mkfifo(tmp_path / "pipe")
        path.symlink_to(tmp_path / "pipe")
    result = run(capsys, "train", "--resume", finished, *MORE)
    codes = {"config.toml": 2, "last.h5": 5, "environment.toml": 0, ".lock-held": 9}
    assert result.code == codes.get(name, 2), result.err
    assert name in result.err or result.code == 0
    assert ("Traceback" not in result.err and result.err.count("\n") == 1) or result.code == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (",".join(["epoch", *(f"c{n}" for n in range(20_000))]) + "\n1\n2\n", "more than 5000 columns"),
        (",".join(["epoch", *(f"c{n}" for n in range(4000))]) + "\n" + "1\n" * 20_000, "cells"),
        ("x" * 65_000_000, "64000000 bytes"),
    ],
    ids=["columns", "cells", "bytes"],
)
def test_metrics_have_bounds(tmp_path, text, words):
    folder = RunFolder(tmp_path)
    folder.metrics_path.write_text(text)
    before = time.process_time()
    with pytest.raises(ConfigurationError, match=words):
        folder.metrics()
    assert time.process_time() - before < 5


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (".".join("a" * 20_000) + " = 1\n", "more than 100 parts"),
        (" . ".join("a" * 20_000) + " = 1\n", "more than 100 parts"),
        ("[" + ".".join(['"a"'] * 20_000) + "]\n", "more than 100 parts"),
        (".".join(["1"] * 20_000) + " = 1\n", "more than 100 parts"),
        ("a = {" + ".".join(["'='"] * 20_000) + " = 1}\n", "more than 100 parts"),
        ("[" * 100_000, "not TOML"),
        ("# " + "x" * 2_000_000, "1000000 bytes"),
        ("[" + ".".join("a" * 90) + "]\n" + "".join(f"k{n}=1\n" for n in range(100_000)), "no table or key a"),
    ],
    ids=["dotted", "spaced", "table", "digits", "inline", "nested", "large", "many in a deep table"],
)
def test_a_configuration_has_bounds(tmp_path, text, words):
    path = tmp_path / "a.toml"
    path.write_text(text)
    before = time.process_time()
    with pytest.raises(ConfigurationError, match=words):
        load(str(path))
    assert time.process_time() - before < 5


def test_numbers_and_sentences_have_many_dots(tmp_path):
    comment, text, rates = ". " * 500, "." * 500 + "3.5 " * 200, "0.5, " * 500
    lines = [f"# {comment}", 'base = "digits"', f'description = "{text}"', "[optimizer]", f"rates = [{rates}]"]
    (tmp_path / "a.toml").write_text("\n".join(lines))
    with pytest.raises(ConfigurationError, match="500") as error:  # too many for the network, but TOML
        load(str(tmp_path / "a.toml"))
    assert "TOML" not in str(error.value)


# ---- changed while a run trains


def at_epoch(monkeypatch, number, act):
    """Do something to the run folder when epoch ``number`` was trained, before it is saved."""
    evaluate, count = api_training.evaluate, [0]

    def acting(*arguments):
        count[0] += 1
        if count[0] == number:
            act()
        return evaluate(*arguments)

    monkeypatch.setattr(api_training, "evaluate", acting)


@pytest.mark.parametrize("how", ["removed", "cut", "emptied"])
def test_rows_that_were_removed_while_the_run_trains_are_written_again(capsys, tmp_path, monkeypatch, how):
    folder = tmp_path / "run"

    def act():
        path = folder / "metrics.csv"
        if how == "removed":
            path.unlink()
        else:
            path.write_text(path.read_text().splitlines(keepends=True)[0] if how == "cut" else "")

    at_epoch(monkeypatch, 3, act)
    result = train_small(capsys, folder, *MORE)
    assert result.code == 0 and "metrics.csv had lost rows of earlier epochs; they are written again" in result.err
    assert epochs(folder) == ["1", "2", "3"]


def test_rows_that_were_removed_before_a_resume_are_missed(capsys, finished):
    (finished / "metrics.csv").unlink()
    result = run(capsys, "train", "--resume", finished, *MORE)
    assert result.code == 0 and "metrics.csv lacks the rows of 2 of 2 epochs" in result.err
    assert epochs(finished) == ["3"]


def test_a_run_folder_that_is_moved_while_the_run_trains(capsys, tmp_path, monkeypatch):
    folder, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    with monkeypatch.context() as patched:
        at_epoch(patched, 2, lambda: folder.rename(elsewhere))
        result = train_small(capsys, folder)
    assert result.code == 8, result.err
    last = result.err.splitlines()[-1]
    assert f"{folder}: the run folder was moved or deleted while the run trained" in last
    assert "with its new place continues from its last.h5" in last
    assert "make the folder first" not in last
    assert run(capsys, "train", "--resume", elsewhere).code == 0
    assert epochs(elsewhere) == ["1", "2"]


def test_files_of_the_run_that_are_removed_while_it_trains(capsys, tmp_path, monkeypatch):
    """The next save writes last.h5 again; without its configuration the folder is no run any more."""
    folder = tmp_path / "run"
    at_epoch(monkeypatch, 2, lambda: [(folder / name).unlink() for name in ("last.h5", "best.h5", "metrics.csv")])
    assert train_small(capsys, folder).code == 0
    assert epochs(folder) == ["1", "2"] and (folder / "last.h5").exists()


def test_a_message_after_an_error_is_true(capsys, tmp_path, monkeypatch):
    folder = tmp_path / "run"

    def act():
        (folder / "config.toml").unlink()
        raise DiskError("x: cannot be written")

    at_epoch(monkeypatch, 2, act)
    result = train_small(capsys, folder)
    assert result.code == 8 and "cannot be resumed" in result.err and "continues" not in result.err, result.err


# ---- text from files


EVIL = "\x1b[2J\x9b\u202e" + "x" * 100_000


def assert_safe(text):
    for line in text.splitlines():
        assert line.isprintable() and len(line) < 5000, ascii(line[:200])


def test_text_from_files_reaches_the_terminal_escaped_and_cut(capsys, tmp_path, finished):
    toml = (finished / "config.toml").read_text()
    shutil.copy(finished / "last.h5", tmp_path)
    escaped = EVIL.encode("unicode_escape").decode().replace("\\x1b", "\\u001b").replace("\\x9b", "\\u009b")
    name = f'name = "{escaped}"'
    for key, line in (
        ("name", name),
        ("key", f'name = "a"\n"{escaped}" = 1'),
        ("description", f'name = "a"\ndescription = "{escaped}"'),
    ):
        (finished / "config.toml").write_text(toml.replace('name = "digits"', line, 1))
        commands = [("train", "--resume", finished, *MORE), ("evaluate", finished)]
        bench = ("bench", finished / "config.toml", "--seconds", "0.01")
        for command in [*commands, *([bench] if key == "name" else [])]:
            result = run(capsys, *command)
            assert_safe(result.out)
            assert_safe(result.err)
        shutil.copy(tmp_path / "last.h5", finished)
    (finished / "config.toml").write_text(toml.replace('folder = ""', f'folder = "/{escaped}"', 1))
    result = run(capsys, "train", "--resume", finished, *MORE)
    assert result.code in (2, 3), result.err[:300]
    assert_safe(result.err)
    (finished / "config.toml").write_text(toml)
    (finished / ".lock-held").write_text(EVIL[:4000])
    result = run(capsys, "train", "--resume", finished, *MORE)
    assert_fails(result, 9, "in use by \\x1b[2J\\x9b\\u202exxx")
    assert_safe(result.err)
    (finished / ".lock-held").unlink()
    (finished / "environment.toml").write_text(f'python = "{escaped}"\n"{escaped}" = 1\n')
    result = run(capsys, "train", "--resume", finished, *MORE)
    assert result.code == 0
    assert_safe(result.err)


def test_names_in_a_checkpoint_are_shown_escaped_and_cut(capsys, finished):
    content = checkpoint.load(finished / "last.h5", kind="training")
    content["parameters"]["\x1b[2J\u202e" + "x" * 900] = 1
    checkpoint.save(finished / "last.h5", content, kind="training")
    result = run(capsys, "train", "--resume", finished, *MORE)
    assert result.code == 5 and "\\x1b[2J\\u202ex" in result.err
    assert_safe(result.err)
    content["config"] = f'name = "{"x" * 70_000}"\n[data]\nfolder = "\\u009b{"x" * 70_000}"\n' + "[[x]]\n" * 20_000
    checkpoint.save(finished / "last.h5", content, kind="training")
    result = run(capsys, "train", "--resume", finished, *MORE)
    assert result.code == 5
    assert_safe(result.err)


def test_curves_replace_a_link(tmp_path, finished):
    pytest.importorskip("matplotlib")
    (tmp_path / "outside").write_text("mine")
    (finished / "curves.png").symlink_to(tmp_path / "outside")
    write_curves(finished)
    assert (tmp_path / "outside").read_text() == "mine" and not (finished / "curves.png").is_symlink()


def test_a_link_to_a_folder_is_no_place_for_tensorboard(capsys, tmp_path, finished):
    pytest.importorskip("tensorboardX")
    (tmp_path / "outside").mkdir()
    (finished / "tensorboard").symlink_to(tmp_path / "outside")
    result = run(capsys, "train", "--resume", finished, *MORE, "--tensorboard")
    assert result.code == 8 and "tensorboard: is a link" in result.err
    assert not [*(tmp_path / "outside").iterdir()]
