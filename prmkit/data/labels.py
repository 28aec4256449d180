"""Conversions between ratings, label names and first errors, checks of labels, and the order of classes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

NAMES = ("negative", "neutral", "positive")
RATINGS = (-1, 0, 1)
# Worst first. An order counts only if its worst label occurs: {0, 1} is wrong/right, not neutral/positive.
# The last entry also reads 0/1 and False/True, which are equal in Python.
_KNOWN_ORDERS: tuple[tuple[Any, ...], ...] = (RATINGS, NAMES, ("-", "+"), (0, 1, 2))

Vocabulary: TypeAlias = Literal["rating", "binary", "soft"] | tuple[Any, ...]
"""Declared meaning of labels.

``"rating"``: -1 negative, 0 neutral, +1 positive. ``"binary"``: 0 or False wrong, 1 or True right. ``"soft"``: the
probability that the step is right. A tuple holds labels of one's own from worst to best."""


_METADATA = "vocabulary of prmkit"
_SAME_VALUES = {*((kind, kind) for kind in "biufUO"), *((a, b) for a in "biu" for b in "iufO"), ("f", "O"), ("U", "O")}
"""Kinds of numpy's types between which a label keeps its value."""


class DeclaredLabels(np.ndarray[Any, np.dtype[Any]]):
    """Labels that know their vocabulary, so that cutting them does not change what 0 means.

    A data set of ratings keeps its 0 neutral in a part that holds no -1. Rows, copies, joined parts, pickles and other
    types of numbers keep the vocabulary. Arithmetic and comparisons give plain arrays. The type of the numbers holds
    the vocabulary too, as metadata: scikit-learn makes plain arrays of labels where it numbers them.
    """

    vocabulary: Vocabulary | None = None

    def __array_finalize__(self, source: object) -> None:
        if isinstance(source, DeclaredLabels) and (source.dtype.kind, self.dtype.kind) in _SAME_VALUES:
            self.vocabulary = source.vocabulary

    def __array_wrap__(self, result: Any, context: Any = None, return_scalar: bool = False) -> Any:
        plain = np.asarray(result)
        plain = plain if plain.dtype == object else plain.view(np.dtype(plain.dtype.str))
        return plain[()] if return_scalar or not plain.ndim else plain

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        result = super().__array_function__(function, types, args, kwargs)
        if function not in (np.concatenate, np.delete):
            return result
        vocabularies = {vocabulary_of(part) for part in (args[0] if function is np.concatenate else args[:1])}
        if len(vocabularies) > 1:
            raise ValueError(
                f"labels of the vocabularies {', '.join(sorted(map(repr, vocabularies)))} are joined, expected one: "
                "np.asarray(y, dtype=object) makes labels without a vocabulary"
            )
        return declare_labels(np.asarray(result), vocabularies.pop())

    def __reduce__(self) -> tuple[Any, ...]:
        return declare_labels, (np.asarray(self), self.vocabulary)

    def __repr__(self) -> str:
        return repr(np.asarray(self))


def declare_labels(y: npt.ArrayLike, vocabulary: Vocabulary | None) -> npt.NDArray[Any]:
    """Return labels that carry their vocabulary. Without one, return them as they are.

    Raises
    ------
    ValueError
        If the vocabulary is unknown, or a label is none of it. The error names the label.

    Examples
    --------
    >>> y = declare_labels([-1, 0, 1], "rating")
    >>> y[1:], vocabulary_of(y[1:])
    (array([0, 1]), 'rating')
    """
    labels = np.asarray(y)
    if vocabulary is None:
        return labels
    order = order_of_vocabulary(vocabulary)
    distinct = set(_as_list(labels, "y"))
    if order is None:
        unknown = [x for x in distinct if isinstance(x, (bool, str)) or not 0 <= x <= 1]
        labels = labels if unknown else labels.astype(np.float64)
    else:
        # True == 1 to Python. A boolean is no rating, and no label of one's own unless the order holds booleans.
        no_booleans = vocabulary != "binary" and not any(isinstance(label, bool) for label in order)
        unknown = [x for x in distinct if x not in order or (no_booleans and isinstance(x, bool))]
    if unknown:
        expected = "numbers from 0 to 1" if order is None else f"labels among {', '.join(map(repr, order))}"
        raise ValueError(f"y holds {sorted(unknown, key=str)[:5]}, expected {expected} (vocabulary={vocabulary!r})")
    if labels.dtype != object:
        labels = labels.view(np.dtype(labels.dtype.str, metadata={_METADATA: vocabulary}))
    declared = labels.view(DeclaredLabels)
    declared.vocabulary = vocabulary
    return declared


