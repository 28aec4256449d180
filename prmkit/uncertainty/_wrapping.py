"""What estimators around a classifier share: a fitted one is kept as it is, and they are classifiers of steps too."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin, clone
from sklearn.exceptions import NotFittedError
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted

from prmkit.data.solution import Solution
from prmkit.models.heads.decision import most_probable
from prmkit.scoring import ScoredSolution, score_solutions
from prmkit.scoring.fitted import Label


def is_fitted(classifier: Any) -> bool:
    """Whether a classifier has been fitted."""
    try:
        check_is_fitted(classifier)
    except NotFittedError:
        return False
    return True


class KeepsFitted:
    """Mixin: ``clone`` keeps a fitted ``classifier`` as it is, so that no search forgets or refits it."""

    def set_params(self, **params: Any) -> Any:
        """Set parameters; those of a fitted classifier stay, as changing them would change what others hold too.

        Raises
        ------
        ValueError
            For a parameter inside a fitted classifier.
        """
        inner = sorted(name for name in params if name.startswith("classifier__"))
        classifier = params.get("classifier", getattr(self, "classifier", None))
        if inner and classifier is not None and is_fitted(classifier):
            raise ValueError(
                f"{', '.join(inner)}: the classifier is fitted and stays as it is. Pass an unfitted one, or set the "
                "parameter, fit, and wrap it then"
            )
        return super().set_params(**params)  # type: ignore[misc]

    def __sklearn_clone__(self) -> Any:
        kept = {
            name: value
            if name == "classifier" and value is not None and is_fitted(value)
            else clone(value, safe=False)
            for name, value in self.get_params(deep=False).items()  # type: ignore[attr-defined]
        }
        return type(self)(**kept)


class WrapsClassifier(ClassifierMixin):
    """Mixin of classifiers of steps around a ``classifier``: all but ``fit`` and ``predict_proba``.

    ``fit`` sets ``classes_``, ``label_order_``, ``training_problems_`` and, where decisions are weighed,
    ``decision_weights_``.
    """

    def predict(self, X: Any) -> np.ndarray:
        """Class of each step, of shape (n_steps,): the likeliest, after weighing where the classifier weighs."""
        proba = self.predict_proba(X)
        return most_probable(self.classes_, proba * getattr(self, "decision_weights_", 1.0))

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Logarithm of ``predict_proba``, cut at the smallest positive number."""
        return np.log(np.clip(self.predict_proba(X), np.finfo(float).tiny, None))

    def score_solutions(
        self, solutions: Iterable[Solution], label_order: Sequence[Label] | None = None
    ) -> list[ScoredSolution]:
        """Score every step of each solution: see :meth:`PRMClassifier.score_solutions`."""
        return score_solutions(self, solutions, label_order)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        inner = getattr(self, "classifier", None)
        if inner is None:
            tags.input_tags.two_d_array, tags.input_tags.string = False, True
        else:
            tags.input_tags = get_tags(inner).input_tags
        return tags
