"""``eqnp plot`` and the curves that ``eqnp train`` leaves: what is drawn, from which runs, and what is said."""

from __future__ import annotations

import shutil
import sys

import numpy as np
import pytest
from commands import SMALL_OPTIONS, assert_fails, overrides, run

import eqnp
from eqnp.analysis.panels import (
    LINES,
    Curves,
    Panel,
    compared_panels,
    distinct_names,
    exact_panel,
    gradient_panel,
    plot_panels,
    residual_panel,
    run_panels,
    shortened,
)
from eqnp.analysis.watching import watch_free_phase
from eqnp.api.plotting import draw_runs, read_curves
from eqnp.api.session import open_run
from eqnp.backends.backend import get_backend
from eqnp.cli.main import main

pytest.importorskip("matplotlib")
FIELD = overrides("model.kind=vector-field", "model.layers=[{conv=3,kernel=5,pool='max'},{dense=8},{dense=10}]")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with the runs ``plain`` and ``field``; tests must not change them."""
    folder = tmp_path_factory.mktemp("runs")
    for name, more in (("plain", []), ("field", FIELD)):
        assert main(["train", "--quiet", "--out", str(folder / name), *SMALL_OPTIONS, *more]) == 0
    return folder


def numpy():
    return get_backend("numpy")


def titles(figure):
    return [axis.get_title() for axis in figure.axes if axis.get_visible()]


@pytest.mark.parametrize(("ending", "magic"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".PDF", b"%PDF")])
def test_the_ending_says_the_format(capsys, runs, tmp_path, ending, magic):
    out = tmp_path / f"figure{ending}"
    result = run(capsys, "plot", runs / "plain", "--out", out, "--what", "curves")
    assert (result.code, result.out) == (0, f"figure in {out}\n")
    assert out.read_bytes().startswith(magic)


def test_one_run_shows_all_that_it_has(runs):
    messages = []
    plain = draw_runs([runs / "plain"], backend=numpy, message=messages.append)
    measured = ["activity in the free phase", "residual of the free phase"]
    assert titles(plain) == ["error", "loss", *measured, "norm of the gradient"]
    field = draw_runs([runs / "field"], backend=numpy, message=messages.append)
    assert titles(field)[-2:] == ["forward against backward weights", "norm of the gradient"] and not messages
    assert [text.get_text() for text in field.axes[4].get_legend().get_texts()] == ["backward.1"]


def test_several_runs_share_their_panels_and_one_legend(runs):
    figure = draw_runs([runs / "plain", runs / "field"], backend=numpy)
    assert titles(figure) == ["test error", "training error", "test loss", "training loss"]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["plain", "field"]
    line = figure.axes[0].get_lines()[0]
    errors = [row["test_error_percent"] for row in eqnp.open_run(runs / "plain").metrics]
    np.testing.assert_array_equal(line.get_ydata(), errors)


def test_lines_differ_without_their_colours():
    assert len({str(style) for _, style, _ in LINES}) == len({marker for _, _, marker in LINES}) == len(LINES)


def test_the_measured_free_phase_is_the_one_of_the_run(runs):
    session, state = open_run(runs / "plain", numpy, (), "best")
    x, _ = session.samples("test", [0, 1, 2])
    measured = watch_free_phase(session.learner, state.parameters, x)
    opened = eqnp.open_run(runs / "plain")
    (states,) = opened.states(session.dataset.test_images[:3])
    assert list(measured["steps"]) == [0, 1, 2, 3, 4]
    assert measured["activity"]["s1: conv 3, 5x5 / 2"][-1] == pytest.approx(abs(states).mean(), rel=1e-5)
    relaxed = eqnp.relax(opened.network, opened.parameters, x, opened.config.dynamics.T1)
    assert measured["largest"][-1] == np.float32(relaxed.residual)
    assert (measured["median"] <= measured["largest"]).all()


def test_norms_of_the_gradient_are_drawn_where_metrics_have_them():
    run = Curves("a", [1, 2], {"epoch": [1, 2], "gradient_norm_forward.0.weight": [2.0, 1.0], "train_loss": [1, 1]})
    panel = gradient_panel(run)
    assert panel.log and panel.lines == {"forward.0.weight": ([1, 2], [2.0, 1.0])}
    assert gradient_panel(Curves("a", [1], {"train_loss": [1.0]})) is None


def test_the_angle_with_the_exact_gradient_is_drawn_where_it_was_measured():
    nan = float("nan")
    panel = exact_panel(Curves("a", [1, 2, 3, 4], {"angle_exact": [nan, 8.0, nan, 5.0], "train_loss": [1] * 4}))
    assert panel.lines == {"all parameters": ((2, 4), (8.0, 5.0))}
    assert exact_panel(Curves("a", [1], {"train_loss": [1.0]})) is None
    assert exact_panel(Curves("a", [1], {"angle_exact": [nan]})) is None


def test_measured_angles_are_drawn_by_plot_and_by_train(capsys, tmp_path, curves_are_drawn):
    out = tmp_path / "a.svg"
    trained = run(capsys, "train", "--out", tmp_path / "run", *SMALL_OPTIONS, *overrides("training.check_every=1"))
    assert trained.code == 0 and trained.err.count(" degrees from the exact gradient") == 2
    assert run(capsys, "plot", tmp_path / "run", "--what", "angles", "--out", out).code == 0
    assert "estimate against exact gradient" in titles(draw_runs([tmp_path / "run"], backend=numpy))


def test_a_residual_of_zero_is_said_and_every_step_has_its_place():
    settling = {"steps": np.arange(5), "largest": np.array([1.0, 0.1, 0, 0]), "median": np.array([0.5, 0, 0, 0])}
    panel = residual_panel(settling)
    assert panel.xlabel == "step; residual 0 from step 3"
    low, high = plot_panels([panel]).axes[0].get_xlim()
    assert low < 1 and high > 4
    assert residual_panel(settling | {"largest": np.ones(4)}).xlabel == "step"


def test_a_validation_set_is_named():
    of = {
        "train_error_percent": [2.0],
        "validation_error_percent": [3.0],
        "train_loss": [1.0],
        "validation_loss": [1.5],
    }
    held, plain = Curves("a", [1], of), Curves("b", [1], {"test_error_percent": [4.0]})
    assert list(run_panels(held)[0].lines) == ["validation", "training"]
    assert compared_panels([held])[0].title == "validation error"
    both = compared_panels([held, plain])[0]
    assert both.title == "validation or test error" and list(both.lines) == ["a (validation)", "b (test)"]


def test_names_tell_runs_apart():
    assert distinct_names([("x", "a"), ("x", "b")]) == ["a", "b"]
    assert distinct_names([("x", "1", "a"), ("x", "2", "a"), ("y", "b")]) == ["1/a", "2/a", "b"]
    assert distinct_names([("a",), ("x", "a")]) == ["a", "x/a"]
    assert len(shortened("a" * 400)) == 90 and shortened("short") == "short"


@pytest.mark.parametrize("width", [2, 3.3, 12])
def test_long_names_and_narrow_figures_are_drawn(width):
    names = [f"sweep/seed={k},lr=0.1,beta=0.5," * 4 for k in range(9)]
    lines = {name: ([1, 2, 3], [3.0, float("nan"), k]) for k, name in enumerate(names)}
    figure = plot_panels(
        [Panel("error", "epoch", "%", lines), Panel("loss", "epoch", "$x_", lines, log=True)], "$", width
    )
    figure.canvas.draw()
    assert figure.get_size_inches()[0] == pytest.approx(width)


def test_mistakes_are_one_line(capsys, runs, tmp_path):
    plain, out = runs / "plain", tmp_path / "a.png"
    shutil.copytree(plain, tmp_path / "young")
    (tmp_path / "young" / "metrics.csv").unlink()
    shutil.copytree(plain, tmp_path / "old")
    rows = (plain / "metrics.csv").read_text().splitlines()
    kept = [n for n, name in enumerate(rows[0].split(",")) if not name.startswith("gradient_norm")]
    old = [",".join(row.split(",")[n] for n in kept) for row in rows]
    (tmp_path / "old" / "metrics.csv").write_text("\n".join(old) + "\n")
    out.write_text("taken")
    for words, code, message in (
        ([plain], 2, ["a.png", "exists", "--force"]),
        ([plain, "--out", tmp_path / "a.gif"], 2, [".png, .svg or .pdf"]),
        ([plain, "--out", tmp_path / "none" / "b.png"], 8, ["no such folder"]),
        ([tmp_path, "--out", tmp_path / "b.png"], 2, ["not a run folder"]),
        ([plain, tmp_path, "--out", tmp_path / "b.png"], 2, ["not a run folder"]),
        (
            [tmp_path / "young", "--out", tmp_path / "b.png", "--what", "curves"],
            2,
            ["no epoch is finished", "--resume"],
        ),
        ([plain, "--out", tmp_path / "b.png", "--what", "angles"], 2, ["no angles", "vector-field"]),
        ([tmp_path / "old", "--out", tmp_path / "b.png", "--what", "gradients"], 2, ["no gradients"]),
        ([plain, runs / "field", "--out", tmp_path / "b.png", "--what", "residual"], 2, ["residual", "one run"]),
        ([], 2, ["RUN..."]),
    ):
        given = words if "--out" in words or not words else [*words, "--out", out]
        assert_fails(run(capsys, "plot", *given), code, *message)
    assert out.read_text() == "taken"
    assert run(capsys, "plot", plain, "--out", out, "--force", "--what", "curves").code == 0


def test_what_cannot_be_measured_is_left_out_and_said(capsys, runs, tmp_path):
    shutil.copytree(runs / "plain", tmp_path / "run")
    (tmp_path / "run" / "best.h5").unlink()
    result = run(capsys, "plot", tmp_path / "run", "--out", tmp_path / "a.svg")
    assert result.code == 0 and "without activity: " in result.err and "best.h5" in result.err
    assert "residual of the free phase" not in (tmp_path / "a.svg").read_text()


# ---- the curves of eqnp train


def test_train_leaves_its_curves(capsys, tmp_path, curves_are_drawn):
    result = run(capsys, "train", "--out", tmp_path / "run", *SMALL_OPTIONS)
    assert result.code == 0 and f"curves in {tmp_path / 'run' / 'curves.png'}" in result.err
    first = (tmp_path / "run" / "curves.png").read_bytes()
    assert first.startswith(b"\x89PNG")
    assert run(capsys, "train", "--resume", tmp_path / "run", "--epochs", "3", "--quiet").code == 0
    assert (tmp_path / "run" / "curves.png").read_bytes() != first
    assert len(read_curves(tmp_path / "run").epochs) == 3


def test_a_failing_or_missing_matplotlib_does_not_fail_a_run(capsys, tmp_path, curves_are_drawn, monkeypatch):
    def broken(*args, **options):
        raise RuntimeError("no fonts")

    monkeypatch.setattr("eqnp.api.plotting.plot_panels", broken)
    result = run(capsys, "train", "--out", tmp_path / "a", *SMALL_OPTIONS)
    assert result.code == 0 and "without curves.png: no fonts" in result.err
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    result = run(capsys, "train", "--out", tmp_path / "b", *SMALL_OPTIONS)
    assert result.code == 0 and "curves" not in result.err
    monkeypatch.undo()
    result = run(capsys, "train", "--out", tmp_path / "c", *SMALL_OPTIONS, "--epochs", "0")
    assert result.code == 0 and not (tmp_path / "c" / "curves.png").exists()


def test_without_matplotlib_its_package_is_named(capsys, runs, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    result = run(capsys, "plot", runs / "plain", "--out", tmp_path / "a.png", "--what", "curves")
    assert_fails(result, 4, "pip install matplotlib")
    assert "--plots" not in result.err
