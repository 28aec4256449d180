"""How often the best-scored of N candidates is right: first N, blocks of N, or the mean over all subsets of N."""

from __future__ import annotations

from typing import Any

import numpy as np

_METHODS = ("exact", "prefix", "blocks")
TIES = ("first", "average")


def best_of_n_accuracy(
    scores: Any,
    correct: Any,
    n: int,
    method: str = "exact",
    ties: str = "first",
    *,
    per_problem: bool = False,
) -> Any:
    """Return how often the candidate with the highest score among n is correct.

    Parameters
    ----------
    scores : array-like of shape (n_problems, n_candidates)
        Solution scores, higher is better. Where problems have fewer candidates, NaN at the row's end.
    correct : array-like of bool, shape (n_problems, n_candidates)
        Whether each candidate is correct; ignored where the score is NaN.
    n : int
        How many candidates are chosen from; at most the candidates of any problem.
    method : {"exact", "prefix", "blocks"}
        ``"exact"``: the expectation over all subsets of size n. ``"prefix"``: the first n candidates.
        ``"blocks"``: the mean over disjoint blocks of n; candidates that fill no block are left out.
    ties : {"first", "average"}
        Among equal scores the lowest index is chosen, or each with the same probability. Scores in half
        precision saturate at 1.0: ties are common.
    per_problem : bool, default False
        Return one value per problem, to be resampled for an interval, rather than their mean.

    Returns
    -------
    float or None
        The mean over problems; None without problems.
    ndarray of shape (n_problems,)
        With ``per_problem``.

    Raises
    ------
    ValueError
        For other shapes, unknown options, labels that are not 0/1, an n out of range, or a NaN before a
        number.

    Notes
    -----
    With candidates by falling score, rank k = 0, 1, … of m is chosen with probability
    ``C(m - k - 1, n - 1) / C(m, n)``; averaged ties share the probabilities of their ranks.

    Examples
    --------
    >>> scores = [[0.9, 0.5, 0.7], [0.2, 0.8, 0.8]]
    >>> correct = [[True, False, False], [False, False, True]]
    >>> best_of_n_accuracy(scores, correct, 3)
    0.5
    >>> best_of_n_accuracy(scores, correct, 3, ties="average")
    0.75
    """
    if method not in _METHODS:
        raise ValueError(f"method is {method!r}, expected one of {', '.join(_METHODS)}")
    if ties not in TIES:
        raise ValueError(f"ties is {ties!r}, expected one of {', '.join(TIES)}")
    scores, correct, counts = _check(scores, correct)
    n = _check_n(n, counts)
    if not len(scores):
        return np.empty(0) if per_problem else None
    if method == "exact":
        values = _expected(scores, correct, counts, n, ties)
    else:
        n_blocks = scores.shape[1] // n if method == "blocks" else 1
        in_blocks, hits = (array[:, : n_blocks * n].reshape(-1, n) for array in (scores, correct))
        full = np.arange(n_blocks) < (counts // n)[:, None]
        by_block = _expected(in_blocks, hits, np.full(full.size, n), n, ties).reshape(full.shape)
        values = (by_block * full).sum(axis=1) / full.sum(axis=1)
    return values if per_problem else float(values.mean())


def pass_at_k(n_correct: Any, n_samples: Any, k: Any) -> Any:
    """Return the unbiased estimate of pass@k: at least one of k candidates is correct.

    An oracle's bound on every rule of selection, not a rule.

    Parameters
    ----------
    n_correct : int or array-like of int
        Correct candidates of each problem.
    n_samples : int or array-like of int
        All candidates of each problem.
    k : int or array-like of int
        At most ``n_samples``.

    Returns
    -------
    float, or ndarray of the broadcast shape
        ``1 - C(n_samples - n_correct, k) / C(n_samples, k)``, one value per problem.

    Raises
    ------
    ValueError
        For fractions, negative numbers, more correct candidates than candidates, or k out of range.

    Notes
    -----
    arXiv:2107.03374, section 2.1. Computed as a sum of logarithms: no overflow for thousands of candidates,
    no cancellation where the result is small.

    Examples
    --------
    >>> round(pass_at_k(1, 4, 2), 12)
    0.5
    >>> pass_at_k([0, 2, 4], 4, 1)
    array([0. , 0.5, 1. ])
    """
    arrays = [
        _whole(value, name) for value, name in ((n_correct, "n_correct"), (n_samples, "n_samples"), (k, "k"))
    ]
    c, m, k = np.broadcast_arrays(*arrays)
    for bad, what in (
        ((c < 0) | (c > m), "n_correct is {}, expected between 0 and n_samples = {}"),
        ((k < 1) | (k > m), "k is {}, expected between 1 and n_samples = {}"),
    ):
        if bad.any():
            found = (c if what.startswith("n_correct") else k)[bad][0]
            raise ValueError(what.format(found, m[bad][0]))
    if not c.size:
        return np.empty(c.shape)
    distinct, where = np.unique(
        np.stack([c.ravel(), m.ravel(), k.ravel()], axis=1), axis=0, return_inverse=True
    )
    result = np.array([_pass_at_k(*row) for row in distinct.tolist()])[where.ravel()].reshape(c.shape)
    return result if c.ndim else float(result)


def _pass_at_k(n_correct: int, n_samples: int, k: int) -> float:
    if n_samples - n_correct < k:
        return 1.0
    # C(m - c, k) / C(m, k) is symmetric in c and k: the shorter product.
    fewer, more = sorted((n_correct, k))
    return float(0.0 - np.expm1(np.log1p(-more / (n_samples - np.arange(fewer))).sum()))


def _expected(scores: np.ndarray, correct: np.ndarray, counts: np.ndarray, n: int, ties: str) -> np.ndarray:
    """Return each row's probability that the best of n random candidates is correct."""
    order = np.argsort(-scores, axis=1, kind="stable")  # NaN last
    hits = np.take_along_axis(correct, order, axis=1)
    if ties == "average":
        ranked = np.take_along_axis(scores, order, axis=1)
        hits = _tie_means(ranked, hits)
    return (_rank_probabilities(counts, scores.shape[1], n) * hits).sum(axis=1)


def _rank_probabilities(counts: np.ndarray, n_ranks: int, n: int) -> np.ndarray:
    """Return P(rank k is the best of n drawn from m) of each row's m: C(m - k - 1, n - 1) / C(m, n)."""
    m, k = counts[:, None], np.arange(n_ranks - 1)
    ratio = np.maximum(m - k - n, 0) / np.maximum(m - k - 1, 1)  # of rank k + 1 to rank k
    return np.cumprod(np.hstack([n / m, ratio]), axis=1)


def _tie_means(ranked: np.ndarray, hits: np.ndarray) -> np.ndarray:
    """Replace each value by the mean over the equal scores of its row, which stand side by side."""
    starts_tie = np.ones(ranked.shape, dtype=bool)
    starts_tie[:, 1:] = ranked[:, 1:] != ranked[:, :-1]
    block = np.cumsum(starts_tie.ravel()) - 1
    return (np.bincount(block, weights=hits.ravel()) / np.bincount(block))[block].reshape(hits.shape)


def _check(scores: Any, correct: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return scores, correctness (0.0 where padded) and the number of candidates of each row."""
    scores, correct = np.asarray(scores, dtype=np.float64), np.asarray(correct)
    if scores.ndim != 2 or correct.shape != scores.shape:
        raise ValueError(
            f"scores has shape {scores.shape} and correct {correct.shape}, expected two arrays of shape "
            "(n_problems, n_candidates); pad short rows of scores with NaN"
        )
    padded = np.isnan(scores)
    if (padded[:, :-1] & ~padded[:, 1:]).any():
        row = int(np.flatnonzero((padded[:, :-1] & ~padded[:, 1:]).any(axis=1))[0])
        raise ValueError(f"scores of problem {row} holds NaN before a number: NaN only pads the end of a row")
    if not np.isin(correct[~padded].astype(object), (0, 1)).all():
        raise ValueError("correct holds other values than True/False or 1/0: leave out unknown candidates")
    correct = np.where(padded, 0, correct).astype(np.float64)
    return scores, correct, (~padded).sum(axis=1)


def _check_n(n: Any, counts: np.ndarray) -> int:
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 1:
        raise ValueError(f"n is {n!r}, expected a whole number of candidates, 1 or more")
    if len(counts) and n > counts.min():
        row = int(np.argmin(counts))
        raise ValueError(
            f"n is {n}, but problem {row} has {counts[row]} candidates: choose a smaller n or leave it out"
        )
    return int(n)


def _whole(value: Any, name: str) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype.kind not in "biuf" or not np.array_equal(array, np.round(array)):
        raise ValueError(f"{name} is {value!r}, expected whole numbers")
    return array.astype(np.int64)
