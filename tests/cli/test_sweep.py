"""``eqnp sweep``: the file, its mistakes, what the folder remembers, the lists and tables. No run is trained here."""

from __future__ import annotations

import io
import json
import os
import shutil
from pathlib import Path

import pytest
from commands import SMALL, assert_fails, run, train_small

from eqnp.cli.board import Board
from eqnp.sweeps.file import MOST_RUNS, read_sweep
from eqnp.sweeps.folder import End, SweepFolder

COMMON = "[set]\n" + "\n".join(each for each in SMALL if "threads" not in each) + "\n"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def sweep_of(text, name="s.toml", above=()):
    Path(name).write_text(text)
    return read_sweep(Path(name), above)


def folders(text, **more):
    return [entry.folder for entry in sweep_of(text, **more).entries]


# ---- the file


def test_a_grid_gives_all_combinations_with_every_seed():
    made = sweep_of(
        "seeds = [3, 1]\n[set]\ntraining.epochs = 7\n[grid]\ndynamics.beta = [0.1, 1]\ndynamics.T2 = [9, 8]\n"
    )
    assert made.name == "s" and [entry.index for entry in made.entries] == list(range(8))
    assert [entry.folder for entry in made.entries[:3]] == [
        "beta_0.1-T2_9-seed_3",
        "beta_0.1-T2_9-seed_1",
        "beta_0.1-T2_8-seed_3",
    ]
    configs = [entry.config for entry in made.entries]
    assert [(c.dynamics.beta, c.dynamics.T2, c.training.seed) for c in configs[-2:]] == [(1, 8, 3), (1, 8, 1)]
    assert all(c.training.epochs == 7 and c.name == "digits" for c in configs)


def test_a_list_of_runs_with_names_bases_and_changes():
    Path("own").mkdir()
    Path("own/mine.toml").write_text("base = 'digits'\n[dynamics]\nT1 = 13\n")
    Path("own/list.toml").write_text(
        "name = 'all'\npreset = 'mnist-mlp'\nseeds = 1\n[set]\ntraining.epochs = 2\n"
        "[[runs]]\nname = 'long'\ntraining.epochs = 9\n"
        "[[runs]]\npreset = 'small-vf'\n[[runs]]\nconfig = 'mine.toml'\n\"dynamics.T2\" = 3\n[[runs]]\n"
    )
    made = read_sweep(Path("own/list.toml"))
    assert made.name == "all"
    assert [entry.folder for entry in made.entries] == [
        "long-seed_0",
        "small-vf-seed_0",
        "mine-T2_3-seed_0",
        "mnist-mlp-seed_0",
    ]
    long, field, mine, plain = (entry.config for entry in made.entries)
    assert (long.name, long.training.epochs, long.data.name) == ("long", 9, "mnist")
    assert field.model.kind == "vector-field" and field.training.epochs == 2
    assert (mine.dynamics.T1, mine.dynamics.T2, mine.name) == (13, 3, "mine") and plain.name == "mnist-mlp"


def test_what_a_run_is_called():
    assert folders("") == ["digits-seed_0"] and folders("[set]\ntraining.seed = 4\n") == ["digits-seed_4"]
    assert folders("[grid]\ntraining.seed = [1, 2]\n") == ["seed_1-seed_1", "seed_2-seed_2"]
    assert folders("[grid]\npreset = ['digits', 'small-vf']\n") == ["digits-seed_0", "small-vf-seed_0"]
    found = folders("[grid]\noptimizer.rates = [0.1, [0.2, 0.1, 0.05]]\ntraining.dtype = ['float64']\n")
    assert found == ["rates_0.1-dtype_float64-seed_0", "rates_0.2,0.1,0.05-dtype_float64-seed_0"]
    layers = "[grid]\nmodel.layers = [[{dense = 10}], [{dense = 9}, {dense = 10}]]\n"
    one, two = folders(layers)
    assert (
        one != two and folders(layers) == [one, two] and all(len(each) < 80 and "{" not in each for each in (one, two))
    )
    twice = "[grid]\nmodel.layers.0.keep = [0.5]\nmodel.layers.1.keep = [0.5]\n"
    assert folders(twice) == ["model.layers.0.keep_0.5-model.layers.1.keep_0.5-seed_0"]
    assert folders("[[runs]]\nname = 'ž 1'\n") == ["ž 1-seed_0"]


