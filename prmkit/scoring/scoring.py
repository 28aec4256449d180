"""Any fitted classifier over steps becomes a judge of whole solutions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from prmkit.data.labels import resolve_label_order
from prmkit.data.solution import Solution, as_solutions, flatten
from prmkit.metrics.calibration.calibration import check_class_probabilities
from prmkit.scoring.scored_solution import ScoredSolution


def score_solutions(
    classifier: Any, solutions: Iterable[Solution], *, proba: np.ndarray | None = None
) -> list[ScoredSolution]:
    """Score solutions with any fitted classifier over steps (see ``PRMClassifier.score_solutions``).

    Parameters
    ----------
    classifier : fitted estimator with ``predict_proba`` over steps and ``classes_``
        Such as a ``Pipeline`` or a ``CalibratedClassifierCV``.
    solutions : list of Solution
    proba : ndarray of shape (n_steps_in_all, n_classes), optional
        What the classifier says of ``flatten(solutions)``, where it has been asked already.

    Returns
    -------
    list of ScoredSolution

    Raises
    ------
    ValueError
        If it is not known which label is the worst, or a solution has no steps.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from prmkit.data import make_arithmetic_solutions
    >>> from prmkit.features import StepStatistics
    >>> data = make_arithmetic_solutions(20, 2, random_state=0)
    >>> pipe = make_pipeline(StepStatistics(), LogisticRegression(max_iter=5000)).fit(data.X, data.y)
    >>> score_solutions(pipe, data.solutions[:1])[0].rewards.shape == (data.solutions[0].n_steps,)
    True
    """
    solutions, order = _checked(classifier, solutions)
    if not solutions:
        return []
    ends = np.cumsum([solution.n_steps for solution in solutions])
    proba = classifier.predict_proba(flatten(solutions)) if proba is None else proba
    classes = tuple(classifier.classes_.tolist())
    return [
        ScoredSolution(solution=solution, proba=part, classes=classes, label_order=order)
        for solution, part in zip(solutions, np.split(proba, ends[:-1]), strict=True)
    ]


def step_risks(
    classifier: Any, solutions: Iterable[Solution]
) -> tuple[np.ndarray, np.ndarray, list[Solution]]:
    """Return the risks of all steps end to end, the number of steps of each solution, and the solutions as a list.

    What :func:`score_solutions` says, without an object per solution; errors as there.
    """
    solutions, order = _checked(classifier, solutions)
    lengths = np.array([solution.n_steps for solution in solutions], dtype=np.int64)
    if not solutions:
        return np.empty(0), lengths, solutions
    classes = classifier.classes_.tolist()
    proba = check_class_probabilities(
        classifier.predict_proba(flatten(solutions)), (int(lengths.sum()), len(classes))
    )
    return proba[:, classes.index(order[0])], lengths, solutions


def _checked(classifier: Any, solutions: Any) -> tuple[list[Solution], tuple[Any, ...]]:
    """Return the solutions, each with steps, and the labels from worst to best."""
    check_is_fitted(classifier)
    solutions = as_solutions(solutions)
    for i, solution in enumerate(solutions):
        if isinstance(solution, Solution) and not solution.steps:
            raise ValueError(f"solutions[{i}] has no steps: there is nothing to score; leave it out")
    order = getattr(classifier, "label_order_", None) or resolve_label_order(classifier.classes_)
    if order is None:
        raise ValueError(
            f"the classes {classifier.classes_.tolist()} have no known order from worst to best: "
            "pass label_order=[worst, …, best] to PRMClassifier"
        )
    for i, solution in enumerate(solutions):
        if not isinstance(solution, Solution):
            raise TypeError(f"solutions[{i}] is {type(solution).__name__}, expected Solution(problem, steps)")
    return solutions, tuple(order)
