"""The calibrators as formulas: known truth is found again, and scikit-learn says the same."""

import warnings

import numpy as np
import pytest
import sklearn
from hypothesis import given, settings, strategies as st
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import log_loss, roc_auc_score

from prmkit.uncertainty.calibration._methods import METHODS, calibrate, count_clipped, fit_calibrator, log_probabilities


def draw(n, n_classes=3, temperature=1.0, seed=0):
    """Labels drawn from softmax(z), and what a model says that is off by this temperature."""
    rng = np.random.default_rng(seed)
    z = rng.normal(0, 1.5, (n, n_classes)) + np.linspace(-0.5, 1, n_classes)
    truth = softmax(z, axis=1)
    y = (truth.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1)
    return softmax(z * temperature, axis=1), np.minimum(y, n_classes - 1), truth


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_the_true_temperature_is_recovered(n_classes, temperature):
    proba, y, truth = draw(20_000, n_classes, temperature)
    numbers = fit_calibrator("temperature", log_probabilities(proba), y)
    assert numbers["temperature"] == pytest.approx(temperature, rel=0.03)
    np.testing.assert_allclose(calibrate("temperature", numbers, np.log(proba)), truth, atol=0.02)


def test_temperature_has_the_smallest_log_loss():
    proba, y, _ = draw(500, temperature=1.7)
    log_proba = log_probabilities(proba)
    found = fit_calibrator("temperature", log_proba, y)
    losses = [
        log_loss(y, calibrate("temperature", {"temperature": found["temperature"] * factor}, log_proba))
        for factor in (1.0, 0.99, 1.01)
    ]
    assert losses[0] < min(losses[1:])


