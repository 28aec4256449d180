"""The default model: four views of a step, each with the classifier that suits it, stacked by problem."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn import config_context
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils import check_consistent_length, column_or_1d
from sklearn.utils.validation import _check_sample_weight, check_is_fitted

from prmkit.data.growing import Growing, Then, Together, growing
from prmkit.data.problem_keys import problem_groups
from prmkit.data.solution import Step, as_steps
from prmkit.data.splitters import StratifiedProblemKFold
from prmkit.features import PRMFeaturizer, StepStatistics, StepWords
from prmkit.models.heads.head import Featurizer, Head, Matrix, StepViews, choose_decision_weights, featurizer_for
from prmkit.utils.environment import one_thread, safe_after_fork
from prmkit.utils.sklearn import (
    HasDefaultParts,
    HasMethods,
    Interval,
    ReadsSteps,
    distinct_classes,
    fit_context,
    fit_weighted,
    random_generator,
)

# A smaller probability says no more than this one.
_FLOOR = 1e-5
# Largest log-ratio of a member: one member, however sure, must not decide alone.
_BOUND = 9.0
_FOLDS = 3
_VIEW_OF = {"trees": "statistics", "statistics": "statistics", "words": "words", "embeddings": "embeddings"}


class StepBlend(HasDefaultParts, ReadsSteps, Head, ClassifierMixin, BaseEstimator):
    """Stack classifiers of a step's embeddings, words and statistics.

    Up to four members look at a step: gradient-boosted trees on its statistics, logistic regression on the same
    statistics, on the words and character runs of its text, and on its embedding in context. Their
    predictions for problems they have not seen (three folds by problem) teach a last logistic regression how far
    to trust each of them, which also keeps the probabilities calibrated.

    Parameters
    ----------
    featurizer : transformer over steps or None, default=None
        Gives the embeddings. If ``None``, ``PRMFeaturizer()``. A :class:`~prmkit.PRMFeaturizer` without a context gets
        ``context="prefix"``.
    members : sequence of {"trees", "statistics", "words", "embeddings"}, default=all of them
        The members that are joined. Without ``"embeddings"`` no text is encoded, and ``featurizer`` is not used.
    C : float, default=1.0
        Factor of the inverse penalty of the three logistic regressions. A smaller number makes them simpler.
    n_trees : int, default=150
        Number of rounds in which the boosted trees grow, one tree per class in each.
    random_state : int, RandomState or None, default=None
        Seed of the folds and the trees.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Columns of ``predict_proba``, sorted.
    views_ : dict of str to transformer
        The fitted views that the members read: "statistics", "words", "embeddings".
    members_ : dict of str to classifier
        The fitted members, by the names of ``members``.
    blend_ : LogisticRegression or None
        The classifier that joins the members. ``None`` if a class occurs in fewer than three problems, which are too
        few to stack by. The members' log-probabilities are then averaged, and ``decision_weights_`` are equal.
    decision_weights_ : ndarray of shape (n_classes,)
        ``predict`` answers the class with the largest probability times weight. Chosen for macro-F1 on the
        out-of-fold predictions, because the likeliest class alone is nearly always "positive".

    See Also
    --------
    prmkit.PRMClassifier : the front door, whose default head this is.

    Notes
    -----
    Stacking on out-of-fold predictions is Wolpert's stacked generalization (Neural Networks 5, 1992).
    Why it is the default: ``benchmarks/bench_quality.py`` compared it on 11 public data sets by AUROC / average
    precision of wrong steps / macro-F1, means over the data sets, on new problems of each (and with the
    whole family of data sets left out of training): this model 0.788 / 0.470 / 0.673 (0.648 / 0.309 / 0.526), trees on
    the statistics alone 0.761 / 0.437 / 0.658 (0.610 / 0.276 / 0.531), TF-IDF with logistic regression
    0.719 / 0.355 / 0.606 (0.576 / 0.207 / 0.453), MiniLM embeddings with logistic regression 0.693 / 0.314 / 0.586
    (0.539 / 0.184 / 0.478), ``StepTransformer`` 0.668 / 0.312 / 0.577 (0.532 / 0.181 / 0.465).

    Examples
    --------
    >>> from prmkit.data import make_arithmetic_solutions
    >>> X, y = make_arithmetic_solutions(20, 2, random_state=0)
    >>> StepBlend(random_state=0).fit(X, y).predict_proba(X).shape == (len(X), 3)
    True
    """

    learns = True
    reads = "steps"
    read_by = ("views_",)
    is_smooth = True
    _parameter_constraints = {
        "featurizer": [HasMethods(["fit", "transform"]), None],
        "members": ["array-like"],
        "C": [Interval(Real, 0, None, closed="neither")],
        "n_trees": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    }

    classes_: np.ndarray
    views_: dict[str, Any]
    members_: dict[str, Any]
    blend_: LogisticRegression | None
    decision_weights_: np.ndarray

    def __init__(
        self,
        featurizer: Featurizer | None = None,
        *,
        members: Sequence[str] = ("trees", "statistics", "words", "embeddings"),
        C: float = 1.0,
        n_trees: int = 150,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.featurizer = featurizer
        self.members = members
        self.C = C
        self.n_trees = n_trees
        self.random_state = random_state

    def _default_part(self, name: str) -> PRMFeaturizer:
        return PRMFeaturizer()

    @fit_context
    @safe_after_fork()
    def fit(
        self,
        X: Sequence[Step] | Sequence[str] | StepViews,
        y: npt.ArrayLike,
        sample_weight: npt.ArrayLike | None = None,
    ) -> StepBlend:
        """Learn views, members and the blend.

        Parameters
        ----------
        X : 1-D array-like of Step or str, or StepViews
            Steps, or the result of ``read``.
        y : array-like of shape (n_steps,)
            Label of each step, of at least two classes.
        sample_weight : array-like of shape (n_steps,), default=None
            Weight of each step, in every member, in the blend and in the choice of ``decision_weights_``.

        Returns
        -------
        StepBlend
            The fitted head.

        Raises
        ------
        TypeError, ValueError
            If X is not a flat list of steps, y does not label each of them, all steps are blank, or there is no such
            member.
        """
        steps = X if isinstance(X, StepViews) else as_steps(X)
        labels: np.ndarray = column_or_1d(y)
        check_consistent_length(steps.problems if isinstance(steps, StepViews) else steps, labels)
        # An error here comes before the views are computed.
        self.classes_, weight = distinct_classes(labels), None
        views = steps if isinstance(steps, StepViews) else self._read(None, steps, labels)
        if sample_weight is not None:
            weight = _check_sample_weight(sample_weight, labels, dtype=np.float64, ensure_non_negative=True)
        seed = int(random_generator(self.random_state).randint(2**31 - 1))
        with config_context(transform_output="default"), one_thread():
            self.blend_, self.decision_weights_ = self._fit_blend(views, labels, weight, seed)
            self.members_ = self._fit_members(views, labels, weight, slice(None), seed)
        return self

    def _read(
        self,
        featurizer: Featurizer | None,
        X: Sequence[Step] | Matrix,
        y: np.ndarray | None = None,
        groups: npt.ArrayLike | None = None,
    ) -> StepViews:
        """Return the rows of steps in the views, which are fitted if y is given."""
        if y is not None:
            self._validate_params()
            if not len(self.members) or set(self.members) - set(_VIEW_OF) or len(set(self.members)) < len(self.members):
                raise ValueError(f"members is {list(self.members)}, expected some of {list(_VIEW_OF)}, each once")
            views = {"statistics": StepStatistics(), "words": StepWords(), "embeddings": None}
            self.views_ = {name: views[name] for name in views if name in map(_VIEW_OF.get, self.members)}
            if "embeddings" in self.views_:
                self.views_["embeddings"] = featurizer_for(self, self.featurizer)
        else:
            check_is_fitted(self)
        # Inside, rows are arrays, whatever output the user has set for transformers.
        with config_context(transform_output="default"):
            rows = {
                name: _plain(view.transform(X) if y is None else view.fit_transform(X, y))
                for name, view in self.views_.items()
            }
        return StepViews(rows, problem_groups(X))

    @safe_after_fork()
    def predict_proba(self, X: Sequence[Step] | Sequence[str] | StepViews) -> np.ndarray:
        """Return the probability of each class.

        Parameters
        ----------
        X : 1-D array-like of Step or str, or StepViews
            Steps, or the result of ``read``.

        Returns
        -------
        ndarray of shape (n_steps, n_classes)
            Columns in the order of ``classes_``.
        """
        check_is_fitted(self)
        views = X if isinstance(X, StepViews) else self._read(None, as_steps(X))
        with config_context(transform_output="default"), one_thread():
            ratios = self._ratios(self.members_, views, slice(None))
            if self.blend_ is not None:
                proba: np.ndarray = self.blend_.predict_proba(ratios.reshape(len(ratios), -1))
                return proba
        odds = np.exp(np.concatenate([ratios.mean(axis=1), np.zeros((len(ratios), 1))], axis=1))
        averaged: np.ndarray = odds / odds.sum(axis=1, keepdims=True)
        return averaged

    def predict(self, X: Sequence[Step] | Sequence[str] | StepViews) -> np.ndarray:
        """Return the class of each step, the most probable one after weighing with ``decision_weights_``.

        Parameters
        ----------
        X : 1-D array-like of Step or str, or StepViews
            Steps, or the result of ``read``.

        Returns
        -------
        ndarray of shape (n_steps,)
            Labels out of ``classes_``.
        """
        proba = self.predict_proba(X)  # first: it raises NotFittedError
        labels: np.ndarray = self.classes_[(proba * self.decision_weights_).argmax(axis=1)]
        return labels

    def grow(self, problem: str, featurizer: object = None) -> Growing:
        """Return a solution of a problem that grows: the way of :class:`~prmkit.scoring.IncrementalScorer`.

        Parameters
        ----------
        problem : str
            Text of the problem.
        featurizer : object, default=None
            Ignored: the head has views of its own.

        Returns
        -------
        Growing
            Its ``extend(steps)`` returns the probabilities of the new steps.
        """
        check_is_fitted(self)
        return Then(_GrowingViews(self.views_, problem), self.predict_proba)

    def _fit_blend(
        self, views: StepViews, y: np.ndarray, weight: np.ndarray | None, seed: int
    ) -> tuple[LogisticRegression | None, np.ndarray]:
        """Learn from out-of-fold predictions how to join the members, and the weights of the classes."""
        n_classes = len(self.classes_)
        problems = views.problems
        if min(len(np.unique(problems[y == label])) for label in self.classes_) < _FOLDS:
            return None, np.ones(n_classes)
        ratios = np.zeros((len(y), len(self.members), n_classes - 1))
        splitter = StratifiedProblemKFold(_FOLDS, shuffle=True, random_state=seed)
        for learn, check in splitter.split(y, y, problems):
            if len(np.unique(y[learn])) < 2:
                return None, np.ones(n_classes)
            ratios[check] = self._ratios(self._fit_members(views, y, weight, learn, seed), views, check)
        rows = ratios.reshape(len(y), -1)
        blend = LogisticRegression(max_iter=300).fit(rows, y, sample_weight=weight)
        # The blend has a handful of weights: the rows it learnt from are good enough to choose one number by.
        codes = np.searchsorted(self.classes_, y)
        return blend, choose_decision_weights(codes, blend.predict_proba(rows), weight)

    def _ratios(self, members: dict[str, Any], views: StepViews, rows: Any) -> np.ndarray:
        """Log-probability of each class but the last, less that of the last: (n_rows, members, classes - 1)."""
        columns = []
        for name, member in members.items():
            known = member.predict_proba(views.rows[_VIEW_OF[name]][rows])
            proba = np.full((len(known), len(self.classes_)), _FLOOR)
            proba[:, np.searchsorted(self.classes_, member.classes_)] = np.maximum(known, _FLOOR)
            log_proba = np.log(proba)
            columns.append(np.clip(log_proba[:, :-1] - log_proba[:, -1:], -_BOUND, _BOUND))
        return np.stack(columns, axis=1)

    def _fit_members(
        self, views: StepViews, y: np.ndarray, weight: np.ndarray | None, rows: Any, seed: int
    ) -> dict[str, Any]:
        part = None if weight is None else weight[rows]
        known = make_members(seed, self.C, self.n_trees)
        with warnings.catch_warnings():
            # They are stopped on purpose, some digits before the exact solution.
            warnings.simplefilter("ignore", ConvergenceWarning)
            return {
                name: fit_weighted(known[name], views.rows[_VIEW_OF[name]][rows], y[rows], part)
                for name in self.members
            }


class _GrowingViews:
    """A solution as several views of its steps. ``extend`` returns the ``StepViews`` of the new steps."""

    def __init__(self, views: dict[str, Any], problem: str) -> None:
        # Inside, rows are arrays, whatever output the user has set for transformers.
        with config_context(transform_output="default"):
            self._names = list(views)
            self._views = Together([growing(view, problem, "transform") for view in views.values()])

    def extend(self, steps: Sequence[str]) -> StepViews:
        """Return the rows of the new steps in each view."""
        with config_context(transform_output="default"):
            rows = [_plain(rows) for rows in self._views.extend(steps)]
        return StepViews(dict(zip(self._names, rows, strict=True)), np.zeros(len(steps), dtype=np.int64))

    def fork(self) -> _GrowingViews:
        """Return a copy that grows by itself."""
        other = copy.copy(self)
        other._views = self._views.fork()
        return other


def _plain(rows: Any) -> Any:
    """Return the numbers of a data frame, which a featurizer may have been told to give."""
    return rows.to_numpy() if hasattr(rows, "to_numpy") else rows


def make_members(random_state: int | None = None, C: float = 1.0, n_trees: int = 150) -> dict[str, Any]:
    """Return the members of the blend, not fitted, by name."""
    logistic = {"max_iter": 150, "tol": 1e-3}
    return {
        "trees": HistGradientBoostingClassifier(
            learning_rate=0.08,
            max_iter=n_trees,
            max_leaf_nodes=15,
            max_bins=63,  # as good as 255 on counts and shares, and faster
            l2_regularization=1.0,
            early_stopping=False,
            random_state=random_state,
        ),
        "statistics": make_pipeline(
            FunctionTransformer(signed_log),
            StandardScaler(),
            FunctionTransformer(bounded),
            LogisticRegression(C=0.03 * C, **logistic),
        ),
        "words": LogisticRegression(C=C, **logistic),
        "embeddings": make_pipeline(StandardScaler(), LogisticRegression(C=1e-3 * C, **logistic)),
    }


def signed_log(X: np.ndarray) -> np.ndarray:
    """Shrink large counts, keeping their sign."""
    shrunk: np.ndarray = np.sign(X) * np.log1p(np.abs(X))
    return shrunk


def bounded(X: np.ndarray) -> np.ndarray:
    """Cut standardised values at four deviations, so that no rare count decides alone."""
    cut: np.ndarray = np.clip(X, -4.0, 4.0)
    return cut
