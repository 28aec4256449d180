"""Scorers of steps for scikit-learn's cross-validation and searches."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from prmkit.data.labels import declared_order, ratings_to_first_error, resolve_label_order
from prmkit.data.solution import Step, as_steps, iter_solutions
from prmkit.fitted import FittedClassifier, fitted_parts, known_label_order
from prmkit.metrics.benchmarks.first_error import first_error_f1_score

Scorer: TypeAlias = Callable[[FittedClassifier, Any, npt.ArrayLike], float]
"""Called with a fitted classifier, steps and their labels. A higher number is better."""


def step_scorers() -> dict[str, Scorer]:
    """Return the scorers of steps by name, for ``scoring=`` of scikit-learn's cross-validation and searches.

    A step is wrong if its label is the worst one. This label comes from the classifier, or from the labels if they
    declare it. It is never guessed. Any fitted classifier of steps will do, also inside pipelines and searches.

    Returns
    -------
    dict of str to callable
        Each is called as ``scorer(classifier, X, y)`` and returns a float:

        - ``"wrong_auroc"``: area under the ROC curve of wrong steps, by their probability;
        - ``"wrong_average_precision"``: average precision of wrong steps, by their probability;
        - ``"wrong_macro_f1"``: mean F1 of wrong and of all other steps, by ``predict``;
        - ``"first_error_f1"``: F1 of :func:`first_error_f1_score`. The first step that ``predict`` calls wrong is the
          predicted first error. No threshold is fitted to the data that is scored.

    Raises
    ------
    ValueError
        By a scorer: if nothing tells which label is worst, if all or no steps are wrong, if a step has no probability,
        or if X lacks erroneous or correct solutions. In a cross-validation scikit-learn makes a warning and NaN of it.

    See Also
    --------
    prmkit.StratifiedProblemKFold : splits that keep a solution whole, which ``"first_error_f1"`` needs.
    step_report : these numbers and more, with intervals and baselines.

    Notes
    -----
    ``"first_error_f1"`` leaves out solutions whose first error is unknown, because a step before it has no label. A
    warning counts them. The mean F1 over all classes is scikit-learn's own ``scoring="f1_macro"``.

    Examples
    --------
    >>> from sklearn.model_selection import cross_validate
    >>> from prmkit import PRMClassifier, StratifiedProblemKFold
    >>> from prmkit.data import make_arithmetic_solutions
    >>> from prmkit.features import StepStatistics
    >>> X, y = make_arithmetic_solutions(40, 2, random_state=0)
    >>> clf = PRMClassifier(StepStatistics(), random_state=0)
    >>> results = cross_validate(clf, X, y, cv=StratifiedProblemKFold(3), scoring=step_scorers())
    >>> sorted(name for name in results if name.startswith("test_"))
    ['test_first_error_f1', 'test_wrong_auroc', 'test_wrong_average_precision', 'test_wrong_macro_f1']
    """
    return {
        "wrong_auroc": _wrong_auroc,
        "wrong_average_precision": _wrong_average_precision,
        "wrong_macro_f1": _wrong_macro_f1,
        "first_error_f1": _first_error_f1,
    }


def _wrong_auroc(classifier: FittedClassifier, X: Any, y: npt.ArrayLike) -> float:
    return float(roc_auc_score(*_wrong_and_risk(classifier, X, y)))


def _wrong_average_precision(classifier: FittedClassifier, X: Any, y: npt.ArrayLike) -> float:
    return float(average_precision_score(*_wrong_and_risk(classifier, X, y)))


def _wrong_macro_f1(classifier: Any, X: Any, y: npt.ArrayLike) -> float:
    worst = _worst_label(classifier, y)
    is_wrong = _check_both_kinds(_equal(y, worst), worst, y)
    called_wrong = _equal(classifier.predict(X), worst)
    return float(f1_score(is_wrong, called_wrong, average="macro", labels=[False, True], zero_division=0))


def _first_error_f1(classifier: Any, X: Any, y: npt.ArrayLike) -> float:
    if isinstance(X, np.ndarray) and X.dtype.kind in "biuf":
        raise ValueError("first_error_f1 regroups the steps of X into solutions, and X holds numbers: pass X of Step")
    steps: list[Step] = as_steps(X)
    worst = _worst_label(classifier, y)
    is_wrong, called_wrong = _equal(y, worst), _equal(classifier.predict(X), worst)
    if len(is_wrong) != len(steps):
        raise ValueError(f"y has {len(is_wrong)} labels and X {len(steps)} steps, expected one label per step")
    truth, predicted, unknown = [], [], []
    for solution, rows, indices in iter_solutions(steps):
        first = _first_error(solution.n_steps, indices, is_wrong[rows])
        if first is None:
            unknown.append(solution)
            continue
        truth.append(first)
        predicted.append(
            min((index for index, row in zip(indices, rows, strict=True) if called_wrong[row]), default=-1)
        )
    if unknown:
        warnings.warn(
            f"first_error_f1 leaves out {len(unknown)} of {len(unknown) + len(truth)} solutions, whose first error is "
            f"unknown: X lacks steps of them, or labels a step twice. The first is {unknown[0]!r}. If a split has cut "
            "them, pass cv=StratifiedProblemKFold(5)",
            stacklevel=2,
        )
    f1 = first_error_f1_score(truth, predicted) if truth else None
    if f1 is None:
        n_erroneous = sum(first >= 0 for first in truth)
        raise ValueError(
            f"first_error_f1 needs erroneous and correct solutions, and X holds {n_erroneous} erroneous and "
            f"{len(truth) - n_erroneous} correct ones of which all labels up to the first error are known"
        )
    return f1


def _first_error(n_steps: int, indices: list[int], is_wrong: np.ndarray) -> int | None:
    """Return the first error of a solution from the rows that X holds of it, None if they do not tell."""
    ratings: list[int | None] = [None] * n_steps
    for index, wrong in zip(indices, is_wrong, strict=True):
        rating = -1 if wrong else 1
        if ratings[index] not in (None, rating):
            return None
        ratings[index] = rating
    return ratings_to_first_error(ratings)


def _wrong_and_risk(classifier: FittedClassifier, X: Any, y: npt.ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return of each step whether it is wrong, and the probability that it is."""
    worst = _worst_label(classifier, y)
    is_wrong = _check_both_kinds(_equal(y, worst), worst, y)
    column = np.asarray(classifier.classes_).tolist().index(worst)
    risk = np.asarray(classifier.predict_proba(X))[:, column]
    if n_lost := int(np.isnan(risk).sum()):
        raise ValueError(
            f"{n_lost} of {len(risk)} steps have no probability (NaN), for they do not fit into the model: a score of "
            "the others would flatter it. Raise max_length if the model has room, or leave these steps out"
        )
    return is_wrong, risk