def test_what_stands_above_what(capsys, monkeypatch):
    text = "[set]\ndynamics.T2 = 5\n[[runs]]\ndynamics.T2 = 6\nname = 'a'\n[[runs]]\nname = 'b'\n"
    assert [e.config.dynamics.T2 for e in sweep_of(text).entries] == [6, 5]
    monkeypatch.setenv("EQNP_DYNAMICS_T2", "9")
    monkeypatch.setenv("EQNP_DYNAMICS_T1", "33")
    result = run(capsys, "sweep", "s.toml", "--dry-run", "--no-time", "--set", "training.epochs=4")
    assert result.code == 0 and result.err == ""
    monkeypatch.setenv("EQNP_DYNAMICS_T1", "x")
    assert_fails(run(capsys, "sweep", "s.toml", "--dry-run"), 2, "EQNP_DYNAMICS_T1", "whole number")


GRID = "[grid]\ndynamics.beta = [0.1, 0.2]\n"
MISTAKES = [
    ("seedz = 3\n", ["s.toml", "no key seedz", "did you mean 'seeds'", "known: name, preset"]),
    ("[training]\nepochs = 3\n", ["no key training", "belong into [set]", "set.training"]),
    ("seeds = [1, 2\n", ["s.toml", "not TOML"]),
    ("seeds = 0\n", ["seeds", "a number of seeds or a list", "got 0"]),
    ("seeds = true\n", ["seeds", "got True"]),
    ("seeds = [1, -1]\n", ["seeds", "got [1, -1]"]),
    ("seeds = [1, 1]\n", ["seeds: 1 is there twice"]),
    ("name = '../a'\n", ["name", "cannot be the name of a folder"]),
    ('name = "a\\u001b[31m"\n', ["name", "cannot be the name of a folder"]),
    ("preset = 'digitz'\n", ["no preset 'digitz'", "did you mean 'digits'"]),
    ("preset = 'own/a.toml'\n", ["preset", "config = "]),
    ("preset = 3\n", ["preset: expected the name of a preset, got 3"]),
    ("preset = 'digits'\nconfig = 'a.toml'\n", ["a preset and a config"]),
    ("config = 'none.toml'\n", ["none.toml", "no such file"]),
    ("set = 3\n", ["set: expected a table of keys, got 3"]),
    ("[set]\ntraining.epohs = 3\n", ["[set] training.epohs", "did you mean 'epochs'"]),
    ("[set]\ntraining.epochs = -1\n", ["[set] training.epochs=-1", "whole number"]),
    ("[grid]\ndynamics.beta = 0.1\n", ["grid.dynamics.beta: expected a list of values, got 0.1", "[set]"]),
    ("[grid]\ndynamics.beta = []\n", ["expected a list of values"]),
    ("[grid]\ndynamics.beta = [0.1, 0.10]\n", ["grid.dynamics.beta: 0.1 is there twice"]),
    ("[grid]\ndynamics.beta = [0.1, -2]\n", ["[grid] dynamics.beta=-2", "above 0"]),
    ("[grid]\ndynamics.betta = [0.1]\n", ["[grid] dynamics.betta", "did you mean 'beta'"]),
    ("[grid]\ndynamics.T1 = [3]\n'dynamics.T1' = [4]\n", ["grid.dynamics.T1 is there twice"]),
    ("[set]\ndynamics.beta = 1\n" + GRID, ["dynamics.beta is in [set] and in [grid]"]),
    ("preset = 'digits'\n[grid]\npreset = ['digits']\n", ["grid.preset", "a base for all runs"]),
    ("[grid]\npreset = [3]\n", ["grid: preset: expected the name of a preset"]),
    (GRID + "[[runs]]\n", ["has [grid] and [[runs]]"]),
    ("runs = []\n", ["runs: expected tables [[runs]]"]),
    ("runs = [3]\n", ["runs.0: expected a table of keys, got 3"]),
    ("[[runs]]\nname = 3\n", ["runs.0.name: 3 cannot be the name of a folder"]),
    ("[[runs]]\nname = 'a/b'\n", ["runs.0: name", "cannot be the name of a folder"]),
    ("[[runs]]\n[[runs]]\ndynamics.beta = 'x'\n", ["runs.1: dynamics.beta", "finite number"]),
    ("[[runs]]\nname = 'a'\n[[runs]]\nname = 'A'\n", ["runs 0 and 1 have the same folder A-seed_0"]),
    ("[[runs]]\n[[runs]]\n", ["runs 0 and 1 have the same folder", "different names"]),
    ("seeds = 2\n[set]\ntraining.seed = 1\n", ["training.seed is set, and seeds is given"]),
    ("seeds = 2\n[grid]\ntraining.seed = [1]\n", ["training.seed is set, and seeds is given"]),
    (f"seeds = {MOST_RUNS + 1}\n", [f"at most {MOST_RUNS}"]),
    ("seeds = 99999999999\n", [f"at most {MOST_RUNS}"]),
    (f"[grid]\ndynamics.T1 = {list(range(50))}\ndynamics.T2 = {list(range(50))}\n", [f"more than {MOST_RUNS}"]),
    ("[[runs]]\nmodel.layers = [{dense = 9}, {dense = 9}]\n", ["run 0", "the data has 10 classes"]),
    ("[grid]\nmodel.layers.0.kernel = [5, 99]\n", ["run 1 (kernel_99-seed_0)", "99"]),
]


