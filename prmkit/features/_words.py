"""The words and character runs of a step, weighted as TF-IDF does, with a vocabulary that is small to save."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.utils.validation import check_is_fitted

from prmkit.data.solution import as_steps
from prmkit.utils.sklearn import Interval, ReadsSteps, fit_context

_KINDS: dict[str, dict[str, Any]] = {
    "words": {"ngram_range": (1, 2), "token_pattern": r"\b\w+\b"},
    "characters": {"analyzer": "char_wb", "ngram_range": (2, 5)},
}
_MIN_STEPS = {"words": 2, "characters": 3}  # a term of fewer steps is dropped, unless nothing would be left


class StepWords(ReadsSteps, TransformerMixin, BaseEstimator):
    """TF-IDF of the words (one and two) and character runs (two to five) of the step itself.

    A word that occurs in one step only, or a character run in fewer than three, is left out; where that
    would leave nothing of a kind, as with a handful of steps, all are kept.

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
        weighed = []
        for kind in _KINDS:
            for min_df in (_MIN_STEPS[kind], 1):
                vectorizer = _vectorizer(kind, max_features=self.max_features, min_df=min_df)
                try:
                    weighed.append(vectorizer.fit_transform(texts))
                except ValueError:  # an empty vocabulary
                    continue
                self.vectorizers_[kind] = vectorizer
                break
        if not weighed:
            raise ValueError(f"all {len(texts)} steps are blank: there are no words to learn from")
        return sparse.hstack(weighed, format="csr")

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

    def __getstate__(self) -> dict[str, Any]:
        """Terms as one string and weights as one array: a vocabulary of 50,000 objects is slow and large to save."""
        state = dict(super().__getstate__())  # it may be the instance's own
        if "vectorizers_" in state:
            state["vectorizers_"] = {
                kind: ["\n".join(v.get_feature_names_out()), v.idf_] for kind, v in self.vectorizers_.items()
            }
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "vectorizers_" in state:
            self.vectorizers_ = {kind: _restored(kind, *kept) for kind, kept in state["vectorizers_"].items()}


def _vectorizer(kind: str, **options: Any) -> TfidfVectorizer:
    return TfidfVectorizer(sublinear_tf=True, dtype=np.float32, **_KINDS[kind], **options)


def _restored(kind: str, terms: str, idf: np.ndarray) -> TfidfVectorizer:
    vectorizer = _vectorizer(kind, vocabulary=terms.split("\n"))  # no term of either kind holds a line break
    vectorizer.idf_ = idf
    return vectorizer
