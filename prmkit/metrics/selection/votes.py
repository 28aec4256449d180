"""One of N solutions of a problem, chosen by the vote of their answers, by a verifier's scores, or by both."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from prmkit.metrics.selection.best_of_n import check_option
from prmkit.utils.ragged import BoolArray, FloatArray, IntArray, as_numbers

Missing: TypeAlias = Literal["alone", "drop"]
Representative: TypeAlias = Literal["first", "best"]
Rule: TypeAlias = Literal[
    "first", "random", "majority", "weighted", "best", "combine", "tie_break", "filter", "pessimistic"
]
SCORED_RULES: tuple[Rule, ...] = ("best", "weighted", "combine", "tie_break", "filter", "pessimistic")
"""The rules that read scores."""
# Sums that differ by less than this, relative to the weights, are equal.
_ROUNDING = 1e-12


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
    (arXiv:2410.11287) sums their sigmoids: ``select(answers, scores, rule="combine")``.

    Parameters
    ----------
    answers : sequence, length n_candidates
        A key per candidate, equal for equal answers, see :func:`prmkit.data.answer_keys`. None (or NaN) if a candidate
        has no answer.
    weights : array-like of shape (n_candidates,), optional
        Solution scores, meant to be 0 or more. A negative one counts against its answer. A candidate without a score
        gets 0.
    missing : {"alone", "drop"}
        Whether a candidate without an answer votes for itself alone, or not at all. Alone it ties with an answer of one
        vote, and wins if it comes first: with "drop" an answer always wins. If nobody is left, candidate 0 is returned.
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
    check_option(missing, Missing, "missing")
    check_option(representative, Representative, "representative")
    _check_not_empty(answers)
    weight = check_weights(weights, len(answers))[None, :]
    codes = answer_codes(answers, missing)[None, :]
    return int(winners(has_most_support(codes, weight), codes, weight if representative == "best" else None)[0])


def vote_is_decided(answers: Sequence[Hashable], n: int, *, missing: Missing = "alone") -> bool:
    """Return whether the vote of n candidates is already decided by those sampled so far.

    To sample until this is true gives the winner of the vote of n with fewer samples (adaptive self-consistency, with
    certainty instead of a stopping probability): whatever the other candidates answer, ``vote`` over all n has the
    answer that it has now.

    Parameters
    ----------
    answers : sequence, length n_sampled
        A key per candidate sampled so far, as in :func:`vote`.
    n : int
        Number of candidates that vote in the end, at least ``n_sampled``.
    missing : {"alone", "drop"}
        The same as in :func:`vote`.

    Returns
    -------
    bool
        Whether further candidates cannot change the winning answer.

    Raises
    ------
    ValueError
        If n is smaller than the number of answers, or an option is unknown.

    Notes
    -----
    Each candidate that is missing adds at most one to one answer. Among equals wins the answer whose first candidate
    comes first, so a draw with a later answer is enough.

    Examples
    --------
    >>> vote_is_decided(["14", "14"], 4), vote_is_decided(["12", "14"], 4), vote_is_decided(["14", "14", "14"], 4)
    (True, False, True)
    """
    check_option(missing, Missing, "missing")
    n_left = n - len(answers)
    if n < 1 or n_left < 0:
        raise ValueError(f"n is {n} with {len(answers)} answers, expected the number of all voters, sampled or not")
    if not n_left or not len(answers):
        return not n_left
    codes = answer_codes(answers, missing)
    has_vote = codes >= 0
    counts = answer_sums(codes[None, :], has_vote[None, :])[0]
    leader = int(np.argmax(np.where(has_vote, counts, -1)))
    is_other = has_vote & (codes != codes[leader])
    # A candidate without an answer stays alone. A code is the number of the answer's first candidate.
    can_grow = ~are_missing(answers)[is_other]
    needed = counts[is_other] + n_left * can_grow + (codes[is_other] < codes[leader])
    return bool(has_vote[leader] and counts[leader] >= max(needed.max(initial=0), n_left))


def select(
    answers: Sequence[Hashable],
    scores: npt.ArrayLike | None = None,
    *,
    rule: Rule,
    random_state: int | np.random.Generator | None = None,
    missing: Missing = "alone",
    drop: float = 0.5,
    penalty: float = 0.5,
) -> int:
    """Return the index of the candidate that a rule chooses among the candidates of one problem.

    Parameters
    ----------
    answers : sequence, length n_candidates
        A key per candidate, equal for equal answers, see :func:`prmkit.data.answer_keys`. None (or NaN) if a candidate
        has no answer.
    scores : array-like of shape (n_candidates,), optional
        Solution scores, higher is better. NaN or ``-inf`` for a candidate without a score: it votes, but has no weight,
        and stands behind all others.
    rule : str
        ``"first"`` and ``"random"`` look at nothing. ``"majority"`` is the vote, see :func:`vote`. ``"best"`` has the
        highest score, whatever it answers. ``"weighted"`` has the answer with the largest sum of scores, which are 0 or
        more. ``"combine"`` sums their sigmoids, for rewards on any scale (PQM, arXiv:2410.11287). Sigmoids of
        probabilities differ little, so it is then nearly the vote. ``"tie_break"`` is the vote, and the highest score
        only decides between answers with equally many votes. ``"filter"`` drops the worst by score, and is the same
        vote of those that are left. ``"pessimistic"`` has the answer with the highest mean score
        minus ``penalty * log(n_candidates) / (n_votes + 1)``, which holds rare answers back (arXiv:2504.10337,
        arXiv:2510.14913).
    random_state : int, Generator or None, default=None
        Seed of ``"random"``.
    missing : {"alone", "drop"}
        Whether a candidate without an answer votes for itself alone, or not at all. Alone it ties with an answer of one
        vote, and wins if it comes first. With "drop" an answer that votes always wins. ``"first"``, ``"random"`` and
        ``"best"`` look at no votes. If nobody is left, candidate 0 is returned.
    drop : float, default=0.5
        Share of the candidates that ``"filter"`` drops, in [0, 1). It drops whole candidates, rounded down, and none
        with the same score as one that stays.
    penalty : float, default=0.5
        Weight of the penalty of ``"pessimistic"``, 0 or more. 0.5 is that of arXiv:2510.14913.

    Returns
    -------
    int
        The index of the candidate. Among equal answers wins the one whose first candidate comes first. Its
        best-scored candidate is returned, without scores its first.

    Raises
    ------
    TypeError
        If ``answers`` is one text.
    ValueError
        If there are no candidates, lengths differ, a score is ``inf`` or no number, a setting is unknown or out of its
        range, the rule needs scores and there are none, ``"weighted"`` gets a negative score, or ``"pessimistic"`` one
        outside [0, 1].

    Examples
    --------
    >>> answers, scores = ["12", "14", "14", "12"], [0.9, 0.3, 0.7, 0.2]
    >>> select(answers, scores, rule="majority"), select(answers, scores, rule="best")
    (0, 0)
    >>> select(answers, [0.4, 0.3, 0.7, 0.2], rule="tie_break")
    2
    >>> [select([None, None, "6"], rule="majority", missing=missing) for missing in ("alone", "drop")]
    [0, 2]
    """
    if isinstance(answers, str):
        raise TypeError(f"answers is one text, {answers!r:.60}, expected one answer per candidate: [{answers!r:.60}]")
    _check_not_empty(answers)
    check_rule(rule, missing, drop, penalty)
    if rule == "random":
        return int(np.random.default_rng(random_state).integers(len(answers)))
    if rule in SCORED_RULES and scores is None:
        raise ValueError(f'rule "{rule}" needs scores, one per candidate: select(answers, scores, rule="{rule}")')
    values = np.zeros(len(answers)) if scores is None else check_scores(scores, len(answers), rule)
    if rule == "first":
        return 0
    codes, row = answer_codes(answers, missing)[None, :], values[None, :]
    codes, is_top = top_candidates(rule, codes, row, drop=drop, penalty=penalty)
    return int(winners(is_top, codes, None if scores is None else row)[0])


def check_rule(rule: str, missing: str, drop: float, penalty: float) -> None:
    """Raise for settings of :func:`select` that are unknown or out of range."""
    check_option(rule, Rule, "rule")
    check_option(missing, Missing, "missing")
    if not 0 <= drop < 1:
        raise ValueError(f"drop is {drop}, expected the share of candidates to leave out, at least 0 and below 1")
    if not 0 <= penalty < math.inf:
        raise ValueError(f"penalty is {penalty}, expected a number of at least 0")


def check_scores(scores: npt.ArrayLike, n_candidates: int, rule: str | None = None) -> FloatArray:
    """Return scores as float64, ``-inf`` for a candidate without one."""
    values = as_numbers(scores, "scores")
    if values.shape != (n_candidates,) or (values == np.inf).any():
        raise ValueError(
            f"scores has shape {values.shape}, expected ({n_candidates},): one number per candidate, NaN for one "
            "without a score, and none of them inf"
        )
    values = np.where(np.isnan(values), -np.inf, values)
    if reason := why_unfit(rule, values):
        raise ValueError(
            f'{reason}. Pass rule="combine", which takes any scale, or probabilities, such as '
            "scipy.special.expit(scores)"
        )
    return values


def why_unfit(rule: str | None, scores: FloatArray) -> str:
    """Return why a rule cannot compute with scores on such a scale, "" if it can."""
    if rule == "pessimistic" and not are_shares(scores):
        return "scores holds a number outside [0, 1], and the penalty is on the scale of probabilities"
    if rule == "weighted" and (scores[np.isfinite(scores)] < 0).any():
        return "scores holds a negative number, and a sample would vote against its own answer"
    return ""


def are_shares(scores: FloatArray) -> bool:
    """Return whether all scores that there are lie in [0, 1]."""
    known = scores[np.isfinite(scores)]
    return bool(((known >= 0) & (known <= 1)).all())


def top_candidates(
    rule: Rule, codes: IntArray, scores: FloatArray, *, drop: float = 0.5, penalty: float = 0.5
) -> tuple[IntArray, BoolArray]:
    """Return the answers among which a rule chooses, and whether each candidate has one of the best of them.

    Each row holds the codes and scores of the candidates of a problem. Only "random" and "first" choose in another way.
    """
    if rule == "best":
        alone = np.broadcast_to(np.arange(codes.shape[1]), codes.shape)
        return alone, scores == scores.max(axis=1, keepdims=True)
    if rule in ("weighted", "combine"):
        return codes, has_most_support(codes, _weights(rule, scores))
    if rule == "pessimistic":
        return codes, _is_largest(codes, _lower_bounds(codes, scores, penalty), _ROUNDING * codes.shape[1])
    if rule == "filter":
        n_dropped = int(drop * codes.shape[1] + _ROUNDING)
        lowest_kept = np.sort(scores, axis=1)[:, n_dropped, None]
        codes = np.where(scores >= lowest_kept, codes, -1)
    is_top = has_most_support(codes, np.ones(codes.shape))
    if rule != "majority":
        best = np.where(is_top, scores, -np.inf).max(axis=1, keepdims=True)
        is_top &= answer_sums(codes, is_top & (scores == best)) > 0
    return codes, is_top


def winners(is_top: BoolArray, codes: IntArray, preference: FloatArray | None) -> IntArray:
    """Return the chosen column of each row: of the best answer that comes first, the first or the preferred one."""
    # The first candidate of the best answers. Where nobody votes, argmax gives candidate 0.
    chosen: IntArray = np.argmax(is_top, axis=1)
    if preference is None:
        return chosen
    is_member = is_top & (codes == np.take_along_axis(codes, chosen[:, None], axis=1))
    # All members may lack a score, and -inf would then not tell them from the others.
    value = np.where(is_member, preference, -np.inf)
    best = np.argmax(is_member & (value == value.max(axis=1, keepdims=True)), axis=1)
    return np.where(is_top.any(axis=1), best, 0)


def has_most_support(codes: IntArray, weights: FloatArray) -> BoolArray:
    """Return whether each candidate has an answer with the most support in its row."""
    support = answer_sums(codes, np.where(codes >= 0, weights, 0))
    # Equal sums may differ by rounding, in the order of their terms.
    slack = _ROUNDING * codes.shape[1] * np.abs(weights).max(axis=1, keepdims=True)
    return _is_largest(codes, support, slack)


def challenge(
    rule: Rule, codes: IntArray, has_answer: BoolArray, scores: FloatArray, penalty: float = 0.5
) -> tuple[IntArray, IntArray, FloatArray]:
    """Return for each row the vote's candidate, the verifier's among those with other answers, and the margin.

    The margin is the value of the verifier's answer minus that of the vote's: of their highest scores for "best", of
    their sums for "weighted" and "combine", of their penalised means for "pessimistic". It is ``-inf`` where there is
    no other answer, or one of the two has no score.
    """
    of_vote = winners(has_most_support(codes, np.ones(codes.shape)), codes, scores)[:, None]
    answer, n_answers = answer_numbers(codes)
    of_answers = np.full(n_answers, -np.inf)
    np.maximum.at(of_answers, answer, scores)
    highest = of_answers[answer]
    if rule == "best":
        values = highest
    elif rule == "pessimistic":
        values = _lower_bounds(codes, scores, penalty)
    else:
        values = answer_sums(codes, _weights(rule, scores))
    values = np.where(np.isfinite(highest), values, -np.inf)
    is_other = has_answer & (codes >= 0) & (codes != np.take_along_axis(codes, of_vote, axis=1))
    among = np.where(is_other, values, -np.inf)
    challenger = winners(is_other & (among == among.max(axis=1, keepdims=True)), codes, scores)[:, None]
    first, second = np.take_along_axis(values, of_vote, axis=1), np.take_along_axis(among, challenger, axis=1)
    known = np.isfinite(first) & np.isfinite(second)
    margins = np.where(known, np.where(known, second, 0) - np.where(known, first, 0), -np.inf)
    return of_vote[:, 0], challenger[:, 0], margins[:, 0]


def _weights(rule: Rule, scores: FloatArray) -> FloatArray:
    """Return what each candidate adds to its answer, 0 for one without a score."""
    weights: FloatArray = np.where(np.isfinite(scores), scores, 0) if rule == "weighted" else expit(scores)
    return weights


def _lower_bounds(codes: IntArray, scores: FloatArray, penalty: float) -> FloatArray:
    """Return the mean score of each candidate's answer minus the penalty for how few have it."""
    has_vote = codes >= 0
    counts = answer_sums(codes, has_vote)
    sums = answer_sums(codes, np.where(has_vote & np.isfinite(scores), scores, 0))
    return sums / np.maximum(counts, 1) - penalty * math.log(codes.shape[1]) / (counts + 1)


