"""The words and character runs of a step, weighted as TF-IDF does."""

from __future__ import annotations

from numbers import Integral

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import FeatureUnion
from sklearn.utils.validation import check_is_fitted

from prmkit.data._solution import as_steps
from prmkit.utils._sklearn import Interval, ReadsSteps, fit_context


class StepWords(ReadsSteps, TransformerMixin, BaseEstimator):
    """TF-IDF of the words (one and two) and character runs (two to five) of the step itself.

    Parameters
    ----------
    max_features : int, default=50_000
        Of each kind, the most frequent ones.

    Attributes
    ----------
    union_ : FeatureUnion
        The two fitted vectorizers.

    Examples
    --------
    >>> X = ["3 * 4 = 12.", "2 + 12 = 15."]
    >>> StepWords().fit_transform(X).shape[0]
    2
    """

    learns = True
    _parameter_constraints = {"max_features": [Interval(Integral, 1, None, closed="left")]}

    def __init__(self, max_features=50_000):
        self.max_features = max_features

    @fit_context
    def fit(self, X, y=None):
        """Learn the vocabulary and its weights.

        Parameters
        ----------
        X : 1-D array-like of Step or str
        y : ignored

        Returns
        -------
        self
        """
        texts = [step.text for step in as_steps(X)]
        common = {
            "max_features": self.max_features,
            "sublinear_tf": True,
            "min_df": 2 if len(texts) > 200 else 1,
        }
        self.union_ = FeatureUnion(
            [
                (
                    "words",
                    TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"\S+", dtype=np.float32, **common),
                ),
                (
                    "characters",
                    TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), dtype=np.float32, **common),
                ),
            ]
        ).fit(texts)
        return self

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
        return self.union_.transform([step.text for step in as_steps(X)])

    def get_feature_names_out(self, input_features=None) -> np.ndarray:
        """Names of the columns."""
        check_is_fitted(self)
        return self.union_.get_feature_names_out()
