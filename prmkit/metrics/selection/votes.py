"""Candidates that agree on an answer vote for it: by head count, by reward, or by PQM's sigmoid of the reward."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit

_MISSING = ("alone", "drop")
_REPRESENTATIVES = ("first", "best")
_ROUNDING = 1e-12  # sums that differ by less, relative to the weights, are equal


def vote(
    answers: Sequence[Hashable],
    weights: Any = None,
    *,
    missing: str = "alone",
    representative: str = "first",
) -> int:
    """Return the index of a candidate that bears the winning answer.

    The answer with the most candidates wins (self-consistency), or with the largest sum of weights. Among
    equals the answer whose first candidate comes first.

    Parameters
    ----------
    answers : sequence, length n_candidates
        A key per candidate, equal where answers are; see :func:`prmkit.data.answer_keys`. None (or NaN) where
        none was found.
    weights : array-like of shape (n_candidates,), optional
        Solution scores, meant to be 0 or more: each negative one counts against its answer.
    missing : {"alone", "drop"}
        A candidate without an answer votes for itself alone, or not at all; if nobody is left, candidate 0.
    representative : {"first", "best"}
        Return the first candidate with the answer, or the one with the largest weight (the first of equals).

    Returns
    -------
    int

    Raises
    ------
    ValueError
        Without candidates, for other lengths, weights that are not finite, or unknown options.

    Examples
    --------
    >>> vote(["12", "14", "14"])
    1
    >>> vote(["12", "14", "14"], weights=[0.9, 0.3, 0.4])
    0
    """
    check_vote_options(missing, representative)
    if not len(answers):
        raise ValueError("answers is empty: there is no candidate to choose")
    weight = check_weights(weights, len(answers))
    codes = answer_numbers(answers, missing)[None, :]
    return int(winners(codes, weight[None, :], representative)[0])


def combine_vote(answers: Sequence[Hashable], scores: Any, *, missing: str = "alone") -> int:
    """Return the first candidate with the answer that has the largest sum of ``sigmoid(score)``: PQM's combination.

    For scores on any scale, where a plain sum has no meaning.

    Parameters
    ----------
    answers : sequence, length n_candidates
    scores : array-like of shape (n_candidates,)
        Solution scores before the sigmoid.
    missing : {"alone", "drop"}
        As in :func:`vote`.

    Returns
    -------
    int

    Raises
    ------
    ValueError
        As :func:`vote`.

    Notes
    -----
    arXiv:2410.11287.

    Examples
    --------
    >>> combine_vote(["12", "14", "14"], [2.0, -1.0, 1.0])
    1
    """
    return vote(answers, expit(np.asarray(scores, dtype=np.float64)), missing=missing)


def winners(codes: np.ndarray, weights: np.ndarray, representative: str = "first") -> np.ndarray:
    """Return the chosen column of each row.

    Parameters
    ----------
    codes : ndarray of int, shape (n_rows, n_candidates)
        The answer of each candidate, below n_codes in every row; -1 where a candidate has no vote.
    weights : ndarray of shape (n_rows, n_candidates)
    representative : {"first", "best"}
    """
    top, votes = _top(codes, weights), codes >= 0
    chosen = np.argmax(top, axis=1)  # the first of the best; candidate 0 where nobody votes
    if representative == "first":
        return chosen
    answer = np.take_along_axis(codes, chosen[:, None], axis=1)
    return np.where(
        top.any(axis=1), np.argmax(np.where(votes & (codes == answer), weights, -np.inf), axis=1), 0
    )


def shared_hits(
    codes: np.ndarray, weights: np.ndarray, hits: np.ndarray, representative: str = "first"
) -> np.ndarray:
    """Return the share of the tied winners of each row that are right: one representative for each answer.

    Parameters
    ----------
    codes, weights, representative : as in :func:`winners`
    hits : ndarray of bool, shape (n_rows, n_candidates)

    Returns
    -------
    ndarray of shape (n_rows,)
        0 or 1 where one answer wins; where nobody votes, candidate 0 is chosen.
    """
    top = _top(codes, weights)
    row, column = np.indices(codes.shape)
    worth = weights if representative == "best" else np.zeros_like(weights)
    order = np.lexsort((column.ravel(), -worth.ravel(), codes.ravel(), row.ravel()))
    code = codes.ravel()[order] + row.ravel()[order] * (int(codes.max(initial=0)) + 2)
    stands = np.zeros(codes.size, dtype=bool)
    stands[order[np.append(True, code[1:] != code[:-1])]] = True
    chosen = top & stands.reshape(codes.shape)
    chosen[~top.any(axis=1), 0] = True
    return (chosen & hits).sum(axis=1) / chosen.sum(axis=1)


def _top(codes: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Whether each candidate bears an answer with the most support."""
    n_rows, n_candidates = codes.shape
    votes = codes >= 0
    n_codes = int(codes.max(initial=0)) + 1
    group = np.maximum(codes, 0) + n_codes * np.arange(n_rows)[:, None]
    sums = np.bincount(group.ravel(), weights=np.where(votes, weights, 0).ravel(), minlength=n_rows * n_codes)
    support = np.where(votes, sums[group], -np.inf)
    slack = _ROUNDING * n_candidates * np.abs(weights).max(axis=1, keepdims=True)
    return votes & (support >= support.max(axis=1, keepdims=True) - slack)


def answer_numbers(answers: Sequence[Hashable], missing: str) -> np.ndarray:
    """Return a number below n_candidates for each candidate's answer; -1 where it is left out."""
    numbers: dict[Hashable, int] = {}
    codes = np.empty(len(answers), dtype=np.int64)
    for i, answer in enumerate(answers):
        absent = answer is None or answer != answer  # NaN is not equal to itself
        codes[i] = (
            -1 if absent and missing == "drop" else numbers.setdefault((absent, i if absent else answer), i)
        )
    return codes


def check_vote_options(missing: str, representative: str = "first") -> None:
    """Raise for unknown options."""
    if missing not in _MISSING:
        raise ValueError(f"missing is {missing!r}, expected one of {', '.join(_MISSING)}")
    if representative not in _REPRESENTATIVES:
        raise ValueError(
            f"representative is {representative!r}, expected one of {', '.join(_REPRESENTATIVES)}"
        )


def check_weights(weights: Any, n_candidates: int) -> np.ndarray:
    """Return finite weights as float64, ones by default."""
    if weights is None:
        return np.ones(n_candidates)
    weight = np.asarray(weights, dtype=np.float64)
    if weight.shape != (n_candidates,) or not np.isfinite(weight).all():
        raise ValueError(
            f"weights has shape {weight.shape}, expected ({n_candidates},): one finite number per candidate"
        )
    return weight


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
