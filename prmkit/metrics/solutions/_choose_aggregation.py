"""Which rule turns step rewards into a path score: decided by validation problems, not by habit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from prmkit.metrics.bootstrap import Interval, bootstrap_counts, problem_numbers
from prmkit.metrics.selective._selective import auroc_by_ties, tie_numbers
from prmkit.metrics.solutions.aggregation import AGGREGATION_RULES, aggregate


@dataclass(frozen=True, repr=False)
class AggregationChoice:
    """The rule that best tells paths without an error from others; made by :func:`choose_aggregation`.

    Parameters
    ----------
    rule : str
        The best one, for :func:`aggregate`.
    auroc : dict of str to Interval
        Of each rule: a path without an error has the higher score than one with an error.
    differences : dict of str to Interval
        The best rule minus each other, resampled in pairs. An interval that holds 0 says: the data do not decide.
    n_paths, n_problems : int
    share_correct : float
        Of paths without an error.
    n_resamples : int
    confidence_level : float
    """

    rule: str
    auroc: Mapping[str, Interval]
    differences: Mapping[str, Interval]
    n_paths: int
    n_problems: int
    share_correct: float
    n_resamples: int
    confidence_level: float

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain Python values, ready for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        rows = [
            (name, str(interval), str(self.differences.get(name, "")))
            for name, interval in sorted(self.auroc.items(), key=lambda pair: -(pair[1].value or 0.0))
        ]
        rows.insert(0, ("rule", "AUROC", f"{self.rule} minus it"))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        table = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        head = (
            f"{self.rule}: AUROC {self.auroc[self.rule]} of {self.n_paths:,} paths of {self.n_problems:,} problems, "
            f"{self.share_correct:.1%} without an error"
        )
        return "\n".join([head, "", *table, "", "chosen on these problems: report it on others"])

    def __repr__(self) -> str:
        return f"<AggregationChoice: {self.rule}, AUROC {self.auroc[self.rule]}, {self.n_paths} paths>"


def choose_aggregation(
    values: Sequence[Any],
    correct: Any,
    groups: Any = None,
    *,
    rules: Sequence[str] | None = None,
    n_resamples: int = 1000,
    confidence_level: float = 0.95,
    random_state: int | np.random.Generator | None = 0,
) -> AggregationChoice:
    """Choose the aggregation rule by the AUROC of "the path has no error".

    Give it **validation** problems: neither those that the classifier was trained on, nor those that the result is
    reported on. The best of several is flattered by the choice. Rules that order paths alike (``product`` and
    ``sum_log``; ``geometric_mean`` and ``length_normalized``) tie, and the first in order wins.

    Parameters
    ----------
    values : sequence of array-like of shape (n_steps,)
        One 1-D array per path: the rewards of its steps in [0, 1], higher is better.
    correct : array-like of bool, shape (n_paths,)
        True where no step is wrong: ``first_errors == -1``.
    groups : array-like of shape (n_paths,), optional
        The problem of each path. None: each path is a problem of its own.
    rules : sequence of str, optional
        Which of :func:`aggregate`'s to compare; None: all.
    n_resamples : int, default=1000
        Of problems, for the intervals.
    confidence_level : float, default=0.95
    random_state : int, Generator or None, default=0

    Returns
    -------
    AggregationChoice

    Raises
    ------
    ValueError
        As :func:`aggregate` raises; for other lengths, truths that are not True or False, or where all paths or none
        have an error.

    Examples
    --------
    >>> rewards = [[0.9, 0.8, 0.9, 0.9], [0.7, 0.99], [0.9, 0.4, 0.9], [0.6, 0.9]]
    >>> choice = choose_aggregation(rewards, [True, True, False, False], rules=["last", "min", "mean"])
    >>> choice.rule, {rule: interval.value for rule, interval in choice.auroc.items()}
    ('min', {'last': 0.75, 'min': 1.0, 'mean': 1.0})
    """
    rules = tuple(dict.fromkeys(AGGREGATION_RULES if rules is None else rules))
    if not rules:
        raise ValueError(f"rules is empty, expected some of {', '.join(AGGREGATION_RULES)}")
    # Sorted once; what is uncertain about a path being right is minus its score.
    ties = {rule: tie_numbers(-aggregate(values, rule)) for rule in rules}
    wrong = ~_check_correct(correct, len(values))
    problems, n_problems = problem_numbers(np.arange(len(wrong)) if groups is None else groups)
    if len(problems) != len(wrong):
        raise ValueError(
            f"groups has {len(problems)} rows, expected one problem for each of {len(wrong)} paths"
        )
    bootstrap = bootstrap_counts(
        lambda counts: {rule: auroc_by_ties(wrong, ties[rule], counts[problems]) for rule in rules},
        n_problems,
        n_resamples,
        random_state,
        confidence_level,
    )
    aurocs = np.array([bootstrap.estimates[rule] for rule in rules], dtype=np.float64)
    best = rules[int(np.argmax(aurocs >= aurocs.max() - 1e-12))]  # the first of equals
    return AggregationChoice(
        rule=best,
        auroc={rule: bootstrap.interval(rule) for rule in rules},
        differences={rule: bootstrap.difference(best, rule) for rule in rules if rule != best},
        n_paths=len(wrong),
        n_problems=n_problems,
        share_correct=float(1 - wrong.mean()),
        n_resamples=n_resamples,
        confidence_level=confidence_level,
    )


def _check_correct(correct: Any, n_paths: int) -> np.ndarray:
    truth = np.asarray(correct)
    if truth.shape != (n_paths,):
        raise ValueError(
            f"correct has shape {truth.shape}, expected True or False for each of {n_paths} paths"
        )
    if truth.dtype.kind not in "biuf" or not np.isin(truth, (0, 1)).all():
        raise ValueError("correct holds more than True and False: pass first_errors == -1")
    truth = truth.astype(bool)
    if not truth.any() or truth.all():
        found = "all" if truth.all() else "none"
        raise ValueError(
            f"{found} of {n_paths} paths are without an error: an AUROC needs paths with and without one"
        )
    return truth
