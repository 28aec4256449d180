"""The words and character runs of a step, weighted as TF-IDF does."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.utils.validation import check_is_fitted

from prmkit.data._solution import as_steps
from prmkit.utils._sklearn import Interval, ReadsSteps, fit_context

_KINDS: dict[str, dict[str, Any]] = {
    "words": {"ngram_range": (1, 2), "token_pattern": r"\b\w+\b", "min_df": 2},
    "characters": {"analyzer": "char_wb", "ngram_range": (2, 5), "min_df": 3},
}


class StepWords(ReadsSteps, TransformerMixin, BaseEstimator):
    """TF-IDF of the words (one and two) and character runs (two to five) of the step itself.

    Parameters
    ----------
    max_features : int, default=50_000
        Of each kind, the most frequent ones.

    Attributes
    ----------
    vectorizers_ : dict of str to TfidfVectorizer
        "words" and "characters"; a kind of which the training texts hold nothing is absent.

    Examples
    --------
    >>> StepWords().fit_transform(["3 * 4 = 12.", "2 + 12 = 15."]).shape[0]
    2
    """

    learns = True
    _parameter_constraints = {"max_features": [Interval(Integral, 1, None, closed="left")]}

    def __init__(self, max_features=50_000):
        self.max_features = max_features

    def fit(self, X, y=None):
        """Learn the vocabulary and its weights.

        Parameters
        ----------
        X : 1-D array-like of Step or str
        y : ignored

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If every text is blank.
        """
        self.fit_transform(X)
        return self

    @fit_context
    def fit_transform(self, X, y=None):
        """Learn and weigh in one reading of the texts."""
        texts = [step.text for step in as_steps(X)]
        self.vectorizers_: dict[str, TfidfVectorizer] = {}
        parts = []
        for kind, options in _KINDS.items():
            for frequent in (options, {**options, "min_df": 1}):  # short data: no run may occur twice
                vectorizer = TfidfVectorizer(
                    max_features=self.max_features, sublinear_tf=True, dtype=np.float32, **frequent
                )
                try:
                    parts.append(vectorizer.fit_transform(texts))
                except ValueError:  # an empty vocabulary
                    continue
                self.vectorizers_[kind] = vectorizer
                break
        if not parts:
            raise ValueError(f"all {len(texts)} steps are blank: there are no words to learn from")
        return sparse.hstack(parts, format="csr")

    def transform(self, X):
        """Weigh.

        Parameters
        ----------
        X : 1-D array-like of Step or str

        Returns
        -------
        sparse array of shape (n_steps, n_features), float32
        """
        check_is_fitted(self)
        texts = [step.text for step in as_steps(X)]
        return sparse.hstack([v.transform(texts) for v in self.vectorizers_.values()], format="csr")

    def get_feature_names_out(self, input_features=None) -> np.ndarray:
        """Names of the columns."""
        check_is_fitted(self)
        names = [
            f"{kind}__{term}" for kind, v in self.vectorizers_.items() for term in v.get_feature_names_out()
        ]
        return np.array(names, dtype=object)
