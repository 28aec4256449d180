"""Where a solution first goes wrong: ProcessBench's F1, and the risk above which a step is the first error.

Publications call a step wrong if its *reward* is below a threshold t, ProcessBench with t = 0.5. Here all thresholds
are risks: a step is wrong if its risk is above ``1 - t``. For raw rewards of any scale pass ``-reward`` as risk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias, overload

import numpy as np
import numpy.typing as npt

from prmkit.metrics.report_table import Record
from prmkit.metrics.solutions.aggregation import ragged_scores
from prmkit.metrics.solutions.first_errors import check_first_errors
from prmkit.utils.ragged import FloatArray, IntArray, Ragged

Rule: TypeAlias = Literal["first_above", "argmax"]

FIRST_ERROR_RULES = ("first_above", "argmax")
# A missing prediction. It equals no label, since labels are -1 or more.
_NO_PREDICTION = -2


@overload
def first_error_f1_score(
    y_true: npt.ArrayLike,
    y_pred: npt.ArrayLike,
    *,
    return_parts: Literal[False] = ...,
    sample_weight: npt.ArrayLike | None = ...,
) -> float | None: ...
@overload
def first_error_f1_score(
    y_true: npt.ArrayLike,
    y_pred: npt.ArrayLike,
    *,
    return_parts: Literal[True],
    sample_weight: npt.ArrayLike | None = ...,
) -> tuple[float | None, float | None, float | None]: ...
def first_error_f1_score(
    y_true: npt.ArrayLike,
    y_pred: npt.ArrayLike,
    *,
    return_parts: bool = False,
    sample_weight: npt.ArrayLike | None = None,
) -> float | tuple[float | None, float | None, float | None] | None:
    """Return ProcessBench's F1: the harmonic mean of two accuracies, on erroneous and on correct solutions.

    On an erroneous solution the position of the first error must match. On a correct one the prediction must be -1. A
    constant -1 scores 0.

    Parameters
    ----------
    y_true : array-like of int, shape (n_solutions,)
        0-based index of the first wrong step, -1 if there is none.
    y_pred : array-like, shape (n_solutions,)
        The same, predicted. None or NaN (no prediction) and indices beyond the last step match nothing.
    return_parts : bool, default=False
        Whether to return the two accuracies too.
    sample_weight : array-like of shape (n_solutions,), optional
        The weight of each solution.

    Returns
    -------
    float or None
        The F1. It is 0.0 if both accuracies are 0, and None if there are no erroneous, or no correct, solutions.
    tuple
        With ``return_parts``: F1, accuracy on erroneous solutions and accuracy on correct solutions, each a float or
        None.

    Raises
    ------
    TypeError
        If predictions are strings or bools.
    ValueError
        If lengths differ, or a label is missing, below -1 or a fraction.

    Notes
    -----
    arXiv:2412.06559, section 3. The authors' code gives NaN instead of 0.0 and None.

    Examples
    --------
    >>> first_error_f1_score([1, 0, -1, -1], [1, 2, -1, -1])
    0.6666666666666666
    >>> first_error_f1_score([1, 0, -1, -1], [1, 2, -1, -1], return_parts=True)
    (0.6666666666666666, 0.5, 1.0)
    """
    rows = check_predictions(y_true, y_pred, sample_weight)
    is_match, is_erroneous = rows.truth == rows.predicted, rows.truth >= 0
    on_erroneous = weighted_mean(is_match, rows.weight * is_erroneous)
    on_correct = weighted_mean(is_match, rows.weight * ~is_erroneous)
    f1 = None
    if on_erroneous is not None and on_correct is not None:
        total = on_erroneous + on_correct
        f1 = 2 * on_erroneous * on_correct / total if total else 0.0
    return (f1, on_erroneous, on_correct) if return_parts else f1


def first_error_position_accuracy(
    y_true: npt.ArrayLike, y_pred: npt.ArrayLike, *, within: int = 0, sample_weight: npt.ArrayLike | None = None
) -> float | None:
    """Return the share of erroneous solutions whose first error is found, to within some steps.

    Parameters
    ----------
    y_true, y_pred : array-like of shape (n_solutions,)
        The same as in :func:`first_error_f1_score`.
    within : int, default=0
        The largest distance that counts. 0 asks for the exact position, 1 allows a neighbour. A prediction of -1 is no
        position and never counts.
    sample_weight : array-like of shape (n_solutions,), optional
        The weight of each solution.

    Returns
    -------
    float or None
        The share, None if no solution is erroneous.

    Raises
    ------
    TypeError, ValueError
        For the same input as :func:`first_error_f1_score`, and if ``within`` is negative.

    Examples
    --------
    >>> first_error_position_accuracy([2, 0, 3, -1], [1, -1, 3, 0], within=1)
    0.6666666666666666
    """
    if within < 0:
        raise ValueError(f"within is {within}, expected a number of steps, 0 (exact) or more")
    rows = check_predictions(y_true, y_pred, sample_weight)
    is_near = (np.abs(rows.truth - rows.predicted) <= within) & (rows.predicted >= 0)
    return weighted_mean(is_near, rows.weight * (rows.truth >= 0))


def mr_score_parts(
    y_true: npt.ArrayLike, y_pred: npt.ArrayLike, *, sample_weight: npt.ArrayLike | None = None
) -> dict[str, float | None]:
    """Return MR-Score's MCC of solution verdicts and its accuracy of first-error positions.

    MR-Score (arXiv:2312.17080, arXiv:2406.13975) is ``w1 * max(0, MCC) + w2 * acc_step + w3 * acc_reason``. A process
    reward model gives no reasons, so the other parts are reported separately.
    """
    acc_step = first_error_position_accuracy(y_true, y_pred, sample_weight=sample_weight)
    rows = check_predictions(y_true, y_pred, sample_weight)
    is_correct = rows.truth == -1
    judged_correct = np.where(rows.predicted >= -1, rows.predicted == -1, ~is_correct)
    counts = np.bincount(2 * is_correct + judged_correct, weights=rows.weight, minlength=4)
    true_wrong, false_right, false_wrong, true_right = counts
    scale = np.sqrt(np.prod([counts.reshape(2, 2).sum(axis=axis) for axis in (0, 1)]))
    covariance = true_wrong * true_right - false_wrong * false_right
    return {"mcc": float(covariance / scale) if scale else None, "acc_step": acc_step}


def first_error_from_risks(
    risks: Sequence[npt.ArrayLike], threshold: npt.ArrayLike, rule: Rule = "first_above"
) -> IntArray:
    """Return the predicted first error of each solution from the risks of its steps.

    Parameters
    ----------
    risks : sequence of array-like of shape (n_steps,)
        One 1-D array per solution with the risks of its steps, on any scale. Higher is worse.
    threshold : float, or array-like of shape (n_solutions,)
        A step is wrong if its risk is above (strictly). One threshold for all solutions, or one for each.
    rule : {"first_above", "argmax"}
        ``"first_above"`` takes the first step above the threshold. ``"argmax"`` takes the step with the highest risk
        (the first of equals) if it is above. These are two different rules, so name the one that you use.

    Returns
    -------
    ndarray of int, shape (n_solutions,)
        0-based index of the step, -1 if no step is above the threshold.

    Raises
    ------
    ValueError
        If the rule is unknown, a number is NaN, or a solution has no steps.

    Notes
    -----
    ProcessBench's "reward below 0.5" is ``threshold=0.5`` with ``risks = 1 - rewards``.

    Examples
    --------
    >>> risks = [[0.1, 0.6, 0.9], [0.2, 0.3]]
    >>> first_error_from_risks(risks, 0.5)
    array([ 1, -1])
    >>> first_error_from_risks(risks, 0.5, rule="argmax")
    array([ 2, -1])
    """
    ragged = ragged_scores(risks, False)
    return ragged_first_errors(ragged, threshold, rule)


def ragged_first_errors(risks: Ragged, threshold: npt.ArrayLike, rule: Rule = "first_above") -> IntArray:
    """Return the same as :func:`first_error_from_risks` from steps end to end."""
    if rule not in FIRST_ERROR_RULES:
        raise ValueError(f"rule is {rule!r}, expected one of {', '.join(FIRST_ERROR_RULES)}")
    thresholds = np.broadcast_to(np.asarray(threshold, dtype=np.float64), risks.lengths.shape)
    if np.isnan(thresholds).any():
        raise ValueError("threshold is NaN, expected a number")
    is_wrong = risks.values > risks.spread(thresholds)
    if rule == "argmax":
        is_wrong &= risks.values == risks.spread(risks.reduce(np.maximum))
    # The end of a solution stands for "no step is wrong".
    ends = risks.spread(risks.lengths)
    first: IntArray = risks.with_values(np.where(is_wrong, risks.positions, ends)).reduce(np.minimum)
    return np.where(first < risks.lengths, first, -1)


@dataclass(frozen=True)
class FirstErrorThreshold(Record):
    """A threshold, the data that chose it, and its scores there, made by :func:`choose_first_error_threshold`.

    Parameters
    ----------
    threshold : float
        A step is wrong if its risk is above. To be passed to :func:`first_error_from_risks`.
    rule : str
        The rule that it was chosen for.
    data : str
        Name of the data that it was chosen on. Results there are optimistic.
    f1, f1_at_half : float
        ProcessBench F1 on that data, with this threshold and with 0.5.
    accuracy_erroneous, accuracy_correct : float
        The two accuracies behind ``f1``.
    n_erroneous, n_correct : int
        Number of solutions of either kind.
    """

    threshold: float
    rule: str
    data: str
    f1: float
    f1_at_half: float
    accuracy_erroneous: float
    accuracy_correct: float
    n_erroneous: int
    n_correct: int

    def __str__(self) -> str:
        return (
            f"risk threshold {self.threshold:.4g} ({self.rule}), chosen on {self.data}: F1 {self.f1:.3f} there, "
            f"{self.f1_at_half:.3f} at 0.5"
        )


def choose_first_error_threshold(
    y_true: npt.ArrayLike, risks: Sequence[npt.ArrayLike], *, data: str, rule: Rule = "first_above"
) -> FirstErrorThreshold:
    """Return the threshold with the best ProcessBench F1 on some data, to be used on other data.

    Candidates are all distinct risks (at the highest no step is wrong) and a lower end at which every step is wrong.
    Among equally good ones the highest is taken: it calls the fewest steps wrong. O(n log n) in the number of steps.

    Parameters
    ----------
    y_true : array-like of int, shape (n_solutions,)
        0-based index of the first wrong step, -1 if there is none.
    risks : sequence of array-like of shape (n_steps,)
        One 1-D array per solution with the risks of its steps, on any scale. Higher is worse.
    data : str
        The name of the data, like ``"processbench gsm8k"``. It is reported with the threshold.
    rule : {"first_above", "argmax"}
        The same as in :func:`first_error_from_risks`.

    Returns
    -------
    FirstErrorThreshold
        The threshold with its F1 on the data.

    Raises
    ------
    ValueError
        If lengths differ, a label is beyond the last step, a risk is NaN, the rule is unknown, ``data`` is empty, or
        all or no solutions are erroneous.

    Examples
    --------
    >>> risks = [[0.1, 0.7], [0.2, 0.3], [0.4, 0.1]]
    >>> print(choose_first_error_threshold([1, -1, 0], risks, data="three solutions"))
    risk threshold 0.3 (first_above), chosen on three solutions: F1 1.000 there, 0.667 at 0.5
    """
    if not isinstance(data, str) or not data.strip():
        raise ValueError(f"data is {data!r}, expected the name of the data the threshold is chosen on")
    ragged = ragged_scores(risks, False)
    at_half = ragged_first_errors(ragged, 0.5, rule)
    truth = check_first_errors(y_true, ragged.lengths, "y_true")
    n_erroneous = int((truth >= 0).sum())
    n_correct = len(truth) - n_erroneous
    if not n_erroneous or not n_correct:
        raise ValueError(f"{n_erroneous} erroneous and {n_correct} correct solutions: a threshold needs both kinds")
    distinct = np.unique(ragged.values)
    candidates = np.append(0.0 if distinct[0] > 0 else -np.inf, distinct)
    # A correct solution is found correct by every threshold from its highest risk on.
    highest = ragged.reduce(np.maximum)
    on_correct = _count_up_to(highest[truth < 0], candidates) / n_correct
    spans = _matching_thresholds(ragged, truth, highest, rule)
    on_erroneous = (_count_up_to(spans.lowest, candidates) - _count_up_to(spans.below, candidates)) / n_erroneous
    total = on_erroneous + on_correct
    f1 = np.divide(2 * on_erroneous * on_correct, total, out=np.zeros_like(total), where=total > 0)
    # Rounding must not decide between equals: the last candidate that is as good as the best.
    best = int(np.flatnonzero(f1 >= f1.max() - 1e-12)[-1])
    return FirstErrorThreshold(
        threshold=float(candidates[best]),
        rule=rule,
        data=data,
        f1=float(f1[best]),
        f1_at_half=first_error_f1_score(truth, at_half) or 0.0,
        accuracy_erroneous=float(on_erroneous[best]),
        accuracy_correct=float(on_correct[best]),
        n_erroneous=n_erroneous,
        n_correct=n_correct,
    )


def _count_up_to(values: FloatArray, candidates: FloatArray) -> IntArray:
    """Return how many values are at most each candidate."""
    return np.searchsorted(np.sort(values), candidates, side="right")


class _Spans(NamedTuple):
    """Thresholds that find the labelled first error: ``lowest <= threshold < below``."""

    lowest: FloatArray
    below: FloatArray


def _matching_thresholds(risks: Ragged, truth: IntArray, highest: FloatArray, rule: Rule) -> _Spans:
    """Return the thresholds that find the first error, for each erroneous solution that some threshold finds.

    Step k is the first above a threshold if its risk is above and no risk before it is.
    """
    erroneous = np.flatnonzero(truth >= 0)
    starts, label = risks.starts[erroneous], truth[erroneous]
    risk = risks.values[starts + label]
    highest_before = np.full(len(erroneous), -np.inf)
    has_before = np.flatnonzero(label > 0)
    if len(has_before):
        # Pairs of (start, labelled step): reduceat gives the highest risk between them at every second place.
        edges = np.column_stack([starts[has_before], (starts + label)[has_before]]).ravel()
        highest_before[has_before] = np.maximum.reduceat(risks.values, edges)[::2]
    is_found = risk > highest_before
    if rule == "argmax":
        is_found &= risk == highest[erroneous]
        highest_before[:] = -np.inf
    return _Spans(highest_before[is_found], risk[is_found])


class PredictionRows(NamedTuple):
    """First errors, predictions (-2 where missing) and weights, one of each per solution."""

    truth: IntArray
    predicted: IntArray
    weight: FloatArray


def check_predictions(
    y_true: npt.ArrayLike, y_pred: npt.ArrayLike, sample_weight: npt.ArrayLike | None = None
) -> PredictionRows:
    """Return labels, predictions and weights, checked and of equal length."""
    truth = check_first_errors(y_true, name="y_true")
    predicted = _predicted_first_errors(y_pred)
    if len(truth) != len(predicted):
        raise ValueError(f"y_true has {len(truth)} solutions and y_pred {len(predicted)}, expected the same")
    return PredictionRows(truth, predicted, check_weight(sample_weight, len(truth)))


def check_weight(sample_weight: npt.ArrayLike | None, n_rows: int) -> FloatArray:
    """Return weights as float64, ones by default."""
    if sample_weight is None:
        return np.ones(n_rows)
    weight = np.asarray(sample_weight, dtype=np.float64)
    if weight.shape != (n_rows,) or not (weight >= 0).all():
        raise ValueError(f"sample_weight has shape {weight.shape}, expected ({n_rows},): one weight >= 0 for each row")
    return weight


def weighted_mean(values: npt.NDArray[Any], weight: FloatArray) -> float | None:
    """Return the weighted mean, None without weight."""
    total = weight.sum()
    return float((values * weight).sum() / total) if total else None


def _predicted_first_errors(y_pred: npt.ArrayLike) -> IntArray:
    """Return predicted first errors as int64, -2 where missing."""
    array = np.asarray(y_pred)
    if array.ndim != 1:
        raise ValueError(f"y_pred has shape {array.shape}, expected one first-error index per solution")
    strange = None
    if array.dtype.kind == "O":
        strange = next((value for value in array if isinstance(value, (str, bytes, bool, np.bool_))), None)
        if strange is None:
            array = np.array([np.nan if value is None else value for value in array], dtype=np.float64)
    elif array.dtype.kind not in "iuf" and len(array):
        strange = array[0]
    if strange is not None:
        raise TypeError(
            f"y_pred holds {strange!r}, expected integers: the 0-based index of the first wrong step, -1 for none"
        )
    numbers = array.astype(np.float64)
    is_missing = np.isnan(numbers)
    fractions = np.flatnonzero(~is_missing & (numbers != np.round(numbers)))
    if len(fractions):
        raise ValueError(
            f"y_pred holds {numbers[fractions[0]]} at row {fractions[0]}, expected a 0-based index, or -1 for no error"
        )
    # An index far beyond the last step matches nothing wherever it is. Clipped it fits an int64.
    numbers = np.clip(numbers, _NO_PREDICTION, 2**53)
    return np.where(is_missing, _NO_PREDICTION, numbers).astype(np.int64)