def vocabulary_of(y: object) -> Vocabulary | None:
    """Return the vocabulary that labels carry, or None for plain arrays."""
    if isinstance(y, DeclaredLabels):
        return y.vocabulary
    metadata: Any = getattr(getattr(y, "dtype", None), "metadata", None)
    return (metadata or {}).get(_METADATA)


def order_of_vocabulary(vocabulary: Vocabulary) -> tuple[Any, ...] | None:
    """Return the labels of a vocabulary from worst to best, or None for probabilities.

    Raises
    ------
    ValueError
        If it is no vocabulary.
    """
    orders: dict[Any, tuple[Any, ...] | None] = {"rating": RATINGS, "binary": (0, 1), "soft": None}
    if isinstance(vocabulary, str) and vocabulary in orders:
        return orders[vocabulary]
    if isinstance(vocabulary, (tuple, list)) and len(set(vocabulary)) == len(vocabulary) > 1:
        return tuple(vocabulary)
    raise ValueError(
        f"vocabulary is {vocabulary!r}, expected 'rating', 'binary', 'soft', or a tuple of distinct labels "
        "(worst, …, best)"
    )


def declared_order(y: object, label_order: Sequence[object] | None = None) -> Sequence[object] | None:
    """Return ``label_order`` if it is given, else the order that the labels carry, or None.

    Raises
    ------
    ValueError
        If the labels are probabilities: they are no classes.
    """
    vocabulary = vocabulary_of(y)
    if vocabulary == "soft":
        raise ValueError(
            "y holds probabilities that a step is right (vocabulary 'soft'), expected classes: choose a threshold, "
            "np.where(y >= 0.5, 1, -1), or train by PRMTrainer, which learns from probabilities"
        )
    if label_order is not None or vocabulary is None:
        return label_order
    return order_of_vocabulary(vocabulary)


def ratings_to_names(ratings: Iterable[int]) -> npt.NDArray[np.str_]:
    """Return the names of ratings: "negative" for -1, "neutral" for 0, "positive" for +1.

    Parameters
    ----------
    ratings : 1-D array-like of {-1, 0, 1}, shape (n_steps,)
        Rating of each step.

    Returns
    -------
    ndarray of str, shape (n_steps,)
        Name of each rating.

    Raises
    ------
    ValueError
        If a rating is missing (None, NaN) or has another value. The error names its position.

    Examples
    --------
    >>> ratings_to_names([1, -1, 0]).tolist()
    ['positive', 'negative', 'neutral']
    """
    values = _as_list(ratings, "ratings")
    for i, value in enumerate(values):
        _check_rating(value, i)
        if is_missing(value):
            advice = "Leave its row out of X and y; it stays context of the later steps."
            raise ValueError(f"ratings[{i}] is {value}: an unlabelled step has no name. {advice}")
    return np.array([NAMES[int(value) + 1] for value in values], dtype="<U8")


def names_to_ratings(names: Iterable[str]) -> npt.NDArray[np.int64]:
    """Return the ratings of names: -1 for "negative", 0 for "neutral", +1 for "positive".

    Parameters
    ----------
    names : 1-D array-like of str, shape (n_steps,)
        Name of each rating. Only white space around a name is ignored.

    Returns
    -------
    ndarray of int64, shape (n_steps,)
        Rating of each step.

    Raises
    ------
    ValueError
        If a name is unknown. The error names its position and the known names.

    Examples
    --------
    >>> names_to_ratings(["positive", "negative", "neutral"]).tolist()
    [1, -1, 0]
    """
    values = _as_list(names, "names")
    rating_of = dict(zip(NAMES, RATINGS, strict=True))
    for i, value in enumerate(values):
        if not isinstance(value, str) or value.strip() not in rating_of:
            raise ValueError(f"names[{i}] is {value!r}, expected one of {', '.join(map(repr, NAMES))}")
    return np.array([rating_of[value.strip()] for value in values], dtype=np.int64)


def first_error_to_ratings(first_error: int | None, n_steps: int) -> tuple[int | None, ...]:
    """Return the ratings that a first error stands for.

    The steps before it are +1, which here means "not wrong": a first error does not tell neutral steps apart. The
    step itself is -1. The later ones are None, because nobody judged them.

    Parameters
    ----------
    first_error : int or None
        Index of the first wrong step, from 0. With -1, all ratings are +1. With None, all are None.
    n_steps : int
        Number of steps of the solution.

    Returns
    -------
    tuple of (int or None), length n_steps
        Rating of each step.

    Raises
    ------
    ValueError
        If the solution has no such step. The index is never clipped, because the record is broken.

    Examples
    --------
    >>> first_error_to_ratings(1, 4)
    (1, -1, None, None)
    >>> first_error_to_ratings(-1, 2)
    (1, 1)
    """
    if first_error is None:
        return (None,) * n_steps
    if isinstance(first_error, bool) or not isinstance(first_error, (int, np.integer)):
        raise ValueError(f"first_error is {first_error!r}, expected an int from -1 (none) to n_steps - 1")
    if not -1 <= first_error < n_steps:
        raise ValueError(
            f"first_error is {first_error} in a solution of {n_steps} steps, expected -1 (no error) or "
            f"0 to {n_steps - 1}. Does the source count from 1? Then pass first_error - 1."
        )
    if first_error == -1:
        return (1,) * n_steps
    return (1,) * int(first_error) + (-1,) + (None,) * (n_steps - int(first_error) - 1)


