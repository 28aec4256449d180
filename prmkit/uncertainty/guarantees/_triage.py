"""Accept, reject or ask a better judge: two thresholds on the risk of a path, each with its own error rate."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from prmkit.uncertainty._solutions_input import Paths, StepClassifier
from prmkit.uncertainty.guarantees.base import CLASSIFIER, RATE, PathGuarantee, path_risks, share_of
from prmkit.uncertainty.guarantees.thresholds import (
    largest_threshold,
    mean_over_units,
    smallest_threshold,
    warn_if_unattainable,
)

_TOSS_UP = 0.5


class PathTriage(PathGuarantee[np.ndarray]):
    """Accept a path, reject it, or escalate it to a bigger judge, by its risk ``1 - P(no error)``.

    Two guarantees hold for a path of a new problem: P(it has an error **and** is accepted) is at most ``accept_error``,
    and P(it has no error **and** is rejected) is at most ``reject_error``. With several paths per problem they hold for
    the mean over them. Paths between the two thresholds are escalated, and paths with a step without a score too. A
    better classifier escalates less.

    ``predict`` returns ``"accept"``, ``"escalate"`` or ``"reject"`` for each path. ``evaluate`` reports ``accepted``,
    ``escalated`` and ``rejected`` (shares of the paths), the two rates under guarantee ``accepted_with_error`` and
    ``rejected_without_error``, and ``error_rate_of_accepted`` (the share of accepted paths that have an error).

    Parameters
    ----------
    classifier : fitted classifier over steps, PathClassifier or None, default=None
        Classifier that gives the risks of steps or of whole solutions. If ``None``, X is a list of 1-D arrays of step
        risks, P(step is wrong), or one number per path that is higher for paths more likely wrong, such as the
        disagreement of samples.
    accept_error : float, default=0.1
        Share *of all paths* that may be accepted in spite of an error, in (0, 1).
    reject_error : float, default=0.1
        Share *of all paths* that may be rejected without an error, in (0, 1).
    delta : float or None, default=None
        If ``None``, both guarantees hold on average over calibration sets (conformal risk control). If a number in
        (0, 1), each holds with probability ``1 - delta`` over calibration sets (Learn then Test).

    Attributes
    ----------
    accept_threshold_ : float
        Paths with at most this risk may be accepted. ``-inf`` if the rate is not attainable.
    reject_threshold_ : float
        Paths with a larger risk may be rejected. ``inf`` if the rate is not attainable.
    n_calibration_ : int
        Number of calibration units, with and without errors.
    attainable_ : bool
        Whether both rates are attainable. If one is not, no path is decided that way.

    Notes
    -----
    With a good classifier, or rates that errors hardly reach anyway, the accept threshold lies above the reject
    threshold. Either decision is then within its rate for the paths between them, and nothing needs to be escalated:
    such a path is accepted if its risk is at most 1/2, otherwise rejected (numbers per path need not be probabilities:
    there it is accepted). Each guarantee holds for all paths on its
    side of the threshold, so also for those of them that are decided. Method: arXiv:2208.02814, arXiv:2110.01052.

    See Also
    --------
    SelectiveRisk : bounds the share of wrong paths *among the accepted*, not among all.

    Examples
    --------
    >>> risks = [[0.1, 0.1], [0.9, 0.2], [0.3], [0.2, 0.1], [0.8], [0.6, 0.1], [0.1]]
    >>> triage = PathTriage(accept_error=0.2, reject_error=0.2)
    >>> triage = triage.fit(risks, first_errors=[-1, 0, 0, -1, 0, -1, -1])
    >>> round(triage.accept_threshold_, 6), round(triage.reject_threshold_, 6)
    (0.3, 0.64)
    >>> triage.predict([[0.1, 0.1], [0.5], [0.9, 0.1]]).tolist()
    ['accept', 'escalate', 'reject']
    """

    _reads_scores: ClassVar[bool] = True
    _thresholds: ClassVar[tuple[str, ...]] = ("accept_threshold_", "reject_threshold_")
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "classifier": CLASSIFIER,
        "accept_error": RATE,
        "reject_error": RATE,
        "delta": [*RATE, None],
    }
    accept_threshold_: float
    reject_threshold_: float

    def __init__(
        self,
        classifier: StepClassifier | None = None,
        accept_error: float = 0.1,
        reject_error: float = 0.1,
        delta: float | None = None,
    ) -> None:
        self.classifier = classifier
        self.accept_error = accept_error
        self.reject_error = reject_error
        self.delta = delta

    def _decide(self, paths: Paths) -> np.ndarray:
        risks = path_risks(paths)
        may_accept, may_reject = risks <= self.accept_threshold_, risks > self.reject_threshold_
        accept = may_accept & (~may_reject | (risks <= (np.inf if paths.are_scores else _TOSS_UP)))
        reject = may_reject & ~accept
        return np.select([accept, reject], ["accept", "reject"], "escalate")

    def _calibrate(self, paths: Paths, first_errors: np.ndarray) -> None:
        risks, wrong = path_risks(paths), first_errors >= 0
        unknown = np.isnan(risks)
        # Only a wrong path fails by passing the first threshold, only a right one by exceeding the second. One with a
        # step without a score is neither accepted nor rejected.
        accept = largest_threshold(
            np.where(wrong & ~unknown, risks, np.inf), paths.units, self.accept_error, self.delta, margin=self._margin
        )
        reject = smallest_threshold(
            np.where(wrong | unknown, -np.inf, risks), paths.units, self.reject_error, self.delta, margin=self._margin
        )
        self.accept_threshold_, self.reject_threshold_ = accept.value, reject.value
        self.attainable_, self.n_calibration_ = accept.attainable and reject.attainable, paths.n_units
        counted = f"{self.unit_}s"
        warn_if_unattainable(accept, counted, self.accept_error, self.delta, "no path will be accepted")
        warn_if_unattainable(reject, counted, self.reject_error, self.delta, "no path will be rejected")

    def _report(self, paths: Paths, first_errors: np.ndarray) -> dict[str, float | int | None]:
        decisions, wrong = self._decide(paths), first_errors >= 0
        accepted, rejected = decisions == "accept", decisions == "reject"
        return {
            "accepted": mean_over_units(accepted, paths.units),
            "escalated": mean_over_units(decisions == "escalate", paths.units),
            "rejected": mean_over_units(rejected, paths.units),
            "accepted_with_error": mean_over_units(accepted & wrong, paths.units),
            "rejected_without_error": mean_over_units(rejected & ~wrong, paths.units),
            "error_rate_of_accepted": share_of(wrong[accepted]),
        }
