"""Several models of one kind, each from other problems and another seed: where they disagree, data is missing."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils.validation import check_is_fitted, validate_data

from prmkit.classifier import PRMClassifier
from prmkit.data.labels import check_labels
from prmkit.data.problem_keys import problem_keys
from prmkit.data.solution import as_steps
from prmkit.data.splitters import holds_numbers
from prmkit.metrics.solutions.members import MemberUncertainty, decompose_uncertainty
from prmkit.models.heads.decision import most_probable
from prmkit.scoring.fitted import decision_weights, known_label_order
from prmkit.uncertainty._saving import load_model, save_model
from prmkit.uncertainty._wrapping import WrapsClassifier, is_fitted
from prmkit.uncertainty.ensembles._shared_pass import fit_members, share_parts, stacked_proba
from prmkit.utils.sklearn import (
    HasMethods,
    Interval,
    distinct_classes,
    fit_context,
    random_generator,
    set_random_states,
)


class AveragesMembers(WrapsClassifier):
    """Mixin of classifiers of steps that answer the mean of what their members say."""

    @abstractmethod
    def member_proba(self, X: Any, groups: Any = None) -> np.ndarray:
        """Probability of each class, by each member."""

    def predict_proba(self, X: Any, groups: Any = None) -> np.ndarray:
        """Probability of each class: the members' mean.

        Parameters
        ----------
        X : as in ``fit``
        groups : array-like of shape (n_steps,), optional
            Only with numbers and a head over sequences: the solution of each row.

        Returns
        -------
        ndarray of shape (n_steps, n_classes)
        """
        return self.member_proba(X, groups).mean(axis=0)

    def predict(self, X: Any, groups: Any = None) -> np.ndarray:
        """Class of each step, of shape (n_steps,): the likeliest, after weighing where the members weigh."""
        proba = self.predict_proba(X, groups)
        return most_probable(self.classes_, proba * getattr(self, "decision_weights_", 1.0))

    def uncertainty(self, X: Any, groups: Any = None) -> MemberUncertainty:
        """Total, aleatoric and epistemic uncertainty of each step.

        Parameters
        ----------
        X, groups : as in ``predict_proba``

        Returns
        -------
        MemberUncertainty
            With ``risk_variance`` where it is known which class is the worst.

        Raises
        ------
        ValueError
            If a step has no probabilities (NaN), as one that did not fit into a token model.
        """
        proba = self.member_proba(X, groups)  # first: it raises NotFittedError
        order = self.label_order_
        found = decompose_uncertainty(proba, self.classes_.tolist().index(order[0]) if order else None)
        if len(proba) > 1 and found.epistemic.max(initial=0.0) < 1e-12:
            warnings.warn(
                f"all {len(proba)} members say the same, so nothing can be read from their disagreement: use "
                "bootstrap=True, a head that learns by chance, or a smaller rate",
                UserWarning,
                stacklevel=2,
            )
        return found


_MOST_DRAWS = 100


class StepEnsemble(AveragesMembers, BaseEstimator):
    """Fit a classifier of steps several times, on problems drawn with replacement and with other seeds.

    Parameters
    ----------
    classifier : classifier over steps (or of numbers) or None, default=None
        None: ``PRMClassifier()``. It stays as it is; each member is a copy.
    n_members : int, default=5
    bootstrap : bool, default=True
        Whether each member learns from as many problems as there are, drawn with replacement, a problem with all its
        steps. False: all learn from everything and differ by their seeds alone.
    n_jobs : int or None, default=None
        Members fitted at a time, each in a process of its own; None: one.
    random_state : int, RandomState or None, default=None
        Of the draws, and of every member's seeds but the first one's, which keeps those that ``classifier`` has set.

    Attributes
    ----------
    members_ : list of fitted classifiers
        Each usable alone.
    classes_ : ndarray of shape (n_classes,)
    label_order_ : tuple or None
        From worst to best.
    training_problems_ : ndarray of uint64, or None
        Keys of all problems of ``fit``. None where problems are not known.
    decision_weights_ : ndarray of shape (n_classes,)
        Only where all members weigh their decisions: the geometric mean of their weights, the smallest 1.
    n_features_in_ : int
        Only for numeric X.

    See Also
    --------
    MCDropout : members from one model that was trained with dropout.

    Notes
    -----
    Bagging is Breiman's (Machine Learning 24, 1996), by problem because the steps of a problem are dependent; seeds
    alone make the deep ensembles of Lakshminarayanan et al. (NeurIPS 2017, arXiv:1612.01474). The log-loss of the mean
    is at most the members' mean log-loss (Jensen).

    The members of a ``PRMClassifier`` share one pass over the text, in ``fit`` and in use: the featurizer, or the three
    views of the default head with their vocabulary of words, is fitted once on all steps, and each member is a head on
    those rows; so each member's ``training_problems_`` names all problems. A
    :class:`~prmkit.models.TokenPRM` has nothing to share: n members cost n fine-tunings and n passes, and a problem
    drawn twice counts once. Other classifiers, such as pipelines, are fitted and asked one by one.

    Examples
    --------
    >>> from prmkit import PRMClassifier
    >>> from prmkit.data import make_arithmetic_solutions
    >>> from prmkit.features import StepStatistics
    >>> data = make_arithmetic_solutions(30, 2, random_state=0)
    >>> ensemble = StepEnsemble(PRMClassifier(StepStatistics()), random_state=0).fit(data.X, data.y)
    >>> ensemble.member_proba(data.X[:4]).shape
    (5, 4, 3)
    >>> found = ensemble.uncertainty(data.X[:4])
    >>> bool((found.epistemic >= 0).all() and (found.epistemic <= found.total).all())
    True
    """

    _parameter_constraints = {
        "classifier": [HasMethods(["fit", "predict_proba"]), None],
        "n_members": [Interval(Integral, 1, None, closed="left")],
        "bootstrap": ["boolean"],
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
    }

    def __init__(self, classifier=None, n_members=5, *, bootstrap=True, n_jobs=None, random_state=None):
        self.classifier = classifier
        self.n_members = n_members
        self.bootstrap = bootstrap
        self.n_jobs = n_jobs
        self.random_state = random_state

    @fit_context
    def fit(self, X, y, groups=None):
        """Fit the members.

        Parameters
        ----------
        X : 1-D array-like of Step; array-like (n_steps, n_features) for a classifier of numbers
        y : array-like of shape (n_steps,)
            One label per step.
        groups : array-like of shape (n_steps,), optional
            Only for numeric X: rows of equal group are drawn together, and are one sequence to a head that reads such.
            Without groups each row is drawn by itself.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If y does not label each step with a class, or a class is in so few problems that the draws miss it.
        """
        template = PRMClassifier() if self.classifier is None else self.classifier
        if isinstance(template, FrozenEstimator):
            raise ValueError(
                "a frozen classifier stays one: pass the classifier itself, of which each member is a copy"
            )
        inner = getattr(template, "classifier", None)
        if inner is not None and is_fitted(inner):
            raise ValueError(
                f"the classifier inside {type(template).__name__} is fitted and stays so, but members are fitted anew: "
                f"pass {type(template).__name__} of an unfitted one"
            )
        order = getattr(template, "label_order", None)
        if hasattr(X, "__array__") and not hasattr(X, "__iter__"):
            X = np.asarray(X)
        if holds_numbers(X):
            X, y = validate_data(self, X, y)
            units = np.arange(len(y)) if groups is None else _checked_groups(groups, len(y))
            self.training_problems_ = None
        else:
            if groups is not None:
                raise ValueError("groups is for numeric X: a Step already knows its problem")
            X = as_steps(X)
            y = check_labels(y, len(X), order)
            units = problem_keys(X)
            self.training_problems_ = np.unique(units)
        self.classes_ = distinct_classes(y)
        seeds = random_generator(self.random_state).randint(2**31 - 1, size=self.n_members)
        draws: list[np.ndarray | None] = [None] * self.n_members
        if self.bootstrap:
            draws = [_draw(units, y, np.random.RandomState(seed)) for seed in seeds]
        members = [_seeded(template, seed, number) for number, seed in enumerate(seeds.tolist())]
        self.members_ = fit_members(members, X, y, draws, groups, self.n_jobs)
        self.label_order_ = known_label_order(self.members_[0])
        self._weigh_decisions()
        return self

    def member_proba(self, X, groups=None) -> np.ndarray:
        """Probability of each class, by each member.

        Parameters
        ----------
        X : as in ``fit``
        groups : array-like of shape (n_steps,), optional
            Only with numbers and a head over sequences: the solution of each row.

        Returns
        -------
        ndarray of shape (n_members, n_steps, n_classes)
        """
        check_is_fitted(self)
        if hasattr(self, "n_features_in_"):
            X = validate_data(self, X, reset=False)
        return stacked_proba(self.members_, X, groups)

    def save(self, path: str | Path) -> None:
        """Write the fitted members to a folder, each as ``PRMClassifier.save`` does: no pickle.

        Raises
        ------
        TypeError
            If members are no classifiers of prmkit.
        """
        check_is_fitted(self)
        settings = {
            name: getattr(self, name) for name in ("n_members", "bootstrap", "n_jobs", "random_state")
        }
        settings |= {
            "default_classifier": self.classifier is None,
            "numeric": hasattr(self, "n_features_in_"),
            "seeded": getattr(self.classifier, "random_state", None) is not None,
        }
        arrays = {} if self.training_problems_ is None else {"problems": self.training_problems_}
        models = {f"member_{number}": member for number, member in enumerate(self.members_)}
        save_model("StepEnsemble", path, settings=settings, arrays=arrays, models=models)

    @classmethod
    def load(cls, path: str | Path) -> StepEnsemble:
        """Read a saved ensemble. Runs no code from the folder; members share one pass again.

        Raises
        ------
        FileNotFoundError, ValueError
            If there is none, or it is incomplete or damaged.
        """
        settings, arrays, models = load_model("StepEnsemble", path)
        numeric, default, seeded = (
            settings.pop(name) for name in ("numeric", "default_classifier", "seeded")
        )
        members = [models[f"member_{number}"] for number in range(len(models))]
        share_parts(members)
        template = None if default else clone(members[0])
        if template is not None and not seeded and hasattr(template, "random_state"):
            template.set_params(random_state=None)  # the member's own was drawn for it
        ensemble = cls(template, **settings)
        ensemble.members_ = members
        ensemble.classes_, ensemble.label_order_ = members[0].classes_, members[0].label_order_
        ensemble.training_problems_ = arrays.get("problems")
        if numeric:
            ensemble.n_features_in_ = members[0].n_features_in_
        ensemble._weigh_decisions()
        return ensemble

    def _weigh_decisions(self) -> None:
        weights = [decision_weights(member) for member in self.members_]
        known = [weight for weight in weights if weight is not None]
        if len(known) == len(weights):
            mean = np.exp(np.mean(np.log(known), axis=0))
            self.decision_weights_ = mean / mean.min()
        elif hasattr(self, "decision_weights_"):  # of an earlier fit
            del self.decision_weights_


def _checked_groups(groups: Any, n_rows: int) -> np.ndarray:
    groups = np.asarray(groups)
    if groups.shape != (n_rows,):
        raise ValueError(f"groups has shape {groups.shape}, expected one per row of X: ({n_rows},)")
    return groups


def _draw(units: np.ndarray, y: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
    """Return how often each row counts when its unit is drawn with replacement, no class left out."""
    names, unit = np.unique(units, return_inverse=True)
    classes, code = np.unique(y, return_inverse=True)
    has = np.zeros((len(names), len(classes)), dtype=bool)
    has[unit, code] = True
    for _ in range(_MOST_DRAWS):
        times = np.bincount(rng.randint(len(names), size=len(names)), minlength=len(names))
        if has[times > 0].any(axis=0).all():
            return times[unit]
    rare = int(has.sum(axis=0).argmin())
    raise ValueError(
        f"{_MOST_DRAWS} draws of {len(names)} problems all lack a class; {classes[rare]!r} is in "
        f"{has[:, rare].sum()} of them. Give more problems of each class, or pass bootstrap=False"
    )


def _seeded(template: Any, seed: int, number: int) -> Any:
    """Return a copy of the classifier; the first keeps the seeds that are set."""
    member = clone(template)
    if number:
        params = member.get_params(deep=True)
        seeds = [name for name in params if name == "random_state" or name.endswith("__random_state")]
        member.set_params(**dict.fromkeys(seeds))
    if getattr(member, "random_state", None) is None:  # else it seeds its parts itself
        set_random_states(member, seed)
    return member
