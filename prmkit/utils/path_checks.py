"""Checks for estimators of whole paths: their order and company are invisible, and no problem counts twice."""

from __future__ import annotations

from inspect import signature
from typing import Any

import numpy as np
from sklearn.base import clone

from prmkit.utils.ragged import Ragged

__all__ = ["check_path_invariance", "check_same_problem_refused"]


def check_path_invariance(estimator: Any, *, random_state: int = 0) -> None:
    """Check that neither the order of paths nor the other paths change what an estimator learns and predicts.

    The estimator has ``fit(X, first_errors, groups)`` or ``fit(scores, errors, groups)`` over arrays of step risks, and
    ``predict``. AssertionError says what changed.

    >>> from prmkit.uncertainty import PrefixCertifier
    >>> check_path_invariance(PrefixCertifier(alpha=0.3))
    """
    X, labels, groups = _calibration(estimator, random_state)
    new = made_up_paths(random_state + 1)[0]
    fitted = clone(estimator).fit(X, labels, groups)
    whole = list(fitted.predict(new))
    order = np.random.default_rng(random_state).permutation(len(X))
    shuffled = clone(estimator).fit([X[i] for i in order], labels[order], groups[order])
    name = type(estimator).__name__
    assert list(shuffled.predict(new)) == whole, f"{name} learns something else from shuffled paths"
    turned = list(fitted.predict(new[::-1]))[::-1]
    assert turned == whole, f"{name} judges a path otherwise when the order of paths is turned round"
    alone = [fitted.predict([path])[0] for path in new]
    assert alone == whole, f"{name} judges a path otherwise when it stands alone"


def check_same_problem_refused(estimator: Any, *, random_state: int = 0) -> None:
    """Check that predictions refuse a problem that was calibrated on."""
    X, labels, groups = _calibration(estimator, random_state)
    fitted = clone(estimator).fit(X, labels, groups)
    fitted.predict(X[:1], groups=[f"not {groups[0]}"])
    try:
        fitted.predict(X[:1], groups=groups[:1])
    except ValueError:
        return
    raise AssertionError(f"{type(estimator).__name__} predicts for a problem that it was calibrated on")


def _calibration(estimator: Any, seed: int) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Return paths, the labels that the estimator learns from, and problems."""
    X, first_errors, groups = made_up_paths(seed)
    return X, first_errors >= 0 if list(signature(estimator.fit).parameters)[1] == "errors" else first_errors, groups


def made_up_paths(seed: int, n_problems: int = 60) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Return risks, first errors and problems of one to three paths per problem; risks know something of the errors."""
    rng = np.random.default_rng(seed)
    groups = np.repeat([f"problem {i}" for i in range(n_problems)], rng.integers(1, 4, n_problems))
    lengths = rng.integers(1, 8, len(groups))
    first_errors = np.where(rng.random(len(groups)) < 0.5, rng.integers(0, lengths), -1)
    steps = Ragged(np.empty(0), lengths)
    logits = rng.normal(-1.5 + 2.0 * (steps.positions == steps.spread(first_errors)))
    return steps.with_values(1 / (1 + np.exp(-logits))).split(), first_errors, groups
