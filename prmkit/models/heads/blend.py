"""The default model: views of a step, each with the classifier that suits it, stacked by problem."""

from __future__ import annotations

import copy
import json
import logging
import time
import warnings
from collections.abc import Sequence
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from sklearn import config_context
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.utils import check_consistent_length, column_or_1d
from sklearn.utils.validation import _check_sample_weight, check_is_fitted

from prmkit.data.growing import Growing, Then, Together, extend_together, growing
from prmkit.data.problem_keys import problem_groups
from prmkit.data.solution import Step, as_steps
from prmkit.data.splitters import StratifiedProblemKFold
from prmkit.features import PRMFeaturizer, StepStatistics, StepWords
from prmkit.models.heads._view_gains import HEADER, Folds, ViewRow, cells, frame, gains, in_words, sampled_rows
from prmkit.models.heads.head import (
    Featurizer,
    Head,
    Matrix,
    StepViews,
    choose_decision_weights,
    featurizer_for,
    most_probable,
)
from prmkit.models.heads.members import MODEL_VIEWS, VIEW_OF, make_members, members_for, view_of
from prmkit.utils.environment import one_thread, safe_after_fork
from prmkit.utils.sklearn import (
    HasDefaultParts,
    HasMethods,
    Interval,
    ReadsSteps,
    StrOptions,
    distinct_classes,
    fit_context,
    fit_weighted,
    random_generator,
)

if TYPE_CHECKING:
    import pandas as pd

_log = logging.getLogger("prmkit.models")

# A smaller probability says no more than this one.
_FLOOR = 1e-5
# Largest log-ratio of a member: one member, however sure, must not decide alone.
_BOUND = 9.0
_FOLDS = 3
# A view that costs a model pass is tried on so many steps, and then on more, of so many problems at least.
_LOOKS = (1000, 2000)
_FEWEST_PROBLEMS = 20


