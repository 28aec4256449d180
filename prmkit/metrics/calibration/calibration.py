"""How far stated probabilities lie from observed frequencies. scikit-learn has no such number."""

from __future__ import annotations

from numbers import Real
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from prmkit.utils.ragged import FloatArray, IntArray

BinStrategy: TypeAlias = Literal["uniform", "quantile"]

# A row of half-precision probabilities sums to 1 within this.
NOT_ONE = 1e-3
# The rows of a float32 softmax may leave [0, 1] by this much.
_ROUNDING = 1e-6
_NUMBERS = (Real, np.bool_)


def expected_calibration_error(
    y_true: npt.ArrayLike, prob: npt.ArrayLike, n_bins: int = 15, strategy: BinStrategy = "uniform"
) -> float:
    """Return the expected calibration error of the probability of a binary event.

    The sum over non-empty bins of ``n_k / n * |mean probability - share of events|``.

    Parameters
    ----------
    y_true : array-like of shape (n_steps,)
        True (or 1) where the event happened, False (or 0) elsewhere. For the risk of a step pass ``y == -1``.
    prob : array-like of shape (n_steps,)
        Probability of the event, in [0, 1].
    n_bins : int, default=15
        Number of bins.
    strategy : {"uniform", "quantile"}
        How the bins are made. In ``"uniform"`` bin k is ((k - 1) / n_bins, k / n_bins], and 0 lies in the first. In
        ``"quantile"`` bins have equal mass after a stable sort by probability. The first ``n % n_bins`` bins hold one
        step more, and ties may fall into different bins.

    Returns
    -------
    float
        The error in [0, 1], where 0 is perfect. It depends on the bins, so report them with it.

    Raises
    ------
    ValueError
        If lengths differ, there are no rows, labels are not 0/1, a probability is outside [0, 1] or NaN, or the
        strategy is unknown.

    Examples
    --------
    >>> expected_calibration_error([0, 0, 1, 1], [0.25, 0.25, 0.75, 0.75], n_bins=5)
    0.25
    """
    event, probabilities = check_event(y_true, prob)
    bins = bin_numbers(probabilities, check_n_bins(n_bins), strategy)
    gaps = np.bincount(bins, weights=probabilities - event)
    return float(np.abs(gaps).sum() / len(probabilities))


class ReliabilityPoints(NamedTuple):
    """Mean probability, share of events and number of rows of each non-empty bin."""

    mean_prob: FloatArray
    share: FloatArray
    counts: IntArray


def reliability_curve(
    event: npt.ArrayLike, prob: npt.ArrayLike, n_bins: int = 15, strategy: BinStrategy = "uniform"
) -> ReliabilityPoints:
    """Return the points of a reliability diagram, one per non-empty bin.

    Parameters
    ----------
    event : array-like of shape (n_steps,)
        True (or 1) where the event happened.
    prob : array-like of shape (n_steps,)
        Probability of the event, in [0, 1].
    n_bins : int, default=15
        Number of bins.
    strategy : {"uniform", "quantile"}
        How the bins are made, see :func:`expected_calibration_error`.

    Returns
    -------
    ReliabilityPoints
        Mean probability, share of events and number of steps of each non-empty bin.

    Examples
    --------
    >>> curve = reliability_curve([0, 1, 1], [0.2, 0.2, 0.9], n_bins=5)
    >>> curve.mean_prob, curve.share, curve.counts
    (array([0.2, 0.9]), array([0.5, 1. ]), array([2, 1]))
    """
    happened, probabilities = np.asarray(event), np.asarray(prob)
    bins = bin_numbers(probabilities, check_n_bins(n_bins), strategy)
    counts = np.bincount(bins)
    is_full = counts > 0
    mean_prob, share = (
        np.bincount(bins, weights=values)[is_full] / counts[is_full] for values in (probabilities, happened)
    )
    return ReliabilityPoints(mean_prob, share, counts[is_full])


