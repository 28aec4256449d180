"""Facts about a fitted classifier that its wrappers hide: its training problems, its label order, its worst class."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from prmkit.data.labels import order_of_vocabulary, resolve_label_order, vocabulary_of
from prmkit.data.solution import Solution
from prmkit.utils.sklearn import thawed

Label: TypeAlias = "str | int | float | bool"
"""A class of steps, such as ``-1`` or ``"negative"``."""

# Attributes in which wrappers of scikit-learn and of prmkit keep what they have fitted.
_FITTED_PART = ("best_estimator_", "estimator_", "classifier_", "final_estimator_", "head_")
_FITTED_PARTS = ("estimators_", "calibrated_classifiers_", "members_")
# Parameters that hold a fitted classifier in wrappers which need no fit of their own.
_GIVEN_PART = ("estimator", "classifier")


class FittedClassifier(Protocol):
    """A fitted classifier of steps: of prmkit, or a wrapper of scikit-learn around one."""

    @property
    def classes_(self) -> np.ndarray:
        """Labels of the columns of ``predict_proba``."""

    def predict_proba(self, X: Any, /) -> np.ndarray:
        """Return the probability of each class for each step, of shape (n_steps, n_classes)."""


class GivesPValues(Protocol):
    """A calibrated detector of unusual solutions, such as ``MahalanobisShift``."""

    def p_value(self, solutions: Iterable[Solution], /) -> np.ndarray:
        """Return how rare each solution is, of shape (n_paths,)."""


def training_problems(classifier: Any) -> npt.NDArray[np.uint64] | None:
    """Return the sorted keys of the problems that a classifier was trained on, or ``None`` if nothing knows them.

    They are found inside scikit-learn's searches, pipelines, calibration, voting, stacking, threshold tuning and
    frozen estimators too.
    """
    keys = getattr(classifier, "training_problems_", None)
    if keys is not None:
        return np.asarray(keys, dtype=np.uint64)
    parts = [training_problems(inner) for inner in _classifiers_inside(classifier)]
    remembered = [part for part in parts if part is not None]
    return np.unique(np.concatenate(remembered)) if remembered else None


def refuse_shared_problems(keys: np.ndarray, seen: np.ndarray | None, event: str) -> None:
    """Raise if problems were seen before. ``event`` says how, such as "the classifier was trained on"."""
    if seen is None or not len(seen) or not len(keys):
        return
    n_shared = int(np.isin(np.unique(keys), seen).sum())
    if n_shared:
        raise ValueError(
            f"{n_shared} of {len(np.unique(keys))} problems are also among those that {event}: numbers on them say "
            "nothing about new problems, and no guarantee holds. Leave them out here. split_by_problem(dataset, …) "
            "makes parts that share none"
        )


def label_order(classifier: FittedClassifier, label_order: Sequence[Label] | None = None) -> tuple[Label, ...]:
    """Return the labels of a classifier from worst to best: ``label_order`` if it is given.

    Otherwise the classifier's own order counts, then that of the classifiers inside, then the labels themselves, if
    they are -1/0/+1, "negative"/"neutral"/"positive" and the like. ValueError says that nothing tells the order, or
    that classifiers inside have different orders.

    >>> from sklearn.linear_model import LogisticRegression
    >>> plain = LogisticRegression().fit([[0.0], [1.0]], ["wrong", "right"])
    >>> known_label_order(plain), label_order(plain, ["wrong", "right"])
    (None, ('wrong', 'right'))
    """
    order = known_label_order(classifier, label_order)
    if order is None:
        raise ValueError(
            f"nothing tells the order of the classes {np.asarray(classifier.classes_).tolist()} of "
            f"{type(classifier).__name__} from worst to best: pass label_order=[worst, …, best] to PRMClassifier, or "
            "to score_solutions. If the worst label of the data (-1 of ratings) is none of these classes, train on "
            "steps that have it: without them there is no risk to give"
        )
    return order


def known_label_order(
    classifier: FittedClassifier, label_order: Sequence[Label] | None = None
) -> tuple[Label, ...] | None:
    """Return the labels from worst to best as :func:`label_order` does, or None if nothing tells their order."""
    classes = np.asarray(classifier.classes_).tolist()
    if label_order is not None:
        return resolve_label_order(classes, label_order)
    vocabulary = vocabulary_of(classifier.classes_)
    if vocabulary is not None and getattr(classifier, "label_order", None) is None:
        # Voting and stacking number the labels for the classifiers inside, which then cannot know their meaning.
        return resolve_label_order(classes, order_of_vocabulary(vocabulary))
    stated = list(_orders_inside(classifier, classes))
    if stated and all(order is None for order in stated):
        return None
    # An order that lacks a class comes from a part that has not seen all of them.
    orders = {order for order in stated if order is not None and set(order) == set(classes)}
    if len(orders) > 1:
        several = " and ".join(str(list(order)) for order in sorted(orders, key=str))
        raise ValueError(
            f"the classifiers inside {type(classifier).__name__} have different orders of the labels, {several}: give "
            "all of them the same label_order, or pass label_order=[worst, …, best] to score_solutions"
        )
    return orders.pop() if orders else resolve_label_order(classes)


def order_of_numbers(classes: np.ndarray, label_order: Sequence[Label] | None) -> Sequence[Label] | None:
    """Return the order for y, whose labels voting, stacking and bagging replace by their places in the alphabet."""
    labels = [] if label_order is None else list(label_order)
    if classes.dtype.kind not in "iu" or not all(isinstance(label, str) for label in labels):
        return label_order
    if classes.tolist() != list(range(len(labels))):
        return label_order
    return [sorted(map(str, labels)).index(str(label)) for label in labels]


def worst_column(classifier: FittedClassifier) -> int:
    """Return the column of ``predict_proba`` that holds the risk; errors as :func:`label_order`."""
    column: int = np.asarray(classifier.classes_).tolist().index(label_order(classifier)[0])
    return column


def decision_weights(classifier: Any) -> np.ndarray | None:
    """Return the class weights with which a classifier of prmkit decides, or None if it does not weigh."""
    inner = thawed(classifier)
    weights = getattr(inner, "decision_weights_", None)
    return getattr(getattr(inner, "head_", None), "decision_weights_", None) if weights is None else weights


def fitted_parts(classifier: Any) -> Iterator[Any]:
    """Yield a classifier, the classifiers inside it, and their heads."""
    yield classifier
    for inner in _classifiers_inside(classifier):
        yield from fitted_parts(inner)


def gives_unscored_steps(classifier: Any) -> bool:
    """Return whether a part of a classifier answers with NaN for steps that it cannot read."""
    return any(getattr(part, "too_long", None) == "nan" for part in fitted_parts(classifier))


def with_setting(classifier: Any, name: str, value: Any) -> Any:
    """Return a classifier in which every part that has a setting has this value, such as ``too_long``.

    The given classifier does not change. The copy shares all other parts with it.
    """
    own = getattr(classifier, "__dict__", None)
    if own is None:
        return classifier
    changed: dict[str, Any] = {}
    # A class may have a value that is no parameter.
    if own.get(name, getattr(type(classifier), name, value)) != value:
        changed[name] = value
    for attribute in (*_FITTED_PART, *_FITTED_PARTS, *_GIVEN_PART):
        part = own.get(attribute)
        old = part if isinstance(part, list) else [part]
        new = [with_setting(one, name, value) for one in old]
        if any(one is not another for one, another in zip(new, old, strict=True)):
            changed[attribute] = new if isinstance(part, list) else new[0]
    if isinstance(own.get("steps"), list) and own["steps"]:
        key, last = own["steps"][-1]
        if (reading := with_setting(last, name, value)) is not last:
            changed["steps"] = [*own["steps"][:-1], (key, reading)]
    if not changed:
        return classifier
    # Not copy.copy, which may write and read whole models.
    copied = object.__new__(type(classifier))
    copied.__dict__.update(own | changed)
    return copied


def _classifiers_inside(classifier: Any) -> Iterator[Any]:
    """Yield the fitted classifiers that a wrapper holds."""
    # Not getattr: some wrappers hand unknown names on to the classifier inside, which would count twice.
    own = getattr(classifier, "__dict__", {})
    inside = [own.get(name) for name in _FITTED_PART]
    for name in _FITTED_PARTS:
        if isinstance(own.get(name), list):
            inside += own[name]
    if isinstance(own.get("steps"), list):
        inside.append(own["steps"][-1][1])
    if all(inner is None for inner in inside):
        inside = [own.get(name) for name in _GIVEN_PART]
    return (inner for inner in inside if inner is not None and not isinstance(inner, str))


def _orders_inside(classifier: Any, classes: list[Any]) -> Iterator[tuple[Any, ...] | None]:
    """Yield the order of a classifier, or else of those inside, in the labels ``classes`` of the outermost.

    None stands for a classifier that was told its labels, and has not seen the worst of them.
    """
    stated = getattr(classifier, "label_order", None)
    order = getattr(classifier, "label_order_", None)
    labels = getattr(classifier, "classes_", None)
    own = None if labels is None else np.asarray(labels).tolist()
    if order is None and stated is not None and own is not None:
        order = resolve_label_order(own, stated)
    # Voting, stacking and bagging number the labels for the classifiers inside.
    numbered = own is not None and own != classes and own == list(range(len(classes)))
    if order is not None and not numbered:
        yield tuple(order)
        return
    if order is not None and stated is not None:
        yield tuple(classes[number] for number in order)
        return
    if own == classes and (stated is not None or hasattr(classifier, "label_order_")):
        yield None
        return
    # The order of numbers that nobody stated is no evidence: it is alphabetical.
    for inner in _classifiers_inside(classifier):
        yield from _orders_inside(inner, classes)
