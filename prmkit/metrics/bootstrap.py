"""Intervals that resample problems: steps of one problem are dependent, so rows must not be resampled."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Interval:
    """A number with its percentile interval; None where undefined.

    Parameters
    ----------
    value : float or None
        Computed on all rows.
    low, high : float or None
        None also where fewer than two problems leave nothing to resample.
    n_undefined : int
        Resamples in which the number was undefined; they are left out of the interval.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    n_undefined: int = 0

    def __str__(self) -> str:
        if self.value is None:
            return "undefined"
        text = f"{self.value:.3f}"
        return text if self.low is None else f"{text} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True, eq=False, repr=False)
class BootstrapResult:
    """The replicates of one or several numbers, all from the same resamples.

    Parameters
    ----------
    estimates : dict of str to (float or None)
        On all rows.
    replicates : dict of str to ndarray of shape (n_resamples,)
        NaN where undefined.
    confidence_level : float
    """

    estimates: Mapping[str, float | None]
    replicates: Mapping[str, np.ndarray]
    confidence_level: float = 0.95

    def interval(self, name: str = "value") -> Interval:
        """Return a number and its percentile interval."""
        return _interval(self.estimates[name], self.replicates[name], self.confidence_level)

    def difference(self, first: str, second: str) -> Interval:
        """Return ``first - second`` with the interval of the paired difference (same problems in both)."""
        a, b = self.estimates[first], self.estimates[second]
        value = None if a is None or b is None else a - b
        return _interval(value, self.replicates[first] - self.replicates[second], self.confidence_level)

    def __repr__(self) -> str:
        return f"<BootstrapResult: {', '.join(f'{name} {self.interval(name)}' for name in self.estimates)}>"


def bootstrap_by_problem(
    statistic: Callable[..., Any],
    groups: Any,
    *arrays: Any,
    n_resamples: int = 1000,
    random_state: int | np.random.Generator | None = 0,
    confidence_level: float = 0.95,
) -> BootstrapResult:
    """Resample problems with replacement, all their rows with them, and recompute a statistic.

    Parameters
    ----------
    statistic : callable
        Called as ``statistic(*arrays, sample_weight=w)`` on the rows that a resample holds, where ``w`` says
        how often: scikit-learn's metrics fit. Returns a float (None or NaN: undefined), or a dict of such;
        put two models into one dict for their paired difference.
    groups : array-like of shape (n_rows,)
        The problem of each row, see :func:`prmkit.data.problem_groups`.
    *arrays : array-like of shape (n_rows, ...)
    n_resamples : int, default 1000
    random_state : int, Generator or None, default 0
    confidence_level : float, default 0.95

    Returns
    -------
    BootstrapResult

    Raises
    ------
    ValueError
        If lengths differ, there are no rows, or a number is out of its range.

    Examples
    --------
    >>> from sklearn.metrics import accuracy_score
    >>> y, predicted, groups = [1, 1, 0, 1], [1, 0, 0, 1], [0, 0, 1, 2]
    >>> bootstrap_by_problem(accuracy_score, groups, y, predicted, n_resamples=200).interval()
    Interval(value=0.75, low=0.5, high=1.0, n_undefined=0)
    """
    problems, n_problems = problem_numbers(groups)
    columns = [np.asarray(array) for array in arrays]
    for i, column in enumerate(columns):
        if len(column) != len(problems):
            raise ValueError(
                f"array {i} has {len(column)} rows and groups {len(problems)}, expected the same"
            )

    def on_counts(counts: np.ndarray) -> dict[str, Any]:
        weight = counts[problems]
        rows = np.flatnonzero(weight)  # a row that is not drawn must not count as a class that is present
        result = statistic(*(column[rows] for column in columns), sample_weight=weight[rows])
        return dict(result) if isinstance(result, Mapping) else {"value": result}

    return bootstrap_counts(on_counts, n_problems, n_resamples, random_state, confidence_level)


def bootstrap_counts(
    statistic: Callable[[np.ndarray], Mapping[str, Any]],
    n_problems: int,
    n_resamples: int,
    random_state: int | np.random.Generator | None = 0,
    confidence_level: float = 0.95,
) -> BootstrapResult:
    """Bootstrap a dict-valued statistic of how often each problem counts, float64 of shape (n_problems,)."""
    if not 0 < confidence_level < 1:
        raise ValueError(
            f"confidence_level is {confidence_level}, expected a number between 0 and 1, like 0.95"
        )
    if n_resamples < 0:
        raise ValueError(f"n_resamples is {n_resamples}, expected 0 (no intervals) or more")
    estimates = {name: _number(value) for name, value in statistic(np.ones(n_problems)).items()}
    n_drawn = n_resamples if n_problems > 1 else 0  # one problem: every resample is the same
    replicates = {name: np.full(n_drawn, np.nan) for name in estimates}
    for i, counts in enumerate(_resamples(n_problems, n_drawn, random_state)):
        for name, value in statistic(counts).items():
            replicates[name][i] = np.nan if value is None else value
    return BootstrapResult(
        {name: None if np.isnan(value) else value for name, value in estimates.items()},
        replicates,
        confidence_level,
    )


def problem_numbers(groups: Any) -> tuple[np.ndarray, int]:
    """Return each row's problem as 0..n_problems-1, and n_problems."""
    groups = np.asarray(groups)
    if groups.ndim != 1 or not len(groups):
        raise ValueError(f"groups has shape {groups.shape}, expected one problem per row: problem_groups(X)")
    distinct, numbers = np.unique(groups, return_inverse=True)
    return numbers, len(distinct)


def _resamples(
    n_problems: int, n_resamples: int, random_state: int | np.random.Generator | None
) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(random_state)
    for _ in range(n_resamples):
        drawn = rng.integers(n_problems, size=n_problems)
        yield np.bincount(drawn, minlength=n_problems).astype(np.float64)


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)


def _interval(value: float | None, replicates: np.ndarray, confidence_level: float) -> Interval:
    defined = replicates[~np.isnan(replicates)]
    n_undefined = len(replicates) - len(defined)
    if value is None or not len(defined):
        return Interval(value, n_undefined=n_undefined)
    tail = (1 - confidence_level) / 2
    low, high = np.quantile(defined, [tail, 1 - tail])
    return Interval(value, float(low), float(high), n_undefined)