class StepBlend(HasDefaultParts, ReadsSteps, Head, ClassifierMixin, BaseEstimator):
    """Stack classifiers of a step's statistics and words, and of its embeddings or states where they help.

    Up to five members look at a step: gradient-boosted trees on its statistics, and logistic regression on the same
    statistics, on the words and character runs of its text, on what a model makes of it in context, its embedding or
    its states, and on the log-probabilities of its tokens. Their predictions for problems they have not seen (three
    folds by problem) teach a last logistic regression how far to trust each of them, which also keeps the
    probabilities calibrated.

    Parameters
    ----------
    featurizer : transformer over steps or None, default=None
        Gives the embeddings, or any other numbers: ``PRMFeaturizer(kind="states")`` gives the view and member
        ``"states"``, and with ``log_probs=True`` the member ``"log_probs"`` of the same view. A
        :class:`~prmkit.PRMFeaturizer` without a context gets ``context="prefix"``. If ``None``, ``PRMFeaturizer()``,
        which ``members="auto"`` leaves out unless it helps.
    members : "auto" or sequence of str, default="auto"
        The members that are joined, out of "trees", "statistics", "words" and "embeddings", or "states" and "log_probs"
        instead of the last. A sequence is obeyed. Without one of the last three no model reads the text, and
        ``featurizer`` is not used. ``"auto"`` joins all, and a ``featurizer`` that is given is obeyed too. Without one,
        a sample of 1,000 steps is encoded first, one solution of each problem before a second one, and of 2,000 if the
        first look finds a gain. The embeddings are used if they lower the log loss there: if the 95 % interval of the
        gain, by problem, is above zero. With fewer than 20 problems nothing can be shown, and they are left out.
        ``view_report_`` says what was found.
    C : float, default=1.0
        Factor of the inverse penalty of the members that are logistic regressions. A smaller number makes them simpler.
    n_trees : int, default=150
        Number of rounds in which the boosted trees grow, one tree per class in each.
    random_state : int, RandomState or None, default=None
        Seed of the folds and the trees.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Columns of ``predict_proba``, sorted.
    views_ : dict of str to transformer
        The fitted views that the members read: "statistics", "words", "embeddings" or "states". If the last was left
        out, predictions need neither torch nor the weights of an encoder.
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
    A view that is left out costs its sample in ``fit`` and nothing in use. The sample gives each step the same weight,
    whatever ``sample_weight`` says. It depends on ``random_state`` alone, never on the time that a view took.

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
    too_long = "nan"  # a step that does not fit into a language model has no probabilities
    is_smooth = True
    _parameter_constraints = {
        "featurizer": [HasMethods(["fit", "transform"]), None],
        "members": [StrOptions({"auto"}), "array-like"],
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
        members: Literal["auto"] | Sequence[str] = "auto",
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
        known = self.__dict__.pop("_known", None)
        if (lost := _lost(views)).any():
            warnings.warn(
                f"{lost.sum()} of {len(lost)} steps do not fit into the model of the featurizer (NaN): nothing is "
                "learnt from them",
                UserWarning,
                stacklevel=3,
            )
            views, labels = views.take(~lost), labels[~lost]
            weight = None if weight is None else weight[~lost]
            if not np.array_equal(np.unique(labels), self.classes_):
                raise ValueError("no step of a class fits into the model of the featurizer: raise max_length")
        seed = self._seed()
        with config_context(transform_output="default"), one_thread():
            if known is None or known[0] is not views or weight is not None or not np.array_equal(known[1], labels):
                known = (views, labels, *self._out_of_fold(views, labels, self.classes_, weight, seed))
            self.blend_, self.decision_weights_ = self._fit_blend(labels, weight, known[2])
            # As text, a saved folder holds it in one line.
            self._report = json.dumps(_filled(views, labels, weight, *known[2:]))
            self.members_ = self._fit_members(views, labels, weight, slice(None), seed)
        return self

    @property
    def view_report_(self) -> pd.DataFrame:
        """What each view adds to those that are cheaper, and whether it was kept.

        Returns
        -------
        DataFrame
            A row per view, the cheapest first. ``gain`` is by how much it lowers the log loss of a step, in natural
            logarithms, on out-of-fold predictions; ``gain_low`` and ``gain_high`` are the 95 % interval by problem. The
            first view is compared with the shares of the classes. NaN says that there are too few problems. The row of
            a view that was tried on a sample is of this sample. ``seconds_per_1000_steps`` is the time that its numbers
            took, where the cache had none of them. ``kept`` decides what the model reads, and ``attrs["reasons"]`` of
            the frame says why.
        """
        if not hasattr(self, "_report"):
            raise AttributeError("there is no view_report_ before fit, nor of a head that an older version has fitted")
        return frame(json.loads(self._report))

    def view_table(self) -> list[list[str]]:
        """Return the report on the views as text, with the reasons.

        Returns
        -------
        list of list of str
            A header and a row per view. Nothing for a head that an earlier version has fitted.
        """
        check_is_fitted(self)
        rows: list[ViewRow] = json.loads(getattr(self, "_report", "[]"))
        return [HEADER, *map(cells, rows)] if rows else []

    def _seed(self) -> int:
        return int(random_generator(self.random_state).randint(2**31 - 1))

    def _read(
        self,
        featurizer: Featurizer | None,
        X: Sequence[Step] | Matrix,
        y: np.ndarray | None = None,
        groups: npt.ArrayLike | None = None,
    ) -> StepViews:
        """Return the rows of steps in the views, which are fitted if y is given."""
        # Inside, rows are arrays, whatever output the user has set for transformers.
        with config_context(transform_output="default"):
            if y is not None:
                return self._fit_views(X, y)
            check_is_fitted(self)
            rows = {name: _plain(view.transform(X)) for name, view in self.views_.items()}
        return StepViews(rows, problem_groups(X))

    def _fit_views(self, X: Sequence[Step], y: np.ndarray) -> StepViews:
        """Fit the views that the members ask for, and the one that costs a model pass if it is asked for or helps."""
        self._validate_params()
        from_model = view_of(self.featurizer)
        known = members_for(self.featurizer)
        members = known if isinstance(self.members, str) else list(self.members)
        if not members or set(members) - set(known) or len(set(members)) < len(members):
            raise ValueError(f"members is {members}, expected some of {known}, each once")
        wanted = {VIEW_OF[name] for name in members}
        self.views_: dict[str, Any] = {}
        views = StepViews({}, problem_groups(X))
        reason = "made without a model" if isinstance(self.members, str) else "asked for"
        for name, view in (("statistics", StepStatistics()), ("words", StepWords())):
            if name in wanted:
                self._add_view(name, view, X, y, views, reason)
        if from_model in wanted:
            encoder = featurizer_for(self, self.featurizer)
            asked = self.featurizer is not None or not isinstance(self.members, str)
            if asked or self._helps(from_model, encoder, X, y, views):
                self._add_view(from_model, encoder, X, y, views, "asked for")
        return views

    def _add_view(self, name: str, view: Any, X: Sequence[Step], y: np.ndarray, views: StepViews, reason: str) -> None:
        """Fit a view, and put its rows to the others."""
        start = time.perf_counter()
        self.views_[name], views.rows[name] = view, _plain(view.fit_transform(X, y))
        seconds = 1000 * (time.perf_counter() - start) / len(y)
        views.report.setdefault(name, {"view": name, "seconds_per_1000_steps": seconds, "kept": True, "reason": reason})

    def _helps(self, name: str, view: Any, X: Sequence[Step], y: np.ndarray, views: StepViews) -> bool:
        """Try a view on a sample of solutions, and write into the report whether it is worth its cost.

        A first look that finds no gain at all is the last one.
        """
        seed = self._seed()
        found: ViewRow = {"view": name, "kept": False}
        for most in _LOOKS:
            rows = sampled_rows(X, views.problems, most, seed)
            problems, classes = views.problems[rows], np.unique(y[rows])
            classes = classes[[len(np.unique(problems[y[rows] == label])) >= _FOLDS for label in classes]]
            rows = rows[np.isin(y[rows], classes)]
            n_problems = len(np.unique(views.problems[rows]))
            sample = f"on a sample of {len(rows):,} steps of {n_problems:,} problems"
            found["reason"] = f"no gain can be shown {sample}; that takes two classes and {_FEWEST_PROBLEMS} problems"
            if n_problems < _FEWEST_PROBLEMS or len(classes) < 2:
                break
            part, labels = views.take(rows), y[rows]
            start = time.perf_counter()
            part.rows[name] = _plain(view.fit_transform([X[i] for i in rows], labels))
            # Of the second look the cache knows the half.
            found.setdefault("seconds_per_1000_steps", 1000 * (time.perf_counter() - start) / len(rows))
            with one_thread():
                ratios, folds = self._out_of_fold(part, labels, classes, None, seed)
                if not ratios:
                    break
                own = ratios.pop(name)
                stacked = {"cheaper": np.hstack(list(ratios.values())), name: own}
                measured = gains(stacked, np.searchsorted(classes, labels), folds, part.problems)[name]
            found.update(measured)
            found["kept"] = (measured["gain_low"] or 0.0) > 0
            found["reason"] = f"its gain is {'' if found['kept'] else 'not '}above zero {sample}"
            if len(rows) == len(y):  # ``fit`` need not predict anew
                self._known = (views, y, ratios | ({name: own} if found["kept"] else {}), folds)
            if len(rows) == len(y) or (measured["gain"] or 0.0) <= 0:
                break
        views.report[name] = found
        others = "" if found["kept"] else ". Predicting needs neither torch nor the weights of an encoder"
        _log.info("%s%s. views=(…) of PRMClassifier overrules this", in_words(found), others)
        return found["kept"]

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
            Columns in the order of ``classes_``. NaN for a step that does not fit into the model of the featurizer.
        """
        check_is_fitted(self)
        views = X if isinstance(X, StepViews) else self._read(None, as_steps(X))
        if (lost := _lost(views)).any():
            known = np.full((len(lost), len(self.classes_)), np.nan)
            if not lost.all():
                known[~lost] = self.predict_proba(views.take(~lost))
            return known
        with config_context(transform_output="default"), one_thread():
            by_member = list(_ratios(self.members_, views, slice(None), self.classes_).values())
            if self.blend_ is not None:
                proba: np.ndarray = self.blend_.predict_proba(np.hstack(by_member))
                return proba
        ratios = np.stack(by_member, axis=1)
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
        return most_probable(self.classes_, proba * self.decision_weights_)

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

    def _out_of_fold(
        self, views: StepViews, y: np.ndarray, classes: np.ndarray, weight: np.ndarray | None, seed: int
    ) -> tuple[dict[str, np.ndarray], Folds]:
        """Return the log-ratios of each member for problems that it has not seen, and the folds.

        There are none if a class is in so few problems that they cannot be divided.
        """
        problems = views.problems
        if min(len(np.unique(problems[y == label])) for label in classes) < _FOLDS:
            return {}, []
        folds = list(StratifiedProblemKFold(_FOLDS, shuffle=True, random_state=seed).split(y, y, problems))
        if any(len(np.unique(y[learn])) < 2 for learn, _ in folds):
            return {}, []
        found: dict[str, np.ndarray] = {}
        for learn, check in folds:
            members = self._fit_members(views, y, weight, learn, seed)
            for name, ratios in _ratios(members, views, check, classes).items():
                found.setdefault(name, np.zeros((len(y), len(classes) - 1)))[check] = ratios
        return found, folds

    def _fit_blend(
        self, y: np.ndarray, weight: np.ndarray | None, ratios: dict[str, np.ndarray]
    ) -> tuple[LogisticRegression | None, np.ndarray]:
        """Learn from out-of-fold predictions how to join the members, and the weights of the classes."""
        if not ratios:
            return None, np.ones(len(self.classes_))
        rows = np.hstack(list(ratios.values()))
        blend = LogisticRegression(max_iter=300).fit(rows, y, sample_weight=weight)
        # The blend has a handful of weights: the rows it learnt from are good enough to choose one number by.
        codes = np.searchsorted(self.classes_, y)
        return blend, choose_decision_weights(codes, blend.predict_proba(rows), weight)

    def _fit_members(
        self, views: StepViews, y: np.ndarray, weight: np.ndarray | None, rows: Any, seed: int
    ) -> dict[str, Any]:
        part = None if weight is None else weight[rows]
        known = make_members(seed, self.C, self.n_trees)
        # With weights, the variance of a constant column can be less than zero by rounding. A scaler knows it for zero.
        with warnings.catch_warnings(), np.errstate(invalid="ignore"):
            # They are stopped on purpose, some digits before the exact solution.
            warnings.simplefilter("ignore", ConvergenceWarning)
            return {
                name: fit_weighted(known[name], views.rows[VIEW_OF[name]][rows], y[rows], part)
                for name in (members_for(self.featurizer) if isinstance(self.members, str) else self.members)
                if VIEW_OF[name] in views.rows
            }


