"""Template of a guarantee: a promise about solutions of new problems that holds for any classifier.

In your own package: use the class as it is.

Inside prmkit:

1. copy this file to ``prmkit/uncertainty/guarantees/``, and export the class in the ``__init__.pyi`` of that folder and
   of ``prmkit/uncertainty/``;
2. add an entry to the registry of estimators in ``prmkit/utils/_registry.py``: the common checks then run on it;
3. write a test in ``tests/uncertainty/guarantees/`` which shows that the promise holds over random splits.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from prmkit.uncertainty.guarantees.base import CLASSIFIER, RATE, PathGuarantee, path_risks
from prmkit.uncertainty.guarantees.thresholds import largest_threshold, mean_over_units, warn_if_unattainable


class SolutionAcceptor(PathGuarantee[np.ndarray]):
    """Accept solutions, so that few accepted ones have an error.

    The guarantee: at most a share ``alpha`` of the solutions of a new problem has an error and is accepted.

    ``predict`` returns for each solution whether it is accepted. ``evaluate`` reports ``failure_rate`` (accepted with
    an error) and ``accepted``.

    Parameters
    ----------
    classifier : fitted classifier over steps, or None, default=None
        Classifier that gives the risks. If None, X is a list of 1-D arrays of step risks.
    alpha : float, default=0.1
        Share of failures to tolerate, in (0, 1).
    delta : float or None, default=None
        If None, the guarantee holds on average over calibration sets. If a number, it holds with probability
        ``1 - delta`` over calibration sets.

    Attributes
    ----------
    threshold_ : float
        A solution is accepted if its risk is at most this.
    n_calibration_ : int
        Number of calibration units.
    attainable_ : bool
        False if there are too few units for the level. Nothing is accepted then.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "classifier": CLASSIFIER,
        "alpha": RATE,
        "delta": [*RATE, None],
    }
    threshold_: float

    def __init__(self, classifier: Any = None, alpha: float = 0.1, delta: float | None = None) -> None:
        self.classifier = classifier
        self.alpha = alpha
        self.delta = delta

    def _calibrate(self, paths: Any, first_errors: np.ndarray) -> None:
        # CHANGE: the number of each solution. A solution that cannot fail gets inf: accepting it is no failure.
        risks = np.where(first_errors >= 0, path_risks(paths), np.inf)
        threshold = largest_threshold(risks, paths.units, self.alpha, self.delta, margin=self._margin)
        self.threshold_ = threshold.value
        self.attainable_, self.n_calibration_ = threshold.attainable, threshold.n_units
        warn_if_unattainable(threshold, f"{self.unit_}s", self.alpha, self.delta, "nothing will be accepted")

    def _decide(self, paths: Any) -> np.ndarray:
        # CHANGE: the decision. It must use the same number as ``_calibrate``.
        return np.asarray(path_risks(paths) <= self.threshold_)

    def _report(self, paths: Any, first_errors: np.ndarray) -> dict[str, float | int | None]:
        # CHANGE: how often the promise fails, and what it costs.
        accepted = self._decide(paths)
        return {
            "failure_rate": mean_over_units(accepted & (first_errors >= 0), paths.units),
            "accepted": mean_over_units(accepted, paths.units),
        }