@pytest.mark.parametrize(("text", "words"), MISTAKES, ids=[" ".join(text.split())[:50] for text, _ in MISTAKES])
def test_a_mistake_in_the_file_is_one_line_before_anything_is_trained(capsys, text, words):
    Path("s.toml").write_text(text)
    assert_fails(run(capsys, "sweep", "s.toml"), 2, *words)
    assert os.listdir() == ["s.toml"]


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        (["--index", 4], 2, ["--index 4", "4 runs, numbered from 0 to 3"]),
        (["--only", "beta_0.3"], 2, ["--only beta_0.3", "no run of that name", "did you mean", "--dry-run"]),
        (["--index", 1, "--only", "a"], 2, ["--index runs one entry"]),
        (["--index", 1, "--jobs", 2], 2, ["--index runs one entry"]),
        (["--executor", "mpi", "--jobs", 2], 2, ["mpiexec -n"]),
        (["--jobs", 0], 2, ["--jobs"]),
        (["-j", 2], 2, ["no option -j; did you mean --jobs?"]),
        (["--workers", 2], 2, ["did you mean --jobs?"]),
        (["--set", "dynamics.beta=1"], 2, ["--set dynamics.beta", "s.toml varies dynamics.beta"]),
        (["--set", "dynamics={}"], 2, ["varies dynamics.beta"]),
        (["--set", "training.seed=1"], 2, ["varies training.seed"]),
        (["--out", "s.toml"], 2, ["is a file, not a folder"]),
        (["--out", "full"], 2, ["is not empty and not the folder of a sweep"]),
        (["--set", "data.name=cifar10"], 3, ["s.toml: run 0 (beta_0.1-seed_0)", "cifar10"]),
        (["--set", "data.train_samples=99999"], 2, ["99999"]),
    ],
    ids=lambda each: " ".join(map(str, each)) if isinstance(each, list) else "",
)
def test_a_mistake_on_the_command_line_is_one_line(capsys, nowhere, words, code, expected):
    Path("full").mkdir()
    Path("full/file").write_text("")
    Path("s.toml").write_text("seeds = 2\n" + GRID)
    before = sorted(Path().rglob("*"))
    assert_fails(run(capsys, "sweep", "s.toml", *words), code, *expected)
    assert sorted(Path().rglob("*")) == before


def test_mpiexec_is_noticed(capsys, monkeypatch):
    Path("s.toml").write_text("")
    monkeypatch.setenv("PMI_SIZE", "3")
    monkeypatch.setenv("PMI_RANK", "0")
    assert_fails(run(capsys, "sweep", "s.toml"), 2, "mpiexec started 3", "--executor mpi")
    assert run(capsys, "sweep", "s.toml", "--dry-run", "--no-time").code == 0


# ---- the folder


def begun(made, out, ends=()):
    """Make the folder of a sweep in which all runs began; ``ends`` of the first ones."""
    folder = SweepFolder(out)
    folder.prepare(made)
    for entry in made.entries:
        folder.write_config(entry)
    for entry, end in zip(made.entries, ends, strict=False):
        folder.write_end(entry.folder, end)
    folder.close()
    return folder


def run_in(capsys, folder, entry):
    """Train the run of an entry."""
    settings = ["training.seed", entry.seed, "dynamics.beta", entry.config.dynamics.beta]
    words = [f"--set={key}={value}" for key, value in zip(settings[::2], settings[1::2], strict=True)]
    assert train_small(capsys, folder.run_path(entry.folder), "--quiet", *words).code == 0


