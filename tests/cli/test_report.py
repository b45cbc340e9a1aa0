"""``eqnp report``: mean and spread over seeds, what is unfinished or failed, the published figures, and the page."""

from __future__ import annotations

import csv
import io
import re
import shutil
import subprocess
from dataclasses import replace
from statistics import mean, stdev

import pytest
from commands import SMALL_OPTIONS, assert_fails, overrides, run

from eqnp.api.poster import PUBLISHED, Method, is_full_size, method_of, published
from eqnp.api.survey import Planned, survey
from eqnp.api.survey_page import _tick, chart
from eqnp.cli.main import main
from eqnp.runs.configfile import load

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with runs: three seeds (one unfinished), a field, one that never began; tests must not change them."""
    folder = tmp_path_factory.mktemp("runs")
    for seed in range(3):
        words = [*SMALL_OPTIONS, *overrides(f"training.seed={seed}", "model.loss=squared_error", "optimizer.rates=0.5")]
        assert main(["train", "--quiet", "--out", str(folder / f"s{seed}"), *words]) == 0
    held = [*SMALL_OPTIONS, *overrides("data.validation=10", "model.loss=squared_error")]
    assert main(["train", "--quiet", "--out", str(folder / "held"), *held]) == 0
    toml = folder / "s2" / "config.toml"
    (folder / "young").mkdir()
    shutil.copy(toml, folder / "young")
    metrics = folder / "s2" / "metrics.csv"
    metrics.write_text("".join(metrics.read_text().splitlines(keepends=True)[:2]))  # as if it was stopped
    for name, text in (("lost", "a = ["), ("torn", None), ("wild", None)):
        shutil.copytree(folder / "s1", folder / name)
        if text:
            (folder / name / "config.toml").write_text(text)
    (folder / "torn" / "metrics.csv").write_text("nonsense\n1\n")
    wild = folder / "wild" / "metrics.csv"
    wild.write_text(re.sub(r"(?m)^2,[^,]*", "2,nan", wild.read_text()))
    (folder / "plain").mkdir()
    return folder


def last_error(folder):
    return float(list(csv.DictReader(io.StringIO((folder / "metrics.csv").read_text())))[-1]["test_error_percent"])


def test_mean_and_spread_are_those_of_the_finished_runs(runs):
    (row,) = survey([runs / "s2", runs / "s0", runs / "s1"]).rows
    errors = [last_error(runs / "s0"), last_error(runs / "s1")]
    assert row.finished == errors
    assert (row.mean, row.spread) == (mean(errors), stdev(errors))
    assert [cell.seed for cell in row.cells] == [0, 1, 2]
    assert (row.cells[2].status, row.cells[2].reason) == ("unfinished", "1 of 2 epochs")
    assert row.cells[2].test_error is None


def test_what_is_not_finished_is_shown_with_its_reason(runs):
    names = ("s0", "torn", "wild", "young", "lost", "plain", "none")
    found = survey([runs / name for name in names])
    cells = {cell.run.rpartition("/")[2]: (cell.status, cell.reason) for row in found.rows for cell in row.cells}
    assert cells["s0"] == ("finished", "")
    assert cells["torn"][0] == "failed" and "metrics.csv: its first line is damaged" in cells["torn"][1]
    assert cells["wild"] == ("failed", "it diverged in epoch 2")
    assert cells["young"] == ("failed", "it ended before its first save")
    reasons = {path.rpartition("/")[2]: reason for path, reason in found.unreadable.items()}
    assert "not TOML" in reasons["lost"] and "not a run folder" in reasons["plain"] and "no such" in reasons["none"]
    (row,) = [row for row in found.rows if any(cell.run.endswith("s0") for cell in row.cells)]
    assert row.finished == [last_error(runs / "s0")] and row.spread is None


def test_a_run_whose_settings_changed_on_the_way_says_so(capsys, runs, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(runs / "s0", folder)
    words = overrides("training.epochs=3", "optimizer.T_max=3", "training.estimator=one-sided", "dynamics.beta=0.2")
    assert run(capsys, "train", "--quiet", "--resume", folder, *words).code == 0
    (row,) = survey([folder]).rows
    reason = "dynamics.beta, training.estimator changed on the way (history.csv)"
    assert (row.cells[0].status, row.cells[0].reason) == ("finished", reason)
    assert reason in run(capsys, "report", folder).out.replace("\n", " ").replace("    ", "")


def test_keys_of_a_history_that_are_none_are_left_out(capsys, runs, tmp_path):
    """A file of a stranger may hold anything, and LaTeX reads what follows a line break."""
    for name, rows in (
        ("odd", 'now,2,0,"x\n\\input{a} %",1,2,0,eqnp\nnow,2,0,environment.blas,1,2,0,eqnp\n'),
        ("torn", ""),
    ):
        shutil.copytree(runs / "s0", tmp_path / name)
        head = "time,epoch,batch,key,old,new,version,command\n"
        (tmp_path / name / "history.csv").write_text(head + rows if rows else "nonsense\n1\n")
    assert "input" not in run(capsys, "report", tmp_path / "odd", "--format", "latex").out
    odd, torn = (survey([tmp_path / name]).rows[0].cells[0].reason for name in ("odd", "torn"))
    assert (odd, torn) == ("", "history.csv is damaged")


def test_a_run_of_a_sweep_that_was_resumed_otherwise_is_no_run_of_its_row(capsys, runs, tmp_path):
    """As the message of a run that diverged asks for."""
    folder = tmp_path / "run"
    shutil.copytree(runs / "s0", folder)
    begun = load(str(folder / "config.toml"))
    plan = Planned(replace(begun, data=replace(begun.data, file="own.npz")), "row")  # where the sweep was started
    (row,) = survey([folder], {str(folder): plan}).rows
    assert row.finished
    words = overrides("training.epochs=3", "optimizer.T_max=3", "optimizer.rates=0.02", "training.threads=2")
    assert run(capsys, "train", "--quiet", "--resume", folder, *words).code == 0
    (row,) = survey([folder], {str(folder): plan}).rows
    (cell,) = row.cells
    assert not row.finished and cell.status == "failed" and "optimizer.rates = 0.02 instead of 0.5" in cell.reason
    assert "threads" not in cell.reason


def test_with_a_validation_set_the_test_error_is_that_of_the_chosen_weights(runs, tmp_path):
    (row,) = survey([runs / "held"]).rows
    (tested,) = csv.DictReader(io.StringIO((runs / "held" / "test.csv").read_text()))
    assert row.finished == [float(tested["test_error_percent"])]
    shutil.copytree(runs / "held", tmp_path / "held")
    (tmp_path / "held" / "test.csv").unlink()
    (row,) = survey([tmp_path / "held"]).rows
    assert row.cells[0].status == "unfinished" and "test set was not evaluated" in row.cells[0].reason


def test_a_run_that_patience_ended_is_finished(capsys, runs, tmp_path):
    for name, patience in (("patient", 1), ("stopped", 3)):
        shutil.copytree(runs / "s0", tmp_path / name)
        config, metrics = tmp_path / name / "config.toml", tmp_path / name / "metrics.csv"
        config.write_text(
            config.read_text().replace("patience = 0", f"patience = {patience}").replace("epochs = 2", "epochs = 9")
        )
        table = list(csv.DictReader(io.StringIO(metrics.read_text())))
        table[0]["test_error_percent"], table[1]["test_error_percent"] = "40.0", "42.5"
        lines = [",".join(table[0]), *(",".join(row.values()) for row in table)]
        metrics.write_text("\n".join(lines) + "\n")
    patient, stopped = (survey([tmp_path / name]).rows[0] for name in ("patient", "stopped"))
    assert patient.finished == [42.5]
    assert (patient.cells[0].status, patient.cells[0].reason) == (
        "finished",
        "by training.patience after 2 of 9 epochs",
    )
    assert (stopped.cells[0].status, stopped.cells[0].reason) == ("unfinished", "2 of 9 epochs")
    assert "1 of 1 runs finished" in run(capsys, "report", tmp_path / "patient").out
    history = "time,epoch,batch,key,old,new,version,command\nnow,2,0,dynamics.T1,4,5,0,eqnp\n"
    (tmp_path / "patient" / "history.csv").write_text(history)
    assert survey([tmp_path / "patient"]).rows[0].cells[0].status == "unfinished", "errors are compared anew"


def test_a_published_figure_stands_only_beside_data_that_it_can_be_compared_with():
    arrays = ["data.name=npz", "data.file=a.npz", "data.shape=[28,28,1]"]
    assert published(load("digits")) is not None
    assert published(load("digits", arrays)) is None and published(load("cifar100-resnet13")) is None


def test_other_keys_than_the_seed_make_another_row(runs, tmp_path):
    shutil.copytree(runs / "s0", tmp_path / "b")
    config = tmp_path / "b" / "config.toml"
    config.write_text(config.read_text().replace("beta = 0.5", "beta = 0.25"))
    shutil.copytree(runs / "s0", tmp_path / "t")
    config = tmp_path / "t" / "config.toml"
    config.write_text(config.read_text().replace("threads = 2", "threads = 1"))
    one, two = survey([runs / "s0", tmp_path / "b", tmp_path / "t"]).rows
    assert (one.differs, two.differs) == ("dynamics.beta 0.5", "dynamics.beta 0.25")
    assert [cell.run.rpartition("/")[2] for cell in one.cells] == ["s0", "t"]


@pytest.mark.parametrize(
    ("preset", "figures"),
    [
        ("cifar10-mse-onesided", (86.7, 5.8)),
        ("cifar10-mse-random-sign", (21.6, 20.0)),
        ("cifar10-mse-symmetric", (12.5, 0.2)),
        ("cifar10-ce-symmetric", (11.7, 0.2)),
        ("cifar10-ce-dropout", (11.9, 0.3)),
        ("cifar10-vf", (75.5, 4.7)),
        ("cifar10-kp-vf", (13.2, 0.5)),
        ("cifar10-mse-bptt", None),
        ("cifar10-vf-asymmetric", None),
        ("cifar10-vf-bptt", None),
    ],
)
def test_every_row_of_the_poster_has_its_figure(preset, figures):
    config = load(preset)
    assert published(config) == figures and is_full_size(config)
    assert (method_of(config) in PUBLISHED) == (figures is not None)
    small = preset.replace("cifar10", "small")
    assert published(load(small)) == figures and not is_full_size(load(small))
    for other in ("training.epochs=3", "data.train_samples=9", "model.feedback=0.05"):
        assert not is_full_size(load(preset, [other]))


def test_methods_in_words():
    assert str(method_of(load("cifar10-kp-vf"))) == "cross-entropy, symmetric, KP-VF"
    assert str(Method("squared error", "BPTT", dropout=True)) == "squared error, BPTT, dropout"


# ---- the command


def test_the_text_fits_a_terminal_and_names_every_run(capsys, runs, monkeypatch):
    monkeypatch.chdir(runs)
    result = run(capsys, "report", "s0", "s1", "s2", "held", "wild", "plain")
    assert result.code == 0
    assert all(len(line) <= 80 for line in result.out.splitlines() if "not a run" not in line)
    errors = [last_error(runs / "s0"), last_error(runs / "s1")]
    assert f"{mean(errors):.2f} ({stdev(errors):.2f})" in result.out and "2 of 4 runs finished" in result.out
    for words in (
        "published 12.5 (0.2)*",
        "s2 (1 of 2 epochs)",
        "diverged in epoch 2",
        "not a run: plain",
        "* The poster",
    ):
        assert words in result.out, words


def test_a_seed_that_counts_twice_is_said(capsys, runs, tmp_path):
    shutil.copytree(runs / "s0", tmp_path / "again")
    assert "seed 0 counts 2 times" in run(capsys, "report", runs / "s0", tmp_path / "again").out


def test_markdown_csv_and_latex(capsys, runs, monkeypatch):
    monkeypatch.chdir(runs)
    given = ["report", "s0", "s1", "s2", "plain", "--format"]
    errors = [last_error(runs / "s0"), last_error(runs / "s1")]
    both = f"{mean(errors):.2f} ({stdev(errors):.2f})"
    markdown = run(capsys, *given, "markdown").out
    (line,) = [each for each in markdown.splitlines() if "`s0`" in each]
    assert line.count("|") == 7 and both in line and "unfinished (1 of 2 epochs) (`s2`)" in line and "plain" in markdown
    rows = list(csv.DictReader(io.StringIO(run(capsys, *given, "csv").out)))
    assert [row["run"] for row in rows] == ["s0", "s1", "s2", "plain"]
    assert float(rows[0]["test_error_percent"]) == errors[0] and rows[2]["test_error_percent"] == ""
    assert float(rows[0]["mean"]) == pytest.approx(mean(errors), abs=1e-4) and rows[3]["status"] == "failed"
    latex = run(capsys, *given, "latex").out
    assert both in latex and "12.5 (0.2)$^*$" in latex and "% unfinished, seed 2 (1 of 2 epochs): s2" in latex
    assert latex.count(r"\\") == 2 and r"\end{tabular}" in latex


def test_special_characters_are_escaped(capsys, runs, tmp_path):
    folder = tmp_path / "a|b_<i>&%"
    shutil.copytree(runs / "s0", folder)
    config = folder / "config.toml"
    config.write_text(config.read_text().replace('name = "digits"', 'name = "50%_<i>|"'))
    assert r"50%_<i>\|" in run(capsys, "report", folder, "--format", "markdown").out
    assert r"50\%\_<i>|" in run(capsys, "report", folder, "--format", "latex").out
    out = tmp_path / "page.html"
    assert run(capsys, "report", folder, "--html", out).code == 0
    page = out.read_text("utf-8")
    assert "50%_&lt;i&gt;|" in page and "a|b_&lt;i&gt;&amp;%" in page and "<i>" not in page


def test_the_page_holds_everything_and_needs_nothing_else(capsys, runs, tmp_path):
    out = tmp_path / "page.html"
    names = ("s0", "s1", "s2", "held", "young", "torn", "wild", "plain")
    result = run(capsys, "report", *(runs / name for name in names), "--html", out)
    assert result.code == 0 and f"page in {out}" in result.err
    page = out.read_text("utf-8")
    assert "default-src 'none'" in page and not re.search(r"https?://|src=|@import|url\(|<link", page)
    assert all(str(runs / name) in page for name in names)
    assert page.count("<details ") == 7 and page.count("<svg viewBox") >= 5
    assert "[dynamics]" in page and "openblas" in page.lower()
    assert f"{last_error(runs / 's0'):.2f}" in page


def test_charts_have_room_for_what_they_show():
    assert "circle" in chart({"a": [(1.0, 5.0)]}, "error")
    assert chart({f"{k}": [(1, k), (3, 2 * k)] for k in range(9)}, "error").count("<polyline") == 9
    for top in (1e-9, 0.3, 1, 4, 7.7, 90, 100, 1234):
        assert top / 5 <= _tick(top) <= top


def test_mistakes_are_one_line(capsys, runs, tmp_path):
    (tmp_path / "a.html").write_text("taken")
    for words, code, message in (
        ([], 2, ["RUN..."]),
        ([tmp_path], 2, ["not a run folder"]),
        ([runs / "none"], 2, ["no such folder"]),
        ([runs / "s0", "--html", tmp_path / "a.html"], 2, ["--html", "exists", "--force"]),
        ([runs / "s0", "--html", tmp_path / "a.pdf"], 2, [".html"]),
        ([runs / "s0", "--html", tmp_path / "no" / "a.html"], 8, ["no such folder"]),
        ([runs / "s0", "--format", "word"], 2, ["markdown"]),
    ):
        assert_fails(run(capsys, "report", *words), code, *message)
    assert (tmp_path / "a.html").read_text() == "taken"
    assert run(capsys, "report", runs / "s0", "--html", tmp_path / "a.html", "--force").code == 0


@pytest.mark.skipif(BROWSER is None, reason="no Chromium")
def test_a_link_opens_its_run_in_a_browser(capsys, runs, tmp_path):
    out = tmp_path / "page.html"
    assert run(capsys, "report", runs / "s0", runs / "s1", "--html", out).code == 0
    words = [BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    address = f"{out.as_uri()}#run0-1"
    done = subprocess.run(
        [*words, "--virtual-time-budget=1000", "--dump-dom", address], capture_output=True, text=True, timeout=60
    )
    assert re.search(r'<details id="run0-1" open', done.stdout) and '<details id="run0-0">' in done.stdout


def test_a_survey_is_data(runs):
    row = survey([runs / "s0"]).rows[0]
    assert replace(row, cells=()).mean is None and row.name == "digits" and row.method == "squared error, symmetric"
