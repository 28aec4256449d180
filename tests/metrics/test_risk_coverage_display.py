"""The picture of selective prediction: its lines are the curves, its labels their areas."""

import numpy as np
import pytest

from prmkit.metrics import RiskCoverageDisplay, aurc, risk_coverage_curve

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
plt = pytest.importorskip("matplotlib.pyplot")


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture
def decisions():
    rng = np.random.default_rng(0)
    uncertainty = rng.random(240)
    return (rng.random(240) < uncertainty / 2).astype(float), uncertainty, np.arange(240) // 4


def test_lines_are_the_curves_beside_oracle_and_random(decisions, tmp_path):
    loss, uncertainty, groups = decisions
    noise = np.random.default_rng(1).random(240)
    display = RiskCoverageDisplay.from_predictions(
        loss, {"entropy": uncertainty, "noise": noise}, groups, n_resamples=30
    )
    lines = {line.get_label().split(" (")[0]: line for line in display.ax_.lines}
    assert list(lines) == ["entropy", "noise", "random", "oracle"]
    for name, values in (("entropy", uncertainty), ("noise", noise), ("oracle", loss)):
        curve = risk_coverage_curve(loss, values)
        np.testing.assert_array_equal(lines[name].get_xdata(), curve.coverages)
        np.testing.assert_array_equal(lines[name].get_ydata(), curve.risks)
        assert f"AURC {aurc(loss, values):.3f}" in lines[name].get_label()
    np.testing.assert_allclose(lines["random"].get_ydata(), loss.mean())
    assert len(display.ax_.collections) == 1  # the band of the first
    coverages, low, high = display.bands["entropy"]
    at_all = np.flatnonzero(coverages == 1.0)[0]
    assert low[at_all] < loss.mean() < high[at_all]
    display.figure_.savefig(tmp_path / "curve.png")
    assert (tmp_path / "curve.png").stat().st_size > 10_000


def test_one_array_and_given_axes(decisions):
    loss, uncertainty, _ = decisions
    figure, ax = plt.subplots()
    display = RiskCoverageDisplay.from_predictions(loss, uncertainty, ax=ax)
    assert display.figure_ is figure
    assert display.ax_ is ax
    assert not display.bands
    assert display.ax_.get_xlabel().startswith("coverage")


def test_many_decisions_are_thinned_but_keep_their_ends():
    rng = np.random.default_rng(0)
    loss, uncertainty = rng.random(5000), rng.random(5000)
    line = RiskCoverageDisplay.from_predictions(loss, uncertainty).ax_.lines[0]
    assert len(line.get_xdata()) == 1000
    assert line.get_xdata()[-1] == 1.0
    assert line.get_ydata()[-1] == pytest.approx(loss.mean())


def test_equal_losses_and_single_problems_are_drawn():
    display = RiskCoverageDisplay.from_predictions([0, 0, 0], [1, 2, 3], groups=[0, 0, 0])
    assert not display.bands  # one problem: nothing to resample
    assert display.ax_.get_ylim()[1] > 0


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="uncertainties is empty"):
        RiskCoverageDisplay.from_predictions([0, 1], {})
    with pytest.raises(ValueError, match="groups has 1 rows"):
        RiskCoverageDisplay.from_predictions([0, 1], [1, 2], groups=[0])
    with pytest.raises(ValueError, match="NaN"):
        RiskCoverageDisplay.from_predictions([0, 1], [1, float("nan")])


def test_no_area_is_written_where_none_is_defined():
    for loss in ([0, 0, 0], [1, 1, 1], [0.3, 0.1 + 0.2, 0.3]):
        ax = RiskCoverageDisplay.from_predictions(loss, [1, 2, 3]).ax_
        texts = [text.get_text() for text in ax.get_legend().get_texts()]
        assert texts == [f"{name} (AURC undefined)" for name in ("uncertainty", "random", "oracle")]


@pytest.mark.parametrize("loss", [[1, 1, 1, 0, 1, 1], [0, 0, 0, 1, 0, 0]])
def test_the_legend_lies_above_all_lines(loss):
    for ax in (None, plt.subplots(figsize=(4, 3))[1]):
        display = RiskCoverageDisplay.from_predictions(loss, {"a": range(6), "b": [3, 1, 2, 6, 5, 4]}, ax=ax)
        display.figure_.canvas.draw()
        lowest = display.ax_.get_legend().get_window_extent().y0
        mean = display.ax_.transData.transform((1.0, np.mean(loss)))[1]
        assert mean < lowest
