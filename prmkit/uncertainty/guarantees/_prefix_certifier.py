"""How much of a solution can be kept: the longest beginning that is free of error, at a stated failure rate."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np

from prmkit.uncertainty._solutions_input import Paths
from prmkit.uncertainty.guarantees._base import PathGuarantee, largest_risks
from prmkit.uncertainty.guarantees._cut import largest_cut, mean_over_units, warn_unattainable
from prmkit.utils.sklearn import HasMethods, Interval


class PrefixCertifier(PathGuarantee):
    """Keep the steps before the first one whose risk exceeds a calibrated threshold.

    The guarantee: the kept prefix of a path of a new problem contains the path's first error with probability at
    most ``alpha``. (With several paths per problem: the mean over them. A path without error cannot fail, and
    counts.) It holds for any classifier, however bad, where the new problems are exchangeable with those of the
    calibration; a good one keeps more.

    Parameters
    ----------
    classifier : fitted classifier over steps, or None, default=None
        None: X is a list of 1-D arrays of step risks, P(step is wrong), in place of solutions.
    alpha : float, default=0.1
        The failure rate that is tolerated, in (0, 1).
    delta : float or None, default=None
        None: the failure rate is at most ``alpha`` on average over calibration sets (conformal risk control).
        Given, in (0, 1): at most ``alpha`` with probability ``1 - delta`` over calibration sets (Learn then Test),
        which keeps less.

    Attributes
    ----------
    threshold_ : float
        A risk: a step passes where its risk is at most this. -inf where not attainable, inf where all may be kept.
    n_calibration_ : int
        Number of calibration units, with and without errors.
    attainable_ : bool
        False: too few units for this ``alpha`` (and ``delta``), and nothing is certified.
    unit_ : {"problem", "path"}
        What was counted: the problem where it is known, else the path.
    settings_ : dict
        The level that was calibrated for, whatever the parameters say by now.
    calibration_problems_ : ndarray of uint64
        Keys of the problems of the calibration; predictions refuse them.

    Notes
    -----
    After CROP (arXiv:2605.30085). Of a path with first error tau let ``M = max(risk[0], …, risk[tau])``; its error is
    kept where M is below the cut. With one path per problem the cut is the (m + 1)-th smallest M,
    ``m = floor(alpha * (n + 1)) - 1``; a step exactly at the cut stops, and with a classifier, whose risks differ in
    their last digits from batch to batch, one closer than 1e-6 below it. Losses of several paths: conformal
    risk control (arXiv:2208.02814); ``delta``: arXiv:2110.01052.

    Examples
    --------
    >>> risks = [[0.1, 0.2, 0.9], [0.1, 0.6], [0.3, 0.2], [0.05, 0.1, 0.4]]
    >>> certifier = PrefixCertifier(alpha=0.4).fit(risks, first_errors=[2, 1, -1, 2])
    >>> certifier.n_calibration_, round(certifier.threshold_, 6), certifier.attainable_
    (4, 0.6, True)
    >>> certifier.predict([[0.1, 0.3, 0.7, 0.1], [0.8, 0.1]])
    array([2, 0])
    """

    _parameter_constraints = {
        "classifier": [HasMethods(["fit", "predict_proba"]), None],
        "alpha": [Interval(Real, 0, 1, closed="neither")],
        "delta": [Interval(Real, 0, 1, closed="neither"), None],
    }

    def __init__(self, classifier: Any = None, alpha: float = 0.1, delta: float | None = None) -> None:
        self.classifier = classifier
        self.alpha = alpha
        self.delta = delta

    def predict(self, X: Any, groups: Any = None) -> np.ndarray:
        """Return the length of the certified prefix of each path.

        Parameters
        ----------
        X, groups : as in ``fit``
            ``groups`` serves to refuse problems of the calibration only.

        Returns
        -------
        ndarray of int of shape (n_paths,)
            0: not even the first step; the number of steps: the whole path.

        Raises
        ------
        TypeError, ValueError
            As in ``fit``, and for problems of the calibration.
        """
        return self._certified(self._new_paths(X, groups))

    def evaluate(self, X: Any, first_errors: Any, groups: Any = None) -> dict[str, float | int | None]:
        """Return how often prefixes contain an error, and how much they keep, on labelled paths of new problems.

        Returns
        -------
        dict
            ``failure_rate``, ``kept_fraction`` (of a path's steps), ``perfect_kept_fraction`` (what a verifier
            without fault keeps), each a mean over units of the mean over their paths; ``n_units``, ``n_paths``.
        """
        paths, first_errors = self._test_paths(X, first_errors, groups)
        kept = self._certified(paths)
        right = np.where(first_errors >= 0, first_errors, paths.lengths)
        return {
            "failure_rate": mean_over_units(kept > right, paths.units),
            "kept_fraction": mean_over_units(kept / paths.lengths, paths.units),
            "perfect_kept_fraction": mean_over_units(right / paths.lengths, paths.units),
            "n_units": paths.n_units,
            "n_paths": len(kept),
        }

    def _calibrate(self, paths: Paths, first_errors: np.ndarray) -> None:
        until_error = np.where(first_errors >= 0, largest_risks(paths, first_errors), np.inf)
        cut = largest_cut(until_error, paths.units, self.alpha, self.delta)
        self.threshold_ = cut.threshold(self._margin)
        self.attainable_, self.n_calibration_ = cut.attainable, cut.n_units
        if not cut.attainable:
            warn_unattainable(
                cut.n_units, f"{self.unit_}s", self.alpha, self.delta, "no step will be certified"
            )

    def _certified(self, paths: Any) -> np.ndarray:
        stops = np.where(paths.risks > self.threshold_, paths.place, np.repeat(paths.lengths, paths.lengths))
        return np.minimum.reduceat(stops, paths.starts)
