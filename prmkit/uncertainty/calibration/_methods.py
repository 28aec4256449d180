"""Four ways to mend probabilities, each a few plain numbers: what is saved is all there is, no object inside."""

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
_FLOOR = 1e-15  # under a probability before its logarithm, as everywhere in prmkit
_COLDEST, _HOTTEST = 1e-2, 1e2
_ENOUGH_FOR_ISOTONIC = 1000


def log_probabilities(proba: np.ndarray) -> np.ndarray:
    """Return the logarithm of probabilities, those below 1e-15 taken as 1e-15; NaN stays NaN."""
    return np.log(np.maximum(proba, _FLOOR, dtype=np.float64))


def fit_calibrator(
    method: str, log_proba: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Learn how stated probabilities become observed frequencies.

    Parameters
    ----------
    method : {"temperature", "sigmoid", "isotonic", "vector"}
        ``"temperature"``: ``softmax(log p / T)`` with the T of the smallest log-loss [1]_.
        ``"sigmoid"``: for each class against the rest ``expit(slope * log-odds + intercept)`` [2]_, then divided by
        the sum; slope 1 and intercept 0 change nothing. ``"isotonic"``: the same with a monotone step function of the
        log-odds, kept ``1 / (n_rows + 2)`` away from 0 and 1. ``"vector"``: multinomial logistic regression on the
        log-probabilities [3]_, with scikit-learn's penalty (C = 1); it learns ``n_classes * (n_classes + 1)`` numbers.
    log_proba : ndarray of shape (n_rows, n_classes)
    y : ndarray of int of shape (n_rows,)
        Column of the label; every class must occur.
    sample_weight : ndarray of shape (n_rows,), optional

    Returns
    -------
    dict of str to ndarray of one or two dimensions
        What :func:`calibrate` reads.

    References
    ----------
    .. [1] Guo et al., "On Calibration of Modern Neural Networks", arXiv:1706.04599, section 4.2.
    .. [2] Platt, "Probabilistic Outputs for Support Vector Machines", 1999.
    .. [3] Kull et al., "Beyond temperature scaling", arXiv:1910.12656, section 3.
    """
    if method == "temperature":
        return {"temperature": np.array([_fit_temperature(log_proba, y, sample_weight)])}
    if method == "vector":
        model = LogisticRegression(solver="newton-cholesky", tol=1e-8).fit(log_proba, y, sample_weight)
        return {"coef": model.coef_, "intercept": model.intercept_}
    if method == "isotonic" and len(y) < _ENOUGH_FOR_ISOTONIC:
        warnings.warn(
            f"isotonic calibration learns from {len(y)} steps and is apt to overfit below {_ENOUGH_FOR_ISOTONIC:,}: "
            'pass more, or method="temperature" or "sigmoid"',
            UserWarning,
            stacklevel=5,
        )
    rows = np.arange(len(y))
    model = CalibratedClassifierCV(_GivenScores(), method=method, ensemble=False, cv=[(rows, rows)])
    model.fit(_log_odds(log_proba), y, sample_weight=sample_weight)
    fitted = model.calibrated_classifiers_[0].calibrators
    if method == "sigmoid":
        slopes, intercepts = [-one.a_ for one in fitted], [-one.b_ for one in fitted]
        return {"slope": np.array(slopes), "intercept": np.array(intercepts)}
    numbers = {"floor": np.array([1 / (len(y) + 2)])}
    for k, one in enumerate(fitted):
        numbers |= {f"log_odds_{k}": one.X_thresholds_, f"probability_{k}": one.y_thresholds_}
    return numbers


def calibrate(method: str, numbers: dict[str, np.ndarray], log_proba: np.ndarray) -> np.ndarray:
    """Return calibrated probabilities of shape (n_rows, n_classes), from what :func:`fit_calibrator` learnt."""
    if method == "temperature":
        return softmax(log_proba / numbers["temperature"], axis=1)
    if method == "vector":
        scores = log_proba @ numbers["coef"].T + numbers["intercept"]
        return softmax(scores, axis=1) if scores.shape[1] > 1 else _rows_of_one(expit(scores))
    if method == "sigmoid":
        return _rows_of_one(expit(_log_odds(log_proba) * numbers["slope"] + numbers["intercept"]))
    floor = float(numbers["floor"][0])
    return _rows_of_one(np.clip(_isotonic(numbers, log_proba), floor, 1 - floor))


def count_clipped(numbers: dict[str, np.ndarray], log_proba: np.ndarray) -> int:
    """Return in how many rows isotonic regression said of some class 0 or 1, or nearly, and was not believed."""
    proba, floor = _isotonic(numbers, log_proba), float(numbers["floor"][0])
    return int(((proba < floor) | (proba > 1 - floor)).any(axis=1).sum())


class _GivenScores(ClassifierMixin, BaseEstimator):
    """A classifier whose decision function is X itself: scikit-learn calibrates it without predicting again."""

    def fit(self, X, y, sample_weight=None):
        self.classes_ = np.unique(y)
        return self

    def decision_function(self, X) -> np.ndarray:
        return X[:, 0] if X.shape[1] == 1 else X

    def predict(self, X) -> np.ndarray:  # scikit-learn wants it there, and does not call it
        raise NotImplementedError


def _fit_temperature(log_proba: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None) -> float:
    """Return the temperature of the smallest log-loss, which is convex in 1 / T: where its slope is 0.

    scikit-learn has this from version 1.8 on; 1.7, the last for Python 3.10, has not.
    """
    said = log_proba[np.arange(len(y)), y]
    total = np.average(said, weights=sample_weight)

    def slope(log_beta: float) -> float:
        expected = (softmax(np.exp(log_beta) * log_proba, axis=1) * log_proba).sum(axis=1)
        return float(np.average(expected, weights=sample_weight) - total)

    hot, cold = -np.log(_HOTTEST), -np.log(_COLDEST)
    if slope(hot) >= 0:
        found, why = hot, "say nothing of the labels, or the opposite"
    elif slope(cold) <= 0:
        found, why = cold, "are right about every label"
    else:
        return float(np.exp(-brentq(slope, hot, cold, xtol=1e-12)))
    warnings.warn(
        f"the temperature is at its bound {np.exp(-found):g}: the probabilities {why}. Calibrate on more problems, "
        "or look at the classifier",
        UserWarning,
        stacklevel=6,
    )
    return float(np.exp(-found))


def _log_odds(log_proba: np.ndarray) -> np.ndarray:
    """Log-odds of each class against the rest, (n_rows, n_classes); of the second class alone where there are two."""
    if log_proba.shape[1] == 2:
        return log_proba[:, 1:] - log_proba[:, :1]
    rest = [logsumexp(np.delete(log_proba, k, axis=1), axis=1) for k in range(log_proba.shape[1])]
    return log_proba - np.column_stack(rest)


def _isotonic(numbers: dict[str, np.ndarray], log_proba: np.ndarray) -> np.ndarray:
    columns: list[Any] = [
        np.interp(column, numbers[f"log_odds_{k}"], numbers[f"probability_{k}"])
        for k, column in enumerate(_log_odds(log_proba).T)
    ]
    return np.column_stack(columns)


def _rows_of_one(proba: np.ndarray) -> np.ndarray:
    """Make rows that sum to 1 of each class against the rest, or of the second of two classes."""
    if proba.shape[1] == 1:
        return np.hstack([1 - proba, proba])
    proba = np.maximum(proba, np.finfo(float).tiny)  # all 0: nothing is known, all alike
    return proba / proba.sum(axis=1, keepdims=True)
