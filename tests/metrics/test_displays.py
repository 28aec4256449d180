"""The plots: what they show must be the report's and the path's own numbers."""

import sys

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.model_selection import GridSearchCV

from prmkit import PRMClassifier
from prmkit.data import Solution, make_arithmetic_solutions
from prmkit.features import StepStatistics
from prmkit.metrics import StepReportDisplay
from prmkit.scoring import PathDisplay, ScoredSolution

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
plt = pytest.importorskip("matplotlib.pyplot")


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture
def predictions():
    rng = np.random.default_rng(0)
    y = rng.choice([-1, 1], 120)
    risk = np.clip(0.5 - 0.2 * y + 0.2 * rng.normal(size=120), 0, 1)
    return y, np.c_[risk, 1 - risk]


def test_report_display_shows_the_report(predictions, tmp_path):
    y, proba = predictions
    options = {"groups": np.arange(120) // 4, "positions": np.arange(120) % 4, "n_resamples": 20}
    display = StepReportDisplay.from_predictions(y, proba, **options)
    metrics, curves = display.axes_
    model = [line for line in metrics.lines if line.get_color() == "#1f5fa8"]
    shown = [line.get_xdata()[0] for line in model]
    assert shown[3] == display.report.metrics["model"]["auroc"].value
    labels = [text.get_text() for text in curves.get_legend().get_texts()]
    assert f"model (AP {average_precision_score(y == -1, proba[:, 0]):.2f})" in labels
    assert {label.split()[0] for label in labels} == {"model", "position", "majority"}
    display.figure_.savefig(tmp_path / "report.png")
    assert (tmp_path / "report.png").stat().st_size > 10_000


def test_report_display_draws_into_given_axes_and_without_negatives(predictions):
    _, proba = predictions
    figure, axes = plt.subplots(1, 2)
    display = StepReportDisplay.from_predictions(np.ones(120), proba, classes=[-1, 1], ax=axes)
    assert display.figure_ is figure
    assert not display.curves
    with pytest.raises(ValueError, match="two axes"):
        display.plot(ax=axes[0])


def test_report_display_from_an_estimator():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 2)), rng.choice([-1, 1], 60)
    classifier = LogisticRegression().fit(X, y)
    display = StepReportDisplay.from_estimator(classifier, X, y, groups=np.arange(60) // 3, n_resamples=10)
    assert display.report.metrics["model"]["accuracy"].value == classifier.score(X, y)


def test_report_display_finds_steps_and_the_order_of_labels_inside_a_wrapper():
    data = make_arithmetic_solutions(30, 2, random_state=0)
    y = np.where(np.asarray(data.y) == -1, "b_broken", "a_fine")
    inner = PRMClassifier(StepStatistics(), label_order=["b_broken", "a_fine"])
    classifier = GridSearchCV(inner, {"random_state": [0]}, cv=2).fit(data.X, y)
    display = StepReportDisplay.from_estimator(classifier, data.X, y, n_resamples=5)
    assert display.report.classes == ("b_broken", "a_fine")
    assert display.report.n_problems == 30
    assert set(display.curves) == {"model", "position", "majority"}
    above = StepReportDisplay.from_estimator(classifier, data.X, y, threshold=0.3, n_resamples=0).report
    assert above.threshold == 0.3


def test_path_display_shows_risks_and_first_errors(tmp_path):
    steps = ["3 * 4 = 12.", r"so $\frac{12", "", "x" * 300]  # broken LaTeX must not stop the plot
    proba = [[0.1, 0.9], [0.6, 0.4], [0.2, 0.8], [0.3, 0.7]]
    first = ScoredSolution(Solution("What is $x^?", steps), proba, [-1, 1])
    second = ScoredSolution(Solution("", ["done"]), [[0.1, 0.9]], [-1, 1])
    display = PathDisplay.from_scored([first, second])
    assert display.axes_.shape == (2, 3)
    risk_axis, first_axis, entropy_axis = display.axes_[0]
    np.testing.assert_allclose([bar.get_width() for bar in risk_axis.patches], first.risks)
    np.testing.assert_allclose([bar.get_width() for bar in first_axis.patches], first.first_error_distribution)
    np.testing.assert_allclose(entropy_axis.lines[0].get_xdata(), first.entropy)
    display.figure_.savefig(tmp_path / "path.png")
    assert (tmp_path / "path.png").stat().st_size > 10_000


def test_path_display_draws_into_given_axes():
    scored = ScoredSolution(Solution("p", ["a", "b"]), [[0.1, 0.9], [0.6, 0.4]], [-1, 1])
    figure, axes = plt.subplots(2, 3)
    display = PathDisplay.from_scored(scored, axes=axes[0])
    assert display.figure_ is figure
    assert display.plot(axes[1]).axes_[0, 0] is axes[1, 0]
    assert len(axes[0, 0].patches) == len(axes[1, 0].patches) == 2


def test_path_display_refuses_what_was_not_scored():
    with pytest.raises(TypeError, match="score it first"):
        PathDisplay.from_scored([Solution("p", ["s"])])


def test_without_matplotlib_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    scored = ScoredSolution(Solution("p", ["s"]), [[0.1, 0.9]], [-1, 1])
    with pytest.raises(ImportError, match="pip install matplotlib"):
        PathDisplay.from_scored(scored)