@pytest.fixture
def half(capsys):
    """A sweep of two rows with two seeds: one run is done, one failed, two have not begun."""
    made = sweep_of("seeds = 2\n" + COMMON + GRID)
    folder = begun(made, "runs/s", [End(0, "epochs"), End(7, "error", "out of memory | here")])
    run_in(capsys, folder, made.entries[0])
    return made, folder


def test_the_runs_are_listed_with_their_states(capsys, half):
    result = run(capsys, "sweep", "s.toml", "--dry-run", "--no-time")
    lines = result.out.splitlines()
    assert result.code == 0 and lines[0] == "sweep s in runs/s: 4 runs" and "nothing was trained" in lines[-1]
    assert [line.split()[:3] for line in lines[1:-1]] == [
        ["0", "finished", "beta_0.1-seed_0"],
        ["1", "failed", "beta_0.1-seed_1"],
        ["2", "new", "beta_0.2-seed_0"],
        ["3", "new", "beta_0.2-seed_1"],
    ]
    assert "dynamics.beta=0.2" in lines[4]
    one = run(capsys, "sweep", "s.toml", "--dry-run", "--no-time", "--only", "beta_0.2", "--only", "beta_0.1-seed_1")
    assert [line.split()[0] for line in one.out.splitlines()[1:-1]] == ["1", "2", "3"]


def test_the_time_is_estimated_for_what_is_left(capsys, half):
    result = run(capsys, "sweep", "s.toml", "--dry-run", "--jobs", 2)
    assert "time: about" in result.out and "for 3 runs, 2 at a time" in result.out
    many = "[grid]\ndynamics.T1 = [1, 2, 3, 4, 5, 6, 7, 8, 9]\n"
    Path("many.toml").write_text(COMMON.replace("dynamics.T1=4\n", "") + many)
    result = run(capsys, "sweep", "many.toml", "--dry-run")
    assert "time: not measured: the runs are of 9 kinds" in result.out


def test_the_table_names_what_is_unfinished_and_failed(capsys, half):
    result = run(capsys, "sweep", "s.toml", "--table", "--format", "markdown")
    assert result.code == 0 and result.err == ""
    (first,) = [line for line in result.out.splitlines() if "dynamics.beta 0.1" in line]
    (second,) = [line for line in result.out.splitlines() if "dynamics.beta 0.2" in line]
    assert "1 of 2" in first and r"failed (out of memory" in first and "0 of 2" in second
    assert second.count("unfinished (not started)") == 2
    only = run(capsys, "sweep", "s.toml", "--table", "--only", "beta_0.2").out
    assert "dynamics.beta" not in only and only.count("not started") == 2
    csv = run(capsys, "sweep", "s.toml", "--table", "--format", "csv").out
    assert csv.count("\n") == 5 and "out of memory | here" in csv


def test_a_sweep_over_how_the_same_is_computed_has_a_row_each(capsys):
    made = sweep_of(COMMON + "[grid]\ntraining.convolution = ['direct', 'merged']\n")
    begun(made, "runs/s")
    result = run(capsys, "sweep", "s.toml", "--table")
    assert "training.convolution direct" in result.out and "training.convolution merged" in result.out


def test_report_takes_the_folder_of_a_sweep(capsys, half):
    made, folder = half
    result = run(capsys, "report", "runs/s", "--html", "page.html")
    assert result.code == 0 and "beta_0.1-seed_0" in result.out and "out of memory" in result.out
    assert "1 of 2 runs finished" in result.out and Path("page.html").exists()
    folder.config_path(made.entries[3].folder).unlink()
    assert "not a run: runs/s/beta_0.2-seed_1: not started" in run(capsys, "report", "runs/s").out
    for entry in made.entries[:3]:
        folder.config_path(entry.folder).unlink()
    assert_fails(run(capsys, "report", "runs/s"), 2, "runs/s: no run of this sweep has started yet")
    (folder.hidden / "sweep.toml").write_text("entries = 3\n")
    assert_fails(run(capsys, "report", "runs/s"), 2, "sweep.toml: is damaged")


