"""Accept, reject or ask a better judge: two thresholds on the risk of a path, each with its own error rate."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np

from prmkit.uncertainty._solutions_input import Paths
from prmkit.uncertainty.guarantees._base import PathGuarantee, path_risks, share_of
from prmkit.uncertainty.guarantees._cut import largest_cut, mean_over_units, warn_unattainable
from prmkit.utils.sklearn import HasMethods, Interval

_RATE = [Interval(Real, 0, 1, closed="neither")]
_TOSS_UP = 0.5


class PathTriage(PathGuarantee):
    """Accept a path, reject it, or escalate it to a bigger judge, by its risk ``1 - P(no error)``.

    Two guarantees, for a path of a new problem (several paths per problem: the mean over them):
    P(it has an error **and** is accepted) is at most ``accept_error``; P(it has no error **and** is rejected) is at
    most ``reject_error``. What lies between the thresholds is escalated: the better the classifier, the less.

    Parameters
    ----------
    classifier : fitted classifier over steps, or None, default=None
        None: X is a list of 1-D arrays of step risks, P(step is wrong), in place of solutions.
    accept_error, reject_error : float, default=0.1
        Shares *of all paths* that may be decided wrongly, each in (0, 1).
    delta : float or None, default=None
        None: both hold on average over calibration sets (conformal risk control). Given, in (0, 1): each holds
        with probability ``1 - delta`` over calibration sets (Learn then Test).

    Attributes
    ----------
    accept_threshold_ : float
        Paths with at most this risk may be accepted. -inf where not attainable.
    reject_threshold_ : float
        Paths with a larger risk may be rejected. inf where not attainable.
    n_calibration_ : int
        Number of calibration units, with and without errors.
    attainable_ : bool
        Whether both rates are; where one is not, no path is decided that way.
    unit_ : {"problem", "path"}
        What was counted: the problem where it is known, else the path.
    settings_ : dict
        The level that was calibrated for, whatever the parameters say by now.
    calibration_problems_ : ndarray of uint64
        Keys of the problems of the calibration; predictions refuse them.

    Notes
    -----
    Where the accept threshold lies above the reject threshold (a good classifier, or rates that errors hardly
    reach anyway), either decision is within its rate for the paths between them, and nothing needs to be
    escalated: such a path is accepted where its risk is at most 1/2, else rejected. Each guarantee holds for all
    paths on the right side of its threshold, so also for those of them that are decided. Method: arXiv:2208.02814,
    arXiv:2110.01052.

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

    _thresholds = ("accept_threshold_", "reject_threshold_")
    _parameter_constraints = {
        "classifier": [HasMethods(["fit", "predict_proba"]), None],
        "accept_error": _RATE,
        "reject_error": _RATE,
        "delta": [*_RATE, None],
    }

    def __init__(
        self,
        classifier: Any = None,
        accept_error: float = 0.1,
        reject_error: float = 0.1,
        delta: float | None = None,
    ) -> None:
        self.classifier = classifier
        self.accept_error = accept_error
        self.reject_error = reject_error
        self.delta = delta

    def predict(self, X: Any, groups: Any = None) -> np.ndarray:
        """Return what to do with each path.

        Parameters
        ----------
        X, groups : as in ``fit``
            ``groups`` serves to refuse problems of the calibration only.

        Returns
        -------
        ndarray of str of shape (n_paths,)
            ``"accept"``, ``"escalate"`` or ``"reject"``.

        Raises
        ------
        TypeError, ValueError
            As in ``fit``, and for problems of the calibration.
        """
        return self._decide(path_risks(self._new_paths(X, groups)))

    def evaluate(self, X: Any, first_errors: Any, groups: Any = None) -> dict[str, float | int | None]:
        """Return how paths are decided, and how often wrongly, on labelled paths of new problems.

        Returns
        -------
        dict
            ``accepted``, ``escalated``, ``rejected``; ``accepted_with_error`` and ``rejected_without_error``, the
            two rates under guarantee: all means over units of the mean over their paths.
            ``error_rate_of_accepted``, the share of accepted paths that have an error (None where none is accepted);
            ``n_units``, ``n_paths``.
        """
        paths, first_errors = self._test_paths(X, first_errors, groups)
        decided, wrong = self._decide(path_risks(paths)), first_errors >= 0
        accepted, rejected = decided == "accept", decided == "reject"
        return {
            "accepted": mean_over_units(accepted, paths.units),
            "escalated": mean_over_units(decided == "escalate", paths.units),
            "rejected": mean_over_units(rejected, paths.units),
            "accepted_with_error": mean_over_units(accepted & wrong, paths.units),
            "rejected_without_error": mean_over_units(rejected & ~wrong, paths.units),
            "error_rate_of_accepted": share_of(wrong[accepted]),
            "n_units": paths.n_units,
            "n_paths": len(decided),
        }

    def _calibrate(self, paths: Paths, first_errors: np.ndarray) -> None:
        risks, wrong = path_risks(paths), first_errors >= 0
        accept = largest_cut(np.where(wrong, risks, np.inf), paths.units, self.accept_error, self.delta)
        reject = largest_cut(np.where(wrong, np.inf, -risks), paths.units, self.reject_error, self.delta)
        self.accept_threshold_ = accept.threshold(self._margin)
        self.reject_threshold_ = self._margin - reject.value
        self.attainable_, self.n_calibration_ = accept.attainable and reject.attainable, paths.n_units
        for cut, rate, verb in (
            (accept, self.accept_error, "accepted"),
            (reject, self.reject_error, "rejected"),
        ):
            if not cut.attainable:
                warn_unattainable(cut.n_units, f"{self.unit_}s", rate, self.delta, f"no path will be {verb}")

    def _decide(self, risks: np.ndarray) -> np.ndarray:
        may_accept, may_reject = risks <= self.accept_threshold_, risks > self.reject_threshold_
        accept = may_accept & (~may_reject | (risks <= _TOSS_UP))
        reject = may_reject & ~accept
        return np.select([accept, reject], ["accept", "reject"], "escalate")
