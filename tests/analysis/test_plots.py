"""Curves by name can be told apart, however many there are."""

import pytest

from eqnp.analysis.plots import plot_curves


@pytest.mark.parametrize("count", [2, 8])
def test_each_curve_has_a_name_and_a_marker_of_its_own(count):
    pytest.importorskip("matplotlib")
    names = [f"curve {n}" for n in range(count)]
    figure = plot_curves([1, 2], {name: [0.0, 1.0] for name in names}, "epoch", "error")
    (axis,) = figure.axes
    legend = axis.get_legend() or figure.legends[0]
    assert [text.get_text() for text in legend.get_texts()] == names
    assert len({line.get_marker() for line in axis.get_lines()}) == count


def test_the_names_of_many_curves_hide_none_of_them():
    pytest.importorskip("matplotlib")
    figure = plot_curves([1, 2], {str(n): [0.0, 1.0] for n in range(8)}, "epoch", "error")
    figure.draw_without_rendering()
    assert figure.legends[0].get_window_extent().x0 >= figure.axes[0].get_window_extent().x1
