"""Which answers to accept so that few of the *accepted* ones are wrong: selective risk, at a stated confidence."""

from __future__ import annotations

import warnings
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from sklearn.utils.validation import check_is_fitted

from prmkit.metrics import abstention_floor
from prmkit.uncertainty._solutions_input import Errors, Paths, PathsInput, StepClassifier, read_errors, read_paths
from prmkit.uncertainty.guarantees.base import CLASSIFIER, RATE, Guarantee, path_risks, refuse_other_kind
from prmkit.uncertainty.guarantees.thresholds import Threshold, mean_over_units, paths_needed, selective_threshold
from prmkit.utils.sklearn import Interval, fit_context


class SelectiveRisk(Guarantee):
    """Accept the answers whose score is at most a calibrated threshold, so that few of the accepted are wrong.

    The guarantee: with probability at least ``1 - delta`` over calibration sets, at most a share ``alpha`` of the
    accepted answers to new problems is wrong. With several samples per problem it speaks of a random sample of a random
    problem. It holds for any score, however bad, if new problems are exchangeable with those of the calibration. A
    better score accepts more.

    A score is a risk: higher for answers that are more likely wrong, such as the disagreement of samples, or a reward
    times -1. It need not be a probability. Equal scores are accepted together or not at all. A sample without a score
    (NaN) is never accepted, and counts in the calibration as one that is not.

    ``predict`` returns whether each sample is accepted. ``evaluate`` reports ``risk`` (the share of wrong samples among
    the accepted, ``None`` if nothing is accepted), ``accepted`` (the share of all samples), ``base_risk`` (the share of
    wrong samples among all), ``floor`` (the share that every rule must set aside, see
    :func:`~prmkit.metrics.abstention_floor`), ``n_unscored``, ``n_units`` and ``n_paths``. Each problem has the same
    weight, however many samples it has.

    Parameters
    ----------
    alpha : float, default=0.1
        Share of the accepted answers that may be wrong, in (0, 1).
    delta : float, default=0.1
        Probability, over calibration sets, that the share is larger nevertheless, in (0, 1).
    classifier : fitted classifier over steps, PathClassifier or None, default=None
        If ``None``, scores are numbers. With a classifier they are solutions, whose score is ``1 - P(no error)``, or
        P(wrong) of a :class:`~prmkit.models.PathClassifier`. The problems of its training are then refused.
    random_state : int or None, default=0
        Which sample stands for a problem that has several in the calibration.

    Attributes
    ----------
    threshold_ : float
        An answer is accepted if its score is at most this. ``-inf`` accepts nothing, ``inf`` all answers with a score.
    attainable_ : bool
        False if too few problems have a score for this ``alpha`` and ``delta``: 26 are needed by default. Nothing is
        accepted then, nor if there are enough and the scores are too weak. A warning says which.
    base_risk_ : float
        Share of the calibration answers that is wrong.
    floor_ : float
        Share of the answers that every rule with this ``alpha`` must set aside at this base risk.
    n_calibration_ : int
        Number of calibration units.

    See Also
    --------
    PathTriage : bounds wrong *and* accepted as a share of all answers, on average over calibration sets or with
        confidence.
    prmkit.metrics.risk_coverage_curve : the risk of the accepted for every share of accepted, without a guarantee.

    Notes
    -----
    The share of wrong answers among the accepted can rise and fall with the threshold. Conformal risk control needs a
    loss that only rises, so there is no version here that holds on average.

    Two procedures share ``delta``. The first has .7 of it: a fixed sequence of exact binomial tests (Learn then Test,
    arXiv:2110.01052) from the threshold upward that accepts a quarter of the problems. It is strong where scores have
    few values, as agreement has, and finds nothing if its first test fails. The second has the rest: a bet against each
    threshold (arXiv:2010.09686), in which accepted answers that are right raise a wealth and wrong ones lower it. Read
    in the order of scores, it is at most a martingale wherever more than ``alpha`` are wrong, so Ville's inequality
    covers all thresholds at once. The proofs stand in ``prmkit/uncertainty/guarantees/thresholds.py``.

    One sample of a problem that has several is drawn at random, since samples of a problem depend on each other.
    Samples that are alike say nothing new.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> scores = rng.random(400).round(2)
    >>> errors = rng.random(400) < scores / 2
    >>> rule = SelectiveRisk(alpha=0.15, delta=0.1).fit(scores, errors)
    >>> rule.attainable_, round(rule.floor_, 2), round(rule.threshold_, 2)
    (True, 0.16, 0.51)
    >>> rule.predict([0.1, 0.9, np.nan])
    array([ True, False, False])

    Several samples per problem need ``groups``. A voted answer is the case of one sample: one score and one error per
    problem. Here the score is the share of the samples that do not give the voted answer.

    >>> against, vote_is_wrong = scores, errors
    >>> voted = SelectiveRisk(alpha=0.15).fit(against, vote_is_wrong, groups=np.arange(400))
    >>> np.where(voted.predict([0.1, 0.9], groups=[400, 401]), "accept", "check").tolist()
    ['accept', 'check']
    """

    _thresholds: ClassVar[tuple[str, ...]] = ("threshold_", "base_risk_", "floor_")
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "alpha": RATE,
        "delta": RATE,
        "classifier": CLASSIFIER,
        "random_state": [Interval(Integral, 0, None, closed="left"), None],
    }
    threshold_: float
    base_risk_: float
    floor_: float

    def __init__(
        self,
        alpha: float = 0.1,
        delta: float = 0.1,
        *,
        classifier: StepClassifier | None = None,
        random_state: int | None = 0,
    ) -> None:
        self.alpha = alpha
        self.delta = delta
        self.classifier = classifier
        self.random_state = random_state

    @fit_context
    def fit(self, scores: PathsInput, errors: Errors, groups: npt.ArrayLike | None = None) -> SelectiveRisk:
        """Find the threshold on problems that were not used to learn the score.

        Parameters
        ----------
        scores : array-like of shape (n_samples,), list of Solution, or Candidates
            Score of each sample, higher for those more likely wrong, NaN for none. Solutions, if there is a classifier.
        errors : array-like of bool of shape (n_samples,)
            Whether each sample is wrong.
        groups : array-like of shape (n_samples,), optional
            Problem of each sample. If ``None``, the problem of a solution is its text, and each score is a problem of
            its own. So pass groups wherever samples share a problem.

        Returns
        -------
        self
            The calibrated rule.

        Raises
        ------
        TypeError, ValueError
            If scores are of another kind, an error is neither true nor false, or the classifier was trained on a
            problem.

        Warns
        -----
        UserWarning
            Once, with how many samples have no score, or an infinite one, and if nothing will be accepted.
        """
        paths = read_paths(self.classifier, scores, groups, scores=True)
        wrong = read_errors(errors, len(paths.lengths))
        self._remember(paths.keys, paths.are_scores)
        risks = path_risks(paths)
        _warn_of_unusual(risks, scores if paths.are_scores and self.classifier is None else ())
        drawn = _one_of_each(paths.units, risks, wrong, self.random_state)
        threshold = selective_threshold(risks[drawn], wrong[drawn], self.alpha, self.delta, margin=self._margin)
        self.threshold_ = threshold.value
        self.attainable_, self.n_calibration_ = threshold.attainable, paths.n_units
        self.base_risk_ = float(mean_over_units(wrong, paths.units) or 0.0)
        self.floor_ = abstention_floor(self.base_risk_, self.alpha)
        self._warn(threshold)
        return self

    def predict(self, scores: PathsInput, groups: npt.ArrayLike | None = None) -> np.ndarray:
        """Return whether each sample is accepted.

        Parameters
        ----------
        scores : array-like of shape (n_samples,), list of Solution, or Candidates
            Samples of new problems, as in ``fit``.
        groups : array-like of shape (n_samples,), optional
            Problem of each sample. It only serves to refuse problems of the calibration.

        Returns
        -------
        ndarray of bool of shape (n_samples,)
            Whether the score is at most the threshold.

        Raises
        ------
        TypeError, ValueError
            As in ``fit``, and if a problem belongs to the calibration.
        """
        return np.asarray(path_risks(self._read(scores, groups)) <= self.threshold_)

    def evaluate(
        self, scores: PathsInput, errors: Errors, groups: npt.ArrayLike | None = None
    ) -> dict[str, float | int | None]:
        """Report how many of the accepted are wrong, and how many are accepted, on samples of new problems.

        Parameters
        ----------
        scores : array-like of shape (n_samples,), list of Solution, or Candidates
            Samples of new problems, as in ``fit``.
        errors : array-like of bool of shape (n_samples,)
            Whether each sample is wrong.
        groups : array-like of shape (n_samples,), optional
            Problem of each sample, as in ``fit``.

        Returns
        -------
        dict
            The numbers that the docstring of the class names.

        Raises
        ------
        TypeError, ValueError
            As in ``fit``, and if a problem belongs to the calibration.
        """
        paths = self._read(scores, groups)
        wrong, risks = read_errors(errors, len(paths.lengths)), path_risks(paths)
        is_accepted = risks <= self.threshold_
        accepted = mean_over_units(is_accepted, paths.units) or 0.0
        wrong_and_accepted = mean_over_units(is_accepted & wrong, paths.units) or 0.0
        base_risk = mean_over_units(wrong, paths.units) or 0.0
        return {
            "risk": wrong_and_accepted / accepted if accepted else None,
            "accepted": accepted,
            "base_risk": base_risk,
            "floor": abstention_floor(base_risk, self.settings_["alpha"]),
            "n_unscored": int(np.isnan(risks).sum()),
            "n_units": paths.n_units,
            "n_paths": len(risks),
        }

    def _warn(self, threshold: Threshold) -> None:
        """Say why nothing will be accepted, if so."""
        if threshold.value > -np.inf:
            return
        level = f"{self.alpha:.6g} with confidence {1 - self.delta:.6g}"
        if threshold.attainable:
            reason = (
                f"no threshold keeps the share of wrong among the accepted at {level}: {self.base_risk_:.1%} of the "
                "calibration are wrong, also among low scores. Take a better score, more problems or a larger alpha, "
                "and look whether high scores mean wrong"
            )
        else:
            needed = paths_needed(self.alpha, self.delta)
            reason = (
                f"a share of wrong among the accepted of {level} is not attainable with {threshold.n_units} "
                f"{self.unit_}s with a score, at least {needed} are needed"
            )
        warnings.warn(f"nothing will be accepted: {reason}", UserWarning, stacklevel=4)

    def _read(self, scores: PathsInput, groups: npt.ArrayLike | None) -> Paths:
        """Return samples of new problems."""
        check_is_fitted(self)
        paths = read_paths(self.classifier, scores, groups, scores=True)
        refuse_other_kind(paths, self.of_scores_)
        self._refuse_known(paths.keys)
        return paths


