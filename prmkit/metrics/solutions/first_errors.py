"""Where the first error is, read from step risks as a survival analysis: distributions, sets, and their scores.

The outcomes of a path with T steps are its steps 0..T-1, as the first wrong one, and "no error", written -1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np

from prmkit.metrics.calibration.calibration import from_objects
from prmkit.metrics.solutions.aggregation import (
    _EPS,
    as_paths,
    concatenate_paths,
    flat_cumsum,
    flat_first_error_distribution,
    flat_log_survival,
)

_ROUNDING = 1e-12  # sums of probabilities may miss a level by this much
_NOT_ONE = 1e-6


@dataclass(frozen=True, eq=False, repr=False)
class Survival:
    """The survival view of one path; made by :func:`survival`.

    Parameters
    ----------
    hazard : ndarray of shape (n_steps,)
        P(step t is wrong | the steps before are right): the risks.
    survival : ndarray of shape (n_steps,)
        ``S[t]``, P(steps 0..t are right); never rises.
    first_error_distribution : ndarray of shape (n_steps + 1,)
        P(step t is the first wrong one), then P(no error); sums to 1.
    """

    hazard: np.ndarray
    survival: np.ndarray
    first_error_distribution: np.ndarray

    @property
    def p_no_error(self) -> float:
        """P(no step is wrong), the last survival."""
        return float(self.survival[-1])

    @property
    def most_likely(self) -> int:
        """The likeliest outcome: index of the first wrong step, or -1; the earliest of equals, -1 last."""
        outcome = int(self.first_error_distribution.argmax())
        return outcome if outcome < len(self.hazard) else -1

    @property
    def median(self) -> int:
        """The first step by which an error has happened with probability 1/2 or more; -1 if by none."""
        reached = self.survival <= 0.5 + _ROUNDING
        return int(reached.argmax()) if reached.any() else -1

    def __repr__(self) -> str:
        return (
            f"<Survival: {len(self.hazard)} steps, P(no error) {self.p_no_error:.2f}, most likely first error "
            f"{self.most_likely}, median {self.median}>"
        )


def survival(risks: Any) -> Any:
    """Read step risks as hazards of a first error.

    ``S[t] = prod(1 - h[:t + 1])``, in logarithms, and ``f[t] = S[t - 1] * h[t]``. That is a distribution for any
    risks, and means what it says where a risk depends on the prefix alone.

    Parameters
    ----------
    risks : array-like of shape (n_steps,), or a sequence of such

    Returns
    -------
    Survival, or a list of them for a sequence of paths

    Raises
    ------
    ValueError
        For a path without steps, NaN, or values outside [0, 1].

    Examples
    --------
    >>> view = survival([0.1, 0.5, 0.2])
    >>> view.survival.round(3), view.first_error_distribution.round(3)
    (array([0.9 , 0.45, 0.36]), array([0.1 , 0.45, 0.09, 0.36]))
    >>> view.most_likely, view.median
    (1, 1)
    """
    paths, alone = as_paths(risks)
    flat, lengths = concatenate_paths(paths, True)
    steps, outcomes = np.cumsum(lengths)[:-1], np.cumsum(lengths + 1)[:-1]
    parts = (
        np.split(flat, steps),
        np.split(np.exp(flat_log_survival(flat, lengths)), steps),
        np.split(flat_first_error_distribution(flat, lengths), outcomes),
    )
    views = [Survival(*of_path) for of_path in zip(*parts, strict=True)][: len(lengths)]
    return views[0] if alone else views


def credible_set(distribution: Any, level: float = 0.9) -> Any:
    """Return the smallest set of first errors whose probability is at least ``level``.

    The likeliest outcomes come first; among equals the earlier step, and "no error" last. It holds the truth with that
    probability **if the distribution is right**; :class:`prmkit.uncertainty.FirstErrorSet` does so without.

    Parameters
    ----------
    distribution : array-like of shape (n_steps + 1,), or a sequence of such
        From :func:`first_error_distribution`: the steps, then "no error".
    level : float, default=0.9
        In (0, 1].

    Returns
    -------
    set of int, or a list of sets for a sequence of distributions
        0-based indices of steps, and -1 for "no error".

    Raises
    ------
    ValueError
        For a level out of range, probabilities that are NaN, outside [0, 1] or do not sum to 1.

    Examples
    --------
    >>> sorted(credible_set([0.1, 0.45, 0.09, 0.36], level=0.8))
    [-1, 1]
    """
    if not 0 < level <= 1:
        raise ValueError(f"level is {level!r}, expected a number in (0, 1]")
    paths, alone = as_paths(distribution)
    flat, lengths = concatenate_paths(paths, True)
    if not len(lengths):
        return []
    starts = np.cumsum(lengths) - lengths
    totals = np.add.reduceat(flat, starts)
    if (np.abs(totals - 1) > _NOT_ONE).any() or (lengths < 2).any():
        i = int(np.argmax((np.abs(totals - 1) > _NOT_ONE) | (lengths < 2)))
        raise ValueError(
            f"distribution {i} has {lengths[i]} outcomes and sums to {totals[i]:.4f}, expected the probabilities of "
            "each step and of no error, which sum to 1: first_error_distribution(risks)"
        )
    path = np.repeat(np.arange(len(lengths)), lengths)
    likeliest_first = np.lexsort((-flat, path))  # stable: of equals the earlier outcome
    sorted_flat = flat[likeliest_first]
    kept = (
        flat_cumsum(sorted_flat, lengths) - sorted_flat < level - _ROUNDING
    )  # what stands before is not enough
    kept &= sorted_flat > 0
    outcomes = np.arange(len(flat)) - np.repeat(starts, lengths)
    outcomes[starts + lengths - 1] = -1
    ends = np.cumsum(np.bincount(path[kept], minlength=len(lengths)))
    sets = [set(part.tolist()) for part in np.split(outcomes[likeliest_first][kept], ends[:-1])]
    return sets[0] if alone else sets


def first_error_log_loss(risks: Any, first_errors: Any, *, per_path: bool = False) -> Any:
    """Return the mean negative log-probability of the true first errors, in nats; lower is better.

    Parameters
    ----------
    risks : sequence of array-like of shape (n_steps,)
        One 1-D array per path.
    first_errors : array-like of int, shape (n_paths,)
        0-based index of the first wrong step, -1 where no step is wrong.
    per_path : bool, default=False
        Return the loss of each path, as a bootstrap by problem needs it.

    Returns
    -------
    float, or ndarray of shape (n_paths,)
        Probabilities are cut at 1e-15, so no path counts more than 34.5.

    Raises
    ------
    ValueError
        For no paths, one without steps, NaN, values outside [0, 1], or first errors that a path does not have.

    Examples
    --------
    >>> round(first_error_log_loss([[0.1, 0.5], [0.2]], [1, -1]), 4)  # -log 0.45, -log 0.8
    0.5108
    """
    flat, lengths, first_errors = _check_paths(risks, first_errors)
    starts = np.cumsum(lengths + 1) - (lengths + 1)
    truth = starts + np.where(first_errors < 0, lengths, first_errors)
    losses = -np.log(np.maximum(flat_first_error_distribution(flat, lengths)[truth], _EPS))
    return losses if per_path else float(losses.mean())


def ranked_probability_score(risks: Any, first_errors: Any, *, per_path: bool = False) -> Any:
    """Return the mean ranked probability score of the first error's position; 0 is perfect, 1 the worst.

    ``sum over t of (F[t] - [first error <= t])**2 / n_steps`` with ``F[t]``, P(first error <= t), for each path. Unlike
    the log loss it forgives a near miss: outcomes are ordered, "no error" the last of them.

    Parameters, errors and per_path as in :func:`first_error_log_loss`.

    Returns
    -------
    float, or ndarray of shape (n_paths,)

    References
    ----------
    Epstein (1969), A scoring system for probability forecasts of ranked categories, J. Appl. Meteorol. 8; divided by
    the number of thresholds, which are the steps.

    Examples
    --------
    >>> round(ranked_probability_score([[0.1, 0.5]], [1]), 3)  # mean of (0.1 - 0)**2 and (0.55 - 1)**2
    0.106
    """
    flat, lengths, first_errors = _check_paths(risks, first_errors)
    starts = np.cumsum(lengths) - lengths
    index = np.arange(len(flat)) - np.repeat(starts, lengths)
    truth = np.repeat(np.where(first_errors < 0, lengths, first_errors), lengths)
    happened = -np.expm1(flat_log_survival(flat, lengths))
    scores = np.add.reduceat((happened - (truth <= index)) ** 2, starts) / lengths
    return scores if per_path else float(scores.mean())


def check_first_errors(first_errors: Any, lengths: np.ndarray) -> np.ndarray:
    """Return the index of the first wrong step of each path as int64, -1 where there is none.

    Raises
    ------
    ValueError
        For another length, no integers, or an index that its path does not have.
    """
    values = from_objects(np.asarray(first_errors))
    if values.shape != lengths.shape:
        raise ValueError(
            f"first_errors has shape {values.shape}, expected one number for each of the {len(lengths)} paths"
        )
    if not len(values):
        raise ValueError("X is empty: at least 1 path is required")
    if values.dtype.kind not in "iu" and not (
        values.dtype.kind == "f" and np.isfinite(values).all() and (values == np.round(values)).all()
    ):
        found = values.tolist()
        i = next((i for i, v in enumerate(found) if not isinstance(v, Real) or v is True or v % 1), 0)
        raise ValueError(
            f"first_errors[{i}] is {found[i]!r}, expected 0-based indices, and -1 where a path "
            "has no error; leave out paths that were not judged to their end (None)"
        )
    values = values.astype(np.int64)
    bad = np.flatnonzero((values < -1) | (values >= lengths))
    if len(bad):
        i = int(bad[0])
        raise ValueError(
            f"first_errors[{i}] is {values[i]}, but path {i} has {lengths[i]} steps: expected -1 (no error) to "
            f"{lengths[i] - 1}"
        )
    return values


def _check_paths(risks: Sequence[Any], first_errors: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    flat, lengths = concatenate_paths(risks, True)
    return flat, lengths, check_first_errors(first_errors, lengths)
