"""Flags with guaranteed recall: the conformal index, and what is counted."""

import math

import numpy as np
import pytest
from scipy.stats import binom

from prmkit.uncertainty import ErrorDetector


def test_threshold_is_the_conformal_quantile_of_the_smallest_validity():
    rng = np.random.default_rng(0)
    for n in (9, 10, 19, 50, 99):
        X = [np.round(rng.random(rng.integers(1, 5)), 2) for _ in range(2 * n)]
        first_errors = [0] * n + [-1] * n
        detector = ErrorDetector(recall=0.9).fit(X, first_errors)
        k = math.ceil((n + 1) * 0.9 - 1e-9)
        quantile = np.sort([1 - max(path) for path in X[:n]])[k - 1]
        flagged = [1 - max(path) <= quantile + 1e-12 for path in X]
        assert detector.predict(X).tolist() == flagged
        assert detector.n_calibration_ == n


def test_too_few_errors_flag_everything():
    X, first_errors = [[0.4]] * 30, [0] * 8 + [-1] * 22
    with pytest.warns(UserWarning, match="8 paths with an error, at least 9 are needed: every path will be flagged"):
        detector = ErrorDetector(recall=0.9).fit(X, first_errors)
    assert (detector.attainable_, detector.n_calibration_, detector.threshold_) == (False, 8, -np.inf)
    assert detector.predict([[0.0], [1.0, 0.0]]).all()
    with pytest.warns(UserWarning, match="with 0 paths with an error"):
        assert not ErrorDetector().fit([[0.4]], [-1]).attainable_


def test_learn_then_test_by_the_words_of_the_method():
    """From the largest candidate down, continue while the binomial p-value is at most delta."""
    rng = np.random.default_rng(1)
    n, recall, delta = 80, 0.85, 0.05
    X = rng.random((n, 1))
    validity = 1 - X[:, 0]
    best = None
    for candidate in np.sort(validity)[::-1]:
        if binom.cdf((validity > candidate).sum(), n, 1 - recall) > delta:
            break
        best = candidate
    detector = ErrorDetector(recall=recall, delta=delta).fit(list(X), [0] * n)
    assert detector.predict(list(X)).tolist() == (validity <= best).tolist()
    assert ErrorDetector(recall=recall).fit(list(X), [0] * n).threshold_ > detector.threshold_


def test_agrees_with_mapie_risk_control():
    """MAPIE controls recall by Hoeffding-Bentkus on a grid: never above our exact binomial threshold, and near it."""
    risk_control = pytest.importorskip("mapie.risk_control")
    rng = np.random.default_rng(0)
    n = 400
    wrong = rng.random(n) < 0.6
    risk = np.where(wrong, rng.beta(4, 2, n), rng.beta(2, 4, n))
    controller = risk_control.BinaryClassificationController(
        predict_function=lambda X: np.column_stack([1 - X[:, 0], X[:, 0]]),
        risk=risk_control.recall,
        target_level=0.8,
        confidence_level=0.9,
        list_predict_params=np.linspace(0, 1, 501),
        fwer_method="fixed_sequence",
    ).calibrate(risk[:, None], wrong.astype(int))
    theirs = float(np.max(controller.valid_predict_params))
    detector = ErrorDetector(recall=0.8, delta=0.1).fit(list(risk[:, None]), np.where(wrong, 0, -1))
    assert theirs <= detector.threshold_ + 0.002
    assert theirs == pytest.approx(detector.threshold_, abs=0.05)


def test_only_problems_with_an_error_count():
    X = [[0.9], [0.8], [0.1]] + [[0.7]] * 9
    groups = ["a", "a", "a", *"bcdefghij"]
    detector = ErrorDetector(recall=0.9).fit(X, [0, 0, -1] + [0] * 8 + [-1], groups)
    assert detector.n_calibration_ == 9
    assert detector.unit_ == "problem"


def test_evaluate_reports_false_alarms_and_none_where_undefined():
    detector = ErrorDetector(recall=0.8).fit([[0.5]] * 4, [0] * 4)  # flags what is 0.5 or more
    report = detector.evaluate(
        [[0.9], [0.2], [0.1, 0.6], [0.1], [0.3]], [0, 0, -1, -1, 0], groups=["p", "p", "p", "q", "r"]
    )
    assert report["recall"] == pytest.approx((0.5 + 0) / 2)
    assert report["false_alarm_rate"] == pytest.approx((1 + 0) / 2)
    assert report["flagged"] == pytest.approx(2 / 5)
    assert (report["n_units_with_error"], report["n_units"], report["n_paths"]) == (2, 3, 5)
    assert detector.evaluate([[0.1]], [0])["false_alarm_rate"] is None
    assert detector.evaluate([[0.1]], [-1])["recall"] is None
