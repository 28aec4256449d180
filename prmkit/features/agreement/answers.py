"""How far the sampled answers of a problem agree. The one home of these numbers."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from prmkit.data.answers.equivalence import AnswerComparison, answer_keys
from prmkit.data.answers.extraction import extract_answer
from prmkit.data.labels import is_blank
from prmkit.data.problem_keys import problem_groups
from prmkit.data.sampled import Candidates
from prmkit.data.solution import Solution, only_solutions
from prmkit.utils.ragged import as_numbers

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


class SampledAnswers(NamedTuple):
    """Samples, the number of the problem of each, and the key of its answer, None if it gives none."""

    solutions: list[Solution]
    groups: Integers
    keys: list[str | None]


def sampled_answers(samples: Candidates | Iterable[Solution]) -> SampledAnswers:
    """Return samples with the keys of their answers, in the order in which they are given.

    ``Candidates`` know both. In a list of solutions, the text of the problem tells which belong together, and
    `extract_answer` finds the answer in the text.

    >>> sampled_answers([Solution("2 + 3?", ["So 5."]), Solution("6 / 2?", ["So 3."]), Solution("2 + 3?", ["5.0"])])[1:]
    (array([0, 1, 0]), ['5', '3', '5'])
    """
    if isinstance(samples, Candidates):
        return SampledAnswers(samples.solutions, samples.groups, samples.answer_keys)
    solutions = only_solutions(samples)
    groups = problem_groups(solutions) if solutions else np.empty(0, dtype=np.int64)
    return SampledAnswers(solutions, groups, keys_of_texts(solutions, groups))


def keys_of_texts(solutions: Sequence[Solution], groups: Integers) -> list[str | None]:
    """Return the key of the answer in the text of each solution, which equal answers of a group share."""
    answers = [extract_answer("\n\n".join(solution.steps)).answer for solution in solutions]
    keys: list[str | None] = [None] * len(solutions)
    order = np.argsort(groups, kind="stable")
    with AnswerComparison() as comparison:
        for rows in np.split(order, np.flatnonzero(np.diff(groups[order])) + 1):
            of_problem = answer_keys([answers[row] for row in rows], comparison=comparison)
            for row, key in zip(rows.tolist(), of_problem, strict=True):
                keys[row] = key
    return keys


@dataclass(frozen=True, eq=False)
class AnswerAgreement:
    """Agreement of the answers to each problem: arrays with one value per sample, in the order of the samples.

    Equal answers to a problem are a class. A sample without an answer agrees with no other: it is a class of its own.
    Samples of one problem have the same value in all but ``agreement`` and ``disagreement``. With one sample per
    problem nothing can agree: these two, ``entropy`` and ``margin`` are NaN then.

    Parameters
    ----------
    agreement : ndarray of shape (n_samples,)
        Share of the other samples of the problem that have the same answer. Lower is more uncertain. Its mean over
        samples does not depend on how many samples there are.
    disagreement : ndarray of shape (n_samples,)
        1 - ``agreement``. Higher is more uncertain.
    entropy : ndarray of shape (n_samples,)
        Entropy over the answer classes of the problem in nats, by the estimator of Chao and Shen (2003), which corrects
        for the classes that a few samples do not show. Higher is more uncertain.
    margin : ndarray of shape (n_samples,)
        Share of the largest class of the problem, minus that of the second. Lower is more uncertain.
    n_classes : ndarray of int of shape (n_samples,)
        Number of answer classes of the problem. Higher is more uncertain. It grows with the number of samples.
    largest_share : ndarray of shape (n_samples,)
        Share of the largest class among the samples of the problem. Lower is more uncertain.
    n_samples : ndarray of int of shape (n_samples,)
        Number of samples of the problem.
    weighted_share : ndarray of shape (n_samples,) or None
        Share of the weights of the problem that stands behind the answer of the sample, its own included. Lower is more
        uncertain. NaN if all weights of the problem are 0. None without weights.
    """

    agreement: Floats
    disagreement: Floats
    entropy: Floats
    margin: Floats
    n_classes: Integers
    largest_share: Floats
    n_samples: Integers
    weighted_share: Floats | None = None


def answer_agreement(
    keys: Sequence[Hashable] | npt.NDArray[np.object_], groups: npt.ArrayLike, weights: npt.ArrayLike | None = None
) -> AnswerAgreement:
    """Return how far sampled answers agree. It takes O(n log n), since no two samples are compared.

    Parameters
    ----------
    keys : sequence of shape (n_samples,)
        Key of the answer of each sample, which equal answers to a problem share, such as `Candidates.answer_keys`.
        None and NaN stand for no answer.
    groups : array-like of shape (n_samples,)
        Number or name of the problem of each sample.
    weights : array-like of shape (n_samples,), optional
        Weight of each sample, at least 0, such as a reward. NaN is no weight.

    Returns
    -------
    AnswerAgreement
        The numbers, per sample.

    Raises
    ------
    ValueError
        If there is another number of keys or weights than of groups, or a weight is negative or infinite.

    References
    ----------
    A. Chao and T.-J. Shen, "Nonparametric estimation of Shannon's index of diversity when there are unseen species in
    sample", Environmental and Ecological Statistics 10 (2003), 429-443.

    Examples
    --------
    >>> of_two = answer_agreement(["14", "14", "20", None, "7"], [0, 0, 0, 0, 1])
    >>> of_two.agreement.round(2), of_two.n_classes
    (array([0.33, 0.33, 0.  , 0.  ,  nan]), array([3, 3, 3, 3, 1]))
    """
    names = np.asarray(groups)
    if names.shape != (len(keys),):
        raise ValueError(f"groups has shape {names.shape}, expected one problem per key: ({len(keys)},)")
    codes = _codes(keys)
    _, problems = np.unique(names, return_inverse=True)
    sizes = np.bincount(problems)
    # A class is a pair of problem and answer. The classes of one problem stand side by side.
    pairs, classes, counts = np.unique(
        problems * (codes.max(initial=0) + 1) + codes, return_inverse=True, return_counts=True
    )
    of_class = np.empty(len(pairs), dtype=np.int64)
    of_class[classes] = problems
    n_classes = np.bincount(of_class, minlength=len(sizes))
    several = sizes > 1
    with np.errstate(divide="ignore", invalid="ignore"):
        agreement = (counts[classes] - 1) / (sizes[problems] - 1)
    first, second = _two_largest(of_class, counts, len(sizes))
    margin = np.where(several, (first - second) / np.maximum(sizes, 1), np.nan)
    entropy = np.where(several, _chao_shen(of_class, counts, sizes), np.nan)
    weighted_share = None
    if weights is not None:
        weight = np.nan_to_num(_checked(weights, len(names)))
        total, own = np.bincount(problems, weight), np.bincount(classes, weight)
        with np.errstate(invalid="ignore"):
            weighted_share = np.where(several[problems], own[classes] / total[problems], np.nan)
    return AnswerAgreement(
        agreement=agreement,
        disagreement=1 - agreement,
        entropy=entropy[problems],
        margin=margin[problems],
        n_classes=n_classes[problems],
        largest_share=(first / np.maximum(sizes, 1))[problems],
        n_samples=sizes[problems],
        weighted_share=weighted_share,
    )


def _checked(weights: npt.ArrayLike, n: int) -> Floats:
    values = as_numbers(weights, "scores")
    if values.shape != (n,):
        raise ValueError(f"scores or weights have shape {values.shape}, expected one per sample: ({n},)")
    if (bad := np.flatnonzero((values < 0) | np.isinf(values))).size:
        raise ValueError(
            f"the score or weight of sample {bad[0]} is {values[bad[0]]:g} ({bad.size:,} such), expected a number from "
            "0 on, of which higher is better, or NaN. A raw reward becomes one by scipy.special.expit(scores)"
        )
    return values


def _codes(keys: Sequence[Hashable] | npt.NDArray[np.object_]) -> Integers:
    """Return a number per distinct key. Each missing one has a number of its own."""
    known: dict[Hashable, int] = {}
    return np.array([known.setdefault(i if is_blank(key) else ("key", key), i) for i, key in enumerate(keys)], np.int64)


def _two_largest(of_class: Integers, counts: Integers, n: int) -> tuple[Integers, Integers]:
    """Return the sizes of the largest and of the second largest class of each problem."""
    order = np.lexsort((-counts, of_class))
    rank = np.arange(len(order)) - np.searchsorted(of_class, of_class)
    first, second = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
    for place, out in enumerate((first, second)):
        at = order[rank == place]
        out[of_class[at]] = counts[at]
    return first, second


def _chao_shen(of_class: Integers, counts: Integers, sizes: Integers) -> Floats:
    """Return the entropy of each problem: shares times the coverage, weighted by how likely a class is seen at all."""
    singles = np.bincount(of_class, weights=counts == 1, minlength=len(sizes))
    # If every answer is another, the coverage would be 0 and nothing could be said: one of them counts as seen twice.
    singles = np.where(singles == sizes, sizes - 1, singles)
    share = ((1 - singles / np.maximum(sizes, 1)) / np.maximum(sizes, 1))[of_class] * counts
    with np.errstate(divide="ignore", invalid="ignore"):
        terms: Floats = -share * np.log(share) / (1 - (1 - share) ** sizes[of_class])
    entropy: Floats = np.bincount(of_class, weights=terms, minlength=len(sizes)).astype(np.float64)
    return entropy