class Scores(ClassifierMixin, BaseEstimator):
    """A fitted classifier whose decision function is X."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def decision_function(self, X):
        return X[:, 0] if X.shape[1] == 1 else X

    def predict(self, X):
        raise NotImplementedError


def by_scikit_learn(method, scores, y, weight):
    frozen = FrozenEstimator(Scores().fit(scores, y))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*sample_weight.*")  # of the frozen estimator, which needs none
        model = CalibratedClassifierCV(frozen, method=method, ensemble=False).fit(scores, y, weight)
    return model.predict_proba(scores)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("method", ["temperature", "sigmoid", "isotonic"])
def test_agrees_with_scikit_learn(method, n_classes, weighted):
    if method == "temperature" and tuple(map(int, sklearn.__version__.split(".")[:2])) < (1, 8):
        pytest.skip("this scikit-learn has no temperature scaling")
    proba, y, _ = draw(2000, n_classes, 1.8)
    weight = np.random.default_rng(0).integers(1, 4, len(y)).astype(float) if weighted else None
    log_proba = log_probabilities(proba)
    odds = np.log(proba / (1 - proba))
    scores = {2: odds[:, 1:], 3: odds}[n_classes]
    if method == "temperature":  # of one column scikit-learn makes -x and x
        scores = {2: scores / 2, 3: log_proba}[n_classes]
    expected = by_scikit_learn(method, scores, y, weight)
    numbers = fit_calibrator(method, log_proba, y, weight)
    if method == "isotonic":  # kept away from 0 and 1 here
        floor = float(numbers["floor"][0])
        expected = np.clip(expected, floor, None)
        expected /= expected.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(calibrate(method, numbers, log_proba), expected, atol=2 * floor)
    else:
        np.testing.assert_allclose(calibrate(method, numbers, log_proba), expected, atol=1e-6)


def test_vector_mends_classes_that_are_mixed_up():
    proba, y, truth = draw(20_000)
    mixed = softmax(np.log(proba[:, [0, 2, 1]]) * 2 + [0.0, 1.0, -1.0], axis=1)
    log_mixed = log_probabilities(mixed)
    numbers = fit_calibrator("vector", log_mixed, y)
    assert sum(value.size for value in numbers.values()) == 3 * 4
    best = log_loss(y, truth)
    assert log_loss(y, calibrate("vector", numbers, log_mixed)) == pytest.approx(best, abs=2e-3)
    by_class = fit_calibrator("sigmoid", log_mixed, y)
    assert log_loss(y, calibrate("sigmoid", by_class, log_mixed)) > best + 0.05


def test_sigmoid_that_is_not_needed_changes_nothing():
    proba, y, _ = draw(50_000)
    log_proba = log_probabilities(proba)
    numbers = fit_calibrator("sigmoid", log_proba, y)
    np.testing.assert_allclose(numbers["slope"], 1, atol=0.05)
    np.testing.assert_allclose(numbers["intercept"], 0, atol=0.05)
    unchanged = {"slope": np.ones(3), "intercept": np.zeros(3)}
    np.testing.assert_allclose(calibrate("sigmoid", unchanged, log_proba), proba, atol=1e-12)


def test_isotonic_says_neither_0_nor_1_and_counts_where_it_would_have():
    rng = np.random.default_rng(0)
    risk = np.round(rng.random(1500), 2)
    y = (risk < 0.5).astype(int)
    y[(risk > 0.3) & (risk < 0.7)] ^= rng.random(int(((risk > 0.3) & (risk < 0.7)).sum())) < 0.3
    log_proba = log_probabilities(np.c_[risk, 1 - risk])
    numbers = fit_calibrator("isotonic", log_proba, y)
    calibrated = calibrate("isotonic", numbers, log_proba)
    floor = 1 / 1502
    assert calibrated.min() == pytest.approx(floor)
    assert calibrated.max() == pytest.approx(1 - floor)
    inside = (calibrated.min(axis=1) > floor * 1.0001).sum()
    assert count_clipped(numbers, log_proba) == 1500 - inside > 500


@pytest.mark.parametrize("n_classes", [2, 3])
def test_isotonic_warns_of_few_rows(n_classes):
    proba, y, _ = draw(200, n_classes)
    with pytest.warns(UserWarning, match="learns from 200 steps"):
        fit_calibrator("isotonic", log_probabilities(proba), y)


@pytest.mark.parametrize(("sign", "bound", "match"), [(1, 0.01, "right about every"), (-1, 100, "opposite")])
def test_a_temperature_without_a_best_value_is_bounded_and_told(sign, bound, match):
    y = np.array([0, 1] * 10)
    proba = softmax(np.c_[-y, y] * 2.0 * sign, axis=1)
    with pytest.warns(UserWarning, match=match):
        numbers = fit_calibrator("temperature", log_probabilities(proba), y)
    assert numbers["temperature"] == pytest.approx(bound)


def test_two_classes_keep_every_ranking_under_temperature():
    proba, y, _ = draw(3000, 2, 2.0)
    numbers = fit_calibrator("temperature", log_probabilities(proba), y)
    calibrated = calibrate("temperature", numbers, log_probabilities(proba))
    assert roc_auc_score(y == 0, calibrated[:, 0]) == roc_auc_score(y == 0, proba[:, 0])


ROWS = st.lists(st.lists(st.floats(0, 1), min_size=3, max_size=3), min_size=1, max_size=8)


@settings(deadline=None, max_examples=50, derandomize=True)
@given(rows=ROWS, method=st.sampled_from(METHODS), n_classes=st.integers(2, 3))
def test_rows_sum_to_one_whatever_is_said(rows, method, n_classes):
    """Exact zeros and rows of nothing but zeros too."""
    proba, y, _ = draw(1000, n_classes, 1.5)
    numbers = fit_calibrator(method, log_probabilities(proba), y)
    log_proba = log_probabilities(np.array(rows)[:, :n_classes])
    calibrated = calibrate(method, numbers, log_proba)
    assert ((calibrated >= 0) & (calibrated <= 1)).all()
    np.testing.assert_allclose(calibrated.sum(axis=1), 1)
    if method == "temperature":
        best = np.arange(len(rows)), log_proba.argmax(axis=1)
        assert (calibrated[best] == calibrated.max(axis=1)).all()


def test_a_steep_sigmoid_that_denies_every_class_says_all_alike():
    numbers = {"slope": np.full(3, 500.0), "intercept": np.full(3, -2000.0)}
    np.testing.assert_allclose(calibrate("sigmoid", numbers, np.log([[0.3, 0.3, 0.4]])), 1 / 3)


def test_lost_steps_stay_lost():
    proba, y, _ = draw(1500)
    for method in METHODS:
        numbers = fit_calibrator(method, log_probabilities(proba), y)
        calibrated = calibrate(method, numbers, log_probabilities(np.array([[np.nan] * 3, [0.2, 0.3, 0.5]])))
        assert np.isnan(calibrated).all(axis=1).tolist() == [True, False], method
        assert np.isfinite(calibrated[1]).all(), method
