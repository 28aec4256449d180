"""Choosing one of N solutions: how often the best-scored one is right, and votes of those with equal answers."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from math import comb
from typing import Any, Literal, NamedTuple, TypeAlias, get_args, overload

import numpy as np
import numpy.typing as npt

from prmkit.utils.environment import as_printed
from prmkit.utils.ragged import BoolArray, FloatArray, IntArray

Ties: TypeAlias = Literal["first", "average"]
BestOfNMethod: TypeAlias = Literal["exact", "prefix", "blocks"]
VoteMethod: TypeAlias = Literal["subsets", "prefix"]
Missing: TypeAlias = Literal["alone", "drop"]
Representative: TypeAlias = Literal["first", "best"]

# Sums that differ by less than this, relative to the weights, are equal.
_ROUNDING = 1e-12


@overload
def best_of_n_accuracy(
    scores: npt.ArrayLike,
    correct: npt.ArrayLike,
    n: int,
    method: BestOfNMethod = ...,
    ties: Ties = ...,
    *,
    per_problem: Literal[False] = ...,
) -> float | None: ...
@overload
def best_of_n_accuracy(
    scores: npt.ArrayLike,
    correct: npt.ArrayLike,
    n: int,
    method: BestOfNMethod = ...,
    ties: Ties = ...,
    *,
    per_problem: Literal[True],
) -> FloatArray: ...
def best_of_n_accuracy(
    scores: npt.ArrayLike,
    correct: npt.ArrayLike,
    n: int,
    method: BestOfNMethod = "exact",
    ties: Ties = "first",
    *,
    per_problem: bool = False,
) -> float | FloatArray | None:
    """Return how often the candidate with the highest score among n is correct.

    Parameters
    ----------
    scores : array-like of shape (n_problems, n_candidates)
        Solution scores. Higher is better. Rows of problems with fewer candidates end with NaN. A candidate without a
        score gets ``-inf``: it is chosen only where no other has one.
    correct : array-like of bool, shape (n_problems, n_candidates)
        Whether each candidate is correct. Ignored where the score is NaN.
    n : int
        How many candidates are chosen from, at most the candidates of any problem.
    method : {"exact", "prefix", "blocks"}
        ``"exact"`` is the expectation over all subsets of size n. ``"prefix"`` takes the first n candidates.
        ``"blocks"`` is the mean over disjoint blocks of n, without the candidates that fill no block.
    ties : {"first", "average"}
        Among equal scores the lowest index is chosen, or each with the same probability. Scores in half precision
        saturate at 1.0, so ties are common.
    per_problem : bool, default=False
        Whether to return one value per problem instead of their mean, as a bootstrap needs them.

    Returns
    -------
    float or None
        The mean over problems. None without problems.
    ndarray of shape (n_problems,)
        With ``per_problem``.

    Raises
    ------
    ValueError
        If shapes differ, an option is unknown, a label is not 0/1, n is out of range, or a NaN stands before a number.

    Notes
    -----
    With candidates sorted by falling score, rank k = 0, 1, … of m is chosen with probability
    ``C(m - k - 1, n - 1) / C(m, n)``. Averaged ties share the probabilities of their ranks.

    Examples
    --------
    >>> scores = [[0.9, 0.5, 0.7], [0.2, 0.8, 0.8]]
    >>> correct = [[True, False, False], [False, False, True]]
    >>> best_of_n_accuracy(scores, correct, 3)
    0.5
    >>> best_of_n_accuracy(scores, correct, 3, ties="average")
    0.75
    """
    _check_option(method, BestOfNMethod, "method")
    _check_option(ties, Ties, "ties")
    candidates = _check_candidates(scores, correct)
    n = _check_n(n, candidates.counts)
    if not len(candidates.scores):
        return np.empty(0) if per_problem else None
    if method == "exact":
        values = _expected(candidates, n, ties)
    else:
        n_blocks = candidates.scores.shape[1] // n if method == "blocks" else 1
        is_full = np.arange(n_blocks) < (candidates.counts // n)[:, None]
        in_blocks, hits = (array[:, : n_blocks * n].reshape(-1, n) for array in (candidates.scores, candidates.hits))
        by_block = _expected(_Candidates(in_blocks, hits, np.full(is_full.size, n)), n, ties)
        values = (by_block.reshape(is_full.shape) * is_full).sum(axis=1) / is_full.sum(axis=1)
    return values if per_problem else float(values.mean())


@overload
def pass_at_k(n_correct: int, n_samples: int, k: int) -> float: ...
@overload
def pass_at_k(n_correct: npt.ArrayLike, n_samples: npt.ArrayLike, k: npt.ArrayLike) -> Any: ...
def pass_at_k(n_correct: npt.ArrayLike, n_samples: npt.ArrayLike, k: npt.ArrayLike) -> Any:
    """Return the unbiased estimate of pass@k: at least one of k candidates is correct.

    It is an oracle's bound on every rule of selection, not a rule.

    Parameters
    ----------
    n_correct : int or array-like of int
        Number of correct candidates of each problem.
    n_samples : int or array-like of int
        Number of candidates of each problem.
    k : int or array-like of int
        Number of candidates drawn, at most ``n_samples``.

    Returns
    -------
    float, or ndarray of the broadcast shape
        ``1 - C(n_samples - n_correct, k) / C(n_samples, k)``, one value per problem.

    Raises
    ------
    ValueError
        If a number is a fraction or negative, or out of range.

    Notes
    -----
    arXiv:2107.03374, section 2.1. It is computed as a sum of logarithms. Thousands of candidates do not overflow, and
    small results do not cancel.

    Examples
    --------
    >>> round(pass_at_k(1, 4, 2), 12)
    0.5
    >>> pass_at_k([0, 2, 4], 4, 1)
    array([0. , 0.5, 1. ])
    """
    correct, samples, drawn = np.broadcast_arrays(
        _whole(n_correct, "n_correct"), _whole(n_samples, "n_samples"), _whole(k, "k")
    )
    for name, values, lowest in (("n_correct", correct, 0), ("k", drawn, 1)):
        bad = (values < lowest) | (values > samples)
        if bad.any():
            raise ValueError(f"{name} is {values[bad][0]}, expected between {lowest} and n_samples = {samples[bad][0]}")
    if not correct.size:
        return np.empty(correct.shape)
    rows = np.stack([correct.ravel(), samples.ravel(), drawn.ravel()], axis=1)
    distinct, where = np.unique(rows, axis=0, return_inverse=True)
    result = np.array([_pass_at_k(*row) for row in distinct.tolist()])[where.ravel()].reshape(correct.shape)
    return result if correct.ndim else float(result)


def _pass_at_k(n_correct: int, n_samples: int, k: int) -> float:
    if n_samples - n_correct < k:
        return 1.0
    # C(m - c, k) / C(m, k) is symmetric in c and k: take the shorter product.
    fewer, more = sorted((n_correct, k))
    return float(0.0 - np.expm1(np.log1p(-more / (n_samples - np.arange(fewer))).sum()))


class _Candidates(NamedTuple):
    """Scores, correctness (0.0 where padded) and the number of candidates of each problem."""

    scores: FloatArray
    hits: FloatArray
    counts: IntArray


def _expected(candidates: _Candidates, n: int, ties: Ties) -> FloatArray:
    """Return the probability, for each row, that the best of n random candidates is correct."""
    # NaN is sorted to the end.
    order = np.argsort(-candidates.scores, axis=1, kind="stable")
    hits = np.take_along_axis(candidates.hits, order, axis=1)
    if ties == "average":
        hits = _tie_means(np.take_along_axis(candidates.scores, order, axis=1), hits)
    p_rank = _rank_probabilities(candidates.counts, candidates.scores.shape[1], n)
    expected: FloatArray = (p_rank * hits).sum(axis=1)
    return expected


def _rank_probabilities(counts: IntArray, n_ranks: int, n: int) -> FloatArray:
    """Return P(rank k is the best of n drawn from m) for the m of each row: C(m - k - 1, n - 1) / C(m, n)."""
    m, k = counts[:, None], np.arange(n_ranks - 1)
    ratio_of_next_rank = np.maximum(m - k - n, 0) / np.maximum(m - k - 1, 1)
    return np.cumprod(np.hstack([n / m, ratio_of_next_rank]), axis=1)


def _tie_means(ranked: FloatArray, hits: FloatArray) -> FloatArray:
    """Replace each value by the mean over the equal scores of its row, which stand side by side."""
    starts_tie = np.ones(ranked.shape, dtype=bool)
    starts_tie[:, 1:] = ranked[:, 1:] != ranked[:, :-1]
    tie = np.cumsum(starts_tie.ravel()) - 1
    means: FloatArray = (np.bincount(tie, weights=hits.ravel()) / np.bincount(tie))[tie]
    return means.reshape(hits.shape)


def _check_candidates(scores: npt.ArrayLike, correct: npt.ArrayLike) -> _Candidates:
    """Return checked candidates."""
    values, labels = np.asarray(scores, dtype=np.float64), np.asarray(correct)
    if values.ndim != 2 or labels.shape != values.shape:
        raise ValueError(
            f"scores has shape {values.shape} and correct {labels.shape}, expected two arrays of shape "
            "(n_problems, n_candidates); pad short rows of scores with NaN"
        )
    is_padded = np.isnan(values)
    has_gap = (is_padded[:, :-1] & ~is_padded[:, 1:]).any(axis=1)
    if has_gap.any():
        raise ValueError(
            f"scores of problem {int(np.argmax(has_gap))} holds NaN before a number: NaN only pads the end of a row. "
            "Give -inf to a candidate without a score, or leave it out"
        )
    if not np.isin(labels[~is_padded].astype(object), (0, 1)).all():
        raise ValueError("correct holds other values than True/False or 1/0: leave out unknown candidates")
    hits = np.where(is_padded, 0, labels).astype(np.float64)
    return _Candidates(values, hits, (~is_padded).sum(axis=1))


def _check_n(n: Any, counts: IntArray) -> int:
    """Return n, a whole number of candidates that every problem has."""
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 1:
        raise ValueError(f"n is {n!r}, expected a whole number of candidates, 1 or more")
    if len(counts) and n > counts.min():
        row = int(np.argmin(counts))
        raise ValueError(
            f"n is {n}, but problem {row} has {counts[row]} candidates: choose a smaller n or leave it out"
        )
    return int(n)


def _whole(value: npt.ArrayLike, name: str) -> IntArray:
    """Return whole numbers as int64."""
    array = np.asarray(value)
    if array.dtype.kind not in "biuf" or not np.array_equal(array, np.round(array)):
        raise ValueError(f"{name} is {value!r}, expected whole numbers")
    return array.astype(np.int64)


def _check_option(value: str, options: Any, name: str) -> None:
    """Raise for a value that a Literal type does not list."""
    if value not in get_args(options):
        raise ValueError(f"{name} is {value!r}, expected one of {', '.join(get_args(options))}")


def vote(
    answers: Sequence[Hashable],
    weights: npt.ArrayLike | None = None,
    *,
    missing: Missing = "alone",
    representative: Representative = "first",
) -> int:
    """Return the index of a candidate that has the winning answer.

    The answer with the most candidates wins (self-consistency), or with the largest sum of weights. Among equals wins
    the answer whose first candidate comes first. For scores on any scale, where a plain sum has no meaning, PQM
    (arXiv:2410.11287) sums their sigmoids: ``vote(answers, scipy.special.expit(scores))``.

    Parameters
    ----------
    answers : sequence, length n_candidates
        A key per candidate, equal for equal answers, see :func:`prmkit.data.answer_keys`. None (or NaN) if a candidate
        has no answer.
    weights : array-like of shape (n_candidates,), optional
        Solution scores, meant to be 0 or more. A negative one counts against its answer. A candidate without a score
        gets 0.
    missing : {"alone", "drop"}
        Whether a candidate without an answer votes for itself alone, or not at all. If nobody is left, candidate 0 is
        returned.
    representative : {"first", "best"}
        Which candidate with the answer is returned: the first, or the one with the largest weight (the first of
        equals).

    Returns
    -------
    int
        The index of the candidate.

    Raises
    ------
    ValueError
        If there are no candidates, lengths differ, a weight is not finite, or an option is unknown.

    Examples
    --------
    >>> vote(["12", "14", "14"])
    1
    >>> vote(["12", "14", "14"], weights=[0.9, 0.3, 0.4])
    0
    """
    _check_option(missing, Missing, "missing")
    _check_option(representative, Representative, "representative")
    if not len(answers):
        raise ValueError("answers is empty: there is no candidate to choose")
    weight = _check_weights(weights, len(answers))
    codes = _answer_codes(answers, missing)[None, :]
    return int(_winners(codes, weight[None, :], representative)[0])


@dataclass(frozen=True, eq=False)
class VoteAccuracy:
    """The share of right votes, made by :func:`vote_accuracy`: of each problem, and their mean (None without problems).

    ``standard_error`` comes from drawing subsets instead of taking all. It is 0 if no problem has more than
    ``n_subsets`` of them. It says nothing about other problems: resample ``per_problem`` for that.
    """

    value: float | None
    standard_error: float | None
    per_problem: FloatArray
    n: int
    n_subsets: int

    def __str__(self) -> str:
        if self.value is None:
            return "undefined"
        spread = f"{self.value:.3f} ± {self.standard_error:.3f}"
        return as_printed(f"{spread} (at most {self.n_subsets} subsets of {self.n})")


def vote_accuracy(
    answers: Sequence[Sequence[Hashable]],
    correct: Sequence[npt.ArrayLike],
    n: int,
    weights: Sequence[npt.ArrayLike | None] | None = None,
    *,
    method: VoteMethod = "subsets",
    n_subsets: int = 400,
    missing: Missing = "alone",
    ties: Ties = "first",
    random_state: int | np.random.Generator | None = 0,
) -> VoteAccuracy:
    """Return how often a vote of n candidates, by number or by weight, elects a correct one.

    A problem with at most ``n_subsets`` subsets of n candidates is computed exactly, from all of them. With the default
    this holds for every n up to 10 candidates.

    Parameters
    ----------
    answers : sequence, length n_problems
        For each problem a sequence of answer keys, None if a candidate has no answer.
    correct : sequence, length n_problems
        For each problem an array of bool, one per candidate.
    n : int
        Number of voters, at most the candidates of any problem.
    weights : sequence, length n_problems, optional
        For each problem an array of solution scores. The winning answer is then represented by its best-scored
        candidate, without weights by its first.
    method : {"subsets", "prefix"}
        All subsets of size n, or random ones if there are too many, or the first n candidates.
    n_subsets : int, default=400
        Number of subsets that are drawn, independently, for a problem that has more of them.
    missing : {"alone", "drop"}
        The same as in :func:`vote`.
    ties : {"first", "average"}
        Which of several answers with equal votes wins: the one whose first candidate comes first, or all of them with
        equal shares. With ``"average"`` the order of the candidates has no effect.
    random_state : int, Generator or None, default=0
        Seed of the subsets.

    Returns
    -------
    VoteAccuracy
        The share of right votes with its standard error, and the share of each problem.

    Raises
    ------
    ValueError
        If lengths differ, n or ``n_subsets`` is out of range, a weight is not finite, or an option is unknown.

    Examples
    --------
    >>> answers = [["12", "14", "14"], ["3", "5", None]]
    >>> print(vote_accuracy(answers, [[False, True, True], [True, False, False]], 3))
    1.000 ± 0.000 (at most 400 subsets of 3)
    """
    _check_option(missing, Missing, "missing")
    _check_option(ties, Ties, "ties")
    _check_option(method, VoteMethod, "method")
    if n < 1 or n_subsets < 1:
        raise ValueError(f"n is {n} and n_subsets {n_subsets}, expected 1 or more of each")
    weights = [None] * len(answers) if weights is None else weights
    representative: Representative = "first" if all(row is None for row in weights) else "best"
    if not len(answers) == len(correct) == len(weights):
        raise ValueError(
            f"answers has {len(answers)} problems, correct {len(correct)}, weights {len(weights)}, expected the same"
        )
    rng = np.random.default_rng(random_state)
    means, variances = np.empty(len(answers)), np.zeros(len(answers))
    for i, (keys, labels, row) in enumerate(zip(answers, correct, weights, strict=True)):
        hits = np.asarray(labels, dtype=bool)
        if not len(keys) == len(hits) >= n:
            raise ValueError(
                f"problem {i} has {len(keys)} answers and {len(hits)} in correct, expected at least n = {n} of each"
            )
        is_exact = method == "prefix" or comb(len(keys), n) <= n_subsets
        columns = (
            _all_subsets(n if method == "prefix" else len(keys), n)
            if is_exact
            else (_subsets(rng, len(keys), n, n_subsets))
        )
        codes, weight = _answer_codes(keys, missing)[columns], _check_weights(row, len(keys))[columns]
        if ties == "average":
            right = _share_of_right_winners(codes, weight, hits[columns], representative)
        else:
            chosen = _winners(codes, weight, representative)
            right = hits[np.take_along_axis(columns, chosen[:, None], axis=1)].astype(np.float64)
        means[i] = right.mean()
        if not is_exact:
            variances[i] = right.var(ddof=1) / len(columns)
    if not len(answers):
        return VoteAccuracy(None, None, means, n, n_subsets)
    error = float(np.sqrt(variances.sum()) / len(answers))
    return VoteAccuracy(float(means.mean()), error, means, n, n_subsets)


def _winners(codes: IntArray, weights: FloatArray, representative: Representative) -> IntArray:
    """Return the chosen column of each row."""
    is_top = _has_most_support(codes, weights)
    # The first candidate of the best answers. Where nobody votes, argmax gives candidate 0.
    chosen: IntArray = np.argmax(is_top, axis=1)
    if representative == "first":
        return chosen
    answer = np.take_along_axis(codes, chosen[:, None], axis=1)
    best = np.argmax(np.where((codes >= 0) & (codes == answer), weights, -np.inf), axis=1)
    return np.where(is_top.any(axis=1), best, 0)


def _share_of_right_winners(
    codes: IntArray, weights: FloatArray, hits: BoolArray, representative: Representative
) -> FloatArray:
    """Return the share of the tied winners of each row that are right, with one representative per answer."""
    is_top = _has_most_support(codes, weights)
    row, column = np.indices(codes.shape)
    preference = weights if representative == "best" else np.zeros_like(weights)
    # Sorted by row, then answer, then preference, then column: each answer's representative comes first in its block.
    order = np.lexsort((column.ravel(), -preference.ravel(), codes.ravel(), row.ravel()))
    n_codes = int(codes.max(initial=0)) + 2
    block = codes.ravel()[order] + row.ravel()[order] * n_codes
    is_representative = np.zeros(codes.size, dtype=bool)
    is_representative[order[np.append(True, block[1:] != block[:-1])]] = True
    is_chosen = is_top & is_representative.reshape(codes.shape)
    # Where nobody votes, candidate 0 is chosen, as in vote().
    is_chosen[~is_top.any(axis=1), 0] = True
    share: FloatArray = (is_chosen & hits).sum(axis=1) / is_chosen.sum(axis=1)
    return share


def _has_most_support(codes: IntArray, weights: FloatArray) -> BoolArray:
    """Return whether each candidate has an answer with the most support in its row."""
    n_rows, n_candidates = codes.shape
    has_vote = codes >= 0
    n_codes = int(codes.max(initial=0)) + 1
    # Answers are numbered within their row, so one bincount sums the votes of all rows.
    answer = np.maximum(codes, 0) + n_codes * np.arange(n_rows)[:, None]
    votes = np.where(has_vote, weights, 0)
    sums = np.bincount(answer.ravel(), weights=votes.ravel(), minlength=n_rows * n_codes)
    support = np.where(has_vote, sums[answer], -np.inf)
    # Equal sums may differ by rounding, in the order of their terms.
    slack = _ROUNDING * n_candidates * np.abs(weights).max(axis=1, keepdims=True)
    is_top: BoolArray = has_vote & (support >= support.max(axis=1, keepdims=True) - slack)
    return is_top


def _answer_codes(answers: Sequence[Hashable], missing: Missing) -> IntArray:
    """Return a number below n_candidates for each candidate's answer, -1 for a candidate without a vote."""
    numbers: dict[Hashable, int] = {}
    codes = np.empty(len(answers), dtype=np.int64)
    for i, answer in enumerate(answers):
        # NaN is not equal to itself.
        is_missing = answer is None or answer != answer
        # A missing answer that votes alone gets a key that no other candidate has.
        key = (is_missing, i if is_missing else answer)
        codes[i] = -1 if is_missing and missing == "drop" else numbers.setdefault(key, i)
    return codes


def _check_weights(weights: npt.ArrayLike | None, n_candidates: int) -> FloatArray:
    """Return finite weights as float64, ones by default."""
    if weights is None:
        return np.ones(n_candidates)
    weight = np.asarray(weights, dtype=np.float64)
    if weight.shape != (n_candidates,) or not np.isfinite(weight).all():
        raise ValueError(
            f"weights has shape {weight.shape}, expected ({n_candidates},): one finite number per candidate, 0 for one "
            "without a score"
        )
    return weight


@cache
def _all_subsets(n_candidates: int, n: int) -> IntArray:
    return np.array(list(combinations(range(n_candidates), n)))


def _subsets(rng: np.random.Generator, n_candidates: int, n: int, n_subsets: int) -> IntArray:
    """Return random subsets as rows of ascending candidate indices: the lowest decides ties."""
    keys = rng.random((n_subsets, n_candidates))
    return np.sort(np.argpartition(keys, n - 1, axis=1)[:, :n], axis=1)
