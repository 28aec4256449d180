"""Where the first error is, read from step risks as a survival analysis: distributions, sets, and their scores.

The outcomes of a solution with T steps are its steps 0..T-1, as the first wrong one, and "no error", written -1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal, overload

import numpy as np
import numpy.typing as npt

from prmkit.metrics.calibration.calibration import from_objects
from prmkit.metrics.solutions.aggregation import (
    LOG_FLOOR,
    as_paths,
    ragged_first_error_distribution,
    ragged_log_survival,
    ragged_scores,
)
from prmkit.utils.ragged import FloatArray, IntArray, Ragged

# Sums of probabilities may miss a level by this much.
_ROUNDING = 1e-12
_NOT_ONE = 1e-6


@dataclass(frozen=True, eq=False, repr=False)
class Survival:
    """The survival view of one solution, made by :func:`survival`.

    ``hazard[t]`` is P(step t is wrong | the steps before are right), the risk. ``survival[t]`` is P(steps 0..t are
    right). ``first_error_distribution`` ends with P(no error) and sums to 1.
    """

    hazard: FloatArray
    survival: FloatArray
    first_error_distribution: FloatArray

    @property
    def p_no_error(self) -> float:
        """P(no step is wrong), the last survival."""
        return float(self.survival[-1])

    @property
    def most_likely(self) -> int:
        """The likeliest outcome, the earliest of equals: index of the first wrong step, or -1."""
        outcome = int(self.first_error_distribution.argmax())
        return outcome if outcome < len(self.hazard) else -1

    @property
    def median(self) -> int:
        """The first step by which an error has happened with probability 1/2 or more, -1 if there is none."""
        reached = self.survival <= 0.5 + _ROUNDING
        return int(reached.argmax()) if reached.any() else -1

    def __repr__(self) -> str:
        return (
            f"<Survival: {len(self.hazard)} steps, P(no error) {self.p_no_error:.2f}, most likely first error "
            f"{self.most_likely}, median {self.median}>"
        )


@overload
def survival(risks: Sequence[float] | FloatArray) -> Survival: ...
@overload
def survival(risks: Sequence[Sequence[float] | FloatArray]) -> list[Survival]: ...
def survival(risks: Any) -> Survival | list[Survival]:
    """Read step risks as hazards of a first error.

    ``S[t] = prod(1 - h[:t + 1])``, computed in logarithms, and ``f[t] = S[t - 1] * h[t]``. This is a distribution for
    any risks. It means what its name says if a risk depends on the prefix alone.

    Parameters
    ----------
    risks : array-like of shape (n_steps,), or a sequence of such
        P(step is wrong | the step and the steps before it), in [0, 1].

    Returns
    -------
    Survival, or a list of them for a sequence of solutions
        Hazards, survival and first-error distribution, with the likeliest and the median first error.

    Raises
    ------
    ValueError
        If a solution has no steps, or a risk is NaN or outside [0, 1].

    Examples
    --------
    >>> view = survival([0.1, 0.5, 0.2])
    >>> view.survival.round(3), view.first_error_distribution.round(3)
    (array([0.9 , 0.45, 0.36]), array([0.1 , 0.45, 0.09, 0.36]))
    >>> view.most_likely, view.median
    (1, 1)
    """
    solutions, is_single = as_paths(risks)
    hazards = ragged_scores(solutions, True)
    survivals = hazards.with_values(np.exp(ragged_log_survival(hazards).values))
    parts = (hazards.split(), survivals.split(), ragged_first_error_distribution(hazards).split())
    views = [Survival(*of_solution) for of_solution in zip(*parts, strict=True)]
    return views[0] if is_single else views


@overload
def credible_set(distribution: Sequence[float] | FloatArray, level: float = ...) -> set[int]: ...
@overload
def credible_set(distribution: Sequence[Sequence[float] | FloatArray], level: float = ...) -> list[set[int]]: ...
def credible_set(distribution: Any, level: float = 0.9) -> set[int] | list[set[int]]:
    """Return the smallest set of first errors whose probability is at least ``level``.

    The likeliest outcomes are taken first. Among equals the earlier step comes first, and "no error" last. The set
    holds the truth with that probability **if the distribution is right**. :class:`prmkit.uncertainty.FirstErrorSet`
    does so for any distribution.

    Parameters
    ----------
    distribution : array-like of shape (n_steps + 1,), or a sequence of such
        The result of :func:`first_error_distribution`: the steps, then "no error".
    level : float, default=0.9
        The probability to reach, in (0, 1].

    Returns
    -------
    set of int, or a list of sets for a sequence of distributions
        0-based indices of steps, and -1 for "no error".

    Raises
    ------
    ValueError
        If the level is out of range, or probabilities are NaN, outside [0, 1] or do not sum to 1.

    Examples
    --------
    >>> sorted(credible_set([0.1, 0.45, 0.09, 0.36], level=0.8))
    [-1, 1]
    """
    if not 0 < level <= 1:
        raise ValueError(f"level is {level!r}, expected a number in (0, 1]")
    solutions, is_single = as_paths(distribution)
    probabilities = ragged_scores(solutions, True)
    totals = probabilities.reduce(np.add)
    bad = np.flatnonzero((np.abs(totals - 1) > _NOT_ONE) | (probabilities.lengths < 2))
    if len(bad):
        i = int(bad[0])
        raise ValueError(
            f"distribution {i} has {probabilities.lengths[i]} outcomes and sums to {totals[i]:.4f}, expected the "
            "probabilities of each step and of no error, which sum to 1: first_error_distribution(risks)"
        )
    # A stable sort within each solution: among equals the earlier outcome stays first.
    likeliest_first = np.lexsort((-probabilities.values, probabilities.rows))
    ordered = probabilities.with_values(probabilities.values[likeliest_first])
    # An outcome is taken while the outcomes before it do not reach the level.
    is_taken = (ordered.cumsum() - ordered.values < level - _ROUNDING) & (ordered.values > 0)
    outcomes = probabilities.positions
    outcomes[probabilities.ends - 1] = -1
    sizes = np.bincount(probabilities.rows[is_taken], minlength=len(probabilities))
    sets = [set(part.tolist()) for part in Ragged(outcomes[likeliest_first][is_taken], sizes).split()]
    return sets[0] if is_single else sets


@overload
def first_error_log_loss(
    risks: Sequence[npt.ArrayLike], first_errors: npt.ArrayLike, *, per_path: Literal[False] = ...
) -> float: ...
@overload
def first_error_log_loss(
    risks: Sequence[npt.ArrayLike], first_errors: npt.ArrayLike, *, per_path: Literal[True]
) -> FloatArray: ...
def first_error_log_loss(
    risks: Sequence[npt.ArrayLike], first_errors: npt.ArrayLike, *, per_path: bool = False
) -> float | FloatArray:
    """Return the mean negative log-probability of the true first errors, in nats. Lower is better.

    Parameters
    ----------
    risks : sequence of array-like of shape (n_steps,)
        One 1-D array of step risks per solution.
    first_errors : array-like of int, shape (n_solutions,)
        0-based index of the first wrong step, -1 if no step is wrong.
    per_path : bool, default=False
        Whether to return the loss of each solution, as a bootstrap by problem needs it.

    Returns
    -------
    float, or ndarray of shape (n_solutions,)
        The loss. Probabilities below 1e-15 count as 1e-15, so no solution counts more than 34.5.

    Raises
    ------
    ValueError
        If there are no solutions, one has no steps, a risk is NaN or outside [0, 1], or a solution does not have the
        step that its first error names.

    Examples
    --------
    >>> round(first_error_log_loss([[0.1, 0.5], [0.2]], [1, -1]), 4)  # -log 0.45, -log 0.8
    0.5108
    """
    hazards = ragged_scores(risks, True)
    truth = check_first_errors(first_errors, hazards.lengths)
    distributions = ragged_first_error_distribution(hazards)
    outcomes = np.where(truth < 0, hazards.lengths, truth)
    losses: FloatArray = -np.log(np.maximum(distributions.values[distributions.starts + outcomes], LOG_FLOOR))
    return losses if per_path else float(losses.mean())


@overload
def ranked_probability_score(
    risks: Sequence[npt.ArrayLike], first_errors: npt.ArrayLike, *, per_path: Literal[False] = ...
) -> float: ...
@overload
def ranked_probability_score(
    risks: Sequence[npt.ArrayLike], first_errors: npt.ArrayLike, *, per_path: Literal[True]
) -> FloatArray: ...
def ranked_probability_score(
    risks: Sequence[npt.ArrayLike], first_errors: npt.ArrayLike, *, per_path: bool = False
) -> float | FloatArray:
    """Return the mean ranked probability score of the first error's position: 0 is perfect, 1 the worst.

    For each solution it is ``sum over t of (F[t] - [first error <= t])**2 / n_steps`` with ``F[t]``, P(first error <=
    t). Unlike the log loss it forgives a near miss: outcomes are ordered, and "no error" is the last of them.

    Parameters
    ----------
    risks : sequence of array-like of shape (n_steps,)
        One 1-D array of step risks per solution.
    first_errors : array-like of int, shape (n_solutions,)
        0-based index of the first wrong step, -1 if no step is wrong.
    per_path : bool, default=False
        Whether to return the score of each solution, as a bootstrap by problem needs it.

    Returns
    -------
    float, or ndarray of shape (n_solutions,)
        The score.

    Raises
    ------
    ValueError
        For the same input as :func:`first_error_log_loss`.

    References
    ----------
    Epstein (1969), A scoring system for probability forecasts of ranked categories, J. Appl. Meteorol. 8, divided by
    the number of thresholds, which are the steps.

    Examples
    --------
    >>> round(ranked_probability_score([[0.1, 0.5]], [1]), 3)  # mean of (0.1 - 0)**2 and (0.55 - 1)**2
    0.106
    """
    hazards = ragged_scores(risks, True)
    truth = check_first_errors(first_errors, hazards.lengths)
    has_happened = hazards.spread(np.where(truth < 0, hazards.lengths, truth)) <= hazards.positions
    p_happened = -np.expm1(ragged_log_survival(hazards).values)
    squares = hazards.with_values((p_happened - has_happened) ** 2)
    scores: FloatArray = squares.reduce(np.add) / hazards.lengths
    return scores if per_path else float(scores.mean())


def check_first_errors(
    first_errors: npt.ArrayLike, lengths: IntArray | None = None, name: str = "first_errors"
) -> IntArray:
    """Return the index of the first wrong step of each solution as int64, -1 where there is none."""
    values = from_objects(np.asarray(first_errors))
    if values.ndim != 1 or (lengths is not None and values.shape != lengths.shape):
        each = "solution" if lengths is None else f"of the {len(lengths)} paths"
        raise ValueError(f"{name} has shape {values.shape}, expected one number for each {each}")
    if not len(values):
        if lengths is not None:
            raise ValueError("X is empty: at least 1 path is required")
        return np.empty(0, dtype=np.int64)
    if values.dtype.kind not in "iu" and not (
        values.dtype.kind == "f" and np.isfinite(values).all() and (values == np.round(values)).all()
    ):
        plain = values.tolist()
        i = next((i for i, v in enumerate(plain) if not isinstance(v, Real) or isinstance(v, bool) or v % 1), 0)
        raise ValueError(
            f"{name}[{i}] is {plain[i]!r}, expected 0-based indices, and -1 where a path "
            "has no error; leave out paths that were not judged to their end (None)"
        )
    indices = values.astype(np.int64)
    is_beyond = np.zeros(len(indices), dtype=bool) if lengths is None else indices >= lengths
    bad = np.flatnonzero((indices < -1) | is_beyond)
    if len(bad):
        i = int(bad[0])
        steps = "" if lengths is None else f", but path {i} has {lengths[i]} steps"
        raise ValueError(f"{name}[{i}] is {indices[i]}{steps}: expected -1 (no error) or the 0-based index of a step")
    return indices
