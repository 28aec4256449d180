"""How far stated probabilities lie from observed frequencies; scikit-learn has no such number."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np

_NUMBERS = (Real, np.bool_)
_ROUNDING = 1e-6  # float32 softmax rows may leave [0, 1] by this much, no further
_NOT_ONE = 1e-3  # a row of half-precision probabilities sums to 1 within this


def expected_calibration_error(y_true: Any, prob: Any, n_bins: int = 15, strategy: str = "uniform") -> float:
    """Return the expected calibration error of the probability of a binary event.

    The sum over non-empty bins of ``n_k / n * |mean probability - share of events|``.

    Parameters
    ----------
    y_true : array-like of shape (n_steps,)
        True (or 1) where the event happened, False (or 0) elsewhere; for the risk of a step: ``y == -1``.
    prob : array-like of shape (n_steps,)
        Probability of the event, in [0, 1].
    n_bins : int, default 15
    strategy : {"uniform", "quantile"}
        ``"uniform"``: bin k is ((k - 1) / n_bins, k / n_bins], and 0 lies in the first.
        ``"quantile"``: bins of equal mass after a stable sort by probability; the first ``n % n_bins``
        bins hold one step more, and ties may fall into different bins.

    Returns
    -------
    float
        In [0, 1]; 0 is perfect. It depends on the bins: report them with it.

    Raises
    ------
    ValueError
        For another length, no rows, labels that are not 0/1, probabilities outside [0, 1] or NaN, or
        an unknown strategy.

    Examples
    --------
    >>> expected_calibration_error([0, 0, 1, 1], [0.25, 0.25, 0.75, 0.75], n_bins=5)
    0.25
    """
    event, prob = check_event(y_true, prob)
    n_bins = check_n_bins(n_bins)
    bins = bin_numbers(prob, n_bins, strategy)
    gaps = np.bincount(bins, weights=prob - event, minlength=n_bins)
    return float(np.abs(gaps).sum() / len(prob))


def maximum_calibration_error(y_true: Any, prob: Any, n_bins: int = 15, strategy: str = "uniform") -> float:
    """Return the largest ``|mean probability - share of events|`` of any non-empty bin.

    One bin of few steps decides it: it is large by chance alone where steps are few.

    Parameters and errors as in :func:`expected_calibration_error`.

    Examples
    --------
    >>> maximum_calibration_error([0, 0, 1, 1], [0.25, 0.25, 0.5, 0.5], n_bins=5)
    0.5
    """
    event, prob = check_event(y_true, prob)
    mean_prob, share, _ = reliability_curve(event, prob, n_bins, strategy)
    return float(np.abs(mean_prob - share).max())


def reliability_curve(
    event: np.ndarray, prob: np.ndarray, n_bins: int = 15, strategy: str = "uniform"
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return mean probability, share of events and number of rows of each non-empty bin."""
    n_bins = check_n_bins(n_bins)
    bins = bin_numbers(prob, n_bins, strategy)
    counts = np.bincount(bins, minlength=n_bins)
    kept = counts > 0
    sums = [np.bincount(bins, weights=values, minlength=n_bins)[kept] for values in (prob, event)]
    return sums[0] / counts[kept], sums[1] / counts[kept], counts[kept]


def check_n_bins(n_bins: Any) -> int:
    """Return a number of bins, refusing what is none."""
    number = float(n_bins) if isinstance(n_bins, Real) and not isinstance(n_bins, bool) else 0.0
    if number < 1 or not number.is_integer():
        raise ValueError(f"n_bins is {n_bins!r}, expected an integer of at least 1")
    return int(number)


def bin_numbers(prob: np.ndarray, n_bins: int, strategy: str = "uniform") -> np.ndarray:
    """Return the 0-based bin of each probability, as :func:`expected_calibration_error` defines it."""
    if strategy == "uniform":
        # Comparing with k / n_bins itself: ceil(prob * n_bins) would put 0.07 of 100 bins into the eighth.
        return np.searchsorted(np.arange(1, n_bins) / n_bins, prob, side="left")
    if strategy == "quantile":
        quotient, rest = divmod(len(prob), n_bins)
        sizes = np.full(n_bins, quotient)
        sizes[:rest] += 1
        bins = np.empty(len(prob), dtype=np.int64)
        bins[np.argsort(prob, kind="stable")] = np.repeat(np.arange(n_bins), sizes)
        return bins
    raise ValueError(f'strategy is {strategy!r}, expected "uniform" or "quantile"')


def check_event(y_true: Any, prob: Any) -> tuple[np.ndarray, np.ndarray]:
    """Check a binary event and its probability; return both as float64 arrays of equal length."""
    event = from_objects(np.asarray(y_true))
    prob = check_probabilities(prob, "prob")
    if event.ndim != 1 or prob.ndim != 1:
        raise ValueError(f"y_true has shape {event.shape} and prob {prob.shape}, expected two 1-D arrays")
    if len(event) != len(prob):
        raise ValueError(
            f"y_true has {len(event)} rows and prob {len(prob)}, expected one probability per label"
        )
    if not len(event):
        raise ValueError("y_true is empty: at least 1 step is required")
    numbers = event.dtype.kind in "biuf"
    if not numbers or not np.isin(event, (0, 1)).all():
        found = ", ".join(map(repr, np.unique(event)[:5].tolist() if numbers else [_first_no_number(event)]))
        raise ValueError(
            f'y_true holds {found}, expected a binary event (0/1): pass y == "negative", or y == -1'
        )
    return event.astype(np.float64), prob


def from_objects(values: np.ndarray) -> np.ndarray:
    """Return an array of objects that are all numbers or booleans as an array of those; any other as it is."""
    if values.dtype != object or not all(isinstance(value, _NUMBERS) for value in values.flat):
        return values
    return np.array(values.tolist())


def _first_no_number(values: np.ndarray) -> Any:
    return next((value for value in values.tolist() if not isinstance(value, _NUMBERS)), values[0])


def check_class_probabilities(proba: Any, shape: tuple[int, int]) -> np.ndarray:
    """Return ``proba`` as float64 rows that sum to 1, of the given shape."""
    proba = np.asarray(proba, dtype=np.float64)
    if proba.shape != shape:
        raise ValueError(f"proba has shape {proba.shape}, expected (n_steps, n_classes) = {shape}")
    proba = check_probabilities(proba, "proba")
    off = np.abs(proba.sum(axis=1) - 1)
    if off.max(initial=0.0) > _NOT_ONE:
        row = int(off.argmax())
        raise ValueError(f"proba[{row}] sums to {proba[row].sum():.4f}, expected 1")
    return proba


def check_probabilities(values: Any, name: str) -> np.ndarray:
    """Return ``values`` as float64 in [0, 1], rounding errors clipped; raise for NaN and anything else."""
    array = np.asarray(values, dtype=np.float64)
    bad = ~((array >= -_ROUNDING) & (array <= 1 + _ROUNDING))  # true for NaN as well
    if bad.any():
        raise ValueError(
            f"{name} holds {array[bad].flat[0]} ({int(bad.sum())} such value(s)), "
            "expected probabilities in [0, 1] without NaN"
        )
    return np.clip(array, 0.0, 1.0)
