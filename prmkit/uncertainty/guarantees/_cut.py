"""The one computation behind all guarantees: how far a cut may go before too many calibration problems fail."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import numpy as np
from scipy.special import bdtr, rel_entr

_ROUNDING = 1e-9  # alpha * (n + 1) is an integer on paper more often than in binary


@dataclass(frozen=True)
class Cut:
    """A calibrated cut: what lies at the cut or above it stops, what lies below passes.

    Parameters
    ----------
    value : float
        -inf: nothing passes. inf: everything does.
    n_units : int
        How many calibration units stand behind it.
    attainable : bool
        False: too few units for the level, whatever their values; ``value`` is -inf then.
    """

    value: float
    n_units: int
    attainable: bool

    def threshold(self, margin: float = 0.0) -> float:
        """The largest number that still passes, so that "passes" reads ``value <= threshold``.

        With a margin, numbers that close below the cut stop too: the same risk, computed in another batch, may differ
        in its last digits.
        """
        if math.isinf(self.value):
            return self.value
        return min(float(np.nextafter(self.value, -np.inf)), self.value - margin)


def largest_cut(values: np.ndarray, units: np.ndarray, alpha: float, delta: float | None = None) -> Cut:
    """Return the largest cut at which a new unit still fails at a rate of at most ``alpha``.

    A path fails where its value lies below the cut, ``value < cut``; the loss of a unit is the share of its
    paths that fail. It grows with the cut and lies in [0, 1], which is all that is asked for below.

    Parameters
    ----------
    values : ndarray of shape (n_paths,)
        inf for a path that cannot fail.
    units : ndarray of shape (n_paths,)
        What is exchangeable: the problem of each path, or the path itself.
    alpha : float
        Failure rate that is tolerated.
    delta : float, optional
        None: the *expected* loss of a new unit, over calibration units too, is at most alpha (conformal risk
        control). Given: with probability 1 - delta over the calibration units, the loss to be expected of new
        units is at most alpha (Learn then Test).

    Notes
    -----
    Conformal risk control (arXiv:2208.02814, theorem 1) takes the largest cut whose summed loss over the n units
    is at most ``alpha * (n + 1) - 1``. With one path per unit that is the (m + 1)-th smallest value,
    ``m = floor(alpha * (n + 1)) - 1``.

    Learn then Test (arXiv:2110.01052) takes the largest cut at which "the expected loss exceeds alpha" is
    rejected at level delta; as the loss is monotone, testing cuts from the lowest up needs no correction. The
    p-value is binomial and exact with one path per unit, else Hoeffding-Bentkus.
    """
    weights, n_units = unit_weights(units)
    binary = len(values) == n_units
    if not n_units or not _passes(np.zeros(1), n_units, alpha, delta, binary)[0]:
        return Cut(-math.inf, n_units, False)
    order = np.lexsort((weights, values))  # by weight within ties: the same sums in any order of the paths
    failing = np.cumsum(weights[order])  # summed loss of a cut just above each value
    too_many = np.flatnonzero(~_passes(failing, n_units, alpha, delta, binary))
    value = float(values[order[too_many[0]]]) if len(too_many) else math.inf
    return Cut(value, n_units, True)


def unit_weights(units: np.ndarray) -> tuple[np.ndarray, int]:
    """Return the weight of each path, so that those of a unit sum to 1, and the number of units."""
    _, numbers, counts = np.unique(units, return_inverse=True, return_counts=True)
    return 1.0 / counts[numbers], len(counts)


def mean_over_units(values: np.ndarray, units: np.ndarray) -> float | None:
    """Return the mean over units of the mean over their paths; None without paths."""
    weights, n_units = unit_weights(units)
    return float(weights @ values / n_units) if n_units else None


def units_needed(alpha: float, delta: float | None = None) -> int:
    """Return the number of calibration units below which a level is not attainable."""
    if delta is None:
        return math.ceil((1 - _ROUNDING) / alpha) - 1
    return math.ceil(math.log(delta) / math.log1p(-alpha) - _ROUNDING)


def warn_unattainable(
    n_units: int, unit: str, alpha: float, delta: float | None, instead: str, needed: int | None = None
) -> None:
    """Warn that there are too few calibration units, and say what predictions do instead."""
    level = f"{alpha:.6g}" if delta is None else f"{alpha:.6g} with confidence {1 - delta:.6g}"
    warnings.warn(
        f"a failure rate of {level} is not attainable with {n_units} {unit}, at least "
        f"{needed or units_needed(alpha, delta)} are needed: {instead}",
        UserWarning,
        stacklevel=5,
    )


def _passes(losses: np.ndarray, n_units: int, alpha: float, delta: float | None, binary: bool) -> np.ndarray:
    """Whether each summed loss is small enough."""
    if delta is None:
        return losses <= alpha * (n_units + 1) - 1 + _ROUNDING
    return _p_values(losses, n_units, alpha, binary) <= delta


def _p_values(losses: np.ndarray, n_units: int, alpha: float, binary: bool) -> np.ndarray:
    """P-values of "the expected loss exceeds alpha" for summed losses of n units."""
    if binary:
        return bdtr(np.round(losses), n_units, alpha)
    rate = np.minimum(losses / n_units, alpha)
    hoeffding = np.exp(-n_units * (rel_entr(rate, alpha) + rel_entr(1 - rate, 1 - alpha)))
    at_most = np.minimum(np.ceil(losses - _ROUNDING), n_units)
    return np.minimum(hoeffding, math.e * bdtr(at_most, n_units, alpha))
