"""Where the first error is: a set of positions that holds it at a stated rate, "no error" among them."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from prmkit.metrics.solutions.aggregation import ragged_first_error_distribution
from prmkit.uncertainty._solutions_input import Paths, StepClassifier
from prmkit.uncertainty.guarantees.base import CLASSIFIER, RATE, PathGuarantee, share_of
from prmkit.uncertainty.guarantees.thresholds import mean_over_units, smallest_threshold, warn_if_unattainable
from prmkit.utils.ragged import Ragged


class FirstErrorSet(PathGuarantee[list[set[int]]]):
    """Predict for each path the set of steps that may be its first error.

    The guarantee: the set of a path of a new problem holds the true first error with probability at least
    ``1 - alpha``. With several paths per problem this holds for the mean over them. The size of a set says how much the
    model knows.

    ``predict`` returns a set of 0-based indices for each path, in which -1 stands for "no error". From its first step
    without a score on, all outcomes of a path are in its set. ``evaluate``
    reports ``coverage`` (the share of sets that hold the truth), ``mean_size`` and ``singletons`` (the share of all
    sets with one outcome).

    Parameters
    ----------
    classifier : fitted classifier over steps, or None, default=None
        Classifier that gives the risks. If ``None``, X is a list of 1-D arrays of step risks, P(step is wrong).
    alpha : float, default=0.1
        Share of sets that may miss the truth, in (0, 1).

    Attributes
    ----------
    threshold_ : float
        The set holds the outcomes with ``1 - f <= threshold_``, where f is the first-error distribution. ``inf`` if the
        level is not attainable.
    n_calibration_ : int
        Number of calibration units.
    attainable_ : bool
        False if there are too few units for this ``alpha``. Every set is full then.

    See Also
    --------
    prmkit.metrics.first_error_distribution : the probabilities f of the n_steps + 1 outcomes.

    Notes
    -----
    Split conformal prediction with the score ``1 - f(true outcome)``. With one path per problem the threshold is the
    k-th smallest score, ``k = ceil((n + 1) * (1 - alpha))``. With several paths it comes from conformal risk control
    (arXiv:2208.02814). A set is never empty: if no outcome passes, it holds the most likely one, so coverage can only
    rise.

    Examples
    --------
    >>> risks = [[0.1, 0.8], [0.2, 0.1], [0.7, 0.1], [0.1, 0.4]]
    >>> sets = FirstErrorSet(alpha=0.2).fit(risks, first_errors=[1, -1, 0, 1])
    >>> round(sets.threshold_, 6)
    0.64
    >>> sets.predict([[0.05, 0.9, 0.5], [0.1, 0.5]]) == [{1}, {1, -1}]
    True
    """

    _needs_places: ClassVar[bool] = True
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {"classifier": CLASSIFIER, "alpha": RATE}
    threshold_: float

    def __init__(self, classifier: StepClassifier | None = None, alpha: float = 0.1) -> None:
        self.classifier = classifier
        self.alpha = alpha

    def _decide(self, paths: Paths) -> list[set[int]]:
        scores = _scores(paths)
        in_set = self._in_set(scores)
        labels = np.where(scores.positions < scores.spread(paths.lengths), scores.positions, -1)
        sizes = scores.with_values(in_set.astype(np.int64)).reduce(np.add)
        return [set(outcomes.tolist()) for outcomes in Ragged(labels[in_set], sizes).split()]

    def _calibrate(self, paths: Paths, first_errors: np.ndarray) -> None:
        # A set misses the truth if the score of the true outcome exceeds the threshold.
        scores = _scores(paths)
        true_scores = scores.values[_outcome_of(first_errors, scores)]
        threshold = smallest_threshold(true_scores, paths.units, self.alpha, margin=self._margin)
        self.threshold_ = threshold.value
        self.attainable_, self.n_calibration_ = threshold.attainable, threshold.n_units
        warn_if_unattainable(threshold, f"{self.unit_}s", self.alpha, None, "every set will be full")

    def _report(self, paths: Paths, first_errors: np.ndarray) -> dict[str, float | int | None]:
        scores = _scores(paths)
        in_set = self._in_set(scores)
        sizes = scores.with_values(in_set.astype(np.int64)).reduce(np.add)
        return {
            "coverage": mean_over_units(in_set[_outcome_of(first_errors, scores)], paths.units),
            "mean_size": mean_over_units(sizes, paths.units),
            "singletons": share_of(sizes == 1),
        }

    def _in_set(self, scores: Ragged) -> np.ndarray:
        """Return whether each outcome is in the set of its path."""
        in_set = np.asarray(scores.values <= self.threshold_)
        # This changes empty sets only: any other set already holds its most likely outcome.
        in_set[_most_likely(scores)] = True
        return in_set


def _scores(paths: Paths) -> Ragged:
    """Return ``1 - P(outcome)`` of the n_steps + 1 outcomes of each path: its steps, then "no error".

    It is ``-inf`` from the first step without a score on: nothing is known of these outcomes, so all are in the set.
    """
    distributions = ragged_first_error_distribution(paths.risks)
    return distributions.with_values(np.where(np.isnan(distributions.values), -np.inf, 1 - distributions.values))


def _outcome_of(first_errors: np.ndarray, scores: Ragged) -> np.ndarray:
    """Return where the outcome of each path stands."""
    return np.where(first_errors >= 0, scores.starts + first_errors, scores.ends - 1)


def _most_likely(scores: Ragged) -> np.ndarray:
    """Return where the most likely outcome of each path stands, the earliest among equals."""
    index = np.arange(len(scores.values))
    is_best = scores.values == scores.spread(scores.reduce(np.minimum))
    return scores.with_values(np.where(is_best, index, len(index))).reduce(np.minimum)