def check_n_bins(n_bins: Any) -> int:
    """Return a number of bins as int. Raise for anything that is no number of bins."""
    number = float(n_bins) if isinstance(n_bins, Real) and not isinstance(n_bins, bool) else 0.0
    if number < 1 or not number.is_integer():
        raise ValueError(f"n_bins is {n_bins!r}, expected an integer of at least 1")
    return int(number)


def bin_numbers(prob: FloatArray, n_bins: int, strategy: str = "uniform") -> IntArray:
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


def check_event(
    y_true: npt.ArrayLike, prob: npt.ArrayLike, *, any_scale: bool = False
) -> tuple[FloatArray, FloatArray]:
    """Return a binary event and its probability (or its score on any scale), checked, as float64 of equal length."""
    event = from_objects(np.asarray(y_true))
    probabilities = np.asarray(prob, dtype=np.float64) if any_scale else check_probabilities(prob, "prob")
    if np.isnan(probabilities).any():
        raise ValueError(f"prob holds NaN at row {int(np.isnan(probabilities).argmax())}, expected numbers")
    if event.ndim != 1 or probabilities.ndim != 1:
        raise ValueError(f"y_true has shape {event.shape} and prob {probabilities.shape}, expected two 1-D arrays")
    if len(event) != len(probabilities):
        raise ValueError(
            f"y_true has {len(event)} rows and prob {len(probabilities)}, expected one probability per label"
        )
    if not len(event):
        raise ValueError("y_true is empty: at least 1 step is required")
    has_numbers = event.dtype.kind in "biuf"
    if not has_numbers or not np.isin(event, (0, 1)).all():
        strange = np.unique(event)[:5].tolist() if has_numbers else [_first_no_number(event)]
        raise ValueError(
            f"y_true holds {', '.join(map(repr, strange))}, expected a binary event (0/1): "
            'pass y == "negative", or y == -1'
        )
    return event.astype(np.float64), probabilities


def from_objects(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return an array of objects that are all numbers or booleans as a numeric array, any other array unchanged."""
    if values.dtype != object or not all(isinstance(value, _NUMBERS) for value in values.flat):
        return values
    return np.array(values.tolist())


def _first_no_number(values: npt.NDArray[Any]) -> Any:
    return next((value for value in values.tolist() if not isinstance(value, _NUMBERS)), values[0])


def check_class_probabilities(proba: npt.ArrayLike, shape: tuple[int, int], *, unscored: bool = False) -> FloatArray:
    """Return ``proba`` as float64 rows that sum to 1, of the given shape.

    With ``unscored`` a row may be NaN in all columns, which says that its step has no score.
    """
    matrix = np.asarray(proba, dtype=np.float64)
    if matrix.shape != shape:
        raise ValueError(f"proba has shape {matrix.shape}, expected (n_steps, n_classes) = {shape}")
    if unscored and (without := np.isnan(matrix).all(axis=1)).any():
        scored = check_class_probabilities(matrix[~without], (int((~without).sum()), shape[1]))
        matrix = np.full(shape, np.nan)
        matrix[~without] = scored
        return matrix
    matrix = check_probabilities(matrix, "proba")
    off = np.abs(matrix.sum(axis=1) - 1)
    if off.max(initial=0.0) > NOT_ONE:
        row = int(off.argmax())
        raise ValueError(f"proba[{row}] sums to {matrix[row].sum():.4f}, expected 1")
    return matrix


def check_probabilities(values: npt.ArrayLike, name: str) -> FloatArray:
    """Return ``values`` as float64 in [0, 1] with rounding errors clipped. Raise for NaN and anything else."""
    array = np.asarray(values, dtype=np.float64)
    # Negated, so that NaN counts as bad too.
    bad = ~((array >= -_ROUNDING) & (array <= 1 + _ROUNDING))
    if bad.any():
        raise ValueError(
            f"{name} holds {array[bad].flat[0]} ({int(bad.sum())} such value(s)), "
            "expected probabilities in [0, 1] without NaN"
        )
    return np.clip(array, 0.0, 1.0)