def _warn_of_unusual(risks: np.ndarray, given: PathsInput) -> None:
    """Say once how many samples have no score, and how many of the given numbers are infinite."""
    unscored = int(np.isnan(risks).sum())
    infinite = int(np.isinf(np.asarray(given, dtype=np.float64)).sum())
    said = [f"{unscored:,} have no score (NaN) and are never accepted"] if unscored else []
    said += [f"{infinite:,} have an infinite score, which counts as the largest or smallest number"] if infinite else []
    if said:
        warnings.warn(f"of {len(risks):,} samples, {', and '.join(said)}", UserWarning, stacklevel=4)


def _one_of_each(units: np.ndarray, risks: np.ndarray, wrong: np.ndarray, random_state: int | None) -> np.ndarray:
    """Return the index of a random sample of each unit. Neither the order of samples nor the names of units matter."""
    order = np.lexsort((wrong, risks, units))
    counts = np.bincount(units)
    sums = [np.bincount(units[order], of[order]) for of in (wrong, np.nan_to_num(np.arctan(risks), nan=2.0))]
    draws = np.empty(len(counts))
    draws[np.lexsort((*sums, counts))] = np.random.default_rng(random_state).random(len(counts))
    return np.asarray(order[np.cumsum(counts) - counts + (draws * counts).astype(np.int64)])
