"""Where commands write to and are stopped from: terminals, pipes, closed streams, signals."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from commands import SMALL_OPTIONS, assert_fails, run

from eqnp.api import signals
from eqnp.api.report import clock
from eqnp.api.signals import Interrupted, StopRequest
from eqnp.cli.progress import Progress
from eqnp.cli.rows import show_row
from eqnp.shown import quoted


def command(*words, **streams):
    return subprocess.run([sys.executable, "-m", "eqnp.cli", *map(str, words)], check=False, text=True, **streams)


@pytest.mark.parametrize("words", [["presets"], ["--help"], ["doctor"]], ids=" ".join)
def test_a_reader_of_the_output_may_go_away(words):
    read, write = os.pipe()
    os.close(read)
    result = command(*words, stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a shell that closes streams")
@pytest.mark.parametrize("closed", ["2>&-", ">&-", "2>/dev/full"])
def test_a_run_needs_nobody_who_reads(tmp_path, closed):
    if "full" in closed and not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full")
    words = [sys.executable, "-m", "eqnp.cli", "train", "--out", tmp_path / "run", *SMALL_OPTIONS]
    result = subprocess.run(f"{shlex.join(map(str, words))} {closed}", shell=True, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr
    assert len((tmp_path / "run" / "metrics.csv").read_text().splitlines()) == 3


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no SIGHUP")
def test_signals_are_remembered_with_their_exit_codes(monkeypatch, request):
    nohup = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it would be ignored
    request.addfinalizer(lambda: signal.signal(signal.SIGHUP, nohup))
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)):
        with StopRequest() as stop:
            signal.raise_signal(number)
            assert stop.exit_code == code
            with stop.interruptible():
                signal.raise_signal(signal.SIGTERM)  # so soon after the first it is the same request
                monkeypatch.setattr(signals, "SAME_SECONDS", -1.0)
                with stop.interruptible(False):
                    signal.raise_signal(signal.SIGTERM)
                with pytest.raises(KeyboardInterrupt) as second:
                    signal.raise_signal(signal.SIGTERM)
                signal.raise_signal(signal.SIGTERM)  # what answers the second is not interrupted
            signal.raise_signal(signal.SIGTERM)
            assert second.value.exit_code == 143 and stop.exit_code == code
        monkeypatch.undo()
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopRequest() as stop:  # as nohup wants it
            signal.raise_signal(signal.SIGHUP)
            assert stop.exit_code is None
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_second_signal_has_its_exit_code(capsys, monkeypatch):
    def interrupted(**options):
        raise Interrupted(143)

    monkeypatch.setattr("eqnp.cli.presets.presets.callback", interrupted)
    assert run(capsys, "presets").code == 143


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are bytes there")
def test_a_folder_whose_name_is_no_text(tmp_path):
    path = os.fsencode(tmp_path / "run") + b"\xff"
    environment = os.environ | {"PYTHONIOENCODING": "utf-8:strict"}
    words = [sys.executable, "-m", "eqnp.cli", "train", "--quiet", "--out", path, *SMALL_OPTIONS]
    result = subprocess.run(words, capture_output=True, env=environment, check=False)
    assert result.returncode == 0, result.stderr
    assert path in result.stdout and os.path.exists(path + b"/best.h5")


def test_a_path_that_the_file_system_cannot_name_is_one_line(capsys, monkeypatch):
    def encode(**options):
        "ž".encode("ascii")

    monkeypatch.setattr("eqnp.cli.presets.presets.callback", encode)
    with pytest.raises(UnicodeEncodeError):  # file names are UTF-8 here: a bug
        run(capsys, "presets")
    monkeypatch.setattr(sys, "getfilesystemencoding", lambda: "ascii")
    assert_fails(run(capsys, "presets"), 2, r"'\u017e'", "ascii", "PYTHONUTF8=1")


# One process for all commands; it prints each command's exit code.
SEVERAL = "import sys; from eqnp.cli.main import main; print([main(each.split('|')) for each in sys.argv[1:]])"
COMMANDS = [
    ["train", "{}.toml", "--out", "{}", *SMALL_OPTIONS],
    ["train", "--resume", "{}", "--epochs", "3"],
    ["evaluate", "{}"],
    ["check", "{}", "--samples", "0:3"],
    ["check", "{}", "--samples", "0:3", "--settle", "--steps", "30"],
    ["states", "{}", "--out", "{}.h5", "--samples", "0:2"],
    ["bench", "{}.toml", *SMALL_OPTIONS, "--runs", "1", "--steps", "1", "--out", "{}.json"],
    ["presets"],
    ["presets", "digits"],
    ["data", "list"],
    ["doctor"],
    ["train", "--help"],
]
WRONG = [["train", "{}"], ["evaluate", "no{}"], ["train", "--{}"], ["{}"], ["presets", "{}"], ["data", "fetch", "{}"]]


def named(commands, name):
    return [[word.replace("{}", name) for word in words] for words in commands]


def several(commands):
    return [sys.executable, "-c", SEVERAL, *("|".join(words) for words in commands)]


@pytest.mark.skipif(os.name == "nt", reason="no locales of this kind")
@pytest.mark.parametrize("streams", ["ascii", "latin-1"])
def test_names_and_texts_that_the_locale_lacks(tmp_path, streams):
    """A configuration, folder and files with Czech names in an ASCII locale: work is done and paths can be pasted."""
    name = "žluť"
    (tmp_path / f"{name}.toml").write_bytes(f'base = "digits"\nname = "{name}"\ndescription = "{name}"\n'.encode())
    commands = named(COMMANDS, name)
    unnamed = [word for word in commands[0] if word not in ("--out", name)]
    override = ["train", "--epochs", "0", "--set", f"name={name}"]
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": streams}
    call = several([*commands, unnamed, override, *named(WRONG, name)])
    done = subprocess.run(call, cwd=tmp_path, env=os.environ | plain, capture_output=True, check=False)
    assert b"Traceback" not in done.stderr
    codes = [0] * (len(commands) + 2) + [2] * len(WRONG)
    assert done.stdout.splitlines()[-1].decode() == str(codes), done.stderr.decode(errors="replace")
    assert f"eqnp evaluate '{name}'\n".encode() in done.stdout and f"figures in {name}.json\n".encode() in done.stdout
    assert (tmp_path / name / "best.h5").exists() and len(list((tmp_path / "runs").iterdir())) == 2


@pytest.mark.skipif(os.name == "nt", reason="no locales of this kind")
def test_a_folder_that_the_locale_cannot_name_is_one_line(tmp_path):
    (tmp_path / "c.toml").write_bytes('base = "digits"\n[data]\nname = "mnist"\nfolder = "/žluť"\n'.encode())
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    call = [sys.executable, "-m", "eqnp", "train", "c.toml"]
    done = subprocess.run(call, cwd=tmp_path, env=os.environ | plain, capture_output=True, check=False)
    assert done.returncode in (2, 3) and len(done.stderr.splitlines()) == 1, done.stderr


@pytest.mark.skipif(os.name == "nt", reason="no pseudo-terminals")
@pytest.mark.parametrize("columns", [1, 15])
def test_a_terminal_a_few_columns_wide(tmp_path, columns):
    import fcntl
    import pty
    import struct
    import termios

    (tmp_path / "c.toml").write_text('base = "digits"\n')
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"} | {"TERM": "xterm"}
    call = several(named([*COMMANDS, *WRONG], "c"))
    process = subprocess.Popen(call, cwd=tmp_path, env=environment, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    try:
        while block := os.read(ours, 65536):
            shown += block
    except OSError:  # Linux' end of a terminal
        pass
    os.close(ours)
    assert process.wait(timeout=60) == 0 and b"Traceback" not in shown, shown.decode(errors="replace")
    assert shown.decode(errors="replace").splitlines()[-1] == str([0] * len(COMMANDS) + [2] * len(WRONG))


def test_paths_in_suggested_commands_can_be_pasted():
    assert [quoted(Path(p)) for p in ("runs/a", "sp ace", "-x")] == ["runs/a", "'sp ace'", "./-x"]


class _Terminal:
    def __init__(self):
        self.text = ""

    def isatty(self):
        return True

    def write(self, text):
        self.text += text

    def flush(self):
        pass


def test_the_live_line_fits_a_narrow_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERM", "dumb")
    assert not Progress(stream=_Terminal()).live
    monkeypatch.setenv("TERM", "xterm")
    terminal = _Terminal()
    Progress(stream=terminal).update(["epoch 1/2  batch 3/4", "error 8.1 %", "left 0:42", "loss 0.312"])
    assert terminal.text == "\r\x1b[Kepoch 1/2  batch 3/4  error 8.1 %"
    terminal.text = ""
    Progress(stream=terminal).message("epoch 1/2: train loss 0.3 error 8.1 %, test loss 0.4 error 9 %")
    assert terminal.text == "epoch 1/2: train loss 0.3 error 8.1 %,\n  test loss 0.4 error 9 %\n"


def test_rows_go_on_below_themselves_where_a_terminal_is_narrow(monkeypatch):
    terminal = _Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    for columns, expected in (
        ("34", "  blas   openblas of two threads,\n         and more\n"),
        ("12", "  blas   openblas of two threads, and more\n"),  # too narrow for two columns
    ):
        monkeypatch.setenv("COLUMNS", columns)
        terminal.text = ""
        show_row("blas", "openblas of two threads, and more", 5, "  ")
        assert terminal.text == expected


def test_clock():
    assert [clock(s) for s in (0, 59.6, 3600)] == ["0:00", "1:00", "1:00:00"]
