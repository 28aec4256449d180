"""How often a rule chooses a right one of N candidates: the mean over all subsets of N, or over random ones."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from math import comb
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from prmkit.metrics.selection.best_of_n import Ties, check_option
from prmkit.metrics.selection.votes import (
    Missing,
    Rule,
    answer_codes,
    answer_numbers,
    answer_sums,
    are_missing,
    check_weights,
    top_candidates,
    winners,
)
from prmkit.utils.environment import as_printed
from prmkit.utils.ragged import BoolArray, FloatArray, IntArray

VoteMethod: TypeAlias = Literal["subsets", "prefix"]

N_SUBSETS = 400
"""Number of subsets of a problem up to which all of them are taken."""
# Number of candidates, over all subsets of all problems, that are looked at together.
_BLOCK = 2**19


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
    n_subsets: int = N_SUBSETS,
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
        Whether a candidate without an answer votes for itself alone, where it may tie with an answer of one vote, or
        not at all, as in :func:`vote`.
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
    check_option(missing, Missing, "missing")
    check_option(ties, Ties, "ties")
    check_option(method, VoteMethod, "method")
    if n < 1 or n_subsets < 1:
        raise ValueError(f"n is {n} and n_subsets {n_subsets}, expected 1 or more of each")
    weights = [None] * len(answers) if weights is None else weights
    if not len(answers) == len(correct) == len(weights):
        raise ValueError(
            f"answers has {len(answers)} problems, correct {len(correct)}, weights {len(weights)}, expected the same"
        )
    if not len(answers):
        return VoteAccuracy(None, None, np.empty(0), n, n_subsets)
    hits = [np.asarray(labels, dtype=bool) for labels in correct]
    for i, (keys, right) in enumerate(zip(answers, hits, strict=True)):
        if not len(keys) == len(right) >= n:
            raise ValueError(
                f"problem {i} has {len(keys)} answers and {len(right)} in correct, expected at least n = {n} of each"
            )
    sampled = Sampled.of(answers, np.concatenate(hits), missing)
    scores = None
    if any(row is not None for row in weights):
        scores = np.concatenate([check_weights(row, len(keys)) for row, keys in zip(weights, answers, strict=True)])
    rule: Rule = "majority" if scores is None else "weighted"
    subsets = Subsets(n, n_subsets, random_state, is_prefix=method == "prefix")
    means, variances = shares_right(sampled, subsets, rule, scores, ties=ties)
    error = float(np.sqrt(variances.sum()) / len(answers))
    return VoteAccuracy(float(means.mean()), error, means, n, n_subsets)


@dataclass(frozen=True, eq=False)
class Sampled:
    """The candidates of all problems end to end: codes of their answers, whether they are right and have an answer.

    ``sizes`` is the number of candidates of each problem.
    """

    codes: IntArray
    hits: BoolArray
    has_answer: BoolArray
    sizes: IntArray

    @classmethod
    def of(cls, answers: Sequence[Sequence[Hashable]], correct: BoolArray, missing: Missing) -> Sampled:
        """Number the answers of each problem."""
        return cls(
            np.concatenate([answer_codes(keys, missing) for keys in answers]),
            correct,
            ~np.concatenate([are_missing(keys) for keys in answers]),
            np.array([len(keys) for keys in answers]),
        )

    def by_size(self) -> Iterator[tuple[IntArray, IntArray]]:
        """Give numbers of problems with equally many candidates, and a row of the places of these for each problem."""
        starts = np.cumsum(self.sizes) - self.sizes
        for size in np.unique(self.sizes).tolist():
            problems = np.flatnonzero(self.sizes == size)
            yield problems, starts[problems, None] + np.arange(size)


@dataclass(frozen=True, eq=False)
class Subsets:
    """Subsets of n candidates of each problem, or all candidates of a problem that has fewer.

    All of them are taken where a problem has at most ``n_subsets``, otherwise so many are drawn.
    """

    n: int
    n_subsets: int
    random_state: int | np.random.Generator | None
    is_prefix: bool = False

    def are_drawn(self, sizes: IntArray) -> BoolArray:
        """Return whether the subsets of each problem are random ones."""
        drawn = [size for size in np.unique(sizes).tolist() if comb(size, min(self.n, size)) > self.n_subsets]
        return np.isin(sizes, [] if self.is_prefix else drawn)

    def blocks(self, sizes: IntArray) -> Iterator[tuple[IntArray, IntArray]]:
        """Give numbers of problems, and for each of them the places of the candidates of its subsets.

        The places, of shape (n_problems, n_subsets, n), ascend, so that the first candidate of a subset comes first.
        """
        rng = np.random.default_rng(self.random_state)
        starts = np.cumsum(sizes) - sizes
        for size in np.unique(sizes).tolist():
            n, problems = min(self.n, size), np.flatnonzero(sizes == size)
            is_drawn = bool(self.are_drawn(np.array([size]))[0])
            columns = _all_subsets(n if self.is_prefix or is_drawn else size, n)
            at_once = max(_BLOCK // (self.n_subsets * size if is_drawn else columns.size), 1)
            for block in np.split(problems, range(at_once, len(problems), at_once)):
                if is_drawn:
                    order = rng.random((len(block), self.n_subsets, size))
                    yield block, starts[block, None, None] + np.sort(np.argpartition(order, n - 1)[..., :n])
                else:
                    yield block, starts[block, None, None] + columns


def shares_right(
    sampled: Sampled,
    subsets: Subsets,
    rule: Rule,
    scores: FloatArray | None = None,
    *,
    ties: Ties = "average",
    drop: float = 0.5,
    penalty: float = 0.5,
) -> tuple[FloatArray, FloatArray]:
    """Return how often a rule chooses a right candidate of each problem, and the variance of this by drawing subsets.

    The chosen answer is represented by its best-scored candidate. "random" and "first" are not subject to it.
    """
    values = np.zeros(len(sampled.codes)) if scores is None else scores

    def right_in(places: IntArray) -> FloatArray:
        if ties == "average" and scores is not None:
            # The candidate that represents an answer comes first of its answer.
            order = np.argsort(-scores[places], axis=-1, kind="stable")
            ordered = np.take_along_axis(places, order, axis=-1)
        else:
            ordered = places
        codes, is_top = top_candidates(rule, sampled.codes[ordered], values[ordered], drop=drop, penalty=penalty)
        if ties == "average":
            return _share_right(codes, is_top, sampled.hits[ordered], sampled.hits[places[:, 0]])
        chosen = winners(is_top, codes, None if scores is None else values[ordered])
        return sampled.hits[np.take_along_axis(ordered, chosen[:, None], axis=1)[:, 0]].astype(np.float64)

    return _over_subsets(right_in, sampled.sizes, subsets)


def samples_until_decided(sampled: Sampled, subsets: Subsets) -> FloatArray:
    """Return after how many candidates the vote of n is decided, for each problem, in the mean over all their orders.

    After k of n candidates it is decided with the same probability as in a random subset of k, in random order. A
    problem that has more than ``n_subsets`` such subsets for a k gets so many random orders instead.
    """
    n_needed, n_voters = np.zeros(len(sampled.sizes)), np.minimum(subsets.n, sampled.sizes)
    rng = np.random.default_rng(subsets.random_state)
    for problems, places in sampled.by_size():
        size, n = places.shape[1], int(n_voters[problems[0]])
        # The leader has at most k votes, and needs as many as there are candidates left.
        ks = range((n + 1) // 2, n)
        if max((comb(size, k) for k in ks), default=0) > subsets.n_subsets:
            at_once = max(_BLOCK // (subsets.n_subsets * size), 1)
            for start in range(0, len(problems), at_once):
                rows = places[start : start + at_once]
                orders = np.argsort(rng.random((len(rows), subsets.n_subsets, size)), axis=-1)[..., :n]
                drawn = np.take_along_axis(rows[:, None, :], orders, axis=-1).reshape(-1, n)
                stops = _stops(sampled.codes[drawn], sampled.has_answer[drawn])
                n_needed[problems[start : start + at_once]] = stops.reshape(len(rows), -1).mean(axis=1)
            continue
        n_needed[problems] = n
        for k in ks:
            columns = _all_subsets(size, k)
            at_once = max(_BLOCK // columns.size, 1)
            for start in range(0, len(problems), at_once):
                of_k = places[start : start + at_once][:, columns].reshape(-1, k)
                p_decided = _decided(sampled.codes[of_k], sampled.has_answer[of_k], n - k)
                n_needed[problems[start : start + at_once]] -= p_decided.reshape(-1, len(columns)).mean(axis=1)
    return n_needed


def _stops(codes: IntArray, has_answer: BoolArray) -> IntArray:
    """Return after how many of the candidates of each row, in this order, its vote is decided."""
    n = codes.shape[1]
    position = np.arange(n)
    # Once decided, it stays decided: so halve the range that holds the first such number.
    low, high = np.full(len(codes), (n + 1) // 2), np.full(len(codes), n)
    while (low < high).any():
        middle = (low + high) // 2
        seen = np.where(position < middle[:, None], codes, -1)
        has_vote, n_left = seen >= 0, n - middle[:, None]
        counts = np.where(has_vote, answer_sums(seen, has_vote), 0)
        leader = np.argmax(counts, axis=1)[:, None]
        lead = np.take_along_axis(counts, leader, axis=1)
        is_other = has_vote & (seen != np.take_along_axis(seen, leader, axis=1))
        # As in `vote_is_decided`.
        can_turn = is_other & (counts + n_left * has_answer + (position < leader) > lead)
        is_decided = ((lead >= n_left)[:, 0] & (lead[:, 0] > 0) & ~can_turn.any(axis=1)) | (middle == n)
        low, high = np.where(is_decided, low, np.minimum(middle + 1, high)), np.where(is_decided, middle, high)
    return high


def _decided(codes: IntArray, has_answer: BoolArray, n_left: int) -> FloatArray:
    """Return in how many of the orders of each row the vote is decided, with so many candidates left, at least one."""
    has_vote = codes >= 0
    counts = np.where(has_vote, answer_sums(codes, has_vote), 0)
    lead, safe = counts.max(axis=1), counts.max(axis=1) - n_left
    # Only an answer that more candidates can give is a rival.
    growing = np.where(has_answer, counts, 0)
    n_rivals = (np.where(growing > safe[:, None], 1 / np.maximum(counts, 1), 0) * has_answer).sum(axis=1).round() - 1
    # An answer that can still draw level wins if its first candidate comes before that of the leader.
    n_level = ((growing == safe[:, None]) & has_answer).sum(axis=1)
    p_decided = np.where(n_rivals == 0, lead / np.maximum(lead + n_level, 1), 0.0)
    # If all answers differ, the first candidate leads. Without an answer it has no rival but the others.
    alone = np.select([n_rivals == -1, n_rivals == 0], [1.0, 1 / np.maximum(has_vote.sum(axis=1), 1)], 0.0)
    return np.where(lead < n_left, 0.0, np.where(lead == 1, alone, p_decided))


def _over_subsets(
    value_of: Callable[[IntArray], FloatArray], sizes: IntArray, subsets: Subsets
) -> tuple[FloatArray, FloatArray]:
    """Return the mean of a value over the subsets of each problem, and its variance where they are drawn."""
    means, variances = np.zeros(len(sizes)), np.zeros(len(sizes))
    is_drawn = subsets.are_drawn(sizes)
    for problems, places in subsets.blocks(sizes):
        of_subsets = value_of(places.reshape(-1, places.shape[2])).reshape(places.shape[:2])
        means[problems] = of_subsets.mean(axis=1)
        if is_drawn[problems[0]] and places.shape[1] > 1:
            variances[problems] = of_subsets.var(axis=1, ddof=1) / places.shape[1]
    return means, variances


def _share_right(codes: IntArray, is_top: BoolArray, hits: BoolArray, is_first_right: BoolArray) -> FloatArray:
    """Return the share of the best answers of each row that are right, by the first candidate of each.

    ``is_first_right`` is for rows where nobody votes: as in `vote`, the first candidate is chosen there.
    """
    answer, n_answers = answer_numbers(codes)
    position = np.arange(codes.size).reshape(codes.shape)
    # Of several values for one place the last is kept: so in reverse the first.
    first = np.empty(n_answers, dtype=np.int64)
    first[answer.ravel()[::-1]] = position.ravel()[::-1]
    is_chosen = is_top & (first[answer] == position)
    n_chosen = is_chosen.sum(axis=1)
    share: FloatArray = (is_chosen & hits).sum(axis=1) / np.maximum(n_chosen, 1)
    return np.where(n_chosen > 0, share, is_first_right)


@cache
def _all_subsets(n_candidates: int, n: int) -> IntArray:
    return np.array(list(combinations(range(n_candidates), n)), dtype=np.int64).reshape(-1, n)
