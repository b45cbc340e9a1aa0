"""What ``eqnp check`` says and draws."""

from __future__ import annotations

import io
import shlex
import sys

import h5py
import nets
import numpy as np
import pytest
from commands import SMALL_OPTIONS, overrides, run, train_small

from eqnp.analysis.theorem import check_bias, check_steps
from eqnp.cli.checking import shown_name, training_command
from eqnp.cli.options import Place
from eqnp.cli.progress import Progress
from eqnp.cli.stages import Stages
from eqnp.cli.verdicts import percent

DEEP = overrides("model.layers=[{conv=3,kernel=5,stride=2,pool='max'},{dense=12},{dense=10}]", "model.gain=2")
SETTLING = overrides("dynamics.T1=60", "dynamics.T2=20")


def small_check(capsys, *arguments):
    result = run(capsys, "check", "digits", *SMALL_OPTIONS, "--samples", "0:6", *arguments)
    assert result.code == 0, result.err
    return result


def test_the_verdict_is_one_word_with_its_cosine(capsys):
    good = small_check(capsys, *SETTLING, *overrides("dynamics.beta=0.01")).out
    assert "verdict  good: cosine 1.000 with the exact gradient" in good and "none needed" in good


def test_a_cure_is_a_command_that_trains(capsys, tmp_path):
    finished = tmp_path / "run"
    assert train_small(capsys, finished, *DEEP).code == 0
    bad = overrides("dynamics.T1=1", "dynamics.T2=1")
    out = run(capsys, "check", finished, *bad, "--samples", "0:6").out
    assert "verdict  good" not in out and "\ncause    " in out and "\ncure     " in out
    (command,) = [line.strip() for line in out.splitlines() if line.startswith("  eqnp train ")]
    words = shlex.split(command)
    assert words[:3] == ["eqnp", "train", str(finished / "config.toml")] and set(words[3::2]) == {"--set"}
    keys = [word.partition("=")[0] for word in words[4::2]]
    assert {"dynamics.T1", "dynamics.T2"} <= set(keys) and len(keys) == len(set(keys)), "each key once"
    result = run(capsys, *words[1:], *overrides("training.epochs=1"), "--out", tmp_path / "cured")
    assert result.code == 0, result.err


def test_a_preset_is_trained_by_its_name():
    assert training_command(None, []) == ["eqnp", "train"]
    assert training_command(None, [], Place("cupy").words()) == ["eqnp", "train", "--backend", "cupy"]
    assert training_command("small-vf", ["dynamics.beta=2"]) == [
        *shlex.split("eqnp train small-vf --set dynamics.beta=2")
    ]


def test_T2_is_never_cut_to_T1(capsys, tmp_path):
    """BPTT goes back through T2 of T1 steps; the verdict needs no such thing and is about the T2 that is shown."""
    out = tmp_path / "check"
    short = overrides("dynamics.T1=4", "dynamics.T2=8")
    result = small_check(capsys, *short, "--out", out, "--plots", "none")
    assert "T1 4, T2 8" in result.out and "EP against BPTT: not measured" in result.out and "T1 is only 4" in result.out
    with h5py.File(out / "check.h5") as file:
        assert file["settings/T2"][()] == 8 and "steps" not in file and "cosine" in file["verdict"]


def test_other_schedules_and_tolerances_are_judged_as_configured_and_said(capsys):
    way = overrides("dynamics.schedule=even-odd", "dynamics.omega=1.3", "dynamics.tolerance=0.3")
    out = small_check(capsys, *way).out
    assert "steps and omega 1, which BPTT requires." in " ".join(out.split())
    assert "even-odd, omega 1.3, tolerance 0.3" in " ".join(out.split()) and "measured with synchronous steps" in out


def test_what_is_left_out_is_said(capsys):
    out = small_check(capsys, *overrides("training.algorithm=bptt", "model.layers.0.keep=0.8")).out
    assert "the verdict is about EP" in out and "Measured without dropout." in out
    plain = small_check(capsys).out
    assert "BPTT;" not in plain and "dropout" not in plain


