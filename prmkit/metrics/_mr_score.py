"""The two parts of MR-Score that a model without words can have: solution verdicts and first-error positions."""

from __future__ import annotations

from typing import Any

import numpy as np

from prmkit.metrics._first_error import check_first_errors, first_error_position_accuracy


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
