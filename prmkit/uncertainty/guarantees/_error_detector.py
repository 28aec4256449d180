"""Which solutions hold an error: flags that miss at most a stated share of the wrong ones."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from prmkit.uncertainty._solutions_input import Paths, StepClassifier
from prmkit.uncertainty.guarantees.base import CLASSIFIER, RATE, PathGuarantee, largest_risks, share_of
from prmkit.uncertainty.guarantees.thresholds import largest_threshold, mean_over_units, warn_if_unattainable


class ErrorDetector(PathGuarantee[np.ndarray]):
    """Flag a path whose riskiest step exceeds a calibrated threshold.

    The guarantee: a path with an error, of a new problem, is flagged with probability at least ``recall``. With several
    such paths per problem this holds for the mean over them. The price is false alarms. Nothing bounds them, and
    ``evaluate`` always reports them.

    ``predict`` returns for each path whether it is flagged. A path that has a step without a score is. ``evaluate``
    reports ``recall`` over erroneous paths, ``false_alarm_rate`` over error-free ones, ``flagged`` (the share of all
    paths) and ``n_units_with_error``.

    Parameters
    ----------
    classifier : fitted classifier over steps, PathClassifier or None, default=None
        Classifier that gives the risks of steps or of whole solutions. If ``None``, X is a list of 1-D arrays of step
        risks, P(step is wrong), or one number per path that is higher for paths more likely wrong, such as the
        disagreement of samples.
    recall : float, default=0.9
        Share of erroneous paths to flag at least, in (0, 1).
    delta : float or None, default=None
        If ``None``, the guarantee holds on average over calibration sets (conformal). If a number in (0, 1), it holds
        with probability ``1 - delta`` over calibration sets (Learn then Test), at the price of more false alarms.

    Attributes
    ----------
    threshold_ : float
        A path is flagged if the largest risk of its steps exceeds this. ``-inf`` if the level is not attainable.
    n_calibration_ : int
        Number of calibration units **with an error**. The other units say nothing about recall.
    attainable_ : bool
        False if too few units have an error for this ``recall`` (and ``delta``). Every path is flagged then.

    Notes
    -----
    With one erroneous path in each of n1 units, a path is flagged if its smallest validity ``1 - risk`` is at most the
    k-th smallest of the calibration, ``k = ceil((n1 + 1) * recall)``. This is split conformal prediction, and the same
    number as conformal risk control (arXiv:2208.02814). ``delta``: arXiv:2110.01052.

    See Also
    --------
    SelectiveRisk : bounds the share of wrong paths among those that are not flagged.

    Examples
    --------
    With one number per path, and right or wrong:

    >>> detector = ErrorDetector(recall=0.75).fit([0.9, 0.8, 0.3, 0.7, 0.2], errors=[True, True, True, True, False])
    >>> detector.predict([0.5, 0.2])
    array([ True, False])

    With the risks of steps:

    >>> risks = [[0.1, 0.9], [0.8, 0.2], [0.1, 0.3], [0.7], [0.2, 0.1]]
    >>> detector = ErrorDetector(recall=0.75).fit(risks, first_errors=[1, 0, 1, 0, -1])
    >>> detector.n_calibration_, round(detector.threshold_, 6)
    (4, 0.3)
    >>> detector.predict([[0.1, 0.5], [0.2, 0.1]])
    array([ True, False])
    """

    _reads_scores: ClassVar[bool] = True
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "classifier": CLASSIFIER,
        "recall": RATE,
        "delta": [*RATE, None],
    }
    threshold_: float

    def __init__(
        self, classifier: StepClassifier | None = None, recall: float = 0.9, delta: float | None = None
    ) -> None:
        self.classifier = classifier
        self.recall = recall
        self.delta = delta

    def _decide(self, paths: Paths) -> np.ndarray:
        # A path with a step without a score is flagged, whatever the threshold is.
        risks = largest_risks(paths)
        return np.asarray((risks > self.threshold_) | (risks == np.inf))

    def _calibrate(self, paths: Paths, first_errors: np.ndarray) -> None:
        # An erroneous path fails if it passes without a flag.
        wrong = first_errors >= 0
        alpha = 1 - self.recall
        threshold = largest_threshold(
            largest_risks(paths)[wrong], paths.units[wrong], alpha, self.delta, margin=self._margin
        )
        self.threshold_ = threshold.value
        self.attainable_, self.n_calibration_ = threshold.attainable, threshold.n_units
        counted = f"{self.unit_}s with an error"
        warn_if_unattainable(threshold, counted, alpha, self.delta, "every path will be flagged")

    def _report(self, paths: Paths, first_errors: np.ndarray) -> dict[str, float | int | None]:
        flagged, wrong = self._decide(paths), first_errors >= 0
        return {
            "recall": mean_over_units(flagged[wrong], paths.units[wrong]),
            "false_alarm_rate": mean_over_units(flagged[~wrong], paths.units[~wrong]),
            "flagged": share_of(flagged),
            "n_units_with_error": len(np.unique(paths.units[wrong])),
        }
