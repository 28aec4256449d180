"""The one computation behind all guarantees: the threshold at which few enough calibration problems fail.

Everywhere in this room a number *passes* if it is at most the threshold: ``risk <= threshold``.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import numpy as np
from scipy.special import bdtr, logsumexp, rel_entr

# alpha * (n + 1) is an integer on paper more often than in binary.
_ROUNDING = 1e-9
# Selective risk: the part of delta for the sequence (the bets have the rest), the shares of passing paths for which
# the bets are best, and the largest bet of a wealth of 1.
_OF_SEQUENCE = 0.7
_SHARES = np.array([0.15, 0.3, 0.6, 1.0])
_LARGEST_BET = 0.98


@dataclass(frozen=True)
class Threshold:
    """A calibrated threshold: a number passes if it is at most ``value``, which rests on ``n_units`` calibration units.

    If there are too few units for the level, ``attainable`` is False and the value is on the safe side: ``-inf`` from
    :func:`largest_threshold`, ``inf`` from :func:`smallest_threshold`.
    """

    value: float
    n_units: int
    attainable: bool


def largest_threshold(
    risks: np.ndarray, units: np.ndarray, alpha: float, delta: float | None = None, *, margin: float = 0.0
) -> Threshold:
    """Return the largest threshold at which a new unit fails at a rate of at most ``alpha``.

    A path fails if it **passes**: ``risk <= threshold``. The risk is ``inf`` for a path that cannot fail. The loss of
    a unit (a problem, or the path itself) is the share of its paths that fail. It grows with the threshold and lies
    in [0, 1], and the method needs nothing else. Within ``margin`` below the first refused number, numbers are
    refused, too: the same risk may differ in its last digits if it is computed in another batch.

    Without ``delta`` this is conformal risk control (arXiv:2208.02814, theorem 1), and the expectation is also over
    the calibration units. It refuses all numbers from the first one on at which the summed loss over the n units
    exceeds ``alpha * (n + 1) - 1``. With one path per unit that number is the (m + 1)-th smallest one, ``m =
    floor(alpha * (n + 1)) - 1``.

    With ``delta`` this is Learn then Test (arXiv:2110.01052), which holds with probability ``1 - delta`` over the
    calibration units. It refuses all numbers from the first one on at which the hypothesis "the expected loss exceeds
    alpha" is not rejected at level ``delta``. The loss is monotone, so testing from the lowest number up needs no
    correction.
    """
    refused, n_units, attainable = _first_refused(risks, units, alpha, delta)
    return Threshold(_just_below(refused, margin) if math.isfinite(refused) else refused, n_units, attainable)


def smallest_threshold(
    scores: np.ndarray, units: np.ndarray, alpha: float, delta: float | None = None, *, margin: float = 0.0
) -> Threshold:
    """Return the smallest threshold at which a new unit fails at a rate of at most ``alpha``.

    A path fails if it does **not** pass: ``score > threshold``. The score is ``-inf`` for a path that cannot fail.
    With one path per unit this is the quantile of split conformal prediction, the k-th smallest score with ``k =
    ceil((n + 1) * (1 - alpha))``. Numbers closer than ``margin`` above the threshold pass, too.
    """
    # This is largest_threshold in a mirror. Signs are turned here and nowhere else. No step to the next float is
    # needed: the first refused number becomes the threshold, which passes.
    refused, n_units, attainable = _first_refused(-scores, units, alpha, delta)
    return Threshold(margin - refused, n_units, attainable)


def selective_threshold(
    risks: np.ndarray, wrong: np.ndarray, alpha: float, delta: float, *, margin: float = 0.0
) -> Threshold:
    """Return the largest threshold at which at most a share ``alpha`` of the passing paths is wrong, with confidence.

    There is one path per unit. A risk of NaN never passes. The share of wrong paths among those that pass can rise and
    fall with the threshold. Two procedures share ``delta``, and the larger of their thresholds is returned.

    A fixed sequence (Learn then Test, arXiv:2110.01052) tests thresholds from the one upward that a quarter of the
    paths pass. The first hypothesis "more than alpha of the passing paths are wrong" that is not rejected ends it.
    Given how many paths pass, the number of wrong ones is binomial, and so is the p-value. Where the sequence begins
    depends on the risks alone. Without equal risks this costs nothing: up to the first bad threshold after the
    beginning, the paths are wrong at a rate of alpha or more, both before and after the beginning. With equal risks an
    enumeration of worlds with two risks found no probability above delta.

    Bets test all thresholds at once, for where that beginning fails. A bet ``b`` against the hypothesis multiplies a
    wealth of 1 by ``1 + b * alpha`` for each right path that passes, and by ``1 - b * (1 - alpha)`` for each wrong one.
    The mean wealth over bets, which are chosen from the number of paths, rejects the hypothesis if it reaches ``1 /
    delta``. Why this holds for all thresholds t together: let ``m(t)`` be the expectation of "passes, times (wrong -
    alpha)", which is positive where the hypothesis is true, and P(t) the probability to pass. Give each path that does
    not pass the factor ``c(t) = 1 + b * m(t) / (1 - P(t))``. The product over all paths then is a martingale in t with
    mean 1, in which each path is revealed at its risk. Where the hypothesis is true, c(t) is at least 1, so the wealth
    is at most the martingale, which ever reaches ``1 / delta`` with probability at most ``delta`` (Ville's inequality).
    """
    scored = ~np.isnan(risks)
    n = int(scored.sum())
    needed = paths_needed(alpha, delta)
    if n < needed:
        return Threshold(-math.inf, n, False)
    order = np.argsort(risks[scored])
    values = risks[scored][order]
    last = np.append(np.flatnonzero(values[1:] != values[:-1]), n - 1)
    n_passed, n_wrong = last + 1, np.cumsum(wrong[scored][order])[last]
    won = np.flatnonzero(_is_enough(n_passed - n_wrong, n_wrong, n, alpha, (1 - _OF_SEQUENCE) * delta))
    first = int(np.argmax(n_passed >= max(needed, n / 4)))
    stops = np.append(bdtr(n_wrong[first:], n_passed[first:], alpha) > _OF_SEQUENCE * delta, True)
    in_sequence = int(np.argmax(stops))
    # How many of the values are safe.
    n_safe = max(int(won[-1]) + 1 if len(won) else 0, first + in_sequence if in_sequence else 0)
    if n_safe in (0, len(last)):
        return Threshold(math.inf if n_safe else -math.inf, n, True)
    # Nothing changes up to the next risk.
    return Threshold(_just_below(float(values[last[n_safe]]), margin), n, True)


def paths_needed(alpha: float, delta: float) -> int:
    """Return the number of scored paths below which :func:`selective_threshold` finds nothing."""
    return units_needed(alpha, _OF_SEQUENCE * delta)


def _is_enough(n_right: np.ndarray, n_wrong: np.ndarray, n: int, alpha: float, delta: float) -> np.ndarray:
    """Return whether the mean wealth over the bets reaches ``1 / delta``, of n paths in all."""
    # Bet b is the best one if b * sd = sqrt(2 * log(1 / delta) / paths that pass): one each for several shares.
    bets = np.sqrt(-2 * math.log(delta) / (_SHARES * n * alpha * (1 - alpha)))
    bets = np.minimum(bets, _LARGEST_BET / (1 - alpha))
    logs = np.outer(n_right, np.log1p(bets * alpha)) + np.outer(n_wrong, np.log1p(-bets * (1 - alpha)))
    return np.asarray(logsumexp(logs, axis=1) >= math.log(len(bets) / delta) - _ROUNDING)


def unit_weights(units: np.ndarray) -> tuple[np.ndarray, int]:
    """Return the weight of each path, so that those of a unit sum to 1, and the number of units."""
    _, numbers, counts = np.unique(units, return_inverse=True, return_counts=True)
    return 1.0 / counts[numbers], len(counts)


def mean_over_units(values: np.ndarray, units: np.ndarray) -> float | None:
    """Return the mean over units of the mean over their paths, or None without paths."""
    weights, n_units = unit_weights(units)
    return float(weights @ values / n_units) if n_units else None


def units_needed(alpha: float, delta: float | None = None) -> int:
    """Return the number of calibration units below which a level is not attainable."""
    if delta is None:
        return math.ceil((1 - _ROUNDING) / alpha) - 1
    return math.ceil(math.log(delta) / math.log1p(-alpha) - _ROUNDING)


def warn_if_unattainable(threshold: Threshold, counted: str, alpha: float, delta: float | None, instead: str) -> None:
    """Warn if there are too few calibration units, and say what predictions do instead."""
    if threshold.attainable:
        return
    level = f"{alpha:.6g}" if delta is None else f"{alpha:.6g} with confidence {1 - delta:.6g}"
    warnings.warn(
        f"a failure rate of {level} is not attainable with {threshold.n_units} {counted}, at least "
        f"{units_needed(alpha, delta)} are needed: {instead}",
        UserWarning,
        stacklevel=5,
    )


def p_values(losses: np.ndarray, n_units: int, alpha: float, *, binary: bool) -> np.ndarray:
    """Return p-values of the hypothesis "the expected loss exceeds alpha", for losses summed over the units.

    With ``binary`` the loss of a unit is 0 or 1, and the p-value is binomial. Otherwise it is Hoeffding-Bentkus.
    """
    if binary:
        return np.asarray(bdtr(np.round(losses), n_units, alpha))
    rate = np.minimum(losses / n_units, alpha)
    hoeffding = np.exp(-n_units * (rel_entr(rate, alpha) + rel_entr(1 - rate, 1 - alpha)))
    at_most = np.minimum(np.ceil(losses - _ROUNDING), n_units)
    return np.asarray(np.minimum(hoeffding, math.e * bdtr(at_most, n_units, alpha)))


def _just_below(refused: float, margin: float) -> float:
    """Return the threshold that a number must not pass, nor those within ``margin`` below it: "passes" reads "<="."""
    return min(float(np.nextafter(refused, -np.inf)), refused - margin)


def _first_refused(values: np.ndarray, units: np.ndarray, alpha: float, delta: float | None) -> tuple[float, int, bool]:
    """Return the smallest value that must not pass, the number of units, and whether the level is attainable."""
    weights, n_units = unit_weights(units)
    binary = len(values) == n_units
    if not n_units or not _small_enough(np.zeros(1), n_units, alpha, delta, binary)[0]:
        return -math.inf, n_units, False
    # Among equal values sort by weight: the sums are then the same in any order of the paths.
    order = np.lexsort((weights, values))
    losses = np.cumsum(weights[order])
    too_many = np.flatnonzero(~_small_enough(losses, n_units, alpha, delta, binary))
    return (float(values[order[too_many[0]]]) if len(too_many) else math.inf), n_units, True


def _small_enough(losses: np.ndarray, n_units: int, alpha: float, delta: float | None, binary: bool) -> np.ndarray:
    """Return whether each summed loss keeps the level."""
    if delta is None:
        return losses <= alpha * (n_units + 1) - 1 + _ROUNDING
    return p_values(losses, n_units, alpha, binary=binary) <= delta
