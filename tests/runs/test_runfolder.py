"""Run folders: who holds them, their metrics, what is damaged in them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from eqnp.errors import ConfigurationError, RunBusyError
from eqnp.runs.locks import FileLock
from eqnp.runs.runfolder import RunFolder


def test_a_lock_excludes_others_and_ends_with_its_holder(tmp_path):
    one, two = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    assert one.acquire() and not two.acquire()
    assert f"process {os.getpid()}" in two.holder()
    one.release()
    assert two.acquire()
    two.release()
    code = (
        "import os, sys, time; from pathlib import Path; from eqnp.runs.locks import FileLock\n"
        "assert FileLock(Path(sys.argv[1])).acquire() is True or sys.exit(1)\n"
        "print('locked', flush=True); time.sleep(60)"
    )
    holding = "lock = FileLock(Path(sys.argv[1]))\nassert lock.acquire()"
    code = code.replace("assert FileLock(Path(sys.argv[1])).acquire() is True or sys.exit(1)", holding)
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "lock")], stdout=subprocess.PIPE)
    process.stdout.readline()
    assert not one.acquire()
    process.kill()
    process.wait()
    process.stdout.close()
    assert one.acquire()
    one.release()


def test_a_run_folder_is_made_once(tmp_path):
    with RunFolder.create(tmp_path / "run", "a = 1\n") as folder:
        assert folder.config_path.read_text() == "a = 1\n"
        with pytest.raises(RunBusyError, match=str(os.getpid())):
            RunFolder.open(tmp_path / "run", lock=True)
    with pytest.raises(ConfigurationError, match="--resume"):
        RunFolder.create(tmp_path / "run", "a = 2\n")
    assert folder.config_path.read_text() == "a = 1\n"
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ConfigurationError, match="file"):
            RunFolder.create(path, "")


def test_default_folders_never_clash(tmp_path):
    made = {RunFolder.default_path("a b/c", tmp_path) for _ in range(4)}
    assert len(made) == 4 and all(path.is_dir() and path.name.startswith("a-b-c-") for path in made)


def test_metrics_are_rows_that_can_be_cut_back(tmp_path):
    with RunFolder.create(tmp_path / "run", "") as folder:
        assert folder.metrics() == []
        for epoch in range(1, 5):
            folder.append_metrics({"epoch": epoch, "loss": epoch / 4})
        folder.truncate_metrics(2)
        folder.append_metrics({"epoch": 3, "loss": 9, "angle": 80.0})  # a new column
        assert [row["epoch"] for row in folder.metrics()] == ["1", "2", "3"]
        assert folder.metrics()[0] == {"epoch": "1", "loss": "0.25", "angle": ""}
        with open(folder.metrics_path, "a") as file:
            file.write("4,0.")  # cut off
        assert len(folder.metrics()) == 3
        folder.metrics_path.write_text("epoch,loss\none,2\n")
        with pytest.raises(ConfigurationError, match=r"metrics\.csv: row 1 is damaged"):
            folder.metrics()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("epoch,loss\n1," + "9" * 200_000 + "\n", "is damaged .*field"),
        ("epoch,loss\n" + "9" * 5000 + ",2\n", "row 1 is damaged"),
        ("epoch,loss\n1,2,3\n", "row 1 is damaged"),
        ("epoch,epoch\n1,2\n", "first line is damaged"),
        ("epoch,\n1,2\n", "first line is damaged"),
        ("loss,error\n", "first line is damaged"),
        ("\n1,2\n", "first line is damaged"),
    ],
)
def test_damaged_metrics_are_refused_and_kept(tmp_path, text, words):
    with RunFolder.create(tmp_path / "run", "") as folder:
        folder.metrics_path.write_text(text)
        for act in (folder.metrics, lambda: folder.append_metrics({"epoch": 2}), lambda: folder.truncate_metrics(1)):
            message = rf"metrics\.csv: .*{words}.*; repair it or move the file away"
            with pytest.raises(ConfigurationError, match=message):
                act()
        assert folder.metrics_path.read_text() == text


def test_metrics_with_a_byte_order_mark(tmp_path):
    with RunFolder.create(tmp_path / "run", "") as folder:
        folder.metrics_path.write_bytes(b"\xef\xbb\xbfepoch,loss\r\n1,2\r\n")
        assert folder.metrics() == [{"epoch": "1", "loss": "2"}]


def test_an_environment_that_is_no_text_is_written_all_the_same(tmp_path):
    with RunFolder.create(tmp_path / "s\udcff", "") as folder:
        folder.write_environment({"command": "eqnp train --out s\udcff"})
        assert folder.environment_path.read_text() == 'command = "eqnp train --out s?"\n'


def test_the_lock_of_a_full_run_folder_goes_with_it(tmp_path):
    with RunFolder.create(tmp_path / "run", ""):
        pass
    with RunFolder.open(tmp_path / "run", lock=True):
        pass
    with pytest.raises(ConfigurationError, match="no such folder"):
        RunFolder.open(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigurationError, match="not a run folder"):
        RunFolder.open(tmp_path / "empty")
