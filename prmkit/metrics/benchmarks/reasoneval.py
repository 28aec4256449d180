"""ReasonEval's two tasks, invalid and redundant steps, with its exact rules for scores that equal the threshold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from prmkit.metrics.benchmarks.first_error import check_first_errors, check_weight
from prmkit.metrics.selective._selective import auroc_by_ties, tie_numbers
from prmkit.metrics.solutions.aggregation import aggregate, concatenate_paths

_THRESHOLDS = {"invalid": 0.5, "redundant": -0.15}
_UNDECIDED = 2  # a verdict that is right for no class


def reasoneval_scores(
    y_true: Any,
    values: Sequence[Any],
    *,
    task: str = "invalid",
    threshold: float | None = None,
    sample_weight: Any = None,
) -> dict[str, float | None]:
    """Return ReasonEval's macro-F1 and AUROC of solutions and of steps, from step scores.

    Parameters
    ----------
    y_true : sequence
        Task ``"invalid"``: the 0-based first invalid step of each solution, -1 for none. Task
        ``"redundant"``: for each solution an array of 1 (useful) or 0 (redundant) per step.
    values : sequence of array-like of shape (n_steps,)
        Step scores, **higher is better** in both tasks: validity ``1 - P(negative)`` for ``"invalid"``,
        ``-P(neutral)`` for ``"redundant"``. Of blocks of sub-steps: see :func:`block_minimum`.
    task : {"invalid", "redundant"}
    threshold : float, optional
        0.5 for ``"invalid"`` and -0.15 for ``"redundant"`` by default; 0.5 in both tasks for models with one
        scalar reward per step.
    sample_weight : array-like of shape (n_solutions,), optional

    Returns
    -------
    dict of str to (float or None)
        ``"solution_macro_f1"``, ``"solution_auroc"``, ``"step_macro_f1"``, ``"step_auroc"``; None where a
        class is missing.

    Raises
    ------
    ValueError
        For an unknown task, other lengths, labels beyond the last step, other ratings than 0 and 1, NaN, or
        positive values for ``"redundant"`` with its default threshold.

    Notes
    -----
    arXiv:2404.05692. A solution's score is its lowest step score. It is good if that is above the threshold
    and bad if it is below; equal to it, it is neither, a miss for both classes. A step that equals the
    threshold is bad. Task ``"invalid"`` counts steps up to and including the first invalid one.

    Examples
    --------
    >>> scores = reasoneval_scores([1, -1], [[0.9, 0.2, 0.8], [0.7, 0.4]])
    >>> scores["solution_auroc"], scores["step_macro_f1"]
    (1.0, 0.7333333333333334)
    """
    if task not in _THRESHOLDS:
        raise ValueError(f"task is {task!r}, expected one of {', '.join(_THRESHOLDS)}")
    flat, lengths = concatenate_paths(values, False)
    if task == "redundant" and threshold is None and (flat > 0).any():
        raise ValueError(
            f"values holds {flat.max()}, expected -P(neutral); for one reward per step set threshold=0.5"
        )
    threshold = _THRESHOLDS[task] if threshold is None else threshold
    weight = check_weight(sample_weight, len(lengths))
    labels, counted, good = _step_labels(y_true, lengths, task)
    step_weight = np.repeat(weight, lengths) * counted
    lowest = aggregate(values, "min", probabilities=False)
    verdicts = np.where(lowest == threshold, _UNDECIDED, lowest > threshold)
    return {
        "solution_macro_f1": _macro_f1(good, verdicts, weight),
        "solution_auroc": _auroc(good, lowest, weight),
        "step_macro_f1": _macro_f1(labels, (flat > threshold).astype(int), step_weight),
        "step_auroc": _auroc(labels, flat, step_weight),
    }


def reasoneval_judge_scores(
    y_true: Any, y_pred: Any, n_steps: Any, *, sample_weight: Any = None
) -> dict[str, float | None]:
    """Return ReasonEval's macro-F1 of solutions and steps for a judge that names the first invalid step.

    Its verdict is "valid" on steps before, "invalid" on that step; steps after it are undecided: a miss where
    the label is "valid". For redundancy a judge marks steps: pass its 1/0 marks to :func:`reasoneval_scores`
    with ``threshold=0.5``.

    Parameters
    ----------
    y_true, y_pred : array-like of shape (n_solutions,)
        0-based first invalid step, -1 for none; a prediction of None decides nothing.
    n_steps : array-like of int, shape (n_solutions,)
        Steps of each solution.
    sample_weight : array-like of shape (n_solutions,), optional

    Returns
    -------
    dict of str to (float or None)
        ``"solution_macro_f1"`` and ``"step_macro_f1"``.

    Raises
    ------
    TypeError, ValueError
        As :func:`prmkit.metrics.first_error_f1_score`, and for labels beyond the last step.

    Examples
    --------
    >>> reasoneval_judge_scores([1, -1], [1, -1], [3, 2])
    {'solution_macro_f1': 1.0, 'step_macro_f1': 1.0}
    """
    lengths = np.asarray(n_steps, dtype=np.int64)
    y_true, y_pred, weight = check_first_errors(y_true, y_pred, sample_weight)
    labels, counted, good = _step_labels(y_true, lengths, "invalid")
    named = np.repeat(np.where(y_pred == -1, lengths, y_pred), lengths)
    step = _places(lengths)
    verdicts = np.where(step < named, 1, np.where(step == named, 0, _UNDECIDED))
    decided = np.where(y_pred < -1, _UNDECIDED, y_pred == -1)
    return {
        "solution_macro_f1": _macro_f1(good, decided, weight),
        "step_macro_f1": _macro_f1(labels, verdicts, np.repeat(weight, lengths) * counted),
    }


def block_minimum(values: Any, n_sub_steps: Any) -> np.ndarray:
    """Return one score per block of sub-steps, the lowest of them, as ReasonEval does.

    Parameters
    ----------
    values : array-like of shape (n_sub_steps_in_all,)
        Scores of one solution's sub-steps, higher is better.
    n_sub_steps : array-like of int, shape (n_blocks,)
        Sub-steps of each block, at least 1.

    Returns
    -------
    ndarray of shape (n_blocks,)

    Raises
    ------
    ValueError
        If a block is empty or the numbers do not add up.

    Examples
    --------
    >>> block_minimum([0.9, 0.3, 0.8], [1, 2])
    array([0.9, 0.3])
    """
    values, sizes = np.asarray(values, dtype=np.float64), np.asarray(n_sub_steps, dtype=np.int64)
    if not len(sizes) or (sizes < 1).any() or sizes.sum() != len(values):
        raise ValueError(
            f"n_sub_steps {sizes.tolist()} for {len(values)} values, expected sizes of at least 1 that sum to it"
        )
    return np.minimum.reduceat(values, np.cumsum(sizes) - sizes)


def _step_labels(y_true: Any, lengths: np.ndarray, task: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return, of each step, whether it is good and whether it counts; and whether each solution is good."""
    if len(y_true) != len(lengths):
        raise ValueError(f"y_true has {len(y_true)} solutions and values {len(lengths)}, expected the same")
    if task == "invalid":
        first, _, _ = check_first_errors(y_true, np.full(len(lengths), -1))
        beyond = np.flatnonzero(first >= lengths)
        if len(beyond):
            i = beyond[0]
            raise ValueError(f"y_true of solution {i} is {first[i]}, but it has {lengths[i]} steps")
        last = np.repeat(np.where(first < 0, lengths, first), lengths)
        step = _places(lengths)
        return step < last, step <= last, first < 0
    labels, n_labels = concatenate_paths(y_true, False)
    odd = np.flatnonzero(n_labels != lengths)
    if len(odd):
        i = odd[0]
        raise ValueError(f"solution {i} has {n_labels[i]} ratings and {lengths[i]} values, expected the same")
    if not np.isin(labels, (0, 1)).all():
        raise ValueError("y_true of task 'redundant' holds other values than 1 (useful) and 0 (redundant)")
    good = np.minimum.reduceat(labels, np.cumsum(lengths) - lengths) if len(lengths) else np.empty(0)
    return labels > 0, np.ones(len(labels), dtype=bool), good > 0


def _places(lengths: np.ndarray) -> np.ndarray:
    """Return the index of each step in its solution."""
    return np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)


def _macro_f1(good: np.ndarray, verdicts: np.ndarray, weight: np.ndarray) -> float | None:
    """Return the mean F1 of bad (0) and good (1) rows; an undecided verdict is a miss."""
    counts = np.bincount(good * 3 + verdicts, weights=weight, minlength=6).reshape(2, 3)
    actual, judged = counts.sum(axis=1), counts.sum(axis=0)[:2]
    if not actual.all():
        return None
    return float(np.mean(2 * counts[:, :2].diagonal() / (actual + judged)))


def _auroc(good: np.ndarray, score: np.ndarray, weight: np.ndarray) -> float | None:
    return auroc_by_ties(good, tie_numbers(score), weight) if len(score) else None
