"""``StepWords``: the words and character runs of a step, weighted by TF-IDF."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.utils.validation import check_is_fitted

from prmkit.data.solution import Step, as_steps
from prmkit.utils.sklearn import Interval, ReadsSteps, WordwiseVectorizer, fit_context

_KINDS: dict[str, dict[str, Any]] = {
    "words": {"ngram_range": (1, 2), "token_pattern": r"\b\w+\b"},
    "characters": {"analyzer": "char_wb", "ngram_range": (2, 5)},
}
# A term that occurs in fewer steps is dropped, unless no term would remain.
_MIN_STEPS = {"words": 2, "characters": 3}


class StepWords(ReadsSteps, TransformerMixin, BaseEstimator):
    """Weigh the words and the character runs of a step by TF-IDF.

    Words are taken alone and in pairs. Character runs have two to five characters. A word must occur in two
    steps and a character run in three. If no term of a kind occurs that often, all terms of the kind are
    taken.

    Parameters
    ----------
    max_features : int, default=50_000
        Largest number of words, and largest number of character runs. The most frequent ones are taken.

    Attributes
    ----------
    vectorizers_ : dict of str to TfidfVectorizer
        The fitted vectorizers, under ``"words"`` and ``"characters"``. A kind is absent if the training texts
        hold no term of it.

    Examples
    --------
    >>> StepWords().fit_transform(["3 * 4 = 12.", "2 + 12 = 15."]).shape[0]
    2
    """

    learns = True
    _parameter_constraints = {"max_features": [Interval(Integral, 1, None, closed="left")]}

    def __init__(self, max_features: int = 50_000) -> None:
        self.max_features = max_features

    def fit(self, X: Sequence[Step | str] | npt.NDArray[np.object_], y: object = None) -> StepWords:
        """Learn the vocabulary and its weights.

        Parameters
        ----------
        X : 1-D array-like of Step or str
            The steps. A plain string is a step without problem and prefix.
        y : object, default=None
            Ignored. It is there for scikit-learn's pipelines.

        Returns
        -------
        StepWords
            The transformer itself.

        Raises
        ------
        ValueError
            If every text is blank.
        """
        self.fit_transform(X)
        return self

    @fit_context
    def fit_transform(
        self, X: Sequence[Step | str] | npt.NDArray[np.object_], y: object = None
    ) -> sparse.csr_matrix | sparse.csr_array:
        """Learn the vocabulary and weigh the terms, reading the texts once.

        Parameters
        ----------
        X : 1-D array-like of Step or str
            The steps. A plain string is a step without problem and prefix.
        y : object, default=None
            Ignored. It is there for scikit-learn's pipelines.

        Returns
        -------
        sparse array of shape (n_steps, n_features), float32
            The weights of the terms of each step.

        Raises
        ------
        ValueError
            If every text is blank.
        """
        texts = [step.text for step in as_steps(X)]
        self.vectorizers_: dict[str, TfidfVectorizer] = {}
        weights = []
        for kind in _KINDS:
            for min_df in (_MIN_STEPS[kind], 1):
                vectorizer = _vectorizer(kind, max_features=self.max_features, min_df=min_df)
                try:
                    weights.append(vectorizer.fit_transform(texts))
                except ValueError:
                    # scikit-learn says in this way that no term is frequent enough.
                    continue
                self.vectorizers_[kind] = vectorizer
                break
        if not weights:
            raise ValueError(f"all {len(texts)} steps are blank: there are no words to learn from")
        return sparse.hstack(weights, format="csr")

    def transform(self, X: Sequence[Step | str] | npt.NDArray[np.object_]) -> sparse.csr_matrix | sparse.csr_array:
        """Weigh the terms of each step.

        Parameters
        ----------
        X : 1-D array-like of Step or str
            The steps. A plain string is a step without problem and prefix.

        Returns
        -------
        sparse array of shape (n_steps, n_features), float32
            The weights of the terms of each step.
        """
        check_is_fitted(self)
        texts = [step.text for step in as_steps(X)]
        return sparse.hstack([v.transform(texts) for v in self.vectorizers_.values()], format="csr")

    def get_feature_names_out(self, input_features: object = None) -> npt.NDArray[np.object_]:
        """Return the names of the columns.

        Parameters
        ----------
        input_features : object, default=None
            Ignored. It is there for scikit-learn.

        Returns
        -------
        ndarray of str
            The kind and the term of each column, such as ``words__sum``.
        """
        check_is_fitted(self)
        names = [f"{kind}__{term}" for kind, v in self.vectorizers_.items() for term in v.get_feature_names_out()]
        return np.array(names, dtype=object)

    def __getstate__(self) -> dict[str, Any]:
        """Hold the terms as one string: a vocabulary of 50,000 objects is slow to save, and large."""
        # A copy, since the parent may return the dictionary of the instance.
        state = dict(super().__getstate__())
        if "vectorizers_" in state:
            state["vectorizers_"] = {
                kind: ["\n".join(v.get_feature_names_out()), v.idf_] for kind, v in self.vectorizers_.items()
            }
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "vectorizers_" in state:
            self.vectorizers_ = {
                kind: _restored(kind, terms, idf) for kind, (terms, idf) in state["vectorizers_"].items()
            }


def _vectorizer(kind: str, **options: Any) -> TfidfVectorizer:
    make = TfidfVectorizer if kind == "words" else WordwiseVectorizer
    return make(sublinear_tf=True, dtype=np.float32, **_KINDS[kind], **options)


def _restored(kind: str, terms: str, idf: np.ndarray) -> TfidfVectorizer:
    # No term of either kind holds a line break.
    vectorizer = _vectorizer(kind, vocabulary=terms.split("\n"))
    vectorizer.idf_ = idf
    return vectorizer