def ratings_to_first_error(
    ratings: Iterable[int | float | None], *, unlabelled: Literal["unknown", "right"] = "unknown"
) -> int | None:
    """Return the 0-based index of the first wrong step.

    The first error is the first step rated -1. It is known only if every step before it is rated, because an
    unlabelled step may be wrong too. A solution without a rating -1 has no error only if all steps are rated.

    Parameters
    ----------
    ratings : 1-D array-like of {-1, 0, 1, None}, shape (n_steps,)
        Rating of each step. NaN counts as None.
    unlabelled : {"unknown", "right"}, default="unknown"
        Meaning of an unlabelled step before the first rating -1. "right" is for a format that promises that all steps
        before its first error are right. It does not say that a solution without a rating -1 is right to its end.

    Returns
    -------
    int or None
        Index of the first wrong step, -1 if no step is wrong, None if it is unknown.

    Raises
    ------
    ValueError
        If a rating has another value, or ``unlabelled`` is unknown.

    Examples
    --------
    >>> ratings_to_first_error([1, 0, -1, None]), ratings_to_first_error([1, 0, 1])
    (2, -1)
    >>> ratings_to_first_error([1, None, -1]) is None
    True
    >>> ratings_to_first_error([1, None, -1], unlabelled="right")
    2
    """
    if unlabelled not in ("unknown", "right"):
        raise ValueError(f"unlabelled is {unlabelled!r}, expected 'unknown' or 'right'")
    values = _as_list(ratings, "ratings")
    for i, value in enumerate(values):
        _check_rating(value, i)
    n_before = values.index(-1) if -1 in values else len(values)
    has_gap = any(is_missing(value) for value in values[:n_before])
    if n_before == len(values):
        return None if has_gap else -1
    return None if has_gap and unlabelled == "unknown" else n_before


def first_errors_of_rows(
    y: npt.NDArray[Any], positions: Sequence[int], indices: Sequence[int], lengths: Sequence[int]
) -> list[int | None] | None:
    """Return the first error of each solution by the labels of its steps, or None if they tell none.

    Row ``i`` labels step ``indices[i]`` of solution ``positions[i]``. A step that is labelled right and wrong counts as
    unlabelled. Probabilities tell no first error, and neither do labels whose worst is not known.
    """
    vocabulary = vocabulary_of(y)
    order = resolve_label_order(set(y.tolist())) if vocabulary is None else order_of_vocabulary(vocabulary)
    if order is None:
        return None
    ratings: list[list[int | None]] = [[None] * length for length in lengths]
    doubtful = set()
    for position, index, label in zip(positions, indices, y.tolist(), strict=True):
        rating = -1 if label == order[0] else 1
        if ratings[position][index] not in (None, rating):
            doubtful.add((position, index))
        ratings[position][index] = rating
    for position, index in doubtful:
        ratings[position][index] = None
    found = [ratings_to_first_error(one) for one in ratings]
    return found if any(one is not None for one in found) else None


def resolve_label_order(
    classes: Iterable[object], label_order: Sequence[object] | None = None
) -> tuple[Any, ...] | None:
    """Return the classes from worst to best, or None if nothing tells which is worst.

    Known orders are -1/0/+1, "negative"/"neutral"/"positive", "-"/"+", False/True, 0/1 (wrong/right) and 0/1/2. Two
    labels of an order are enough if one of them is its worst. So {-1, 1} is known, but {"neutral", "positive"} is
    not, because it lacks the negative class that a risk is about. ``label_order`` replaces the known orders. It may
    hold more labels than ``classes``, under the same rule.
    """
    labels = _as_list(classes, "classes")
    if label_order is not None:
        stated = _as_list(label_order, "label_order")
        ordered = _sorted_by(stated, labels)
        return ordered if stated[:1] == list(ordered[:1]) else None
    for order in _KNOWN_ORDERS:
        if len(labels) > 1 and order[0] in labels and all(label in order for label in labels):
            return tuple(sorted(labels, key=order.index))
    return None


