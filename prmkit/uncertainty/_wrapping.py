"""Mixins of estimators around a classifier: a fitted one is not changed, and the estimator classifies steps, too."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from sklearn.base import ClassifierMixin, clone
from sklearn.exceptions import NotFittedError
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted

from prmkit.models.heads.head import most_probable
from prmkit.scoring.tables import ScoresSolutions
from prmkit.uncertainty._solutions_input import Steps
from prmkit.utils.saved import SavedModel

Self = TypeVar("Self", bound="KeepsFitted")


def is_fitted(classifier: Any) -> bool:
    """Return whether a classifier has been fitted."""
    try:
        check_is_fitted(classifier)
    except NotFittedError:
        return False
    return True


class KeepsFitted:
    """Mixin of estimators whose ``clone`` keeps a fitted ``classifier``, so that no search forgets or refits it."""

    def set_params(self: Self, **params: Any) -> Self:
        """Set parameters. Those of a fitted classifier cannot be set, because others may hold the same classifier.

        Parameters
        ----------
        **params
            New values by name. ``classifier__name`` sets a parameter of an unfitted classifier.

        Returns
        -------
        self
            The estimator.

        Raises
        ------
        ValueError
            If a parameter belongs to a fitted classifier.
        """
        inner = sorted(name for name in params if name.startswith("classifier__"))
        classifier = params.get("classifier", getattr(self, "classifier", None))
        if inner and classifier is not None and is_fitted(classifier):
            raise ValueError(
                f"{', '.join(inner)}: the classifier is fitted and is not changed. Pass an unfitted one, or set the "
                "parameter and fit the classifier before you pass it"
            )
        super().set_params(**params)  # type: ignore[misc]
        return self

    def __sklearn_clone__(self) -> Any:
        params = self.get_params(deep=False)  # type: ignore[attr-defined]
        keeps_classifier = params["classifier"] is not None and is_fitted(params["classifier"])
        return type(self)(
            **{
                name: value if name == "classifier" and keeps_classifier else clone(value, safe=False)
                for name, value in params.items()
            }
        )


class WrapsClassifier(SavedModel, ScoresSolutions, ClassifierMixin):
    """Mixin of classifiers of steps around a ``classifier``. It lacks only ``fit`` and ``predict_proba``.

    ``fit`` sets ``classes_``, ``label_order_`` and ``training_problems_``. If decisions are weighed, it also sets
    ``decision_weights_``.
    """

    scores_steps = True
    classes_: np.ndarray

    def predict(self, X: Steps) -> np.ndarray:
        """Return the class of each step: the most likely one, after weighing if the classifier weighs.

        Parameters
        ----------
        X : 1-D array-like of Step, or array-like of shape (n_steps, n_features)
            Steps, as in ``fit``.

        Returns
        -------
        ndarray of shape (n_steps,)
            Labels.
        """
        proba = self.predict_proba(X)
        return most_probable(self.classes_, proba * getattr(self, "decision_weights_", 1.0))

    def predict_log_proba(self, X: Steps) -> np.ndarray:
        """Return the logarithm of ``predict_proba``, cut at the smallest positive number.

        Parameters
        ----------
        X : 1-D array-like of Step, or array-like of shape (n_steps, n_features)
            Steps, as in ``fit``.

        Returns
        -------
        ndarray of shape (n_steps, n_classes)
            Columns in the order of ``classes_``.
        """
        return np.asarray(np.log(np.clip(self.predict_proba(X), np.finfo(float).tiny, None)))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        inner = getattr(self, "classifier", None)
        if inner is None:
            tags.input_tags.two_d_array, tags.input_tags.string = False, True
        else:
            tags.input_tags = get_tags(inner).input_tags
        return tags
