"""How often N candidates vote for a right answer: votes have no closed form, so many random subsets are drawn."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from prmkit.metrics._votes import answer_numbers, check_vote_options, check_weights, shared_hits, winners


@dataclass(frozen=True, eq=False)
class VoteAccuracy:
    """The share of right votes; made by :func:`vote_accuracy`.

    Parameters
    ----------
    value : float or None
        Mean over problems and subsets; None without problems.
    standard_error : float or None
        What drawing subsets, rather than taking all, adds; 0 where each problem has one subset. It says
        nothing about other problems: resample ``per_problem`` for that.
    per_problem : ndarray of shape (n_problems,)
    n : int
    n_subsets : int
    """

    value: float | None
    standard_error: float | None
    per_problem: np.ndarray
    n: int
    n_subsets: int

    def __str__(self) -> str:
        if self.value is None:
            return "undefined"
        return f"{self.value:.3f} ± {self.standard_error:.3f} ({self.n_subsets} subsets of {self.n})"


def vote_accuracy(
    answers: Sequence[Sequence[Hashable]],
    correct: Sequence[Any],
    n: int,
    weights: Sequence[Any] | None = None,
    *,
    method: str = "subsets",
    n_subsets: int = 400,
    missing: str = "alone",
    ties: str = "first",
    random_state: int | np.random.Generator | None = 0,
) -> VoteAccuracy:
    """Return how often a vote of n candidates, by head count or by weight, elects a correct one.

    A problem with exactly n candidates has one subset, which is computed once, exactly.

    Parameters
    ----------
    answers : sequence, length n_problems
        For each problem a sequence of answer keys, None where none was found.
    correct : sequence, length n_problems
        For each problem an array of bool, one per candidate.
    n : int
        Voters; at most the candidates of any problem.
    weights : sequence, length n_problems, optional
        For each problem an array of solution scores. The winning answer is then represented by its
        best-scored candidate, without weights by its first.
    method : {"subsets", "prefix"}
        Random subsets of size n, or the first n candidates.
    n_subsets : int, default 400
        Drawn for each problem, independently.
    missing : {"alone", "drop"}
        As in :func:`prmkit.metrics.vote`.
    ties : {"first", "average"}
        Of answers with equal votes the one whose first member comes first, as :func:`prmkit.metrics.vote` says; or all
        of them, with equal shares: then the order of the candidates is invisible.
    random_state : int, Generator or None, default 0

    Returns
    -------
    VoteAccuracy

    Raises
    ------
    ValueError
        For other lengths, an n or ``n_subsets`` out of range, weights that are not finite, unknown options.

    Examples
    --------
    >>> answers = [["12", "14", "14"], ["3", "5", None]]
    >>> print(vote_accuracy(answers, [[False, True, True], [True, False, False]], 3))
    1.000 ± 0.000 (400 subsets of 3)
    """
    check_vote_options(missing)
    if ties not in ("first", "average"):
        raise ValueError(f"ties is {ties!r}, expected first or average")
    if method not in ("subsets", "prefix"):
        raise ValueError(f"method is {method!r}, expected subsets or prefix")
    if n < 1 or n_subsets < 1:
        raise ValueError(f"n is {n} and n_subsets {n_subsets}, expected 1 or more of each")
    weights = [None] * len(answers) if weights is None else weights
    representative = "first" if all(row is None for row in weights) else "best"
    if not len(answers) == len(correct) == len(weights):
        raise ValueError(
            f"answers has {len(answers)} problems, correct {len(correct)}, weights {len(weights)}, expected the same"
        )
    rng = np.random.default_rng(random_state)
    means, variances = np.empty(len(answers)), np.zeros(len(answers))
    for i, (keys, hits, weight) in enumerate(zip(answers, correct, weights, strict=True)):
        hits = np.asarray(hits, dtype=bool)
        if not len(keys) == len(hits) >= n:
            raise ValueError(
                f"problem {i} has {len(keys)} answers and {len(hits)} in correct, expected at least n = {n} of each"
            )
        whole = method == "prefix" or n == len(keys)
        columns = np.arange(n)[None, :] if whole else _subsets(rng, len(keys), n, n_subsets)
        codes, weight = answer_numbers(keys, missing)[columns], check_weights(weight, len(keys))[columns]
        if ties == "average":
            right = shared_hits(codes, weight, hits[columns], representative)
        else:
            chosen = winners(codes, weight, representative)
            right = hits[np.take_along_axis(columns, chosen[:, None], axis=1)]
        means[i] = right.mean()
        if len(columns) > 1:
            variances[i] = right.var(ddof=1) / len(columns)
    if not len(answers):
        return VoteAccuracy(None, None, means, n, n_subsets)
    error = float(np.sqrt(variances.sum()) / len(answers))
    return VoteAccuracy(float(means.mean()), error, means, n, n_subsets)


def _subsets(rng: np.random.Generator, n_candidates: int, n: int, n_subsets: int) -> np.ndarray:
    """Return random subsets as rows of ascending candidate indices: the lowest decides ties."""
    keys = rng.random((n_subsets, n_candidates))
    return np.sort(np.argpartition(keys, n - 1, axis=1)[:, :n], axis=1)
