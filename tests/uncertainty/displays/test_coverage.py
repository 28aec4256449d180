"""The plot of failures against the level: what it shows is what the guarantees do on random splits."""

import warnings

import numpy as np
import pytest
from sklearn.base import BaseEstimator

from prmkit.data import Solution
from prmkit.uncertainty import CoverageDisplay, ErrorDetector, FirstErrorSet, PrefixCertifier

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
plt = pytest.importorskip("matplotlib.pyplot")

LEVELS = [0.1, 0.3]


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def made_up_paths(n, seed=0):
    rng = np.random.default_rng(seed)
    risks = [rng.beta(1, 4, size) for size in rng.integers(2, 8, n)]
    errors = np.array([rng.integers(0, len(path)) if rng.random() < 0.6 else -1 for path in risks])
    for path, error in zip(risks, errors, strict=True):
        if error >= 0:
            path[error] = rng.beta(3, 3)
    return risks, errors


def lines(axis):
    return {line.get_label(): line.get_xydata() for line in axis.lines}


@pytest.mark.parametrize(
    ("guarantee", "utility"),
    [
        (PrefixCertifier(), "kept fraction"),
        (ErrorDetector(), "error-free paths flagged"),
        (FirstErrorSet(), "outcomes in a set"),
    ],
)
def test_failure_rates_stay_near_the_diagonal(guarantee, utility, tmp_path):
    X, first_errors = made_up_paths(200)
    display = CoverageDisplay.from_guarantee(guarantee, X, first_errors, levels=LEVELS, n_splits=60)
    assert display.failure_rates.shape == display.utility.shape == (60, 2)
    means = display.failure_rates.mean(axis=0)
    assert (means <= np.array(LEVELS) + 0.02).all()
    assert (means >= np.array(LEVELS) - 0.05).all()
    failures, costs = display.axes_
    np.testing.assert_allclose(lines(failures)["observed, mean"], np.c_[LEVELS, means])
    np.testing.assert_allclose(lines(failures)["tolerated"], [[0, 0], [0.3, 0.3]])
    np.testing.assert_allclose(lines(costs)["observed, mean"][:, 1], display.utility.mean(axis=0))
    assert utility in costs.get_ylabel()
    assert f"{type(guarantee).__name__}, on average: 60 splits of 200 paths, 100 calibrate" in failures.get_title(
        "left"
    )
    display.figure_.savefig(tmp_path / "coverage.png")
    assert (tmp_path / "coverage.png").stat().st_size > 10_000


def test_one_split_is_fit_and_evaluate_on_two_halves_by_problem():
    X, first_errors = made_up_paths(60)
    groups = np.arange(60) // 3
    options = {"levels": [0.2], "n_splits": 1, "random_state": 5, "calibration_size": 0.4}
    display = CoverageDisplay.from_guarantee(PrefixCertifier(), X, first_errors, groups, **options)
    chosen = np.isin(groups, np.flatnonzero(np.random.RandomState(5).permutation(20) < 8))
    sides = [([X[i] for i in np.flatnonzero(s)], first_errors[s], groups[s]) for s in (chosen, ~chosen)]
    report = PrefixCertifier(alpha=0.2).fit(*sides[0]).evaluate(*sides[1])
    assert display.failure_rates[0, 0] == report["failure_rate"]
    assert display.utility[0, 0] == report["kept_fraction"]
    assert display.best_utility == report["perfect_kept_fraction"]
    assert "20 problems, 8 calibrate" in display.axes_[0].get_title(loc="left")


def test_the_guarantee_itself_is_left_as_it_was():
    X, first_errors = made_up_paths(60)
    certifier = PrefixCertifier(alpha=0.25, delta=0.1).fit(X, first_errors)
    threshold = certifier.threshold_
    display = CoverageDisplay.from_guarantee(certifier, X, first_errors, levels=LEVELS, n_splits=3)
    assert (certifier.alpha, certifier.threshold_) == (0.25, threshold)
    assert "δ = 0.1" in display.axes_[0].get_title(loc="left")


