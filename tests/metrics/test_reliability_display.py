"""The reliability diagram shows the numbers that scikit-learn and the error functions compute."""

import sys

import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV, calibration_curve
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

from prmkit import PRMClassifier
from prmkit.data import make_arithmetic_solutions
from prmkit.features import StepStatistics
from prmkit.metrics import ReliabilityDisplay, expected_calibration_error

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
    prob = rng.beta(1, 2, 900)
    return rng.random(900) < prob, {"before": prob**2, "after": prob}


def test_it_draws_curve_counts_and_error(predictions, tmp_path):
    event, probs = predictions
    display = ReliabilityDisplay.from_predictions(event, probs, n_bins=10, event_name="class -1")
    lines = {line.get_label(): line for line in display.ax_.lines}
    for name, prob in probs.items():
        share, mean = calibration_curve(event, prob, n_bins=10)
        line = lines[f"{name} (ECE {expected_calibration_error(event, prob, 10):.3f})"]
        np.testing.assert_allclose(line.get_data(), (mean, share))
        curve = display.curves[name]
        np.testing.assert_array_equal(curve.counts, curve.histogram[curve.histogram > 0])
        assert curve.low is None
    drawn = [patch.get_data().values for patch in display.counts_ax_.patches]
    np.testing.assert_array_equal(drawn, [curve.histogram for curve in display.curves.values()])
    assert "10 bins of equal width" in display.ax_.get_xlabel()
    assert "900 steps" in display.ax_.get_xlabel()
    assert "class -1" in display.ax_.get_ylabel()
    display.figure_.savefig(tmp_path / "reliability.png")
    assert (tmp_path / "reliability.png").stat().st_size > 10_000


def test_the_band_is_by_problem(predictions):
    event, probs = predictions
    groups = np.arange(900) // 3
    alone, copied = (
        ReliabilityDisplay.from_predictions(
            np.tile(event, times), np.tile(probs["after"], times), groups=np.tile(groups, times), n_bins=5
        ).curves["model"]
        for times in (1, 4)
    )
    assert ((alone.low < alone.share) & (alone.share < alone.high)).all()
    rng, shares = np.random.default_rng(0), []
    in_bin = np.clip(np.ceil(probs["after"] * 5) - 1, 0, None)
    for _ in range(500):
        rows = (rng.integers(300, size=300)[:, None] * 3 + np.arange(3)).ravel()
        shares.append([event[rows][in_bin[rows] == k].mean() for k in range(5)])
    np.testing.assert_allclose([alone.low, alone.high], np.quantile(shares, [0.025, 0.975], axis=0))
    np.testing.assert_allclose(copied.low, alone.low)  # the same steps four times say nothing new
    by_row = ReliabilityDisplay.from_predictions(
        np.tile(event, 4), np.tile(probs["after"], 4), groups=np.arange(3600), n_bins=5
    ).curves["model"]
    assert (by_row.high - by_row.low).mean() < 0.7 * (copied.high - copied.low).mean()


def test_bins_of_equal_mass_and_given_axes(predictions):
    event, probs = predictions
    figure, axes = plt.subplots(1, 2, layout="constrained")
    display = ReliabilityDisplay.from_predictions(event, probs["after"], strategy="quantile", ax=axes[1])
    assert display.figure_ is figure
    assert display.ax_ is axes[1]
    assert np.ptp(display.curves["model"].counts) == 0
    assert "equal mass" in display.ax_.get_xlabel()
    free = plt.figure().add_axes((0.1, 0.1, 0.8, 0.6))  # without a grid to take room from
    assert ReliabilityDisplay.from_predictions(event, probs, ax=free).ax_ is free


def test_from_fitted_classifiers_the_worst_class_is_drawn():
    data, new = (make_arithmetic_solutions(30, 2, random_state=seed) for seed in range(2))
    clf = PRMClassifier(StepStatistics()).fit(data.X, data.y)
    display = ReliabilityDisplay.from_estimator({"model": clf}, new.X, new.y, n_bins=5, n_resamples=20)
    risk, wrong = clf.predict_proba(new.X)[:, 0], np.asarray(new.y) == -1
    assert display.curves["model"].ece == expected_calibration_error(wrong, risk, 5)
    assert display.n_problems == 30
    assert display.event_name == "class -1"


def test_the_order_of_labels_is_found_inside_a_wrapper():
    data = make_arithmetic_solutions(30, 2, random_state=0)
    y = np.where(np.asarray(data.y) == -1, "b_broken", "a_fine")
    inner = PRMClassifier(StepStatistics(), label_order=["b_broken", "a_fine"])
    clf = CalibratedClassifierCV(inner, cv=2).fit(data.X, y)
    display = ReliabilityDisplay.from_estimator(clf, data.X, y, n_resamples=5)
    assert display.event_name == "class b_broken"
    expected = expected_calibration_error(y == "b_broken", clf.predict_proba(data.X)[:, 1])
    assert display.curves["CalibratedClassifierCV"].ece == expected


def test_any_classifier_with_an_order_of_labels():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 2))
    y = np.where(X[:, 0] + rng.normal(size=200) > 0, "a_fine", "b_broken")
    clf = LogisticRegression().fit(X, y)
    with pytest.raises(ValueError, match="label_order"):
        ReliabilityDisplay.from_estimator(clf, X, y)
    display = ReliabilityDisplay.from_estimator(clf, X, y, label_order=["b_broken", "a_fine"])
    expected = expected_calibration_error(y == "b_broken", clf.predict_proba(X)[:, 1])
    assert display.curves["LogisticRegression"].ece == expected
    tree = DecisionTreeClassifier(max_depth=2).fit(X, np.where(y == "a_fine", 1, -1))
    with pytest.raises(ValueError, match=r"worst class.*-1"):
        ReliabilityDisplay.from_estimator({"a": tree, "b": DecisionTreeClassifier().fit(X, X[:, 0] > 0)}, X, y)


def test_wrong_input_is_refused(predictions):
    event, probs = predictions
    with pytest.raises(ValueError, match="groups has 5 rows"):
        ReliabilityDisplay.from_predictions(event, probs, groups=np.arange(5))
    with pytest.raises(ValueError, match="binary event"):
        ReliabilityDisplay.from_predictions(np.where(event, -1, 1), probs)


def test_without_matplotlib_the_error_names_the_extra(predictions, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match="pip install matplotlib"):
        ReliabilityDisplay.from_predictions(*predictions)
