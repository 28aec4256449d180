"""Intervals that resample problems: steps of one problem are dependent, so rows must not be resampled."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
import numpy.typing as npt

from prmkit.utils.ragged import FloatArray, IntArray


@dataclass(frozen=True)
class Interval:
    """A number with its interval.

    The ends are percentiles of the resamples, or what `bootstrap_by_problem` says of numbers that chance lifts. Where
    the number lies outside, the interval is widened to it.

    Parameters
    ----------
    value : float or None
        The number, computed on all rows. None if undefined.
    low, high : float or None
        The ends of the interval. None if the number is undefined, or fewer than two problems leave nothing to resample.
    n_undefined : int
        Number of resamples in which the number was undefined. They are left out of the interval.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    n_undefined: int = 0

    def __str__(self) -> str:
        return self.to_text()

    def to_text(self, undefined: str = "undefined") -> str:
        """Return the number and its interval with three decimals.

        Parameters
        ----------
        undefined : str, default="undefined"
            The text for an undefined number.

        Returns
        -------
        str
            Text such as ``"0.750 [0.500, 1.000]"``.
        """
        if self.value is None:
            return undefined
        text = f"{self.value:.3f}"
        return text if self.low is None else f"{text} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True, eq=False, repr=False)
class BootstrapResult:
    """The replicates of one or several numbers, all from the same resamples.

    Parameters
    ----------
    estimates : dict of str to (float or None)
        The numbers, computed on all rows.
    replicates : dict of str to ndarray of shape (n_resamples,)
        The numbers in each resample. NaN if undefined.
    confidence_level : float, default=0.95
        Level of the intervals.
    lifted : collection of str, default=()
        Names of numbers of 0 or more that chance lifts, such as calibration errors. Resamples lift them once more, so
        their percentiles lie too high. Their intervals are reflected at the number, and end at 0.
    """

    estimates: Mapping[str, float | None]
    replicates: Mapping[str, FloatArray]
    confidence_level: float = 0.95
    lifted: Collection[str] = ()

    def interval(self, name: str = "value") -> Interval:
        """Return a number and its interval.

        Parameters
        ----------
        name : str, default="value"
            The name of the number.

        Returns
        -------
        Interval
            The number with its interval.
        """
        return _interval(self.estimates[name], self.replicates[name], self.confidence_level, name in self.lifted)

    def intervals(self) -> dict[str, Interval]:
        """Return all numbers with their intervals.

        Returns
        -------
        dict of str to Interval
            One interval per number.
        """
        return {name: self.interval(name) for name in self.estimates}

    def difference(self, first: str, second: str) -> Interval:
        """Return ``first - second`` with the interval of the paired difference (same problems in both).

        Parameters
        ----------
        first, second : str
            The names of two numbers.

        Returns
        -------
        Interval
            The difference with its interval.
        """
        return _difference(self, first, self, second)

    def minus(self, other: BootstrapResult, name: str = "value") -> Interval:
        """Return a number minus the same number of another system, from the same resamples.

        Parameters
        ----------
        other : BootstrapResult
            The result of the other system. Both must come from one seed and the same problems.
        name : str, default="value"
            The name of the number.

        Returns
        -------
        Interval
            The paired difference with its interval.
        """
        return _difference(self, name, other, name)

    def __repr__(self) -> str:
        return f"<BootstrapResult: {', '.join(f'{name} {self.interval(name)}' for name in self.estimates)}>"


