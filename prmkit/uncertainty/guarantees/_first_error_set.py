"""Where the first error is: a set of positions that holds it at a stated rate, "no error" among them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np

from prmkit.metrics.solutions.aggregation import flat_first_error_distribution
from prmkit.uncertainty._solutions_input import Paths
from prmkit.uncertainty.guarantees._base import PathGuarantee, share_of
from prmkit.uncertainty.guarantees._cut import largest_cut, mean_over_units, warn_unattainable
from prmkit.utils.sklearn import HasMethods, Interval


class FirstErrorSet(PathGuarantee):
    """Predict for each path the set of steps that may be its first error; -1 in it stands for "no error".

    The guarantee: the set of a path of a new problem holds the truth with probability at least ``1 - alpha`` (several
    paths per problem: the mean over them). Its size says how much the model knows.

    Parameters
    ----------
    classifier : fitted classifier over steps, or None, default=None
        None: X is a list of 1-D arrays of step risks, P(step is wrong), in place of solutions.
    alpha : float, default=0.1
        Share of sets that may miss the truth, in (0, 1).

    Attributes
    ----------
    threshold_ : float
        The set holds the outcomes with ``1 - f <= threshold_``, f the first-error distribution. inf where not
        attainable.
    n_calibration_ : int
        Number of calibration units.
    attainable_ : bool
        False: too few units for this ``alpha``, and every set is full.
    unit_ : {"problem", "path"}
        What was counted: the problem where it is known, else the path.
    settings_ : dict
        The level that was calibrated for, whatever the parameters say by now.
    calibration_problems_ : ndarray of uint64
        Keys of the problems of the calibration; predictions refuse them.

    See Also
    --------
    prmkit.metrics.first_error_distribution : the probabilities f of the n_steps + 1 outcomes.

    Notes
    -----
    Split conformal prediction with the score ``1 - f(true outcome)``; the threshold is its k-th smallest value,
    ``k = ceil((n + 1) * (1 - alpha))``, with one path per problem, and comes from conformal risk control
    (arXiv:2208.02814) with several. A set is never empty: where no outcome passes, the likeliest one is in it, so
    coverage can only rise.

    Examples
    --------
    >>> risks = [[0.1, 0.8], [0.2, 0.1], [0.7, 0.1], [0.1, 0.4]]
    >>> sets = FirstErrorSet(alpha=0.2).fit(risks, first_errors=[1, -1, 0, 1])
    >>> round(sets.threshold_, 6)
    0.64
    >>> sets.predict([[0.05, 0.9, 0.5], [0.1, 0.5]]) == [{1}, {1, -1}]
    True
    """

    _parameter_constraints = {
        "classifier": [HasMethods(["fit", "predict_proba"]), None],
        "alpha": [Interval(Real, 0, 1, closed="neither")],
    }

    def __init__(self, classifier: Any = None, alpha: float = 0.1) -> None:
        self.classifier = classifier
        self.alpha = alpha

    def predict(self, X: Any, groups: Any = None) -> list[set[int]]:
        """Return the set of possible first errors of each path.

        Parameters
        ----------
        X, groups : as in ``fit``
            ``groups`` serves to refuse problems of the calibration only.

        Returns
        -------
        list of set of int, length n_paths
            0-based indices, and -1 for "no error".

        Raises
        ------
        TypeError, ValueError
            As in ``fit``, and for problems of the calibration.
        """
        outcomes = _outcomes(self._new_paths(X, groups))
        kept = np.flatnonzero(self._kept(outcomes))
        labels = outcomes.labels[kept].tolist()
        bounds = np.searchsorted(kept, np.append(outcomes.starts, len(outcomes.labels))).tolist()
        return [set(labels[start:end]) for start, end in itertools.pairwise(bounds)]

    def evaluate(self, X: Any, first_errors: Any, groups: Any = None) -> dict[str, float | int | None]:
        """Return how often sets hold the truth, and how large they are, on labelled paths of new problems.

        Returns
        -------
        dict
            ``coverage`` and ``mean_size``, means over units of the mean over their paths; ``singletons``, the share
            of all sets that name one outcome; ``n_units``, ``n_paths``.
        """
        paths, first_errors = self._test_paths(X, first_errors, groups)
        outcomes = _outcomes(paths)
        kept = self._kept(outcomes)
        sizes = np.add.reduceat(kept.astype(np.int64), outcomes.starts)
        return {
            "coverage": mean_over_units(kept[outcomes.of(first_errors)], paths.units),
            "mean_size": mean_over_units(sizes, paths.units),
            "singletons": share_of(sizes == 1),
            "n_units": paths.n_units,
            "n_paths": len(sizes),
        }

    def _calibrate(self, paths: Paths, first_errors: np.ndarray) -> None:
        outcomes = _outcomes(paths)
        scores = outcomes.scores[outcomes.of(first_errors)]
        cut = largest_cut(-scores, paths.units, self.alpha)  # missed where the score exceeds minus the cut
        self.threshold_ = self._margin - cut.value
        self.attainable_, self.n_calibration_ = cut.attainable, cut.n_units
        if not cut.attainable:
            warn_unattainable(cut.n_units, f"{self.unit_}s", self.alpha, None, "every set will be full")

    def _kept(self, outcomes: _Outcomes) -> np.ndarray:
        """Whether each outcome is in its path's set."""
        kept = outcomes.scores <= self.threshold_
        kept[outcomes.likeliest()] = True  # changes empty sets only: any other holds it already
        return kept


@dataclass(frozen=True)
class _Outcomes:
    """The n_steps + 1 outcomes of each path, end to end: its steps, then "no error"."""

    scores: np.ndarray  # 1 - probability
    labels: np.ndarray
    starts: np.ndarray

    @property
    def ends(self) -> np.ndarray:
        return np.append(self.starts[1:], len(self.scores))

    def of(self, first_errors: np.ndarray) -> np.ndarray:
        """Where the outcome of each path is."""
        return np.where(first_errors >= 0, self.starts + first_errors, self.ends - 1)

    def likeliest(self) -> np.ndarray:
        """Where the likeliest outcome of each path is; the earliest of several."""
        sizes = self.ends - self.starts
        best = np.repeat(np.minimum.reduceat(self.scores, self.starts), sizes)
        index = np.arange(len(self.scores))
        return np.minimum.reduceat(np.where(self.scores == best, index, len(index)), self.starts)


def _outcomes(paths: Paths) -> _Outcomes:
    starts = paths.starts + np.arange(len(paths.lengths))
    labels = np.full(len(paths.risks) + len(paths.lengths), -1)
    labels[np.arange(len(paths.risks)) + paths.path_of_step] = paths.place
    return _Outcomes(1 - flat_first_error_distribution(paths.risks, paths.lengths), labels, starts)
