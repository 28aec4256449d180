"""Where a solution first goes wrong: ProcessBench's F1 and the step that scores under a threshold point at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, overload

import numpy as np

from prmkit.metrics.solutions.aggregation import concatenate_paths

FIRST_ERROR_RULES = ("first_below", "argmin")
_NO_PREDICTION = -2  # matches no label


@overload
def first_error_f1_score(
    y_true: Any, y_pred: Any, *, return_parts: Literal[False] = ..., sample_weight: Any = ...
) -> float | None: ...
@overload
def first_error_f1_score(
    y_true: Any, y_pred: Any, *, return_parts: Literal[True], sample_weight: Any = ...
) -> tuple[float | None, float | None, float | None]: ...
def first_error_f1_score(
    y_true: Any, y_pred: Any, *, return_parts: bool = False, sample_weight: Any = None
) -> Any:
    """Return ProcessBench's F1: the harmonic mean of two accuracies, on erroneous and on correct solutions.

    On erroneous solutions the position of the first error must match, on correct ones the prediction must be
    -1. A constant -1 scores 0.

    Parameters
    ----------
    y_true : array-like of int, shape (n_solutions,)
        0-based index of the first wrong step, -1 where there is none.
    y_pred : array-like, shape (n_solutions,)
        The same, predicted. None or NaN (no prediction) and indices that no step has match nothing.
    return_parts : bool, default False
        Return the two accuracies too.
    sample_weight : array-like of shape (n_solutions,), optional

    Returns
    -------
    float or None
        0.0 if both accuracies are 0; None if there are no erroneous, or no correct, solutions.
    tuple
        With ``return_parts``: (F1, accuracy on erroneous solutions, accuracy on correct solutions), each a
        float or None.

    Raises
    ------
    TypeError
        For strings or bools.
    ValueError
        For other lengths, labels below -1 or missing, fractions.

    Notes
    -----
    arXiv:2412.06559, section 3. Upstream gives NaN where this gives 0.0 or None.

    Examples
    --------
    >>> first_error_f1_score([1, 0, -1, -1], [1, 2, -1, -1])
    0.6666666666666666
    >>> first_error_f1_score([1, 0, -1, -1], [1, 2, -1, -1], return_parts=True)
    (0.6666666666666666, 0.5, 1.0)
    """
    y_true, y_pred, weight = check_first_errors(y_true, y_pred, sample_weight)
    match, wrong = y_true == y_pred, y_true >= 0
    on_wrong, on_right = weighted_mean(match, weight * wrong), weighted_mean(match, weight * ~wrong)
    f1 = None
    if on_wrong is not None and on_right is not None:
        total = on_wrong + on_right
        f1 = 2 * on_wrong * on_right / total if total else 0.0
    return (f1, on_wrong, on_right) if return_parts else f1


def first_error_position_accuracy(
    y_true: Any, y_pred: Any, *, within: int = 0, sample_weight: Any = None
) -> float | None:
    """Return the share of erroneous solutions whose first error is found, to within some steps.

    Parameters
    ----------
    y_true, y_pred : array-like of shape (n_solutions,)
        As in :func:`first_error_f1_score`.
    within : int, default 0
        0: the exact position; 1: it or a neighbour. A prediction of -1 is no position and never counts.
    sample_weight : array-like of shape (n_solutions,), optional

    Returns
    -------
    float or None
        None if no solution is erroneous.

    Raises
    ------
    TypeError, ValueError
        As :func:`first_error_f1_score`; for a negative ``within``.

    Examples
    --------
    >>> first_error_position_accuracy([2, 0, 3, -1], [1, -1, 3, 0], within=1)
    0.6666666666666666
    """
    if within < 0:
        raise ValueError(f"within is {within}, expected a number of steps, 0 (exact) or more")
    y_true, y_pred, weight = check_first_errors(y_true, y_pred, sample_weight)
    near = (np.abs(y_true - y_pred) <= within) & (y_pred >= 0)
    return weighted_mean(near, weight * (y_true >= 0))


def first_error_from_scores(values: Sequence[Any], threshold: float, rule: str = "first_below") -> np.ndarray:
    """Return the predicted first error of each solution from the rewards of its steps.

    Parameters
    ----------
    values : sequence of array-like of shape (n_steps,)
        One 1-D array per solution: rewards, higher is better, of any scale.
    threshold : float
        A step is wrong if its reward is below (strictly).
    rule : {"first_below", "argmin"}
        ``"first_below"``: the first step below the threshold. ``"argmin"``: the step with the lowest reward
        (the first of equals) if it is below. Two different rules: name the one used.

    Returns
    -------
    ndarray of int, shape (n_solutions,)
        0-based, -1 where no step is below the threshold.

    Raises
    ------
    ValueError
        For an unknown rule, a NaN, or a solution without steps.

    Examples
    --------
    >>> rewards = [[0.9, 0.4, 0.1], [0.8, 0.7]]
    >>> first_error_from_scores(rewards, 0.5)
    array([ 1, -1])
    >>> first_error_from_scores(rewards, 0.5, rule="argmin")
    array([ 2, -1])
    """
    check_rule(rule)
    if np.isnan(threshold):
        raise ValueError("threshold is NaN, expected a number")
    flat, lengths = concatenate_paths(values, False)
    if not len(lengths):
        return np.empty(0, dtype=np.int64)
    starts = np.cumsum(lengths) - lengths
    chosen = flat < threshold
    if rule == "argmin":
        chosen &= flat == np.repeat(np.minimum.reduceat(flat, starts), lengths)
    first = np.minimum.reduceat(np.where(chosen, np.arange(len(flat)), len(flat)), starts)
    return np.where(first < len(flat), first - starts, -1)


def check_rule(rule: str) -> None:
    """Raise for an unknown rule."""
    if rule not in FIRST_ERROR_RULES:
        raise ValueError(f"rule is {rule!r}, expected one of {', '.join(FIRST_ERROR_RULES)}")


def check_first_errors(
    y_true: Any, y_pred: Any, sample_weight: Any = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return labels, predictions (-2 where there is none) and weights, checked, of equal length."""
    y_true, y_pred = _indices(y_true, "y_true"), _indices(y_pred, "y_pred")
    odd = np.flatnonzero(y_true < -1)
    if len(odd):
        raise ValueError(
            f"y_true has no first error at row {odd[0]}, expected a 0-based index, or -1 for no error; leave out "
            "solutions that nobody judged"
        )
    if len(y_true) != len(y_pred):
        raise ValueError(f"y_true has {len(y_true)} solutions and y_pred {len(y_pred)}, expected the same")
    return y_true, y_pred, check_weight(sample_weight, len(y_true))


