"""What can be counted and checked in a step without a model, as a scikit-learn transformer."""

from __future__ import annotations

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

from prmkit.data._solution import as_steps, iter_solutions
from prmkit.features._statistic_names import STATISTICS
from prmkit.features._step_statistics import step_statistics
from prmkit.utils._sklearn import ReadsSteps


class StepStatistics(ReadsSteps, TransformerMixin, BaseEstimator):
    """Position, length, novelty, repetition, arithmetic and wording of each step.

    Row t reads the problem and steps 0..t; a solution is read once, in time proportional to its text.
    :data:`prmkit.features.STATISTICS` says what each column is.

    See Also
    --------
    PRMFeaturizer : what a sentence encoder sees in a step.

    Examples
    --------
    >>> from prmkit import Solution, flatten
    >>> X = flatten([Solution("What is 2 + 3 * 4?", ["3 * 4 = 12.", "2 + 12 = 15."])])
    >>> statistics = StepStatistics()
    >>> rows = statistics.fit_transform(X)
    >>> wrong = statistics.get_feature_names_out().tolist().index("equations_wrong")
    >>> rows[:, wrong]
    array([0., 1.])
    """

    def fit(self, X, y=None):
        """Check X; nothing is learnt.

        Parameters
        ----------
        X : 1-D array-like of Step or str
        y : ignored

        Returns
        -------
        self
        """
        as_steps(X)
        return self

    def transform(self, X) -> np.ndarray:
        """Count.

        Parameters
        ----------
        X : 1-D array-like of Step or str

        Returns
        -------
        ndarray of shape (n_steps, n_statistics), float64
        """
        steps = as_steps(X)
        out = np.empty((len(steps), len(STATISTICS)))
        for solution, rows, indices in iter_solutions(steps):
            out[rows] = step_statistics(solution.problem, solution.steps[: max(indices) + 1])[indices]
        return out

    def get_feature_names_out(self, input_features=None) -> np.ndarray:
        """Names of the columns."""
        return np.array(list(STATISTICS), dtype=object)