class CountingClassifier(BaseEstimator):
    """Says 0.3 of every step, and counts how often it is asked."""

    def fit(self, X=None, y=None):
        self.classes_, self.asked_ = np.array([-1, 1]), 0
        self.training_problems_ = None
        return self

    def predict_proba(self, steps):
        self.asked_ += len(steps)
        return np.tile([0.3, 0.7], (len(steps), 1))


def test_each_step_is_scored_once():
    classifier = CountingClassifier().fit()
    solutions = [Solution(f"problem {i}", ["a", "b"]) for i in range(30)]
    first_errors = np.tile([0, -1, 1], 10)
    CoverageDisplay.from_guarantee(PrefixCertifier(classifier), solutions, first_errors, levels=LEVELS, n_splits=4)
    assert classifier.asked_ == 60


def test_problems_of_the_training_are_refused():
    from prmkit.data.problem_keys import problem_keys

    classifier = CountingClassifier().fit()
    solutions = [Solution(f"problem {i}", ["a", "b"]) for i in range(30)]
    classifier.training_problems_ = np.unique(problem_keys(solutions[:2]))
    with pytest.raises(ValueError, match=r"2 of 30 problems .* trained on"):
        CoverageDisplay.from_guarantee(PrefixCertifier(classifier), solutions, [-1] * 30)


def test_levels_that_are_not_attainable_are_marked_without_a_warning():
    X, first_errors = made_up_paths(20)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        display = CoverageDisplay.from_guarantee(
            PrefixCertifier(), X, first_errors, levels=[0.02, 0.05, 0.3], n_splits=5
        )
    assert not caught
    # 10 paths calibrate: nothing below 1 / 11 is attainable.
    assert display.attainable.tolist() == [[False, False, True]] * 5
    assert (display.failure_rates[:, :2] == 0).all()
    for axis in display.axes_:
        zone = next(patch for patch in axis.patches if patch.get_label() == "too few to calibrate")
        assert zone.get_x() + zone.get_width() == 0.05
    assert "too few to calibrate" in [text.get_text() for text in display.axes_[0].get_legend().get_texts()]


def test_without_error_free_paths_there_are_no_false_alarms_to_show():
    X, _ = made_up_paths(30)
    display = CoverageDisplay.from_guarantee(ErrorDetector(), X, np.zeros(30, int), levels=LEVELS, n_splits=3)
    assert np.isnan(display.utility).all()
    assert not np.isnan(display.failure_rates).any()
    assert lines(display.axes_[0])["observed, mean"].shape == (2, 2)
    assert "observed, mean" not in lines(display.axes_[1])


def test_splits_are_drawn_by_random_state_alone():
    X, first_errors = made_up_paths(40)
    before = np.random.get_state()[1].copy()  # noqa: NPY002

    def rates(random_state):
        display = CoverageDisplay.from_guarantee(
            PrefixCertifier(), X, first_errors, levels=[0.2], n_splits=8, random_state=random_state
        )
        return display.failure_rates.ravel().tolist()

    assert rates(0) == rates(0) != rates(1)
    rates(None)
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002


def test_given_axes_are_used():
    X, first_errors = made_up_paths(40)
    figure, axes = plt.subplots(1, 2)
    display = CoverageDisplay.from_guarantee(PrefixCertifier(), X, first_errors, levels=[0.2], n_splits=2, ax=axes)
    assert display.figure_ is figure
    assert plt.get_fignums() == [figure.number]
    with pytest.raises(ValueError, match="two axes"):
        display.plot(ax=axes[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": [0.1, 1.0]}, r"expected failure rates in \(0, 1\)"),
        ({"levels": []}, r"expected failure rates in \(0, 1\)"),
        ({"n_splits": 0}, "at least 1 split"),
        ({"calibration_size": 1.0}, "share of the problems"),
        ({"groups": [0] * 20}, "expected at least 2"),
    ],
)
def test_bad_settings_are_refused(options, message):
    X, first_errors = made_up_paths(20)
    with pytest.raises(ValueError, match=message):
        CoverageDisplay.from_guarantee(PrefixCertifier(), X, first_errors, **options)


def test_other_estimators_are_refused():
    with pytest.raises(TypeError, match="expected one of PrefixCertifier, ErrorDetector, FirstErrorSet"):
        CoverageDisplay.from_guarantee(CountingClassifier(), *made_up_paths(20))