def check_weight(sample_weight: Any, n_rows: int) -> np.ndarray:
    """Return weights as float64, ones by default."""
    if sample_weight is None:
        return np.ones(n_rows)
    weight = np.asarray(sample_weight, dtype=np.float64)
    if weight.shape != (n_rows,) or not (weight >= 0).all():
        raise ValueError(
            f"sample_weight has shape {weight.shape}, expected ({n_rows},): one weight >= 0 for each row"
        )
    return weight


def weighted_mean(values: np.ndarray, weight: np.ndarray) -> float | None:
    """Return the weighted mean, None without weight."""
    total = weight.sum()
    return float((values * weight).sum() / total) if total else None


def _indices(values: Any, name: str) -> np.ndarray:
    """Return first-error indices as int64, -2 where missing."""
    array = np.asarray(values)
    if array.ndim != 1:
        raise ValueError(f"{name} has shape {array.shape}, expected one first-error index per solution")
    if array.dtype.kind == "O":
        strange = next((value for value in array if isinstance(value, (str, bytes, bool, np.bool_))), None)
        if strange is None:
            array = np.array([np.nan if value is None else value for value in array], dtype=np.float64)
    else:
        strange = array[0] if array.dtype.kind not in "iuf" and len(array) else None
    if strange is not None:
        raise TypeError(
            f"{name} holds {strange!r}, expected integers: the 0-based index of the first wrong step, -1 for none"
        )
    if not len(array):
        return np.empty(0, dtype=np.int64)
    missing = np.isnan(array) if array.dtype.kind == "f" else np.zeros(len(array), dtype=bool)
    odd = np.flatnonzero(~missing & ~(array == np.round(array)))
    if len(odd):
        raise ValueError(
            f"{name} holds {array[odd[0]]} at row {odd[0]}, expected a 0-based index, or -1 for no error"
        )
    # Far beyond any step is as good as anywhere beyond, and fits an int64.
    array = np.clip(array, _NO_PREDICTION, 2**53)
    return np.where(missing, _NO_PREDICTION, array).astype(np.int64)


def mr_score_parts(y_true: Any, y_pred: Any, *, sample_weight: Any = None) -> dict[str, float | None]:
    """Return MR-Score's MCC of solution verdicts and its accuracy of first-error positions.

    MR-Score is ``w1 * max(0, MCC) + w2 * acc_step + w3 * acc_reason``; a process reward model gives no
    reasons, so its parts are reported separately.

    Parameters
    ----------
    y_true, y_pred : array-like of shape (n_solutions,)
        0-based first error, -1 for none, as in :func:`prmkit.metrics.first_error_f1_score`. A solution is
        judged correct if its prediction is -1; a prediction of None counts as the wrong verdict.
    sample_weight : array-like of shape (n_solutions,), optional

    Returns
    -------
    dict of str to (float or None)
        ``"mcc"``: Matthews correlation of "is correct", in [-1, 1], None if labels or verdicts are all the
        same. ``"acc_step"``: share of incorrect solutions whose first error is found, None without any.

    Raises
    ------
    TypeError, ValueError
        As :func:`prmkit.metrics.first_error_f1_score`.

    Notes
    -----
    arXiv:2312.17080 (MR-GSM8K), arXiv:2406.13975 (Mr-Ben).

    Examples
    --------
    >>> mr_score_parts([-1, -1, 2, 0], [-1, -1, 2, 1])
    {'mcc': 1.0, 'acc_step': 0.5}
    """
    acc_step = first_error_position_accuracy(y_true, y_pred, sample_weight=sample_weight)
    y_true, y_pred, weight = check_first_errors(y_true, y_pred, sample_weight)
    correct = y_true == -1
    judged_correct = np.where(y_pred >= -1, y_pred == -1, ~correct)
    counts = np.bincount(2 * correct + judged_correct, weights=weight, minlength=4)
    true_wrong, false_right, false_wrong, true_right = counts
    scale = np.sqrt(np.prod([counts.reshape(2, 2).sum(axis=axis) for axis in (0, 1)]))
    covariance = true_wrong * true_right - false_wrong * false_right
    return {"mcc": float(covariance / scale) if scale else None, "acc_step": acc_step}
