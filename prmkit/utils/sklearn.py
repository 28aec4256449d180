"""scikit-learn's private pieces that prmkit uses, in one file."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import numpy as np
from sklearn import config_context
from sklearn.base import _fit_context
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils import _safe_indexing as safe_indexing, check_random_state
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import has_fit_parameter

__all__ = [
    "HasDefaultParts",
    "HasMethods",
    "Interval",
    "ReadsSteps",
    "StrOptions",
    "WordwiseVectorizer",
    "distinct_classes",
    "fit_context",
    "fit_weighted",
    "random_generator",
    "safe_indexing",
    "set_random_states",
    "thawed",
]

_Method = TypeVar("_Method", bound=Callable[..., Any])


def fit_context(method: _Method) -> _Method:
    """Decorate ``fit`` so that it checks ``_parameter_constraints`` first."""
    decorated: _Method = _fit_context(prefer_skip_nested_validation=False)(method)
    return decorated


class ReadsSteps:
    """Mixin of estimators over steps: raw objects in one dimension, as ``CountVectorizer`` reads texts.

    If ``fit`` learns nothing, which ``learns`` tells, the estimator counts as fitted from the start.
    """

    learns = False

    def __sklearn_is_fitted__(self) -> bool:
        return not self.learns or any(name.endswith("_") for name in vars(self))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()  # type: ignore[misc]
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        tags.requires_fit = self.learns
        return tags


class HasDefaultParts:
    """Mixin of estimators that make a part by themselves where its parameter is None or a name.

    A setting of such a part, such as ``head__C``, makes the default part a parameter, so that searches can tune it.
    """

    def set_params(self, **params: Any) -> Any:
        """Set parameters of the estimator and of its parts.

        Parameters
        ----------
        **params : object
            New values by name. ``PART__NAME`` is a setting of a part. If the part is one that the estimator makes by
            default, this default becomes the part.

        Returns
        -------
        object
            The estimator itself.

        Raises
        ------
        ValueError
            If there is no such parameter. The error lists those that there are.
        """
        nested: dict[str, dict[str, Any]] = {}
        for key in list(params):
            name, is_nested, setting = key.partition("__")
            if is_nested and hasattr(self, name) and not hasattr(params.get(name, getattr(self, name)), "set_params"):
                nested.setdefault(name, {})[setting] = params.pop(key)
        super().set_params(**params)  # type: ignore[misc]
        for name, settings in nested.items():
            setattr(self, name, self._default_part(name).set_params(**settings))
        return self

    def _default_part(self, name: str) -> Any:
        """Return the part that stands for the present value of a parameter, or raise ValueError."""
        raise NotImplementedError


def distinct_classes(y: np.ndarray) -> np.ndarray:
    """Return the sorted labels of y. Continuous labels, or a single one, raise ValueError."""
    check_classification_targets(y)
    classes = np.unique(y)
    if not len(classes):
        raise ValueError("y is empty: at least one step of each of 2 classes is needed")
    if len(classes) < 2:
        raise ValueError(f"y has one class only ({classes.tolist()[0]!r}): at least 2 classes are needed")
    return classes


def fit_weighted(estimator: Any, X: Any, y: Any, sample_weight: Any = None, **further: Any) -> Any:
    """Fit, handing the weights to the estimator, or to each step of a pipeline that takes them.

    Weights for an estimator that takes none raise ValueError. The last step of a pipeline decides. What is ``further``
    goes to the ``fit`` of the estimator as it is.
    """
    if sample_weight is None:
        return estimator.fit(X, y, **further)
    with config_context(enable_metadata_routing=False):  # the way of the weights is known here
        return _fit_weighted(estimator, X, y, sample_weight, further)


def _fit_weighted(estimator: Any, X: Any, y: Any, sample_weight: Any, further: dict[str, Any]) -> Any:
    if not isinstance(estimator, Pipeline):
        last = estimator
        weights = {"sample_weight": sample_weight}
    else:
        last = estimator.steps[-1][1]
        weights = {
            f"{name}__sample_weight": sample_weight
            for name, step in estimator.steps
            if has_fit_parameter(step, "sample_weight")
        }
    if not has_fit_parameter(last, "sample_weight"):
        raise ValueError(f"{type(last).__name__} takes no sample_weight: leave it out or choose another head")
    return estimator.fit(X, y, **weights, **further)


def thawed(estimator: Any) -> Any:
    """Return the estimator inside a ``FrozenEstimator``, and any other estimator as it is."""
    while isinstance(estimator, FrozenEstimator):
        estimator = estimator.estimator
    return estimator


def random_generator(random_state: Any) -> np.random.RandomState:
    """Return a generator as scikit-learn's ``check_random_state`` does. None is a new one, never numpy's global one."""
    return np.random.RandomState() if random_state is None else check_random_state(random_state)


def set_random_states(estimator: Any, random_state: Any) -> None:
    """Give every unset ``random_state`` parameter, nested ones included, an integer drawn from this one."""
    if random_state is None:
        return
    rng = check_random_state(random_state)
    params = estimator.get_params(deep=True)
    unset = {
        key: int(rng.randint(2**31 - 1))
        for key in sorted(params)
        if (key == "random_state" or key.endswith("__random_state")) and params[key] is None
    }
    estimator.set_params(**unset)


class WordwiseVectorizer(TfidfVectorizer):
    """A ``TfidfVectorizer`` of character runs within words that cuts each distinct word once: the same numbers, sooner.

    Words repeat, and the runs of a text are those of its words.
    """

    def _count_vocab(self, raw_documents: Iterable[str], fixed_vocab: bool) -> tuple[Any, Any]:
        numbers: dict[str, int] = {}
        places: list[int] = []
        starts = [0]
        for text in raw_documents:
            places += [numbers.setdefault(word, len(numbers)) for word in text.lower().split()]
            starts.append(len(places))
        vocabulary, of_words = super()._count_vocab(list(numbers), fixed_vocab)
        ones = np.ones(len(places), dtype=self.dtype)
        counts = type(of_words)((ones, places, starts), shape=(len(starts) - 1, len(numbers))) @ of_words
        counts.sort_indices()
        return vocabulary, counts
