"""Which solutions hold an error: flags that miss at most a stated share of the wrong ones."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np

from prmkit.uncertainty._solutions_input import Paths
from prmkit.uncertainty.guarantees._base import PathGuarantee, largest_risks, share_of
from prmkit.uncertainty.guarantees._cut import largest_cut, mean_over_units, warn_unattainable
from prmkit.utils.sklearn import HasMethods, Interval


class ErrorDetector(PathGuarantee):
    """Flag a path whose riskiest step exceeds a calibrated threshold.

    The guarantee: a path with an error, of a new problem, is flagged with probability at least ``recall``. (Several
    such paths per problem: the mean over them.) What it costs are false alarms, which nothing bounds: ``evaluate``
    always says how many.

    Parameters
    ----------
    classifier : fitted classifier over steps, or None, default=None
        None: X is a list of 1-D arrays of step risks, P(step is wrong), in place of solutions.
    recall : float, default=0.9
        Share of erroneous paths to be flagged at least, in (0, 1).
    delta : float or None, default=None
        None: on average over calibration sets (conformal). Given, in (0, 1): with probability ``1 - delta`` over
        calibration sets (Learn then Test), at the price of more false alarms.

    Attributes
    ----------
    threshold_ : float
        A risk: a path is flagged where the largest risk of its steps exceeds this. -inf where not attainable.
    n_calibration_ : int
        Number of calibration units **with an error**; the others say nothing about recall.
    attainable_ : bool
        False: too few units with an error for this ``recall`` (and ``delta``), and every path is flagged.
    unit_ : {"problem", "path"}
        What was counted: the problem where it is known, else the path.
    settings_ : dict
        The level that was calibrated for, whatever the parameters say by now.
    calibration_problems_ : ndarray of uint64
        Keys of all problems of the calibration; predictions refuse them.

    Notes
    -----
    With one erroneous path in each of n1 units, a path is flagged where its smallest validity ``1 - risk`` is at most
    the k-th smallest of the calibration, ``k = ceil((n1 + 1) * recall)``: split conformal prediction, and the same
    number as conformal risk control (arXiv:2208.02814). ``delta``: arXiv:2110.01052.

    Examples
    --------
    >>> risks = [[0.1, 0.9], [0.8, 0.2], [0.1, 0.3], [0.7], [0.2, 0.1]]
    >>> detector = ErrorDetector(recall=0.75).fit(risks, first_errors=[1, 0, 1, 0, -1])
    >>> detector.n_calibration_, round(detector.threshold_, 6)
    (4, 0.3)
    >>> detector.predict([[0.1, 0.5], [0.2, 0.1]])
    array([ True, False])
    """

    _parameter_constraints = {
        "classifier": [HasMethods(["fit", "predict_proba"]), None],
        "recall": [Interval(Real, 0, 1, closed="neither")],
        "delta": [Interval(Real, 0, 1, closed="neither"), None],
    }

    def __init__(self, classifier: Any = None, recall: float = 0.9, delta: float | None = None) -> None:
        self.classifier = classifier
        self.recall = recall
        self.delta = delta

    def predict(self, X: Any, groups: Any = None) -> np.ndarray:
        """Return whether each path is flagged as holding an error.

        Parameters
        ----------
        X, groups : as in ``fit``
            ``groups`` serves to refuse problems of the calibration only.

        Returns
        -------
        ndarray of bool of shape (n_paths,)

        Raises
        ------
        TypeError, ValueError
            As in ``fit``, and for problems of the calibration.
        """
        return largest_risks(self._new_paths(X, groups)) > self.threshold_

    def evaluate(self, X: Any, first_errors: Any, groups: Any = None) -> dict[str, float | int | None]:
        """Return what is found and what is flagged in vain, on labelled paths of new problems.

        Returns
        -------
        dict
            ``recall``, over erroneous paths, and ``false_alarm_rate``, over error-free ones, each a mean over the units
            that have such paths (None where none has); ``flagged``, the share of all paths;
            ``n_units_with_error``, ``n_units``, ``n_paths``.
        """
        paths, first_errors = self._test_paths(X, first_errors, groups)
        flagged = largest_risks(paths) > self.threshold_
        wrong = first_errors >= 0
        return {
            "recall": mean_over_units(flagged[wrong], paths.units[wrong]),
            "false_alarm_rate": mean_over_units(flagged[~wrong], paths.units[~wrong]),
            "flagged": share_of(flagged),
            "n_units_with_error": len(np.unique(paths.units[wrong])),
            "n_units": paths.n_units,
            "n_paths": len(flagged),
        }

    def _calibrate(self, paths: Paths, first_errors: np.ndarray) -> None:
        wrong = first_errors >= 0
        alpha = 1 - self.recall
        cut = largest_cut(largest_risks(paths)[wrong], paths.units[wrong], alpha, self.delta)
        self.threshold_ = cut.threshold(self._margin)
        self.attainable_, self.n_calibration_ = cut.attainable, cut.n_units
        if not cut.attainable:
            counted = f"{self.unit_}s with an error"
            warn_unattainable(cut.n_units, counted, alpha, self.delta, "every path will be flagged")
