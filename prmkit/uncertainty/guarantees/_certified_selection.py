"""Where a verifier may overrule the vote of sampled answers, so that it seldom turns a right one into a wrong one."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.utils.validation import check_is_fitted

from prmkit.data.problem_keys import problem_keys
from prmkit.data.sampled import HOW_TO_KNOW, Candidates
from prmkit.metrics.selection.subsets import Sampled
from prmkit.metrics.selection.votes import Missing, Rule, challenge, check_scores
from prmkit.metrics.solutions.aggregation import AGGREGATION_RULES, aggregate
from prmkit.uncertainty._solutions_input import StepClassifier, group_keys, read_paths
from prmkit.uncertainty.guarantees.base import CLASSIFIER, RATE, Guarantee
from prmkit.uncertainty.guarantees.thresholds import largest_threshold, mean_over_units, warn_if_unattainable
from prmkit.utils.sklearn import Interval, StrOptions, fit_context


class _Challenges(NamedTuple):
    """For each problem: the places of the vote's and the verifier's sample, the margin, the first place and unit."""

    vote: np.ndarray
    challenger: np.ndarray
    margin: np.ndarray
    starts: np.ndarray
    keys: np.ndarray
    units: np.ndarray


class CertifiedSelection(Guarantee):
    """Let a verifier overrule the vote of sampled answers only where calibration says that this loses little.

    The guarantee: for a new problem, P(the vote is right **and** the chosen sample is wrong) is at most ``alpha``. It
    holds for any scores, if new problems are exchangeable with those of the calibration. What overruling wins is
    not bounded. If the level is not attainable, the vote is never overruled.

    ``predict`` returns the number of the chosen sample within each problem. ``evaluate`` reports ``overruled`` (the
    share of problems), ``lost`` (the share under guarantee), ``won`` (the vote is wrong and the choice right),
    ``right`` and ``right_by_vote``.

    Parameters
    ----------
    alpha : float, default=0.05
        Share of all problems in which a right vote may be lost, in (0, 1).
    delta : float or None, default=None
        If ``None``, the guarantee holds on average over calibration sets (conformal risk control). If a number in
        (0, 1), it holds with probability ``1 - delta`` over calibration sets (Learn then Test).
    rule : {"best", "weighted", "combine", "pessimistic"}, default="best"
        Value of an answer, by which it challenges that of the vote: its highest score, the sum of its scores or of
        their sigmoids, or the penalised mean, as in :func:`~prmkit.metrics.select`.
    aggregation : str, default="min"
        Rule of :func:`~prmkit.metrics.aggregate` for the rewards of steps, if there is a classifier over steps.
    missing : {"alone", "drop"}
        Whether a sample without an answer votes for itself alone, where it may tie with an answer of one vote and win
        if it comes first, or not at all. It never challenges.
    penalty : float, default=0.5
        Weight of the penalty of ``"pessimistic"``.
    classifier : fitted classifier over steps, fitted PathClassifier, or None, default=None
        Classifier that scores the samples. If ``None``, scores are passed. The problems of its training are refused.

    Attributes
    ----------
    threshold_ : float
        The verifier overrules the vote if the value of its answer is at least this much above that of the vote's.
        With ``inf`` it never does.
    certified_threshold_ : float
        The smallest threshold that the guarantee allows.
    attainable_ : bool
        False if there are too few problems for this ``alpha`` and ``delta``.
    n_calibration_ : int
        Number of calibration problems.

    See Also
    --------
    prmkit.metrics.selection_report : the rules of selection without a guarantee.
    SelectiveRisk : which of the chosen answers to accept.

    Notes
    -----
    The vote's sample and the verifier's do not depend on the threshold, only which of them is chosen. A higher
    threshold overrules in fewer problems, and in no others. So the loss of each problem, 1 if the vote is right and the
    choice wrong, never rises with the threshold, and it lies in [0, 1]. That is all that conformal risk
    control (arXiv:2208.02814, theorem 1) asks for. With ``delta`` the thresholds are tested from the highest down
    (arXiv:2110.01052).

    ``certified_threshold_`` is the result. Of the thresholds from there up, ``threshold_`` has the most right choices
    among the calibration problems, the highest of equals. It may depend on the data in any way: since it is not below
    ``certified_threshold_``, the loss of every problem is at most the loss there, and so are its mean and its risk. The
    verifier's answer is never chosen at a margin of 0 or less.

    Examples
    --------
    >>> from prmkit.data import load_samples
    >>> rows = [{"problem": f"{i} + 1?", "steps": [f"The answer is {i + k}"], "gold": i + 1}
    ...         for i in range(40) for k in (0, 0, 1)]
    >>> candidates = load_samples(rows, steps="steps", reference="gold")
    >>> scores = np.where(candidates.correct, 0.9, 0.4)
    >>> rule = CertifiedSelection(alpha=0.1).fit(candidates[:30], scores[:90])
    >>> rule.attainable_, rule.threshold_, rule.predict(candidates[30:32], scores[90:96])
    (True, 0.5, array([2, 2]))
    """

    _thresholds: ClassVar[tuple[str, ...]] = ("threshold_", "certified_threshold_")
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "alpha": RATE,
        "delta": [*RATE, None],
        "rule": [StrOptions({"best", "weighted", "combine", "pessimistic"})],
        "aggregation": [StrOptions(set(AGGREGATION_RULES))],
        "missing": [StrOptions({"alone", "drop"})],
        "penalty": [Interval(Real, 0, None, closed="left")],
        "classifier": CLASSIFIER,
    }
    threshold_: float
    certified_threshold_: float

    def __init__(
        self,
        alpha: float = 0.05,
        delta: float | None = None,
        *,
        rule: Rule = "best",
        aggregation: str = "min",
        missing: Missing = "alone",
        penalty: float = 0.5,
        classifier: StepClassifier | None = None,
    ) -> None:
        self.alpha = alpha
        self.delta = delta
        self.rule = rule
        self.aggregation = aggregation
        self.missing = missing
        self.penalty = penalty
        self.classifier = classifier

    @fit_context
    def fit(self, candidates: Candidates, scores: npt.ArrayLike | None = None) -> CertifiedSelection:
        """Find the thresholds on problems that neither the classifier nor the scores have learnt from.

        Parameters
        ----------
        candidates : Candidates
            Samples of which it is known whether they are right.
        scores : array-like of shape (n_samples,), optional
            Score of each sample, higher is better, NaN for a sample without one. Needed if there is no classifier.

        Returns
        -------
        self
            The calibrated rule.

        Raises
        ------
        TypeError, ValueError
            If ``candidates`` are of another kind, the number of scores is not that of the samples, a sample that
            matters is not known to be right or wrong, or the classifier was trained on a problem.
        """
        found = self._challenges(candidates, scores)
        self._remember(found.keys)
        vote_right, other_right = _are_right(candidates, found)
        may_overrule = found.margin > 0
        # Only a problem whose right vote can be lost fails, by passing.
        risks = np.where(may_overrule & vote_right & ~other_right, -found.margin, np.inf)
        limit = largest_threshold(risks, found.units, self.alpha, self.delta, margin=self._margin)
        self.certified_threshold_ = -limit.value
        gains = other_right.astype(np.int64) - vote_right
        self.threshold_ = _most_right(found.margin, gains, may_overrule & (found.margin >= self.certified_threshold_))
        self.attainable_, self.n_calibration_ = limit.attainable, limit.n_units
        warn_if_unattainable(limit, "problems", self.alpha, self.delta, "the vote is never overruled")
        return self

    def predict(self, candidates: Candidates, scores: npt.ArrayLike | None = None) -> npt.NDArray[np.int64]:
        """Choose a sample of each of several new problems.

        Parameters
        ----------
        candidates : Candidates
            Samples. Nothing needs to be known of them.
        scores : array-like of shape (n_samples,), optional
            Score of each sample, as in ``fit``.

        Returns
        -------
        ndarray of int of shape (n_problems,)
            Number of the chosen sample within its problem.

        Raises
        ------
        TypeError, ValueError
            As in ``fit``, and if a problem belongs to the calibration.
        """
        found = self._read_new(candidates, scores)
        return np.asarray(self._chosen(found) - found.starts, dtype=np.int64)

    def evaluate(self, candidates: Candidates, scores: npt.ArrayLike | None = None) -> dict[str, float | int | None]:
        """Report how often right votes are lost, and what overruling wins, on new problems.

        Parameters
        ----------
        candidates : Candidates
            Samples of which it is known whether they are right.
        scores : array-like of shape (n_samples,), optional
            Score of each sample, as in ``fit``.

        Returns
        -------
        dict
            The numbers that the docstring of the class names, and ``n_units``. A share is None without problems.

        Raises
        ------
        TypeError, ValueError
            As in ``fit``, and if a problem belongs to the calibration.
        """
        found = self._read_new(candidates, scores)
        vote_right, other_right = _are_right(candidates, found)
        overruled = self._chosen(found) != found.vote
        right = np.where(overruled, other_right, vote_right)
        shares = {
            "overruled": overruled,
            "lost": vote_right & ~right,
            "won": right & ~vote_right,
            "right": right,
            "right_by_vote": vote_right,
        }
        report: dict[str, float | int | None] = {
            name: mean_over_units(values, found.units) for name, values in shares.items()
        }
        return {**report, "n_units": len(np.unique(found.units))}

    def _chosen(self, found: _Challenges) -> np.ndarray:
        is_overruled = (found.margin > 0) & (found.margin >= self.threshold_)
        return np.where(is_overruled, found.challenger, found.vote)

    def _read_new(self, candidates: Candidates, scores: npt.ArrayLike | None) -> _Challenges:
        check_is_fitted(self)
        found = self._challenges(candidates, scores)
        self._refuse_known(found.keys)
        return found

    def _challenges(self, candidates: Candidates, scores: npt.ArrayLike | None) -> _Challenges:
        if not isinstance(candidates, Candidates):
            raise TypeError(f"candidates is {type(candidates).__name__}, expected Candidates: load_samples(…)")
        if (scores is None) == (self.classifier is None):
            raise ValueError(
                "both scores and a classifier are given, expected one of them"
                if self.classifier is not None
                else "scores is None, and there is no classifier: pass fit(candidates, scores), one number per sample"
            )
        n_samples = int(candidates.sizes.sum())
        if scores is None:
            # A PathClassifier reads answers too, and gives one number per sample.
            of_paths = getattr(self.classifier, "scores_paths", False)
            risks = read_paths(self.classifier, candidates if of_paths else candidates.solutions).risks
            scores = aggregate([1 - steps for steps in risks.split()], self.aggregation, unscored=-np.inf)
        values = check_scores(scores, n_samples, self.rule)
        # Problems without a text are told apart by their ids.
        by_text, by_id = (
            problem_keys(one.problem for one in candidates),
            group_keys(np.array([one.id for one in candidates])),
        )
        problems = np.where([not one.problem.strip() for one in candidates], by_id, by_text)
        keys, units = np.unique(problems, return_inverse=True)
        n = len(candidates)
        starts, of_vote = np.cumsum(candidates.sizes) - candidates.sizes, np.zeros(n, dtype=np.int64)
        found = _Challenges(of_vote, of_vote.copy(), np.full(n, -np.inf), starts, keys, units)
        if not n:
            return found
        sampled = Sampled.of([one.answer_keys for one in candidates], np.zeros(n_samples, dtype=bool), self.missing)
        for where, places in sampled.by_size():
            vote, challenger, found.margin[where] = challenge(
                self.rule, sampled.codes[places], sampled.has_answer[places], values[places], self.penalty
            )
            found.vote[where], found.challenger[where] = places[:, 0] + vote, places[:, 0] + challenger
        return found


def _are_right(candidates: Candidates, found: _Challenges) -> tuple[np.ndarray, np.ndarray]:
    """Return whether the vote's and the verifier's sample of each problem is right."""
    correct = np.asarray(candidates.correct, dtype=np.float64)
    right = np.stack([correct[found.vote], np.where(found.margin > 0, correct[found.challenger], 0)])
    n_unknown = int(np.isnan(right).any(axis=0).sum())
    if n_unknown:
        raise ValueError(
            f"in {n_unknown:,} of {len(candidates):,} problems it is not known whether the samples in question are "
            f"right: {HOW_TO_KNOW}. Leave the other problems out"
        )
    return right[0] == 1, right[1] == 1


def _most_right(margins: np.ndarray, gains: np.ndarray, allowed: np.ndarray) -> float:
    """Return the smallest margin of the allowed ones down to which the most is gained, the largest of equals."""
    order = np.flatnonzero(allowed)[np.argsort(-margins[allowed], kind="stable")]
    sums, sorted_margins = np.cumsum(gains[order]), margins[order]
    # Equal margins are overruled together.
    ends = np.flatnonzero(np.append(np.diff(sorted_margins) != 0, True)) if len(order) else order
    best = int(np.argmax(sums[ends])) if len(ends) else 0
    return float(sorted_margins[ends[best]]) if len(ends) and sums[ends[best]] > 0 else np.inf