def test_the_file_holds_the_verdict(capsys, tmp_path):
    out = tmp_path / "check"
    small_check(capsys, *DEEP, "--out", out, "--plots", "none", *overrides("dynamics.T1=2"))
    with h5py.File(out / "check.h5") as file:
        verdict = file["verdict"]
        assert verdict["samples"][()] == verdict["of"][()] == 6 and -1 <= verdict["cosine"][()] <= 1
        lack = 1 - verdict["stages/configured/cosine"][()]
        assert sum(part[()] for part in verdict["parts"].values()) == pytest.approx(lack)
        assert verdict["cause"][()].decode() in verdict["parts"]
        assert {"bias", "bias_all", "rounding", "slope", "slope_error", "order"} <= set(file["bias/symmetric"])
        assert file["settings/of"][()].decode() == "digits" and file["settings/estimator"][()].decode() == "symmetric"


@pytest.mark.parametrize("kind", ["symmetric", "vector-field"])
@pytest.mark.parametrize("columns", [60, 80])
def test_the_text_fits_narrow_terminals(capsys, monkeypatch, columns, kind):
    monkeypatch.setenv("COLUMNS", str(columns))
    settings = overrides(f"model.kind={kind}", "dynamics.schedule=even-odd", "dynamics.T1=2", "dynamics.beta=2")
    for line in small_check(capsys, *settings).out.splitlines():
        assert len(line) < columns or line.startswith("  eqnp train"), line


def test_the_bias_of_all_samples_stands_beside_that_of_those_that_do_not_switch():
    case = nets.make("max", activation="half_hard_sigmoid", gain=1.5, samples=12)
    bias = check_bias(case.network, case.parameters, case.x, case.target, 2.0, 500)
    assert bias["samples"] < bias["all"] == 12
    for name in ("one-sided", "symmetric"):
        assert bias[name]["bias_all"][0] > 3 * bias[name]["bias"][0]


def test_a_slope_is_fitted_above_rounding_only():
    case = nets.make("max", "squared_error")

    def four_point(beta):
        return check_bias(case.network, case.parameters, case.x, case.target, beta, 500)["four-point"]

    large, middle, tiny = four_point(0.1), four_point(0.01), four_point(1e-4)
    assert large["fitted"] == 6 and abs(large["slope"] - 4) < large["slope_error"] + 0.1
    assert 3 <= middle["fitted"] < 6 and abs(middle["slope"] - 4) < middle["slope_error"] + 0.1
    assert np.isnan(tiny["slope"]) and np.isnan(tiny["slope_error"]) and tiny["fitted"] < 3


# ---- figures


@pytest.fixture
def plots():
    pytest.importorskip("matplotlib")
    from eqnp.analysis import plots

    return plots


def numbers(axis):
    low, high = axis.get_ylim()
    labels = zip(axis.get_yticks(), axis.get_yticklabels(), strict=True)
    return [label.get_text() for tick, label in labels if low <= tick <= high and label.get_text()]


@pytest.mark.parametrize("spread", [1.0, 1.000001, 1.2, 4, 30, 1e6])
def test_the_axis_of_a_bias_has_numbers(plots, spread):
    betas = 0.5 / 2.0 ** np.arange(6)
    row = {"bias": np.geomspace(0.13, 0.13 / spread, 6), "rounding": np.full(6, 1e-15), "slope": 0.0}
    row |= {"bias_all": row["bias"]}
    bias = {"betas": betas, "samples": 3, "all": 4} | dict.fromkeys(("one-sided", "symmetric", "four-point"), row)
    figure = plots.plot_bias(bias, "small-vf: T1 40")
    figure.canvas.draw() if hasattr(figure.canvas, "draw") else None
    assert len(numbers(figure.axes[0])) >= 2
    assert figure.get_suptitle() == "small-vf: T1 40"


def test_figures_carry_a_title(plots):
    case = nets.make("max")
    steps = check_steps(case.network, case.parameters, case.x, case.target, 20, 4, 0.1)
    for draw in (plots.plot_cumulative, plots.plot_ratio):
        title = draw(steps, "runs/$d: T1 20, T2 4, beta 0.1, symmetric, 3 test samples").get_suptitle()
        assert " ".join(title.split()) == r"runs/\$d: T1 20, T2 4, beta 0.1, symmetric, 3 test samples"
    data = io.BytesIO()
    plots.plot_ratio(steps, "runs/$a$b_c\u0444").savefig(data, format="png")


