"""How often the best-scored of N solutions is right, and whether any of them is."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, TypeAlias, get_args, overload

import numpy as np
import numpy.typing as npt

from prmkit.utils.ragged import FloatArray, IntArray

Ties: TypeAlias = Literal["first", "average"]
BestOfNMethod: TypeAlias = Literal["exact", "prefix", "blocks"]


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
    check_option(method, BestOfNMethod, "method")
    check_option(ties, Ties, "ties")
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


def check_option(value: str, options: Any, name: str) -> None:
    """Raise for a value that a Literal type does not list."""
    if value not in get_args(options):
        raise ValueError(f"{name} is {value!r}, expected one of {', '.join(get_args(options))}")
