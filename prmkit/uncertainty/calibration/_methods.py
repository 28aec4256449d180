"""Four ways to calibrate probabilities. Each learns a few plain numbers, so that it is saved without objects."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit, logsumexp, softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.linear_model import LogisticRegression

METHODS = ("temperature", "sigmoid", "isotonic", "vector")
# The smallest probability before its logarithm, as everywhere in prmkit.
_FLOOR = 1e-15
_COLDEST, _HOTTEST = 1e-2, 1e2
_ENOUGH_FOR_ISOTONIC = 1000


def log_probabilities(proba: np.ndarray) -> np.ndarray:
    """Return the logarithm of probabilities. Those below 1e-15 count as 1e-15, and NaN stays NaN."""
    return np.asarray(np.log(np.maximum(proba, _FLOOR, dtype=np.float64)))


def fit_calibrator(
    method: str, log_proba: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Learn the numbers with which :func:`calibrate` turns stated probabilities into observed frequencies.

    ``"temperature"``: ``softmax(log p / T)`` with the T of the smallest log-loss (Guo et al., arXiv:1706.04599,
    section 4.2). ``"sigmoid"``: for each class against the others ``expit(slope * log-odds + intercept)`` (Platt
    1999), then divided by the sum. ``"isotonic"``: a monotone step function in place of the sigmoid, kept ``1 /
    (n_rows + 2)`` away from 0 and 1. ``"vector"``: multinomial logistic regression on the log-probabilities (Kull et
    al., arXiv:1910.12656, section 3), with scikit-learn's penalty. ``y`` holds the column of each label. Every class
    must occur.
    """
    if method == "temperature":
        return {"temperature": np.array([_fit_temperature(log_proba, y, sample_weight)])}
    if method == "vector":
        model = LogisticRegression(solver="newton-cholesky", tol=1e-8).fit(log_proba, y, sample_weight)
        return {"coef": model.coef_, "intercept": model.intercept_}
    if method == "isotonic" and len(y) < _ENOUGH_FOR_ISOTONIC:
        warnings.warn(
            f"isotonic calibration learns from {len(y)} steps and tends to overfit below {_ENOUGH_FOR_ISOTONIC:,}: "
            'pass more, or method="temperature" or "sigmoid"',
            UserWarning,
            stacklevel=5,
        )
    rows = np.arange(len(y))
    model = CalibratedClassifierCV(_GivenScores(), method=method, ensemble=False, cv=[(rows, rows)])
    model.fit(_log_odds(log_proba), y, sample_weight=sample_weight)
    curves = model.calibrated_classifiers_[0].calibrators
    if method == "sigmoid":
        slopes, intercepts = [-curve.a_ for curve in curves], [-curve.b_ for curve in curves]
        return {"slope": np.array(slopes), "intercept": np.array(intercepts)}
    numbers = {"floor": np.array([1 / (len(y) + 2)])}
    for k, curve in enumerate(curves):
        numbers |= {f"log_odds_{k}": curve.X_thresholds_, f"probability_{k}": curve.y_thresholds_}
    return numbers


def calibrate(method: str, numbers: dict[str, np.ndarray], log_proba: np.ndarray) -> np.ndarray:
    """Return calibrated probabilities of shape (n_rows, n_classes), with the numbers of :func:`fit_calibrator`."""
    if method == "temperature":
        return np.asarray(softmax(log_proba / numbers["temperature"], axis=1))
    if method == "vector":
        scores = log_proba @ numbers["coef"].T + numbers["intercept"]
        return np.asarray(softmax(scores, axis=1)) if scores.shape[1] > 1 else _rows_of_one(expit(scores))
    if method == "sigmoid":
        return _rows_of_one(expit(_log_odds(log_proba) * numbers["slope"] + numbers["intercept"]))
    floor = float(numbers["floor"][0])
    return _rows_of_one(np.clip(_isotonic(numbers, log_proba), floor, 1 - floor))


def count_clipped(numbers: dict[str, np.ndarray], log_proba: np.ndarray) -> int:
    """Return the number of rows in which isotonic regression gives a class nearly 0 or 1, which is clipped."""
    proba, floor = _isotonic(numbers, log_proba), float(numbers["floor"][0])
    return int(((proba < floor) | (proba > 1 - floor)).any(axis=1).sum())


class _GivenScores(ClassifierMixin, BaseEstimator):
    """Classifier whose decision function is X itself: scikit-learn calibrates it without predicting again."""

    def fit(self, X: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None = None) -> _GivenScores:
        self.classes_ = np.unique(y)
        return self

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        return np.asarray(X[:, 0]) if X.shape[1] == 1 else X

    # scikit-learn asks whether this exists, and does not call it.
    def predict(self, X: np.ndarray) -> np.ndarray:
        raise NotImplementedError


def _fit_temperature(log_proba: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None) -> float:
    """Return the temperature of the smallest log-loss, which is convex in 1 / T: so its slope is 0 there.

    scikit-learn has this from version 1.8 on, but version 1.7 is the last one for Python 3.10.
    """
    label_mean = np.average(log_proba[np.arange(len(y)), y], weights=sample_weight)

    def slope(log_beta: float) -> float:
        expected = (softmax(np.exp(log_beta) * log_proba, axis=1) * log_proba).sum(axis=1)
        return float(np.average(expected, weights=sample_weight) - label_mean)

    hot, cold = -np.log(_HOTTEST), -np.log(_COLDEST)
    if slope(hot) >= 0:
        bound, reason = hot, "say nothing about the labels, or the opposite"
    elif slope(cold) <= 0:
        bound, reason = cold, "are right about every label"
    else:
        return float(np.exp(-brentq(slope, hot, cold, xtol=1e-12)))
    warnings.warn(
        f"the temperature is at its bound {np.exp(-bound):g}: the probabilities {reason}. Calibrate on more problems, "
        "or look at the classifier",
        UserWarning,
        stacklevel=6,
    )
    return float(np.exp(-bound))


def _log_odds(log_proba: np.ndarray) -> np.ndarray:
    """Return log-odds of each class against the others, one column per class.

    Two classes have one column, the log-odds of the second class.
    """
    if log_proba.shape[1] == 2:
        return np.asarray(log_proba[:, 1:] - log_proba[:, :1])
    others = [logsumexp(np.delete(log_proba, k, axis=1), axis=1) for k in range(log_proba.shape[1])]
    return np.asarray(log_proba - np.column_stack(others))


def _isotonic(numbers: dict[str, np.ndarray], log_proba: np.ndarray) -> np.ndarray:
    """Return the value of each class's monotone curve."""
    columns: list[Any] = [
        np.interp(column, numbers[f"log_odds_{k}"], numbers[f"probability_{k}"])
        for k, column in enumerate(_log_odds(log_proba).T)
    ]
    return np.column_stack(columns)


def _rows_of_one(proba: np.ndarray) -> np.ndarray:
    """Return rows that sum to 1, from probabilities of each class against the others, or of the second of two."""
    if proba.shape[1] == 1:
        return np.hstack([1 - proba, proba])
    # If all are 0, nothing is known, and all classes become equally likely.
    proba = np.maximum(proba, np.finfo(float).tiny)
    return np.asarray(proba / proba.sum(axis=1, keepdims=True))
