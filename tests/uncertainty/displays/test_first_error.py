"""The plot of one path's first-error distribution: bars, set, mark and curve are the path's own."""

import numpy as np
import pytest

from prmkit.data import Solution
from prmkit.metrics import credible_set
from prmkit.scoring import ScoredSolution
from prmkit.uncertainty import FirstErrorDisplay

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
plt = pytest.importorskip("matplotlib.pyplot")


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture
def scored():
    steps = ["3 * 4 = 12.", r"so $\frac{12$", "", "x " * 300]  # broken LaTeX must not stop the plot
    proba = [[0.1, 0.9], [0.6, 0.4], [0.02, 0.98], [0.3, 0.7]]
    return ScoredSolution(Solution("What is $x^$?", steps), proba, [-1, 1])


def bars(ax, label=None):
    """Height of each bar by its place; of one legend entry, or of all."""
    chosen = [c for c in ax.containers if label in (None, c.get_label())]
    return {round(b.get_y() + b.get_height() / 2): b.get_width() for c in chosen for b in c}


def test_a_bar_for_each_step_and_one_for_no_error(scored, tmp_path):
    display = FirstErrorDisplay.from_scored(scored, level=0.9)
    ax, distribution = display.ax_, scored.first_error_distribution
    heights = bars(ax)
    np.testing.assert_allclose([heights[place] for place in range(5)], distribution)
    assert [text.get_text() for text in ax.texts] == [f"{value:.2f}" for value in distribution]
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert labels[0] == "3 * 4 = 12.  0"
    assert labels[2:] == ["(empty step)  2", labels[3], "no error"]
    assert len(labels[3]) < 60
    assert labels[3].endswith("…  3")
    display.figure_.savefig(tmp_path / "first_error.png")
    assert (tmp_path / "first_error.png").stat().st_size > 10_000


def test_the_credible_set_is_in_colour(scored):
    distribution = scored.first_error_distribution  # 0.1, 0.54, 0.0072, 0.106, 0.247
    for level, places in ((0.5, {1}), (0.6, {1, 4}), (0.9, {1, 3, 4, 0}), (1.0, {0, 1, 2, 3, 4})):
        display = FirstErrorDisplay.from_scored(scored, level=level)
        assert display.outcomes == credible_set(distribution, level)
        assert set(bars(display.ax_, f"{level:.0%} credible set")) == places
        assert set(bars(display.ax_, "outside")) == set(range(5)) - places


def test_a_given_set_takes_its_place(scored):
    display = FirstErrorDisplay.from_scored(scored, prediction_set={-1, 2})
    assert set(bars(display.ax_, "prediction set")) == {2, 4}
    assert "credible" not in " ".join(text.get_text() for text in display.ax_.get_legend().get_texts())


@pytest.mark.parametrize(("first_error", "place"), [(0, 0), (3, 3), (-1, 4), (None, None)])
def test_the_labelled_first_error_is_marked(scored, first_error, place):
    ax = FirstErrorDisplay.from_scored(scored, first_error=first_error).ax_
    marked = [line.get_ydata()[0] for line in ax.lines if line.get_label() == "labelled first error"]
    assert marked == ([] if place is None else [place])


def test_the_thin_line_is_the_survival_curve(scored):
    ax = FirstErrorDisplay.from_scored(scored).ax_
    line = next(line for line in ax.lines if line.get_label() == "P(no error so far)")
    np.testing.assert_allclose(line.get_xdata(), np.cumprod(1 - scored.risks))
    np.testing.assert_allclose(line.get_ydata(), range(4))


def test_given_axes_are_used(scored):
    figure, ax = plt.subplots()
    display = FirstErrorDisplay.from_scored(scored, ax=ax)
    assert display.ax_ is ax
    assert display.figure_ is figure
    assert display.plot(ax=ax) is display
    assert plt.get_fignums() == [figure.number]


def test_what_cannot_be_drawn_is_refused(scored):
    with pytest.raises(TypeError, match="score it first"):
        FirstErrorDisplay.from_scored(scored.solution)
    with pytest.raises(TypeError, match="expected one ScoredSolution"):
        FirstErrorDisplay.from_scored([scored])
    with pytest.raises(ValueError, match=r"first_error holds 4, expected -1 \(no error\) to 3"):
        FirstErrorDisplay.from_scored(scored, first_error=4)
    with pytest.raises(ValueError, match="prediction_set holds -2"):
        FirstErrorDisplay.from_scored(scored, prediction_set={0, -2})
    with pytest.raises(ValueError, match="level"):
        FirstErrorDisplay.from_scored(scored, level=0)
