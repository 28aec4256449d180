"""How much of a solution can be kept: the longest beginning that is free of error, at a stated failure rate."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from prmkit.uncertainty._solutions_input import Paths, StepClassifier
from prmkit.uncertainty.guarantees.base import CLASSIFIER, RATE, PathGuarantee, largest_risks
from prmkit.uncertainty.guarantees.thresholds import largest_threshold, mean_over_units, warn_if_unattainable


class PrefixCertifier(PathGuarantee[np.ndarray]):
    """Keep the steps before the first one whose risk exceeds a calibrated threshold.

    The guarantee: the kept prefix of a path of a new problem contains the path's first error with probability at
    most ``alpha``. With several paths per problem this holds for the mean over them. A path without error cannot fail,
    and counts. The guarantee holds for any classifier, however bad, if the new problems are exchangeable with those of
    the calibration. A good classifier keeps more.

    A step without a score is not certified, nor are those after it.

    ``predict`` returns the length of the certified prefix of each path: 0 if not even the first step is certified,
    the number of steps if the whole path is. ``evaluate`` reports ``failure_rate``, ``kept_fraction`` (the share of a
    path's steps that is kept) and ``perfect_kept_fraction`` (the share that a verifier without fault keeps).

    Parameters
    ----------
    classifier : fitted classifier over steps, or None, default=None
        Classifier that gives the risks. If ``None``, X is a list of 1-D arrays of step risks, P(step is wrong).
    alpha : float, default=0.1
        Failure rate to tolerate, in (0, 1).
    delta : float or None, default=None
        If ``None``, the failure rate is at most ``alpha`` on average over calibration sets (conformal risk control).
        If a number in (0, 1), it is at most ``alpha`` with probability ``1 - delta`` over calibration sets (Learn then
        Test), which keeps less.

    Attributes
    ----------
    threshold_ : float
        A step passes if its risk is at most this. ``-inf`` if the level is not attainable, ``inf`` if all steps may be
        kept.
    n_calibration_ : int
        Number of calibration units, with and without errors.
    attainable_ : bool
        False if there are too few units for this ``alpha`` (and ``delta``). Nothing is certified then.

    Notes
    -----
    After CROP (arXiv:2605.30085). For a path with first error tau let ``M = max(risk[0], …, risk[tau])``: its error is
    kept if M passes. With one path per problem the threshold lies just below the (m + 1)-th smallest M,
    ``m = floor(alpha * (n + 1)) - 1``, so that a step of exactly this risk stops. With a classifier, whose risks differ
    in their last digits from batch to batch, it lies 1e-6 below. Several paths per problem: conformal risk control
    (arXiv:2208.02814). ``delta``: arXiv:2110.01052.

    Examples
    --------
    >>> risks = [[0.1, 0.2, 0.9], [0.1, 0.6], [0.3, 0.2], [0.05, 0.1, 0.4]]
    >>> certifier = PrefixCertifier(alpha=0.4).fit(risks, first_errors=[2, 1, -1, 2])
    >>> certifier.n_calibration_, round(certifier.threshold_, 6), certifier.attainable_
    (4, 0.6, True)
    >>> certifier.predict([[0.1, 0.3, 0.7, 0.1], [0.8, 0.1]])
    array([2, 0])
    """

    _needs_places: ClassVar[bool] = True
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "classifier": CLASSIFIER,
        "alpha": RATE,
        "delta": [*RATE, None],
    }
    threshold_: float

    def __init__(
        self, classifier: StepClassifier | None = None, alpha: float = 0.1, delta: float | None = None
    ) -> None:
        self.classifier = classifier
        self.alpha = alpha
        self.delta = delta

    def _decide(self, paths: Paths) -> np.ndarray:
        # A path ends at its first refused step, or after its last step. A step without a score is refused.
        steps = paths.risks
        ends = np.where(steps.values <= self.threshold_, steps.spread(steps.lengths), steps.positions)
        return steps.with_values(ends).reduce(np.minimum)

    def _calibrate(self, paths: Paths, first_errors: np.ndarray) -> None:
        # A path fails if all its steps up to the first error pass, that is if the riskiest of them does.
        until_error = np.where(first_errors >= 0, largest_risks(paths, first_errors), np.inf)
        threshold = largest_threshold(until_error, paths.units, self.alpha, self.delta, margin=self._margin)
        self.threshold_ = threshold.value
        self.attainable_, self.n_calibration_ = threshold.attainable, threshold.n_units
        warn_if_unattainable(threshold, f"{self.unit_}s", self.alpha, self.delta, "no step will be certified")

    def _report(self, paths: Paths, first_errors: np.ndarray) -> dict[str, float | int | None]:
        certified = self._decide(paths)
        right = np.where(first_errors >= 0, first_errors, paths.lengths)
        return {
            "failure_rate": mean_over_units(certified > right, paths.units),
            "kept_fraction": mean_over_units(certified / paths.lengths, paths.units),
            "perfect_kept_fraction": mean_over_units(right / paths.lengths, paths.units),
        }