def bootstrap_by_problem(
    statistic: Callable[..., float | Mapping[str, float | None] | None],
    groups: npt.ArrayLike,
    *arrays: npt.ArrayLike,
    n_resamples: int = 1000,
    random_state: int | np.random.Generator | None = 0,
    confidence_level: float = 0.95,
    lifted: Collection[str] = (),
) -> BootstrapResult:
    """Resample problems with replacement, all their rows with them, and recompute a statistic.

    Parameters
    ----------
    statistic : callable
        Called as ``statistic(*arrays, sample_weight=w)`` on the rows of a resample, where ``w`` says how often each row
        counts. The metrics of scikit-learn fit. It returns a float (None or NaN if undefined), or a dict of floats. Put
        two models into one dict for their paired difference.
    groups : array-like of shape (n_rows,)
        The problem of each row, see :func:`prmkit.data.problem_groups`.
    *arrays : array-like of shape (n_rows, ...)
        The arguments of the statistic.
    n_resamples : int, default=1000
        Number of resamples.
    random_state : int, Generator or None, default=0
        Seed of the resamples.
    confidence_level : float, default=0.95
        Level of the intervals.
    lifted : collection of str, default=()
        Names of numbers of 0 or more that chance lifts, such as calibration errors. Resamples lift them once more, so
        their percentiles lie too high. Their intervals are reflected at the number, and end at 0.

    Returns
    -------
    BootstrapResult
        The numbers and their replicates. A statistic that returns a float is called ``"value"``.

    Raises
    ------
    ValueError
        If lengths differ, there are no rows, or a setting is out of its range.

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
            raise ValueError(f"array {i} has {len(column)} rows and groups {len(problems)}, expected the same")

    def on_counts(counts: FloatArray) -> dict[str, float | None]:
        weight = counts[problems]
        # Rows that are not drawn are left out: with weight 0 their class would still look present.
        rows = np.flatnonzero(weight)
        result = statistic(*(column[rows] for column in columns), sample_weight=weight[rows])
        return dict(result) if isinstance(result, Mapping) else {"value": result}

    return bootstrap_counts(on_counts, n_problems, n_resamples, random_state, confidence_level, lifted)


def problems_needed(interval: Interval, n_problems: int, width: float) -> int:
    """Return how many labelled problems in all an interval of a wanted width takes, so that labelling can stop there.

    Parameters
    ----------
    interval : Interval
        Interval by problem of the metric on the problems that are labelled so far.
    n_problems : int
        Number of these problems.
    width : float
        Wanted distance from the lower to the upper end.

    Returns
    -------
    int
        Estimated number of problems, those that are labelled included. If it is at most ``n_problems``, the interval is
        narrow enough.

    Raises
    ------
    TypeError, ValueError
        If the interval has no ends or no width, ``n_problems`` is below 2, or the wanted width is not above 0.

    Notes
    -----
    The width of an interval by problem shrinks with the square root of the number of problems, so
    ``n_problems * (width now / wanted width) ** 2`` are needed. The problems must be drawn at random: those that
    :func:`prmkit.uncertainty.select_for_labelling` chooses by uncertainty are no sample. The estimate from 30 problems
    is rough. Label half of what is missing, and ask again.

    Examples
    --------
    >>> problems_needed(Interval(0.80, low=0.72, high=0.88), 100, 0.08)
    400
    """
    if not isinstance(interval, Interval):
        raise TypeError(
            f"interval is {type(interval).__name__}, expected an Interval: bootstrap_by_problem(…).interval()"
        )
    if not isinstance(n_problems, Integral) or isinstance(n_problems, bool) or n_problems < 2:
        raise ValueError(f"n_problems is {n_problems!r}, expected the number of labelled problems, at least 2")
    if not 0 < width < np.inf:
        raise ValueError(f"width is {width}, expected a number above 0, like 0.05")
    if interval.low is None or interval.high is None:
        raise ValueError("the interval has no ends: label more problems, or set n_resamples above 0")
    now = interval.high - interval.low
    if not now > 0:
        raise ValueError(
            f"the interval has no width: all resamples gave {interval.value}. The {n_problems} problems do not tell "
            "how much the metric varies. Label more of them"
        )
    # Without this, 0.16 / 0.08 would be a little more than 2.
    return math.ceil(round(int(n_problems) * (now / width) ** 2, 6))


def bootstrap_counts(
    statistic: Callable[[FloatArray], Mapping[str, float | None]],
    n_problems: int,
    n_resamples: int,
    random_state: int | np.random.Generator | None = 0,
    confidence_level: float = 0.95,
    lifted: Collection[str] = (),
) -> BootstrapResult:
    """Bootstrap several numbers that are a function of how often each problem counts."""
    results = bootstrap_systems(
        lambda counts: {"": statistic(counts)}, n_problems, n_resamples, random_state, confidence_level, lifted
    )
    return results[""]


def bootstrap_systems(
    statistic: Callable[[FloatArray], Mapping[str, Mapping[str, float | None]]],
    n_problems: int,
    n_resamples: int,
    random_state: int | np.random.Generator | None = 0,
    confidence_level: float = 0.95,
    lifted: Collection[str] = (),
) -> dict[str, BootstrapResult]:
    """Bootstrap the numbers of several systems together, so that their differences are paired."""
    if not 0 < confidence_level < 1:
        raise ValueError(f"confidence_level is {confidence_level}, expected a number between 0 and 1, like 0.95")
    if n_resamples < 0:
        raise ValueError(f"n_resamples is {n_resamples}, expected 0 (no intervals) or more")
    # With one problem every resample is the same, so there is no interval.
    n_drawn = n_resamples if n_problems > 1 else 0
    results = {
        system: BootstrapResult(
            {name: None if value is None or np.isnan(value) else float(value) for name, value in numbers.items()},
            {name: np.full(n_drawn, np.nan) for name in numbers},
            confidence_level,
            lifted,
        )
        for system, numbers in statistic(np.ones(n_problems)).items()
    }
    rng = np.random.default_rng(random_state)
    for i in range(n_drawn):
        drawn = rng.integers(n_problems, size=n_problems)
        counts = np.bincount(drawn, minlength=n_problems).astype(np.float64)
        for system, numbers in statistic(counts).items():
            for name, value in numbers.items():
                results[system].replicates[name][i] = np.nan if value is None else value
    return results


def problem_numbers(groups: npt.ArrayLike) -> tuple[IntArray, int]:
    """Return the problem of each row as 0..n_problems-1, and n_problems."""
    names = np.asarray(groups)
    if names.ndim != 1 or not len(names):
        raise ValueError(f"groups has shape {names.shape}, expected one problem per row: problem_groups(X)")
    distinct, numbers = np.unique(names, return_inverse=True)
    return numbers, len(distinct)


def _difference(first: BootstrapResult, name: str, second: BootstrapResult, other_name: str) -> Interval:
    """Return the interval of a paired difference."""
    a, b = first.estimates[name], second.estimates[other_name]
    value = None if a is None or b is None else a - b
    replicates: Any = first.replicates[name] - second.replicates[other_name]
    return _interval(value, replicates, first.confidence_level)


def _interval(
    value: float | None, replicates: FloatArray, confidence_level: float, is_lifted: bool = False
) -> Interval:
    """Return a number with the quantiles of its defined replicates, and in any case between them."""
    defined = replicates[~np.isnan(replicates)]
    n_undefined = len(replicates) - len(defined)
    if value is None or not len(defined):
        return Interval(value, n_undefined=n_undefined)
    tail = (1 - confidence_level) / 2
    low, high = np.quantile(defined, [tail, 1 - tail])
    if is_lifted:
        # The basic bootstrap interval: replicates differ from the number as the number does from the truth.
        low, high = max(2 * value - high, 0.0), max(2 * value - low, 0.0)
    return Interval(value, min(float(low), value), max(float(high), value), n_undefined)