def _is_largest(codes: IntArray, values: FloatArray, slack: float | FloatArray) -> BoolArray:
    """Return whether each candidate votes and has the largest value among those of its row that vote."""
    has_vote = codes >= 0
    among = np.where(has_vote, values, -np.inf)
    is_top: BoolArray = has_vote & (among >= among.max(axis=1, keepdims=True) - slack)
    return is_top


def answer_sums(codes: IntArray, values: npt.NDArray[np.float64] | BoolArray) -> FloatArray:
    """Return for each candidate the sum of the values of the candidates in its row that have its answer."""
    answer, n_answers = answer_numbers(codes)
    sums: FloatArray = np.bincount(answer.ravel(), weights=values.ravel(), minlength=n_answers).astype(np.float64)
    return sums[answer]


def answer_numbers(codes: IntArray) -> tuple[IntArray, int]:
    """Number the answers of all rows without repetition. Candidates of a row that do not vote share a number."""
    n_codes = int(codes.max(initial=0)) + 2
    return codes + 1 + n_codes * np.arange(len(codes))[:, None], n_codes * len(codes)


def answer_codes(answers: Sequence[Hashable], missing: Missing) -> IntArray:
    """Return the number of the first candidate with each candidate's answer, -1 for a candidate without a vote."""
    numbers: dict[Hashable, int] = {}
    codes = np.empty(len(answers), dtype=np.int64)
    for i, (answer, is_missing) in enumerate(zip(answers, are_missing(answers).tolist(), strict=True)):
        # A missing answer that votes alone gets a key that no other candidate has.
        key = (is_missing, i if is_missing else answer)
        codes[i] = -1 if is_missing and missing == "drop" else numbers.setdefault(key, i)
    return codes


def are_missing(answers: Sequence[Hashable]) -> BoolArray:
    """Return whether each answer is None or NaN."""
    # NaN is not equal to itself.
    return np.array([answer is None or answer != answer for answer in answers], dtype=np.bool_)


def check_weights(weights: npt.ArrayLike | None, n_candidates: int) -> FloatArray:
    """Return finite weights as float64, ones by default."""
    if weights is None:
        return np.ones(n_candidates)
    weight = as_numbers(weights, "weights")
    if weight.shape != (n_candidates,) or not np.isfinite(weight).all():
        raise ValueError(
            f"weights has shape {weight.shape}, expected ({n_candidates},): one finite number per candidate, 0 for one "
            "without a score"
        )
    return weight


def _check_not_empty(answers: Sequence[Hashable]) -> None:
    if not len(answers):
        raise ValueError("answers is empty: there is no candidate to choose")
