"""Members from one model: sub-networks that dropout leaves, each fixed."""

from __future__ import annotations

from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.utils import check_consistent_length
from sklearn.utils.validation import check_is_fitted

from prmkit.classifier import PRMClassifier
from prmkit.models.heads.head_input import head_proba
from prmkit.scoring.fitted import known_label_order, thawed, training_problems
from prmkit.uncertainty._saving import load_model, save_model
from prmkit.uncertainty._wrapping import KeepsFitted, is_fitted
from prmkit.uncertainty.ensembles._step_ensemble import AveragesMembers
from prmkit.utils.sklearn import HasMethods, Interval, fit_context


class MCDropout(KeepsFitted, AveragesMembers, BaseEstimator):
    """Sample sub-networks of a model that was trained with dropout, and average what they say.

    Parameters
    ----------
    classifier : PRMClassifier, StepMLP, StepTransformer or TokenPRM
        With dropout layers in its torch module. Fitted: it stays as it is, and this is ready without ``fit``. Not
        fitted: ``fit`` fits a copy.
    n_members : int, default=20
    rate : float in (0, 1) or None, default=None
        Share of the features that each dropout layer drops. None: as in training. Needed for token models, which are
        trained without dropout, as the trainers of language models do.
    random_state : int, default=0
        Of the masks, which are the same at every call; so it is an integer. A model that ``fit`` fits keeps its own.

    Attributes
    ----------
    classifier_ : fitted classifier
        After ``fit``.
    classes_ : ndarray of shape (n_classes,)
    label_order_ : tuple or None
        From worst to best.
    training_problems_ : ndarray of uint64, or None
        Keys of the problems that the classifier learnt from, where it remembers them.
    n_features_in_ : int
        Only for numeric X.

    See Also
    --------
    StepEnsemble : members fitted apart; dearer, for any model.

    Notes
    -----
    Dropout in use as approximate inference is Gal and Ghahramani's (ICML 2016, arXiv:1506.02142). Drawn anew for each
    row it would make a score depend on the batch around it. Here a member is **one fixed sub-network**: per dropout
    layer one mask over the features, drawn once from ``random_state``, the member's number and the layer's, and the
    same for all rows and positions ("consistent" dropout, Kirsch et al., NeurIPS 2019, arXiv:1906.08158). So subset and
    order of the rows change nothing, nothing looks ahead, and members agree or disagree on whole paths. Dropout of
    attention probabilities stays off: its masks are over positions, not features.

    A ``rate`` also drops features of a model that was trained without dropout (dropout injection, Ledda et al., 2023,
    arXiv:2302.02924): then choose it on validation problems.

    Features are computed once for all members; a token model tokenises and runs once per member. The module gets its
    masks by hooks for the time of a call: do not ask it from several threads at once.

    Examples
    --------
    >>> from prmkit import PRMClassifier
    >>> from prmkit.data import make_arithmetic_solutions
    >>> from prmkit.features import StepStatistics
    >>> from prmkit.models import StepMLP
    >>> data = make_arithmetic_solutions(30, 2, random_state=0)
    >>> clf = PRMClassifier(StepStatistics(), StepMLP(max_epochs=3), random_state=0).fit(data.X, data.y)
    >>> MCDropout(clf, n_members=8).member_proba(data.X[:4]).shape
    (8, 4, 3)
    """

    _parameter_constraints = {
        "classifier": [HasMethods(["fit", "predict_proba"])],
        "n_members": [Interval(Integral, 1, None, closed="left")],
        "rate": [Interval(Real, 0, 1, closed="neither"), None],
        "random_state": [Interval(Integral, 0, None, closed="left")],
    }

    def __init__(self, classifier, n_members=20, *, rate=None, random_state=0):
        self.classifier = classifier
        self.n_members = n_members
        self.rate = rate
        self.random_state = random_state

    @fit_context
    def fit(self, X, y, groups=None):
        """Fit the classifier unless it is fitted; masks are drawn, not learnt.

        Parameters
        ----------
        X : 1-D array-like of Step; array-like (n_steps, n_features) for a classifier of numbers
        y : array-like of shape (n_steps,)
        groups : array-like of shape (n_steps,), optional
            Only for numeric X: the solution of each row.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If the model has no dropout, or y has labels that a fitted classifier does not know.
        TypeError
            If it is no torch model.
        """
        if is_fitted(self.classifier):
            model = thawed(self.classifier)
            check_consistent_length(X, y)
            if unknown := sorted(set(np.asarray(y).tolist()) - set(model.classes_.tolist())):
                raise ValueError(f"y has labels {unknown}, which the classifier was not fitted on")
        else:
            options = {} if groups is None else {"groups": groups}
            model = clone(self.classifier).fit(X, y, **options)
        _module(model, self.rate)
        self.classifier_ = model
        return self

    def member_proba(self, X, groups=None) -> np.ndarray:
        """Probability of each class, by each sub-network.

        Parameters
        ----------
        X : as in ``fit``
        groups : array-like of shape (n_steps,), optional
            Only with numbers and a head over sequences: the solution of each row.

        Returns
        -------
        ndarray of shape (n_members, n_steps, n_classes)

        Raises
        ------
        TypeError, ValueError
            If the classifier is no torch model, or has no dropout.
        """
        from prmkit.uncertainty.ensembles._dropout_masks import sub_network

        model = self._model
        self._validate_params()  # it may never have seen fit
        module = _module(model, self.rate)
        shared = isinstance(model, PRMClassifier)
        rows = model._read(X, groups) if shared else X
        options = {} if groups is None or shared else {"groups": groups}
        found = []
        for member in range(self.n_members):
            with sub_network(module, [self.random_state, member], self.rate):
                answer = head_proba(model.head_, rows) if shared else model.predict_proba(rows, **options)
            found.append(answer)
        return np.stack(found)

    def save(self, path: str | Path) -> None:
        """Write settings and classifier to a folder; a head alone is saved inside a ``PRMClassifier`` only.

        Raises
        ------
        TypeError
            If the classifier is no ``PRMClassifier``.
        """
        settings = {name: getattr(self, name) for name in ("n_members", "rate", "random_state")}
        save_model("MCDropout", path, settings=settings, models={"classifier": self._model})

    @classmethod
    def load(cls, path: str | Path) -> MCDropout:
        """Read what ``save`` wrote, ready without ``fit``. Runs no code from the folder.

        Raises
        ------
        FileNotFoundError, ValueError
            If there is none, or it is incomplete or damaged.
        """
        settings, _, models = load_model("MCDropout", path)
        return cls(models["classifier"], **settings)

    @property
    def _model(self) -> Any:
        check_is_fitted(self)
        return self.classifier_ if hasattr(self, "classifier_") else thawed(self.classifier)

    @property
    def classes_(self) -> np.ndarray:
        """Labels of the columns."""
        return self._model.classes_

    @property
    def label_order_(self) -> tuple[Any, ...] | None:
        """The classes from worst to best, where that is known."""
        return known_label_order(self._model)

    @property
    def training_problems_(self) -> np.ndarray | None:
        """Keys of the problems that the classifier learnt from."""
        return training_problems(self._model)

    @property
    def n_features_in_(self) -> int:
        """Number of columns of a numeric X."""
        return self._model.n_features_in_

    @property
    def feature_names_in_(self) -> np.ndarray:
        """Names of the columns of a numeric X, where they have such."""
        return self._model.feature_names_in_

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "classifier_") or is_fitted(self.classifier)


def _module(model: Any, rate: float | None) -> Any:
    """Return the torch module of a fitted model, checking that there is something to drop."""
    from prmkit.models.heads.torch_heads import TorchHead
    from prmkit.models.tokens.scorer import loaded
    from prmkit.models.tokens.token_prm import TokenPRM
    from prmkit.uncertainty.ensembles._dropout_masks import NO_DROPOUT, dropout_layers

    head = getattr(model, "head_", model)
    if isinstance(head, TorchHead):
        module = head.module_
    elif not isinstance(head, TokenPRM):
        raise TypeError(
            f"{type(head).__name__} is no torch model and has no dropout: use a head such as StepMLP(dropout=0.3) or "
            "StepTransformer(dropout=0.1), or StepEnsemble, whose members need none"
        )
    elif rate is None:
        raise ValueError(
            "token models are trained without dropout: pass the rate to drop at, such as rate=0.1"
        )
    else:
        module = loaded(head).model
    if not dropout_layers(module, rate):
        raise ValueError(NO_DROPOUT)
    return module
