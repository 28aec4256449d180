"""Several models of one kind, fitted on different problems with different seeds. Disagreement shows missing data."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from joblib import Parallel, delayed
from sklearn.base import BaseEstimator, clone
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted, has_fit_parameter, validate_data

from prmkit.classifier import PRMClassifier
from prmkit.data.growing import Growing, Then, Together, growing
from prmkit.data.labels import check_labels
from prmkit.data.problem_keys import problem_keys
from prmkit.data.solution import as_steps, refuse_steps
from prmkit.data.splitters import holds_numbers
from prmkit.fitted import Label, decision_weights, known_label_order
from prmkit.metrics.solutions.members import MemberUncertainty, decompose_uncertainty
from prmkit.models.heads.head import Head, fit_head, most_probable, read_rows, reads_like, share_reading, take_rows
from prmkit.uncertainty._solutions_input import StepClassifier, Steps
from prmkit.uncertainty._wrapping import WrapsClassifier, is_fitted
from prmkit.utils.environment import each_warning_once
from prmkit.utils.saved import Contents
from prmkit.utils.sklearn import (
    HasMethods,
    Interval,
    distinct_classes,
    fit_context,
    random_generator,
    set_random_states,
)


class AveragesMembers(WrapsClassifier):
    """Mixin of classifiers of steps that answer the mean over their members."""

    @abstractmethod
    def member_proba(self, X: Steps, groups: npt.ArrayLike | None = None) -> np.ndarray:
        """Return the probability of each class by each member, of shape (n_members, n_steps, n_classes)."""

    def predict_proba(self, X: Steps, groups: npt.ArrayLike | None = None) -> np.ndarray:
        """Return the probability of each class: the mean over members.

        Parameters
        ----------
        X : 1-D array-like of Step, or array-like of shape (n_steps, n_features)
            Steps, as in ``fit``.
        groups : array-like of shape (n_steps,), optional
            Solution of each row. Only for numbers and a head over sequences.

        Returns
        -------
        ndarray of shape (n_steps, n_classes)
            Columns in the order of ``classes_``.
        """
        return np.asarray(self.member_proba(X, groups).mean(axis=0))

    def predict(self, X: Steps, groups: npt.ArrayLike | None = None) -> np.ndarray:
        """Return the class of each step: the most likely one, after weighing if the members weigh.

        Parameters
        ----------
        X : 1-D array-like of Step, or array-like of shape (n_steps, n_features)
            Steps, as in ``fit``.
        groups : array-like of shape (n_steps,), optional
            Solution of each row, as in ``predict_proba``.

        Returns
        -------
        ndarray of shape (n_steps,)
            Labels.
        """
        proba = self.predict_proba(X, groups)
        return most_probable(self.classes_, proba * getattr(self, "decision_weights_", 1.0))

    def uncertainty(self, X: Steps, groups: npt.ArrayLike | None = None) -> MemberUncertainty:
        """Return the total, aleatoric and epistemic uncertainty of each step.

        Parameters
        ----------
        X : 1-D array-like of Step, or array-like of shape (n_steps, n_features)
            Steps, as in ``fit``.
        groups : array-like of shape (n_steps,), optional
            Solution of each row, as in ``predict_proba``.

        Returns
        -------
        MemberUncertainty
            Uncertainty of each step. It has ``risk_variance`` if the worst class is known.

        Raises
        ------
        ValueError
            If a step has no probabilities (NaN), because it did not fit into a token model.
        """
        # Before anything else: it raises NotFittedError.
        proba = self.member_proba(X, groups)
        order = self.label_order_
        parts = decompose_uncertainty(proba, self.classes_.tolist().index(order[0]) if order else None)
        if len(proba) > 1 and parts.epistemic.max(initial=0.0) < 1e-12:
            warnings.warn(
                f"all {len(proba)} members give the same answer, so their disagreement says nothing: use "
                "bootstrap=True, a head that learns by chance, or a smaller rate",
                UserWarning,
                stacklevel=2,
            )
        return parts


_MOST_DRAWS = 100


class StepEnsemble(AveragesMembers, BaseEstimator):
    """Fit a classifier of steps several times, on problems drawn with replacement and with other seeds.

    Parameters
    ----------
    classifier : classifier over steps (or of numbers) or None, default=None
        Classifier to copy for each member. It is not changed. If ``None``, it is ``PRMClassifier()``.
    n_members : int, default=5
        Number of members.
    bootstrap : bool, default=True
        Whether each member learns from problems drawn with replacement, as many as there are, each with all its
        steps. If ``False``, all members learn from all steps and differ by their seeds alone.
    n_jobs : int or None, default=None
        Number of members to fit at the same time, each in its own process. If ``None``, it is one.
    random_state : int, RandomState or None, default=None
        Seed of the draws, and of the seeds of all members. The first member keeps the seeds that ``classifier`` has
        set.

    Attributes
    ----------
    members_ : list of fitted classifiers
        The members. Each can be used alone.
    classes_ : ndarray of shape (n_classes,)
        Labels of the columns of ``predict_proba``.
    label_order_ : tuple or None
        Labels from worst to best.
    training_problems_ : ndarray of uint64, or None
        Keys of all problems of ``fit``. ``None`` if problems are not known.
    decision_weights_ : ndarray of shape (n_classes,)
        Only if all members weigh their decisions: the geometric mean of their weights, scaled so that the smallest is
        1.
    n_features_in_ : int
        Only for numeric X: number of columns.

    See Also
    --------
    MCDropout : members from one model that was trained with dropout.

    Notes
    -----
    Bagging is Breiman's (Machine Learning 24, 1996). It draws problems because the steps of a problem are dependent.
    Seeds alone make the deep ensembles of Lakshminarayanan et al. (NeurIPS 2017, arXiv:1612.01474). The log-loss of the
    mean is at most the mean log-loss of the members (Jensen).

    The members of a ``PRMClassifier`` share one pass over the text, in ``fit`` and in use. The featurizer, or the three
    views of the default head with their vocabulary of words, is fitted once on all steps, and each member is a head on
    those rows. So ``training_problems_`` of each member names all problems. A :class:`~prmkit.models.TokenPRM` has
    nothing to share: n members cost n fine-tunings and n passes, and a problem that is drawn twice counts once. Other
    classifiers, such as pipelines, are fitted and asked one by one.

    Examples
    --------
    >>> from prmkit import PRMClassifier
    >>> from prmkit.data import make_arithmetic_solutions
    >>> from prmkit.features import StepStatistics
    >>> data = make_arithmetic_solutions(30, 2, random_state=0)
    >>> ensemble = StepEnsemble(PRMClassifier(StepStatistics()), random_state=0).fit(data.X, data.y)
    >>> ensemble.member_proba(data.X[:4]).shape
    (5, 4, 3)
    >>> parts = ensemble.uncertainty(data.X[:4])
    >>> bool((parts.epistemic >= 0).all() and (parts.epistemic <= parts.total).all())
    True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "classifier": [HasMethods(["fit", "predict_proba"]), None],
        "n_members": [Interval(Integral, 1, None, closed="left")],
        "bootstrap": ["boolean"],
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
    }

    members_: list[Any]
    classes_: np.ndarray
    label_order_: tuple[Label, ...] | None
    training_problems_: np.ndarray | None
    decision_weights_: np.ndarray
    n_features_in_: int

    def __init__(
        self,
        classifier: StepClassifier | None = None,
        n_members: int = 5,
        *,
        bootstrap: bool = True,
        n_jobs: int | None = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.classifier = classifier
        self.n_members = n_members
        self.bootstrap = bootstrap
        self.n_jobs = n_jobs
        self.random_state = random_state

    @fit_context
    def fit(self, X: Steps, y: npt.ArrayLike, groups: npt.ArrayLike | None = None) -> StepEnsemble:
        """Fit the members.

        Parameters
        ----------
        X : 1-D array-like of Step, or array-like of shape (n_steps, n_features)
            Steps, or rows of numbers for a classifier of numbers.
        y : array-like of shape (n_steps,)
            Label of each step.
        groups : array-like of shape (n_steps,), optional
            Only for numeric X: rows of equal group are drawn together, and are one sequence to a head over sequences.
            If ``None``, each row is drawn by itself.

        Returns
        -------
        self
            The fitted ensemble.

        Raises
        ------
        ValueError
            If y does not label each step with a class, or so few problems have a class that the draws miss it.
        """
        template: Any = PRMClassifier() if self.classifier is None else self.classifier
        if isinstance(template, FrozenEstimator):
            raise ValueError(
                "the classifier is frozen, but each member is a copy to be fitted: pass the classifier itself"
            )
        inner = getattr(template, "classifier", None)
        if inner is not None and is_fitted(inner):
            raise ValueError(
                f"the classifier inside {type(template).__name__} is fitted, but members are fitted anew: "
                f"pass {type(template).__name__} with an unfitted classifier"
            )
        order = getattr(template, "label_order", None)
        rows: Any = np.asarray(X) if hasattr(X, "__array__") and not hasattr(X, "__iter__") else X
        if holds_numbers(rows):
            rows, labels = validate_data(self, rows, y)
            units = np.arange(len(labels)) if groups is None else _checked_groups(groups, len(labels))
            self.training_problems_ = None
        else:
            if groups is not None:
                raise ValueError("groups is for numeric X: a Step already knows its problem")
            rows = as_steps(rows)
            labels = check_labels(y, len(rows), order)
            units = problem_keys(rows)
            self.training_problems_ = np.unique(units)
        self.classes_ = distinct_classes(labels)
        seeds = random_generator(self.random_state).randint(2**31 - 1, size=self.n_members)
        draws: list[np.ndarray | None] = [None] * self.n_members
        if self.bootstrap:
            draws = [_draw(units, labels, np.random.RandomState(seed)) for seed in seeds]
        members = [_seeded(template, seed, number) for number, seed in enumerate(seeds.tolist())]
        self.members_ = _fit_members(members, rows, labels, draws, groups, self.n_jobs)
        self.label_order_ = known_label_order(self.members_[0])
        self._weigh_decisions()
        return self

    def member_proba(self, X: Steps, groups: npt.ArrayLike | None = None) -> np.ndarray:
        """Return the probability of each class by each member.

        Parameters
        ----------
        X : 1-D array-like of Step, or array-like of shape (n_steps, n_features)
            Steps, as in ``fit``.
        groups : array-like of shape (n_steps,), optional
            Solution of each row, as in ``predict_proba``.

        Returns
        -------
        ndarray of shape (n_members, n_steps, n_classes)
            Columns in the order of ``classes_``.
        """
        check_is_fitted(self)
        if hasattr(self, "n_features_in_"):
            refuse_steps(X)
            X = validate_data(self, X, reset=False)
        return _stacked_proba(self.members_, X, groups)

    def grow(self, problem: str) -> Growing:
        """Return a solution of a problem that grows: the way of :meth:`incremental`.

        Parameters
        ----------
        problem : str
            Text of the problem.

        Returns
        -------
        Growing
            Its ``extend(steps)`` returns the probabilities of the new steps, the mean over members.
        """
        check_is_fitted(self)
        members = self.members_
        first = growing(members[0], problem)
        shared = all(reads_alike(member, members[0]) for member in members)
        if shared and isinstance(first, Then) and first.do == members[0].head_.predict_proba:
            return Then(first.inner, lambda rows: np.mean([one.head_.predict_proba(rows) for one in members], axis=0))
        others = [growing(member, problem) for member in members[1:]]
        return Then(Together([first, *others]), lambda proba: np.mean(proba, axis=0))

    def _contents(self) -> Contents:
        check_is_fitted(self)
        settings = {name: getattr(self, name) for name in ("n_members", "bootstrap", "n_jobs", "random_state")}
        settings |= {
            "default_classifier": self.classifier is None,
            "numeric": hasattr(self, "n_features_in_"),
            "seeded": getattr(self.classifier, "random_state", None) is not None,
        }
        arrays = {} if self.training_problems_ is None else {"problems": self.training_problems_}
        models = {f"member_{number}": member for number, member in enumerate(self.members_)}
        return Contents(settings, arrays, models=models)

    @classmethod
    def _from_contents(cls, contents: Contents) -> StepEnsemble:
        settings = dict(contents.settings)
        numeric, default, seeded = (settings.pop(name) for name in ("numeric", "default_classifier", "seeded"))
        members = [contents.models[f"member_{number}"] for number in range(len(contents.models))]
        _share_parts(members)
        template = None if default else clone(members[0])
        if template is not None and not seeded and hasattr(template, "random_state"):
            # The seed of the member was drawn for it.
            template.set_params(random_state=None)
        ensemble = cls(template, **settings)
        ensemble.members_ = members
        ensemble.classes_, ensemble.label_order_ = members[0].classes_, members[0].label_order_
        ensemble.training_problems_ = contents.arrays.get("problems")
        if numeric:
            ensemble.n_features_in_ = members[0].n_features_in_
        ensemble._weigh_decisions()
        return ensemble

    def _weigh_decisions(self) -> None:
        """Set the mean of the members' decision weights, if all members weigh."""
        weights = [decision_weights(member) for member in self.members_]
        logs = [np.log(weight) for weight in weights if weight is not None]
        if len(logs) == len(weights):
            mean = np.exp(np.mean(logs, axis=0))
            self.decision_weights_ = mean / mean.min()
        elif hasattr(self, "decision_weights_"):
            # An earlier fit has left them.
            del self.decision_weights_


def _checked_groups(groups: npt.ArrayLike, n_rows: int) -> np.ndarray:
    """Return groups as an array with one entry per row."""
    names = np.asarray(groups)
    if names.shape != (n_rows,):
        raise ValueError(f"groups has shape {names.shape}, expected one per row of X: ({n_rows},)")
    return names


def _draw(units: np.ndarray, y: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
    """Return how often each row counts if units are drawn with replacement, with all classes among the drawn."""
    names, unit = np.unique(units, return_inverse=True)
    classes, code = np.unique(y, return_inverse=True)
    has = np.zeros((len(names), len(classes)), dtype=bool)
    has[unit, code] = True
    for _ in range(_MOST_DRAWS):
        times = np.bincount(rng.randint(len(names), size=len(names)), minlength=len(names))
        if has[times > 0].any(axis=0).all():
            return np.asarray(times[unit])
    rare = int(has.sum(axis=0).argmin())
    raise ValueError(
        f"{_MOST_DRAWS} draws of {len(names)} problems all lack a class; {classes[rare]!r} is in "
        f"{has[:, rare].sum()} of them. Give more problems of each class, or pass bootstrap=False"
    )


def _seeded(template: Any, seed: int, number: int) -> Any:
    """Return a copy of the classifier with its own seeds. The first copy keeps the seeds that are set."""
    member = clone(template)
    if number:
        params = member.get_params(deep=True)
        seeds = [name for name in params if name == "random_state" or name.endswith("__random_state")]
        member.set_params(**dict.fromkeys(seeds))
    # A classifier with a seed of its own seeds its parts.
    if getattr(member, "random_state", None) is None:
        set_random_states(member, seed)
    return member


# Members of an ensemble read the text once: one featurizer for all, and a head for each.


def _fit_members(
    members: list[Any], X: Any, y: np.ndarray, draws: list[np.ndarray | None], groups: Any, n_jobs: int | None
) -> list[Any]:
    """Fit members of one kind, each on the rows drawn for it.

    ``draws`` says how often each row counts for a member, ``None`` that all rows count once. Members that are
    ``PRMClassifier`` share their fitted featurizer, or the views of their default head.
    """
    if not all(type(member) is PRMClassifier for member in members):
        return _fit_parallel(members, X, y, draws, groups, n_jobs)
    for member in members:
        member._validate_params()
        rows_of_X, y = member.begin_fit(X, y)
    first = members[0]
    if first.featurizer_ is not None:
        first.featurizer_.fit(rows_of_X, y)
    own_groups = groups if isinstance(first.head_, Head) else None
    rows = read_rows(first.head_, first.featurizer_, rows_of_X, y, own_groups)
    # Copies without the views that reading has fitted: they would travel to the workers and back with every head.
    heads = [None if member.head_ is None else clone(member.head_) for member in members]
    heads = _fit_parallel(heads, rows, y, draws, None, n_jobs)
    for member, head in zip(members, heads, strict=True):
        share_reading(head, first.head_)
        member.head_ = head
    _share_parts(members)
    return members


def _share_parts(members: list[Any]) -> None:
    """Make all members use the fitted parts of the first one. Theirs are equal, for example after loading."""
    if not all(type(member) is PRMClassifier for member in members):
        return
    for member in members[1:]:
        member.featurizer_ = members[0].featurizer_
        share_reading(member.head_, members[0].head_)


@each_warning_once()
def _stacked_proba(members: list[Any], X: Any, groups: Any = None) -> np.ndarray:
    """Return the probabilities of each fitted member, of shape (n_members, n_steps, n_classes)."""
    if not all(reads_alike(member, members[0]) for member in members):
        options = {} if groups is None else {"groups": groups}
        return np.stack([member.predict_proba(X, **options) for member in members])
    rows = members[0].read(X, groups)
    return np.stack([member.head_.predict_proba(rows) for member in members])


def reads_alike(member: Any, first: Any) -> bool:
    """Return whether a member reads its rows with the same fitted parts as the first one."""
    if type(member) is not PRMClassifier or member.featurizer_ is not first.featurizer_:
        return False
    return reads_like(member.head_, first.head_)


@each_warning_once()
def _fit_parallel(
    heads: list[Any], rows: Any, y: np.ndarray, draws: list[np.ndarray | None], groups: Any, n_jobs: int | None
) -> list[Any]:
    """Fit each head on its draw, in processes of their own."""
    tasks = (delayed(_fit_drawn)(head, rows, y, draw, groups) for head, draw in zip(heads, draws, strict=True))
    return list(Parallel(n_jobs=n_jobs)(tasks))


def _fit_drawn(head: Any, rows: Any, y: np.ndarray, draw: np.ndarray | None, groups: Any) -> Any:
    """Fit on the drawn rows: with the number of draws as weight, or repeated if the head takes no weights."""
    if draw is None:
        return _fit(head, rows, y, None, groups)
    weighted = _takes_weights(head)
    chosen = np.flatnonzero(draw) if weighted else np.repeat(np.arange(len(y)), draw)
    part, origin = take_rows(rows, chosen)
    weight = draw[origin].astype(np.float64) if weighted else None
    return _fit(head, part, y[origin], weight, None if groups is None else np.asarray(groups)[origin])


def _fit(head: Any, rows: Any, y: np.ndarray, weight: np.ndarray | None, groups: Any) -> Any:
    """Fit a head, or a whole member that is no PRMClassifier. Only torch heads take groups."""
    if groups is None or not isinstance(head, Head):
        return fit_head(head, rows, y, weight)
    torch_head: Any = head
    return torch_head.fit(rows, y, weight, groups)


def _takes_weights(head: Any) -> bool:
    """Return whether the head, or the last step of a pipeline, takes ``sample_weight``."""
    last = head.steps[-1][1] if isinstance(head, Pipeline) else head
    return last is None or has_fit_parameter(last, "sample_weight")
