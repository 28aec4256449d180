"""Where the first error is: a set of positions that holds it at a stated rate, "no error" among them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from prmkit.metrics.solutions.aggregation import flat_first_error_distribution
from prmkit.uncertainty._protocols import StepClassifier
from prmkit.uncertainty._solutions_input import Paths
from prmkit.uncertainty.guarantees._base import CLASSIFIER, RATE, PathGuarantee, share_of
from prmkit.uncertainty.guarantees._thresholds import (
    mean_over_units,
    smallest_threshold,
    warn_if_unattainable,
)


class FirstErrorSet(PathGuarantee[list[set[int]]]):
    """Predict for each path the set of steps that may be its first error.

    The guarantee: the set of a path of a new problem holds the true first error with probability at least
    ``1 - alpha``. With several paths per problem this holds for the mean over them. The size of a set says how much the
    model knows.

    ``predict`` returns a set of 0-based indices for each path, in which -1 stands for "no error". ``evaluate``
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
    unit_ : {"problem", "path"}
        The unit that is counted: the problem if it is known, otherwise the path.
    settings_ : dict
        The parameters at the time of calibration.
    calibration_problems_ : ndarray of uint64
        Keys of the problems of the calibration, which predictions refuse.

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

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {"classifier": CLASSIFIER, "alpha": RATE}
    threshold_: float

    def __init__(self, classifier: StepClassifier | None = None, alpha: float = 0.1) -> None:
        self.classifier = classifier
        self.alpha = alpha

    def _decide(self, paths: Paths) -> list[set[int]]:
        outcomes = _outcomes(paths)
        members = np.flatnonzero(self._in_set(outcomes))
        labels = outcomes.labels[members].tolist()
        bounds = np.searchsorted(members, np.append(outcomes.starts, len(outcomes.labels))).tolist()
        return [set(labels[start:end]) for start, end in itertools.pairwise(bounds)]

    def _calibrate(self, paths: Paths, first_errors: np.ndarray) -> None:
        # A set misses the truth if the score of the true outcome exceeds the threshold.
        outcomes = _outcomes(paths)
        scores = outcomes.scores[outcomes.position(first_errors)]
        threshold = smallest_threshold(scores, paths.units, self.alpha, margin=self._margin)
        self.threshold_ = threshold.value
        self.attainable_, self.n_calibration_ = threshold.attainable, threshold.n_units
        warn_if_unattainable(threshold, f"{self.unit_}s", self.alpha, None, "every set will be full")

    def _report(self, paths: Paths, first_errors: np.ndarray) -> dict[str, float | int | None]:
        outcomes = _outcomes(paths)
        in_set = self._in_set(outcomes)
        sizes = np.add.reduceat(in_set.astype(np.int64), outcomes.starts)
        return {
            "coverage": mean_over_units(in_set[outcomes.position(first_errors)], paths.units),
            "mean_size": mean_over_units(sizes, paths.units),
            "singletons": share_of(sizes == 1),
        }

    def _in_set(self, outcomes: _Outcomes) -> np.ndarray:
        """Return whether each outcome is in the set of its path."""
        in_set = np.asarray(outcomes.scores <= self.threshold_)
        # This changes empty sets only: any other set already holds its most likely outcome.
        in_set[outcomes.most_likely()] = True
        return in_set


@dataclass(frozen=True)
class _Outcomes:
    """The n_steps + 1 outcomes of each path, end to end: its steps, then "no error". A score is 1 - probability."""

    scores: np.ndarray
    labels: np.ndarray
    starts: np.ndarray

    @property
    def ends(self) -> np.ndarray:
        """Index after the last outcome of each path."""
        return np.append(self.starts[1:], len(self.scores))

    def position(self, first_errors: np.ndarray) -> np.ndarray:
        """Return the index of one outcome per path."""
        return np.where(first_errors >= 0, self.starts + first_errors, self.ends - 1)

    def most_likely(self) -> np.ndarray:
        """Return the index of the most likely outcome of each path, the earliest among equals."""
        sizes = self.ends - self.starts
        best = np.repeat(np.minimum.reduceat(self.scores, self.starts), sizes)
        index = np.arange(len(self.scores))
        return np.asarray(np.minimum.reduceat(np.where(self.scores == best, index, len(index)), self.starts))


def _outcomes(paths: Paths) -> _Outcomes:
    """Return the outcomes of paths with their scores."""
    starts = paths.starts + np.arange(len(paths.lengths))
    labels = np.full(len(paths.risks) + len(paths.lengths), -1)
    labels[np.arange(len(paths.risks)) + paths.path_of_step] = paths.place
    return _Outcomes(1 - flat_first_error_distribution(paths.risks, paths.lengths), labels, starts)