def test_a_title_names_the_run_and_its_settings(capsys, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    figures = pytest.importorskip("eqnp.runs.figures")
    seen = []
    monkeypatch.setattr(figures, "save_figure", lambda figure, path: seen.append((path.stem, figure.get_suptitle())))
    small_check(capsys, *SETTLING, "--out", tmp_path / "a")
    small_check(capsys, "--settle", "--steps", "60", "--out", tmp_path / "b")
    assert {name for name, _ in seen} >= {"cumulative", "ratio", "settling"}
    for _, title in seen:
        words = " ".join(title.split())
        assert "digits: " in words and "beta 0.5" in words and "T1 " in words and "6 test samples" in words


def test_a_name_that_is_no_text_is_shown(tmp_path):
    assert shown_name(None, "best") == "digits"
    assert shown_name("a\x1bb\udcff", "best") == "a?b\ufffd"
    assert shown_name(str(tmp_path), "last") == f"{tmp_path} (last.h5)"


# ---- progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_stages_show_what_is_measured_and_the_time_left(monkeypatch):
    monkeypatch.setattr("eqnp.cli.progress.LIVE_SECONDS", 0.0)
    monkeypatch.delenv("TERM", raising=False)
    stream = Terminal()
    with Stages(Progress(stream=stream)) as stages:
        stages.expect(6)
        for k in range(6):
            stages.stage(f"stage {k}")
        stages.detail("step 50")
        stages.stage("one more")
    text = stream.getvalue()
    assert text.rpartition("one more")[0].endswith("check 7  "), "the time left is not known any more"
    assert "check 1/6  stage 0" in text and "check 6/6  left 0:00  stage 5  step 50" in text
    assert "left" not in text.split("check 4/6")[0] and text.endswith("\r\x1b[K")


def test_a_quick_check_whose_stderr_is_no_terminal_prints_nothing_there(capsys):
    assert small_check(capsys, *SETTLING).err == ""


@pytest.mark.parametrize("more", [[], ["--settle", "--steps", "60"]], ids=" ".join)
def test_a_terminal_sees_the_check_go_on(capsys, monkeypatch, more):
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr("eqnp.cli.progress.LIVE_SECONDS", 0.0)
    monkeypatch.delenv("TERM", raising=False)
    small_check(capsys, *more)
    counts = [part.split()[1].split("/") for part in stream.getvalue().split("\r\x1b[K") if part]
    assert len(counts) > 10 and all(int(begun) <= int(of) for begun, of in counts)
    assert "left" in stream.getvalue()


def test_keys_that_change_nothing_say_so(capsys, tmp_path):
    """An evaluation nudges nothing; a check does, but smooths no labels."""
    folder = tmp_path / "run"
    assert train_small(capsys, folder).code == 0
    keys = ("dynamics.T1=5", "dynamics.beta=0.3", "training.estimator=one-sided", "training.label_smoothing=0.1")
    of = {}
    for command, more in (("evaluate", []), ("check", ["--samples", "0:3"])):
        out = run(capsys, command, folder, *more, *overrides(*keys)).out
        lines = [line for line in out.splitlines() if " instead of " in line]
        of[command] = ["(no effect here)" in line for line in lines]
    assert of == {"evaluate": [False, True, True, True], "check": [False, False, False, True]}


def test_percent():
    assert [percent(x) for x in (2.5, 0.178, 1e-5, 3e7)] == ["250 %", "17.8 %", "0.001 %", "3e+09 %"]


def test_no_verdict_is_said(capsys):
    result = small_check(capsys, *DEEP, "--steps", "2")
    assert "verdict  none: 0 of 6 samples settle in 2 steps" in result.out
    grown = small_check(capsys, *DEEP, *overrides("model.activation=relu", "model.gain=9"))
    text = " ".join(grown.out.split())
    assert "verdict none: the states of 6 of 6 samples grow without limit; lower model.gain, or train with" in text
    assert all(len(line) <= 80 for line in grown.out.splitlines())


def test_a_sweep_up_or_down_counts_as_a_step_through_every_layer(capsys, tmp_path):
    way = overrides("dynamics.schedule=up-down", "dynamics.T1=3", "dynamics.T2=2", "model.loss=squared_error")
    out = small_check(capsys, *way, "--out", tmp_path / "check", "--plots", "none").out
    assert "BPTT requires; 2 for each sweep, since a sweep up or down crosses 2 layers" in " ".join(out.split())
    with h5py.File(tmp_path / "check" / "check.h5") as file:
        assert file["settings/steps_per_sweep"][()] == 2
        errors = file["steps/symmetric/forward.1.weight/errors"]
        assert errors.shape == (4,)
