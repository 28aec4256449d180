"""The reward under which a step counts as the first error: chosen on named data, for ProcessBench's F1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from prmkit.metrics.benchmarks.first_error import (
    check_first_errors,
    check_rule,
    first_error_f1_score,
    first_error_from_scores,
)
from prmkit.metrics.solutions.aggregation import concatenate_paths


@dataclass(frozen=True)
class FirstErrorThreshold:
    """A threshold, the data that chose it, and what it gave there; made by :func:`choose_first_error_threshold`.

    Parameters
    ----------
    threshold : float
        For :func:`first_error_from_scores`: a step is wrong if its reward is below.
    rule : str
    data : str
        Name of the data it was chosen on; results there are optimistic.
    f1, f1_at_half : float
        ProcessBench F1 on that data, with this threshold and with 0.5.
    accuracy_erroneous, accuracy_correct : float
        The two accuracies behind ``f1``.
    n_erroneous, n_correct : int
        Solutions of either kind.
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

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain Python values, ready for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        return (
            f"threshold {self.threshold:.4g} ({self.rule}), chosen on {self.data}: F1 {self.f1:.3f} there, "
            f"{self.f1_at_half:.3f} at 0.5"
        )


def choose_first_error_threshold(
    y_true: Any, values: Sequence[Any], *, data: str, rule: str = "first_below"
) -> FirstErrorThreshold:
    """Return the threshold with the best ProcessBench F1 on some data, to be used on other data.

    Candidates are all distinct rewards (at the lowest no step is wrong) and an upper end at which every step
    is; among equally good ones the lowest is taken. O(n log n) in the number of steps.

    Parameters
    ----------
    y_true : array-like of int, shape (n_solutions,)
        0-based first error, -1 where there is none.
    values : sequence of array-like of shape (n_steps,)
        Rewards of each solution's steps, higher is better, of any scale.
    data : str
        What the solutions are, like ``"processbench gsm8k"``: it is reported with the threshold.
    rule : {"first_below", "argmin"}
        As in :func:`first_error_from_scores`.

    Returns
    -------
    FirstErrorThreshold

    Raises
    ------
    ValueError
        For other lengths, labels beyond a solution's last step, NaN, an unknown rule, an empty ``data``, or
        only erroneous or only correct solutions.

    Examples
    --------
    >>> rewards = [[0.9, 0.3], [0.8, 0.7], [0.6, 0.9]]
    >>> print(choose_first_error_threshold([1, -1, 0], rewards, data="three solutions"))
    threshold 0.7 (first_below), chosen on three solutions: F1 1.000 there, 0.667 at 0.5
    """
    check_rule(rule)
    if not isinstance(data, str) or not data.strip():
        raise ValueError(f"data is {data!r}, expected the name of the data the threshold is chosen on")
    flat, lengths = concatenate_paths(values, False)
    y_true, _, _ = check_first_errors(y_true, np.full(len(lengths), -1))
    beyond = np.flatnonzero(y_true >= lengths)
    if len(beyond):
        i = beyond[0]
        raise ValueError(f"y_true of solution {i} is {y_true[i]}, but it has {lengths[i]} steps")
    n_erroneous = int((y_true >= 0).sum())
    n_correct = len(y_true) - n_erroneous
    if not n_erroneous or not n_correct:
        raise ValueError(
            f"{n_erroneous} erroneous and {n_correct} correct solutions: a threshold needs both kinds"
        )
    distinct = np.unique(flat)
    candidates = np.append(distinct, 1.0 if distinct[-1] < 1 else np.inf)
    lowest = np.minimum.reduceat(flat, np.cumsum(lengths) - lengths)
    on_correct = 1 - _below(lowest[y_true < 0], candidates) / n_correct
    above, up_to = _matching_thresholds(flat, lengths, y_true, lowest, rule)
    on_erroneous = (_below(above, candidates) - _below(up_to, candidates)) / n_erroneous
    total = on_erroneous + on_correct
    f1 = np.divide(2 * on_erroneous * on_correct, total, out=np.zeros_like(total), where=total > 0)
    best = int(np.argmax(f1 >= f1.max() - 1e-12))  # equal but for rounding: the first, so the lowest
    at_half = first_error_f1_score(y_true, first_error_from_scores(values, 0.5, rule))
    return FirstErrorThreshold(
        threshold=float(candidates[best]),
        rule=rule,
        data=data,
        f1=float(f1[best]),
        f1_at_half=float(at_half or 0.0),
        accuracy_erroneous=float(on_erroneous[best]),
        accuracy_correct=float(on_correct[best]),
        n_erroneous=n_erroneous,
        n_correct=n_correct,
    )


def _below(values: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """Return how many values lie strictly below each candidate."""
    return np.searchsorted(np.sort(values), candidates, side="left")


def _matching_thresholds(
    flat: np.ndarray, lengths: np.ndarray, y_true: np.ndarray, lowest: np.ndarray, rule: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return, of the solutions whose label some threshold hits, the interval (above, up_to] of those that do.

    A first step below the threshold is step k if its reward is below and no reward before it is.
    """
    wrong = np.flatnonzero(y_true >= 0)
    starts = (np.cumsum(lengths) - lengths)[wrong]
    label = y_true[wrong]
    reward = flat[starts + label]
    before = np.full(len(wrong), np.inf)
    later = np.flatnonzero(label > 0)
    if len(later):
        spans = np.column_stack([starts[later], (starts + label)[later]]).ravel()
        before[later] = np.minimum.reduceat(flat, spans)[::2]
    hit = reward < before
    if rule == "argmin":
        hit &= reward == lowest[wrong]
        before[:] = np.inf
    return reward[hit], before[hit]