def _worst_label(classifier: FittedClassifier, y: npt.ArrayLike) -> Any:
    """Return the worst label, as the classifier or else the labels tell it. ValueError says that nothing does."""
    classes, labels = np.asarray(classifier.classes_).tolist(), np.asarray(y).tolist()
    declared, order = declared_order(y), known_label_order(classifier)
    if any(getattr(part, "label_order", None) is not None for part in fitted_parts(classifier)):
        declared = None  # what the user told the classifier counts more
    if order is None and declared is not None:
        order = resolve_label_order(classes, declared)
    if order is None:
        raise ValueError(
            f"nothing tells which of {classes} is the worst label: pass label_order=[worst, …, best] to PRMClassifier, "
            "or declare the labels, StepDataset(…, vocabulary=(worst, …, best)). If the worst label of the data is "
            "none of these classes, train on steps that have it"
        )
    # A label that training has not seen may be worse than all that it has: 0 is neutral beside -1.
    unseen = not set(labels) <= set(classes)
    full = resolve_label_order(sorted({*classes, *labels}, key=str)) if declared is None and unseen else declared
    if full is not None and full[0] != order[0]:
        raise ValueError(
            f"{full[0]!r} is the worst of the labels of y, and {order[0]!r} that of a classifier of {classes}: their "
            "labels have different meanings"
        )
    return order[0]


def _equal(labels: npt.ArrayLike, worst: Any) -> npt.NDArray[np.bool_]:
    return np.array([label == worst for label in np.asarray(labels).tolist()], dtype=bool)


def _check_both_kinds(is_wrong: np.ndarray, worst: Any, y: npt.ArrayLike) -> np.ndarray:
    if is_wrong.all() or not is_wrong.any():
        raise ValueError(
            f"{int(is_wrong.sum())} of {len(is_wrong)} steps have the worst label {worst!r}, and the labels of y are "
            f"{sorted(set(np.asarray(y).tolist()), key=str)}: a score needs wrong and other steps. In a "
            "cross-validation pass fewer folds, or cv=StratifiedProblemKFold(5), which spreads them"
        )
    return is_wrong
