"""Template of a head: from the features of steps to the probability of each class.

In your own package: pass an instance, ``PRMClassifier(head=NearestMean())``. Nothing is registered.

Inside prmkit:

1. copy this file to ``prmkit/models/heads/``, and export the class in ``prmkit/models/heads/__init__.pyi`` and
   ``prmkit/models/__init__.pyi``;
2. add an entry to the registry of estimators in ``prmkit/utils/_registry.py``: scikit-learn's checks and prmkit's
   guarantees then run on it;
3. write its test in ``tests/models/``.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data


class NearestMean(ClassifierMixin, BaseEstimator):
    """Give each class a probability that falls with the distance of a step from the mean of the class.

    Parameters
    ----------
    temperature : float, default=1.0
        Scale of the distances. A large value makes all classes equally probable.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labels, sorted.
    means_ : ndarray of shape (n_classes, n_features)
        Mean of the steps of each class.
    """

    # CHANGE: the parameters. ``__init__`` stores them and does nothing else.
    def __init__(self, temperature: float = 1.0) -> None:
        self.temperature = temperature

    def fit(self, X: npt.ArrayLike, y: npt.ArrayLike) -> NearestMean:
        """Learn the mean of each class.

        Parameters
        ----------
        X : array-like of shape (n_steps, n_features)
            Features of the steps. A featurizer made them.
        y : array-like of shape (n_steps,)
            Label of each step.

        Returns
        -------
        NearestMean
            The fitted head.
        """
        X, y = validate_data(self, X, y)
        check_classification_targets(y)
        # CHANGE: what is learnt. Fitted attributes end with an underscore.
        self.classes_, codes = np.unique(y, return_inverse=True)
        self.means_ = np.stack([X[codes == code].mean(axis=0) for code in range(len(self.classes_))])
        return self

    def predict_proba(self, X: npt.ArrayLike) -> np.ndarray:
        """Return the probability of each class.

        Parameters
        ----------
        X : array-like of shape (n_steps, n_features)
            Features of the steps.

        Returns
        -------
        ndarray of shape (n_steps, n_classes)
            Rows sum to 1. Columns follow ``classes_``.
        """
        check_is_fitted(self)
        X = validate_data(self, X, reset=False)
        # CHANGE: the probabilities. A row must depend on its own features alone: then the head cannot look ahead.
        distances = np.linalg.norm(X[:, None, :] - self.means_, axis=2) / self.temperature
        weights = np.exp(distances.min(axis=1, keepdims=True) - distances)
        return weights / weights.sum(axis=1, keepdims=True)

    def predict(self, X: npt.ArrayLike) -> np.ndarray:
        """Return the most probable class.

        Parameters
        ----------
        X : array-like of shape (n_steps, n_features)
            Features of the steps.

        Returns
        -------
        ndarray of shape (n_steps,)
            Label of each step.
        """
        proba = self.predict_proba(X)
        return self.classes_[proba.argmax(axis=1)]
