"""The default model: three views of a step, each with the classifier that suits it, averaged."""

from __future__ import annotations

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted

from prmkit.data._solution import as_steps
from prmkit.features import PRMFeaturizer, StepStatistics, StepWords
from prmkit.utils._sklearn import HasMethods, ReadsSteps, fit_context, fit_weighted


class StepBlend(ReadsSteps, ClassifierMixin, BaseEstimator):
    """Average of embeddings, words and statistics of a step."""

    learns = True
    _parameter_constraints = {
        "featurizer": [HasMethods(["fit", "transform"]), None],
        "random_state": ["random_state"],
    }

    def __init__(self, featurizer=None, *, random_state=None):
        self.featurizer = featurizer
        self.random_state = random_state

    @fit_context
    def fit(self, X, y, sample_weight=None):
        steps = as_steps(X)
        y = np.asarray(y)
        self.classes_ = np.unique(y)
        featurizer = PRMFeaturizer(context="prefix") if self.featurizer is None else clone(self.featurizer)
        self.members_ = [
            make_pipeline(featurizer, StandardScaler(), LogisticRegression(C=1e-3, max_iter=300)),
            make_pipeline(StepWords(), LogisticRegression(max_iter=300)),
            make_pipeline(StepStatistics(), HistGradientBoostingClassifier(random_state=self.random_state)),
        ]
        for member in self.members_:
            fit_weighted(member, steps, y, sample_weight)
        return self

    def predict_proba(self, X):
        check_is_fitted(self)
        steps = as_steps(X)
        return np.mean([member.predict_proba(steps) for member in self.members_], axis=0)

    def predict(self, X):
        proba = self.predict_proba(X)
        return self.classes_[proba.argmax(axis=1)]