def test_a_changed_file_adds_runs_and_changes_none(capsys, half):
    more = Path("s.toml").read_text().replace("[0.1, 0.2]", "[0.3, 0.1, 0.2]")
    Path("s.toml").write_text(more)
    result = run(capsys, "sweep", "s.toml", "--dry-run", "--no-time")
    assert result.code == 0 and "   2 finished     beta_0.1-seed_0" in result.out
    Path("s.toml").write_text(more.replace("dynamics.T1=4", "dynamics.T1=5"))
    for words in ((), ("--dry-run",), ("--table",), ("--index", 0)):
        assert_fails(run(capsys, "sweep", "s.toml", *words), 2, "run 2", "dynamics.T1 = 5 instead of 4", "--out")
    Path("s.toml").write_text(more.replace("[0.3, 0.1, 0.2]", "[0.2]"))
    assert run(capsys, "sweep", "s.toml", "--dry-run", "--no-time").code == 0
    Path("other.toml").write_text(more)
    assert_fails(run(capsys, "sweep", "other.toml", "--out", "runs/s"), 2, "belongs to the sweep 's', not to 'other'")
    Path("runs/s/.sweep/beta_0.1-seed_0.toml").unlink()
    Path("s.toml").write_text(more)
    assert_fails(run(capsys, "sweep", "s.toml"), 2, "beta_0.1-seed_0: was not made by this sweep")


def test_a_run_that_ended_early_by_itself_is_finished(capsys):
    made = sweep_of(COMMON.replace("epochs=2", "epochs=3") + "training.patience = 1\noptimizer.rates = 0\n")
    folder = begun(made, "runs/s", [End(0, "patience")])
    words = ["--set=training.epochs=3", "--set=training.patience=1", "--set=optimizer.rates=0"]
    assert train_small(capsys, folder.run_path(made.entries[0].folder), *words).code == 0
    assert len((folder.run_path(made.entries[0].folder) / "metrics.csv").read_text().splitlines()) == 3
    result = run(capsys, "sweep", "s.toml")
    assert result.code == 0 and "1 finished, 0 to do" in result.err and "1 of 1 runs finished" in result.out
    assert "1 of 1 runs finished" in run(capsys, "report", "runs/s/digits-seed_0").out


def test_a_folder_that_was_moved_away_is_trained_anew(capsys, half):
    made, folder = half
    shutil.rmtree(folder.run_path(made.entries[0].folder))
    listed = run(capsys, "sweep", "s.toml", "--dry-run", "--no-time").out
    assert "   0 new          beta_0.1-seed_0" in listed


def test_links_in_the_folder_are_replaced(capsys, half, tmp_path):
    made, folder = half
    Path("precious").write_text("kept")
    entry = made.entries[2]
    for path in (folder.config_path(entry.folder), folder.log_path(entry.folder), folder.events_path(entry.folder)):
        path.unlink(missing_ok=True)
        path.symlink_to(tmp_path / "precious")
    folder.write_config(entry)
    folder.clear_logs(entry.folder)
    assert Path("precious").read_text() == "kept" and not folder.log_path(entry.folder).is_symlink()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"code": "x"}', "[" * 9000, '{"code": 1, "reason": 2}'])
def test_a_damaged_end_is_none(half, text):
    made, folder = half
    (folder.hidden / f"{made.entries[0].folder}.end").write_text(text)
    assert folder.end(made.entries[0].folder) is None


# ---- what is shown


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_the_board_has_a_line_for_each_run(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40"), monkeypatch.setenv("LINES", "4"), monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    board = Board(stream=stream)
    board.update(["a" * 50, "b", "c", "d", "e"])
    assert stream.getvalue() == f"{'a' * 39}\nb\n     and 3 more"
    board.message("done")
    assert stream.getvalue().endswith("\r\x1b[2A\x1b[Jdone\n")
    plain = io.StringIO()
    board = Board(stream=plain)
    board._last = float("-inf")
    board.update(["one", "two\x1b[31m"])
    board.update(["three"])
    assert plain.getvalue() == "one\ntwo\\x1b[31m\n"


def test_events_are_json(capsys, half):
    made, folder = half
    for entry in made.entries[1:]:
        folder.write_end(entry.folder, End(6, "error", "diverged"))
    result = run(capsys, "sweep", "s.toml", "--no-retry", "--json")
    events = [json.loads(line) for line in result.out.splitlines()]
    assert [event["event"] for event in events] == ["sweep", "sweep_end"]
    assert events[1] == {"event": "sweep_end", "runs": 4, "finished": 1, "failed": 3, "stopped": False}
