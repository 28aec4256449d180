"""Members from one model: fixed sub-networks, made by dropout."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from numbers import Integral, Real
from threading import get_ident
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, clone
from sklearn.utils import check_consistent_length
from sklearn.utils.validation import check_is_fitted

from prmkit.classifier import PRMClassifier
from prmkit.fitted import known_label_order, training_problems
from prmkit.uncertainty._solutions_input import StepClassifier, Steps
from prmkit.uncertainty._wrapping import KeepsFitted, is_fitted
from prmkit.uncertainty.ensembles._step_ensemble import AveragesMembers
from prmkit.utils.environment import each_warning_once
from prmkit.utils.saved import Contents
from prmkit.utils.sklearn import HasMethods, Interval, fit_context, thawed

if TYPE_CHECKING:
    import torch

_NO_DROPOUT = (
    "the model has no dropout in use: train it with some, as StepMLP(dropout=0.3) or StepTransformer(dropout=0.1), or "
    "pass rate= to drop features of a model that was trained without. StepEnsemble needs no dropout"
)


class MCDropout(KeepsFitted, AveragesMembers, BaseEstimator):
    """Sample sub-networks of a model that was trained with dropout, and average their probabilities.

    Parameters
    ----------
    classifier : PRMClassifier, StepMLP, StepTransformer or TokenPRM
        Model with dropout layers in its torch module. A fitted model is not changed, and can be used without ``fit``.
        If it is not fitted, ``fit`` fits a copy.
    n_members : int, default=20
        Number of sub-networks.
    rate : float in (0, 1) or None, default=None
        Share of the features that each dropout layer drops. If ``None``, it is the rate of training. Token models
        need a rate, because they are trained without dropout, as language models usually are.
    random_state : int, default=0
        Seed of the masks. It is an integer because the masks are the same at every call. A model that ``fit`` fits
        keeps its own seed.

    Attributes
    ----------
    classifier_ : fitted classifier
        The fitted model, after ``fit``.
    classes_ : ndarray of shape (n_classes,)
        Labels of the columns of ``predict_proba``.
    label_order_ : tuple or None
        Labels from worst to best.
    training_problems_ : ndarray of uint64, or None
        Keys of the problems that the classifier was trained on, if it remembers them.
    n_features_in_ : int
        Only for numeric X: number of columns.

    See Also
    --------
    StepEnsemble : members that are fitted one by one. It costs more, and works for any model.

    Notes
    -----
    Dropout in use as approximate inference is Gal and Ghahramani's (ICML 2016, arXiv:1506.02142). If masks were drawn
    anew for each row, a score would depend on the batch around it. Here a member is **one fixed sub-network**: one
    mask over the features per dropout layer, drawn once from ``random_state``, the number of the member and the
    number of the layer, and the same for all rows and positions ("consistent" dropout, Kirsch et al., NeurIPS 2019,
    arXiv:1906.08158). So subset and order of the rows change nothing, nothing looks ahead, and members agree or
    disagree on whole paths. Dropout of attention probabilities stays off, because its masks are over positions and
    not over features.

    A ``rate`` also drops features of a model that was trained without dropout (dropout injection, Ledda et al., 2023,
    arXiv:2302.02924). Choose it on validation problems then.

    Features are computed once for all members. A token model tokenises and runs once per member. The module gets its
    masks by hooks during a call, so do not use it in several threads at once.

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

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "classifier": [HasMethods(["fit", "predict_proba"])],
        "n_members": [Interval(Integral, 1, None, closed="left")],
        "rate": [Interval(Real, 0, 1, closed="neither"), None],
        "random_state": [Interval(Integral, 0, None, closed="left")],
    }

    def __init__(
        self, classifier: StepClassifier, n_members: int = 20, *, rate: float | None = None, random_state: int = 0
    ) -> None:
        self.classifier = classifier
        self.n_members = n_members
        self.rate = rate
        self.random_state = random_state

    @fit_context
    def fit(self, X: Steps, y: npt.ArrayLike, groups: npt.ArrayLike | None = None) -> MCDropout:
        """Fit the classifier unless it is fitted. The masks are drawn, not learnt.

        Parameters
        ----------
        X : 1-D array-like of Step, or array-like of shape (n_steps, n_features)
            Steps, or rows of numbers for a classifier of numbers.
        y : array-like of shape (n_steps,)
            Label of each step.
        groups : array-like of shape (n_steps,), optional
            Solution of each row. Only for numeric X.

        Returns
        -------
        self
            The estimator, ready for use.

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

    @each_warning_once()
    def member_proba(self, X: Steps, groups: npt.ArrayLike | None = None) -> np.ndarray:
        """Return the probability of each class by each sub-network.

        Parameters
        ----------
        X : 1-D array-like of Step, or array-like of shape (n_steps, n_features)
            Steps, as in ``fit``.
        groups : array-like of shape (n_steps,), optional
            Solution of each row. Only for numbers and a head over sequences.

        Returns
        -------
        ndarray of shape (n_members, n_steps, n_classes)
            Columns in the order of ``classes_``.

        Raises
        ------
        TypeError, ValueError
            If the classifier is no torch model, or has no dropout.
        """
        model = self._model
        # A fitted model needs no fit, so the parameters may not have been checked yet.
        self._validate_params()
        module = _module(model, self.rate)
        shared = isinstance(model, PRMClassifier)
        rows = model.read(X, groups) if shared else X
        options = {} if groups is None or shared else {"groups": groups}
        answers = []
        for member in range(self.n_members):
            with sub_network(module, [self.random_state, member], self.rate):
                answer = model.head_.predict_proba(rows) if shared else model.predict_proba(rows, **options)
            answers.append(answer)
        return np.stack(answers)

    def _contents(self) -> Contents:
        settings = {name: getattr(self, name) for name in ("n_members", "rate", "random_state")}
        return Contents(settings, models={"classifier": self._model})

    @classmethod
    def _from_contents(cls, contents: Contents) -> MCDropout:
        return cls(contents.models["classifier"], **contents.settings)

    @property
    def _model(self) -> Any:
        check_is_fitted(self)
        return self.classifier_ if hasattr(self, "classifier_") else thawed(self.classifier)

    @property
    def classes_(self) -> np.ndarray:  # type: ignore[override]
        """Labels of the columns of ``predict_proba``."""
        return np.asarray(self._model.classes_)

    @property
    def label_order_(self) -> tuple[Any, ...] | None:
        """Labels from worst to best, None if nothing tells the order."""
        return known_label_order(self._model)

    @property
    def training_problems_(self) -> np.ndarray | None:
        """Keys of the problems that the classifier was trained on, None if it does not remember them."""
        return training_problems(self._model)

    @property
    def n_features_in_(self) -> int:
        """Number of columns of a numeric X."""
        return int(self._model.n_features_in_)

    @property
    def feature_names_in_(self) -> np.ndarray:
        """Names of the columns of a numeric X, if they have names."""
        return np.asarray(self._model.feature_names_in_)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "classifier_") or is_fitted(self.classifier)


def _module(model: Any, rate: float | None) -> Any:
    """Return the torch module of a fitted model, checking that there is something to drop."""
    from prmkit.models.heads.torch_heads import TorchHead
    from prmkit.models.tokens.token_prm import TokenPRM

    head = getattr(model, "head_", model)
    if isinstance(head, TorchHead):
        module = head.module_
    elif not isinstance(head, TokenPRM):
        raise TypeError(
            f"{type(head).__name__} is no torch model and has no dropout: use a head such as StepMLP(dropout=0.3) or "
            "StepTransformer(dropout=0.1), or StepEnsemble, whose members need no dropout"
        )
    elif rate is None:
        raise ValueError("token models are trained without dropout: pass the rate to drop at, such as rate=0.1")
    else:
        module = head.module_
    if not _dropout_layers(module, rate):
        raise ValueError(_NO_DROPOUT)
    return module


def _dropout_layers(module: torch.nn.Module, rate: float | None = None) -> list[torch.nn.Dropout]:
    """Return the dropout layers of a module. Without a rate, only those that drop features in training."""
    import torch

    layers = [layer for layer in module.modules() if isinstance(layer, torch.nn.Dropout)]
    return [layer for layer in layers if rate is not None or layer.p > 0]


@contextmanager
def sub_network(module: torch.nn.Module, seed: Sequence[int], rate: float | None = None) -> Iterator[None]:
    """Drop the same features for every row and position, as long as the context lasts.

    Each dropout layer multiplies the features of its input by a mask of its own, ``keep / (1 - rate)``, drawn from
    ``seed`` and the number of the layer. Without ``rate`` each layer has its own rate. The module stays in evaluation
    mode. Arrays of four dimensions are attention probabilities. Their last dimension is no feature, so they stay whole.
    """
    layers = _dropout_layers(module, rate)
    masks = [_FixedMask([*seed, number], layer.p if rate is None else rate) for number, layer in enumerate(layers)]
    hooks = []
    try:
        for layer, mask in zip(layers, masks, strict=True):
            hooks.append(layer.register_forward_hook(mask))
        yield
    finally:
        for hook in hooks:
            hook.remove()
    if not any(mask.drawn for mask in masks):
        raise ValueError(_NO_DROPOUT)


class _FixedMask:
    """Forward hook of a dropout layer, which returns its input unchanged in evaluation mode."""

    def __init__(self, seed: list[int], rate: float) -> None:
        self.seed = seed
        self.rate = rate
        self.thread = get_ident()
        self.drawn: dict[Any, torch.Tensor] = {}

    def __call__(self, _layer: torch.nn.Module, _inputs: Any, values: torch.Tensor) -> torch.Tensor:
        import torch

        # Another thread that uses the same model gets the whole network.
        if values.ndim > 3 or get_ident() != self.thread:
            return values
        kind = values.shape[-1], values.device, values.dtype
        if kind not in self.drawn:
            keep = np.random.default_rng(self.seed).random(values.shape[-1]) >= self.rate
            self.drawn[kind] = torch.as_tensor(keep / (1 - self.rate)).to(values.device, values.dtype)
        return values * self.drawn[kind]
