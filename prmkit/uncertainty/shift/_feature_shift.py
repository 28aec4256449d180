"""What detectors by distance share: steps become rows of features, and distances of rows scores of paths."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted

from prmkit.data.labels import check_labels
from prmkit.data.problem_keys import distinct_problem_keys
from prmkit.data.solution import as_steps, flatten, refuse_steps
from prmkit.features import PRMFeaturizer
from prmkit.metrics.solutions.aggregation import reduce_paths
from prmkit.uncertainty.shift._base import ShiftDetector, unscored
from prmkit.utils.sklearn import HasMethods, StrOptions, fit_context


class FeatureShift(ShiftDetector):
    """Base of detectors that measure a distance in the space of a featurizer.

    A subclass has ``_learn(rows, y)`` and ``_distances(rows)``, and the parameters ``featurizer`` and ``path_score``.
    """

    _parameter_constraints: dict = {
        "featurizer": [StrOptions({"precomputed"}), HasMethods(["fit", "transform"]), None],
        "path_score": [StrOptions({"max", "mean"})],
    }

    @fit_context
    def fit(self, X, y=None):
        """Learn where the training steps lie.

        Parameters
        ----------
        X : 1-D array-like of Step or str; with ``featurizer="precomputed"`` array-like (n_steps, n_features)
            The steps that the classifier learnt from, ``flatten(solutions)`` or those that are labelled.
        y : array-like of shape (n_steps,), optional
            Class of each step.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            If X is not a flat list of steps, y has another length, or a feature is NaN.
        """
        self._forget_calibration()
        self.featurizer_: Any = None
        self.training_problems_ = None
        if not self._precomputed:
            X = as_steps(X)
            self.training_problems_ = distinct_problem_keys(X)
            featurizer = PRMFeaturizer() if self.featurizer is None else clone(self.featurizer)
            self.featurizer_ = featurizer.fit(X, y)
        rows = self._rows(X)
        self.n_features_ = rows.shape[1]
        self._learn(rows, None if y is None else check_labels(y, len(rows)))
        return self

    def step_scores(self, X) -> np.ndarray:
        """Measure how far single steps lie from the training steps.

        Parameters
        ----------
        X : as in ``fit``

        Returns
        -------
        ndarray of shape (n_steps,)
            Higher is more unlike the training data.

        Raises
        ------
        TypeError, ValueError
            If X is not a flat list of steps, or a feature is NaN.
        """
        check_is_fitted(self)
        rows = self._rows(X)
        if rows.shape[1] != self.n_features_:
            raise ValueError(f"X has {rows.shape[1]} features, expected {self.n_features_} as in fit")
        return self._distances(rows)

    @abstractmethod
    def _learn(self, rows: np.ndarray, y: np.ndarray | None) -> None: ...

    @abstractmethod
    def _distances(self, rows: np.ndarray) -> np.ndarray: ...

    @property
    def _precomputed(self) -> bool:
        return isinstance(self.featurizer, str)

    def _rows(self, X: Any) -> np.ndarray:
        if self._precomputed:
            refuse_steps(X)
        else:
            X = self.featurizer_.transform(as_steps(X))
        return check_array(X, dtype=(np.float64, np.float32), input_name="X")

    def _read_paths(self, X: Any) -> list:
        if not self._precomputed:
            return super()._read_paths(X)
        if isinstance(X, np.ndarray) and X.dtype != object and X.ndim != 3:
            raise ValueError(
                f"X has shape {X.shape}, expected a list of arrays (n_steps, n_features), one per path"
            )
        rows = unscored(X)
        refuse_steps(next(iter(rows), None))
        paths = [np.asarray(path) for path in rows]
        for i, path in enumerate(paths):
            if path.ndim != 2 or not len(path):
                raise ValueError(
                    f"path {i} has shape {path.shape}, expected (n_steps, n_features) with at least 1 step"
                )
        return paths

    def _score_paths(self, X: list) -> np.ndarray:
        lengths = np.array([len(path) if self._precomputed else path.n_steps for path in X])
        scores = self.step_scores(np.concatenate(X) if self._precomputed else flatten(X))
        ends = np.cumsum(lengths)
        return reduce_paths(scores, ends - lengths, ends, lengths, self.path_score)
