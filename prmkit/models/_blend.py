"""The default model: four views of a step, each with the classifier that suits it, stacked by problem."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from prmkit.data._solution import Step, as_steps, problem_groups
from prmkit.data._splitters import StratifiedProblemKFold
from prmkit.features import PRMFeaturizer, StepStatistics, StepWords
from prmkit.models._decision import choose_decision_weights
from prmkit.utils._sklearn import HasMethods, ReadsSteps, fit_context, fit_weighted

_FLOOR = 1e-5  # probabilities below it say no more than it does
_FOLDS = 3


class StepBlend(ReadsSteps, ClassifierMixin, BaseEstimator):
    """Embeddings, words and statistics of a step, each with its own classifier, stacked.

    Four members look at a step: gradient-boosted trees on its statistics, logistic regression on the same
    statistics, on the words and character runs of its text, and on its embedding in context. Their
    predictions for problems they have not seen (three folds by problem) teach a last logistic regression how far
    to trust each of them, which also keeps the probabilities calibrated.

    Parameters
    ----------
    featurizer : transformer over steps or None, default=None
        Gives the embeddings. None: ``PRMFeaturizer(context="prefix")``.
    random_state : int, RandomState or None, default=None
        Of the folds and the trees.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    views_ : dict of str to transformer
        The fitted views: "statistics", "words", "embeddings".
    members_ : dict of str to classifier
        The fitted members: "trees", "statistics", "words", "embeddings".
    blend_ : LogisticRegression or None
        None where there were too few problems to stack by (fewer than three with a class): the members'
        log-probabilities are then averaged.

    decision_weights_ : ndarray of shape (n_classes,)
        ``predict`` answers the class with the largest probability times weight. Chosen for macro-F1 on the
        out-of-fold predictions, because the likeliest class alone is nearly always "positive".

    Notes
    -----
    Stacking on out-of-fold predictions is Wolpert's stacked generalization (Neural Networks 5, 1992).
    ``benchmarks/bench_quality.py`` compares this model with each of its parts and with other heads.

    Examples
    --------
    >>> from prmkit.data import make_arithmetic_solutions
    >>> X, y = make_arithmetic_solutions(20, 2, random_state=0)
    >>> StepBlend(random_state=0).fit(X, y).predict_proba(X).shape == (len(X), 3)
    True
    """

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
        """Learn views, members and the blend.

        Parameters
        ----------
        X : 1-D array-like of Step or str
        y : array-like of shape (n_steps,)
        sample_weight : array-like of shape (n_steps,), optional

        Returns
        -------
        self
        """
        steps, y = as_steps(X), np.asarray(y)
        self.classes_ = np.unique(y)
        weight = None if sample_weight is None else np.asarray(sample_weight, dtype=float)
        embeddings = PRMFeaturizer(context="prefix") if self.featurizer is None else clone(self.featurizer)
        self.views_ = {"statistics": StepStatistics(), "words": StepWords(), "embeddings": embeddings}
        views = {name: view.fit_transform(steps, y) for name, view in self.views_.items()}
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        self.blend_, self.decision_weights_ = self._fit_blend(steps, views, y, weight, seed)
        self.members_ = _fit_members(views, y, weight, slice(None), seed)
        return self

    def predict_proba(self, X) -> np.ndarray:
        """Probability of each class, of shape (n_steps, n_classes)."""
        check_is_fitted(self)
        ratios = self._ratios(self.members_, self._views(as_steps(X)), slice(None))
        if self.blend_ is not None:
            return self.blend_.predict_proba(ratios.reshape(len(ratios), -1))
        odds = np.exp(np.concatenate([ratios.mean(axis=1), np.zeros((len(ratios), 1))], axis=1))
        return odds / odds.sum(axis=1, keepdims=True)

    def predict(self, X) -> np.ndarray:
        """Class of each step that is likeliest after weighing with ``decision_weights_``."""
        proba = self.predict_proba(X)  # first: it raises NotFittedError
        return self.classes_[(proba * self.decision_weights_).argmax(axis=1)]

    def _views(self, steps: list[Step]) -> dict[str, Any]:
        return {name: view.transform(steps) for name, view in self.views_.items()}

    def _fit_blend(
        self, steps: list[Step], views: dict[str, Any], y: np.ndarray, weight: np.ndarray | None, seed: int
    ) -> tuple[LogisticRegression | None, np.ndarray]:
        groups, equal = problem_groups(steps), np.ones(len(self.classes_))
        if min(len(np.unique(groups[y == label])) for label in self.classes_) < _FOLDS:
            return None, equal
        ratios = np.zeros((len(y), len(_VIEW_OF), len(self.classes_) - 1))
        splitter = StratifiedProblemKFold(_FOLDS, shuffle=True, random_state=seed)
        for learn, check in splitter.split(steps, y):
            if len(np.unique(y[learn])) < 2:
                return None, equal
            ratios[check] = self._ratios(_fit_members(views, y, weight, learn, seed), views, check)
        ratios = ratios.reshape(len(y), -1)
        blend = LogisticRegression(max_iter=300).fit(ratios, y, sample_weight=weight)
        codes = np.searchsorted(self.classes_, y)
        return blend, choose_decision_weights(codes, blend.predict_proba(ratios), weight)

    def _ratios(self, members: dict[str, Any], views: dict[str, Any], rows: Any) -> np.ndarray:
        """Log-probability of each class but the last, less that of the last, by each member."""
        columns = []
        for name, member in members.items():
            known = member.predict_proba(views[_VIEW_OF[name]][rows])
            proba = np.full((len(known), len(self.classes_)), _FLOOR)
            proba[:, np.searchsorted(self.classes_, member.classes_)] = np.maximum(known, _FLOOR)
            log_proba = np.log(proba)
            columns.append(np.clip(log_proba[:, :-1] - log_proba[:, -1:], -9.0, 9.0))
        return np.stack(columns, axis=1)


def _fit_members(
    views: dict[str, Any], y: np.ndarray, weight: np.ndarray | None, rows: Any, seed: int
) -> dict[str, Any]:
    part = None if weight is None else weight[rows]
    with warnings.catch_warnings():  # they are stopped on purpose before the last digit is right
        warnings.simplefilter("ignore", ConvergenceWarning)
        return {
            name: fit_weighted(member, views[_VIEW_OF[name]][rows], y[rows], part)
            for name, member in make_members(seed).items()
        }


_VIEW_OF = {"trees": "statistics", "statistics": "statistics", "words": "words", "embeddings": "embeddings"}


def make_members(random_state: int | None = None) -> dict[str, Any]:
    """The members of the blend, not fitted, by name."""
    logistic = {"max_iter": 150, "tol": 1e-3}
    return {
        "trees": HistGradientBoostingClassifier(
            learning_rate=0.06,
            max_iter=200,
            max_leaf_nodes=15,
            l2_regularization=1.0,
            early_stopping=False,
            random_state=random_state,
        ),
        "statistics": make_pipeline(
            FunctionTransformer(signed_log),
            StandardScaler(),
            FunctionTransformer(bounded),
            LogisticRegression(C=0.03, **logistic),
        ),
        "words": LogisticRegression(C=1.0, **logistic),
        "embeddings": make_pipeline(StandardScaler(), LogisticRegression(C=1e-3, **logistic)),
    }


def signed_log(X: np.ndarray) -> np.ndarray:
    """Shrink large counts, keeping their sign."""
    return np.sign(X) * np.log1p(np.abs(X))


def bounded(X: np.ndarray) -> np.ndarray:
    """Cut standardised values at four deviations, so that no rare count decides alone."""
    return np.clip(X, -4.0, 4.0)