def _ratios(members: dict[str, Any], views: StepViews, rows: Any, classes: np.ndarray) -> dict[str, np.ndarray]:
    """Log-probability of each class but the last, less that of the last, by member: (n_rows, classes - 1)."""
    found = {}
    for name, member in members.items():
        known = member.predict_proba(views.rows[VIEW_OF[name]][rows])
        proba = np.full((len(known), len(classes)), _FLOOR)
        proba[:, np.searchsorted(classes, member.classes_)] = np.maximum(known, _FLOOR)
        log_proba = np.log(proba)
        found[name] = np.clip(log_proba[:, :-1] - log_proba[:, -1:], -_BOUND, _BOUND)
    return found


def _lost(views: StepViews) -> np.ndarray:
    """Return which steps have no numbers (NaN) in the view of a model, which they do not fit into."""
    lost = np.zeros(len(views.problems), dtype=bool)
    for name in views.rows.keys() & set(MODEL_VIEWS):
        if isinstance(rows := views.rows[name], np.ndarray) and rows.dtype.kind == "f":
            lost |= np.isnan(rows).any(axis=1)
    return lost


def _by_view(ratios: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Join the columns of members that read one view, the cheapest view first."""
    views = dict.fromkeys(VIEW_OF[name] for name in sorted(ratios, key=list(VIEW_OF).index))
    return {view: np.hstack([rows for name, rows in ratios.items() if VIEW_OF[name] == view]) for view in views}


def _filled(
    views: StepViews, y: np.ndarray, weight: np.ndarray | None, ratios: dict[str, np.ndarray], folds: Folds
) -> list[ViewRow]:
    """Return the report on the views, with the gains of those that no sample has measured."""
    open_ = [name for name in views.rows if "gain" not in views.report.get(name, {})]
    by_view = {name: rows for name, rows in _by_view(ratios).items() if name in open_}
    codes = np.unique(y, return_inverse=True)[1]
    found = gains(by_view, codes, folds, views.problems, weight) if ratios else {}
    rows: list[ViewRow] = []
    for name in [*views.rows, *(name for name in views.report if name not in views.rows)]:
        known: ViewRow = views.report.get(name, {"view": name, "kept": True, "reason": "asked for"})
        rows.append({**known, **found.get(name, {})})
    return rows


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
            return self._of_rows(self._views.extend(steps), len(steps))

    @staticmethod
    def extend_together(grown: Sequence[_GrowingViews], steps: Sequence[Sequence[str]]) -> list[StepViews]:
        """Return the rows of the new steps of each."""
        with config_context(transform_output="default"):
            found = extend_together([one._views for one in grown], steps)
            return [one._of_rows(rows, len(new)) for one, rows, new in zip(grown, found, steps, strict=True)]

    def _of_rows(self, rows: Sequence[Any], n_steps: int) -> StepViews:
        return StepViews(dict(zip(self._names, map(_plain, rows), strict=True)), np.zeros(n_steps, dtype=np.int64))

    def fork(self) -> _GrowingViews:
        """Return a copy that grows by itself."""
        other = copy.copy(self)
        other._views = self._views.fork()
        return other


def _plain(rows: Any) -> Any:
    """Return the numbers of a data frame, which a featurizer may have been told to give."""
    return rows.to_numpy() if hasattr(rows, "to_numpy") else rows