def _sorted_by(order: list[Any], classes: list[Any]) -> tuple[Any, ...]:
    """Return the classes in the given order, which must name each of them once."""
    if len(set(order)) < len(order):
        raise ValueError(f"label_order={order} names a label twice")
    missing = [label for label in classes if label not in order]
    if missing:
        expected = f"every label of y from worst to best: some order of {classes}"
        raise ValueError(f"label_order={order} lacks {missing}, expected {expected}")
    return tuple(sorted(classes, key=order.index))


def _as_list(values: Iterable[object], name: str) -> list[Any]:
    """Return plain Python scalars, so that values of numpy and pandas compare and hash like them."""
    if isinstance(values, str):
        raise ValueError(f"{name} is one string ({values!r:.40}), expected a list: [{values!r:.40}]")
    array: Any = values if hasattr(values, "shape") else np.asarray(list(values), dtype=object)
    if len(array.shape) != 1:
        raise ValueError(f"{name} has shape {array.shape}, expected one value per entry, shape (n,)")
    # An object array keeps numpy scalars inside; .item() unpacks them.
    return [value.item() if isinstance(value, np.generic) else value for value in array.tolist()]


def is_missing(value: object) -> bool:
    """Tell whether a value is none: None, or a number that is none."""
    return value is None or (isinstance(value, float) and value != value)


def is_blank(value: object) -> bool:
    """Tell whether a cell of a table holds nothing: no value, or white space alone."""
    return not value.strip() if isinstance(value, str) else is_missing(value)


def _check_rating(value: object, i: int) -> None:
    # True == 1 and False == 0 to Python, but False would then read "neutral": refuse to guess.
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not (is_missing(value) or (is_number and value in RATINGS)):
        raise ValueError(f"ratings[{i}] is {value!r}, expected -1, 0, +1 or, for an unlabelled step, None")


def check_labels(y: npt.ArrayLike, n_steps: int, label_order: Sequence[object] | None = None) -> npt.NDArray[Any]:
    """Return y as a 1-D array of labels, one per step. Refuse nested, missing, mixed, unknown and continuous labels."""
    if isinstance(y, (str, Mapping)) or not isinstance(y, Iterable):
        raise ValueError(f"y is {type(y).__name__}, expected a list of labels, one per step")
    # Nothing can be missing or mixed in an array of these types.
    if isinstance(y, np.ndarray) and y.ndim == 1 and y.dtype.kind in "biuU":
        _check_number_of_labels(len(y), n_steps)
        if label_order is None:
            _refuse_unknown_labels(set(np.unique(y).tolist()))
        return y
    for i, label in enumerate(y):
        if isinstance(label, (list, tuple, np.ndarray)):
            raise ValueError(
                f"y[{i}] is a {type(label).__name__}: y is nested, expected one label per step, flat: "
                "np.concatenate(y), with X = flatten(solutions)"
            )
    labels = _as_list(y, "y")
    for i, label in enumerate(labels):
        # NAType is pandas' missing value. Its name is compared so that pandas need not be loaded.
        if is_missing(label) or type(label).__name__ == "NAType":
            raise ValueError(f"y[{i}] is {label}: an unlabelled step is no row; leave it out of X and y")
        if isinstance(label, float) and not label.is_integer():
            raise ValueError(f"y[{i}] is {label}: continuous; a classifier needs classes such as -1, 0 and 1")
    _check_number_of_labels(len(labels), n_steps)
    n_names = sum(isinstance(label, str) for label in labels)
    if 0 < n_names < len(labels):
        raise ValueError(f"y mixes names and numbers ({n_names} of {len(labels)} are names): use one kind of label")
    if label_order is None:
        _refuse_unknown_labels(set(labels))
    return np.asarray(labels)


def _check_number_of_labels(n_labels: int, n_steps: int) -> None:
    if n_labels != n_steps:
        raise ValueError(
            f"y has {n_labels} labels and X {n_steps} steps: expected one label per step, in the order of X"
        )


def _refuse_unknown_labels(labels: set[Any]) -> None:
    """Raise if there are labels beside those of a known vocabulary, because they are probably typing errors."""
    for vocabulary in (NAMES, RATINGS):
        unknown = sorted(labels - set(vocabulary))
        if unknown and vocabulary[0] in labels and len(labels) - len(unknown) > 1:
            raise ValueError(
                f"y has labels {unknown} beside known ones, expected {', '.join(map(repr, vocabulary))}; if they "
                "are classes of your own, pass label_order=[worst, …, best]"
            )


def class_codes(y: npt.NDArray[Any], classes: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Return the column of each label, and refuse a label that is not among the classes."""
    distinct, codes = np.unique(y, return_inverse=True)
    column = {label: i for i, label in enumerate(classes.tolist())}
    if unknown := [label for label in distinct.tolist() if label not in column]:
        raise ValueError(f"y has labels {unknown[:5]}, expected those of the columns: {classes.tolist()}")
    return np.array([column[label] for label in distinct.tolist()], dtype=np.int64)[codes]
