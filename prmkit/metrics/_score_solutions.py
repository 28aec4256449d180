"""Any fitted classifier over steps becomes a judge of whole solutions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from prmkit.data._labels import resolve_label_order
from prmkit.data._solution import Solution, as_solutions, flatten
from prmkit.metrics._scored_solution import ScoredSolution


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
    check_is_fitted(classifier)
    solutions = as_solutions(solutions)
    steps = flatten(solutions)
    for i, solution in enumerate(solutions):
        if not solution.steps:
            raise ValueError(f"solutions[{i}] has no steps: there is nothing to score; leave it out")
    order = getattr(classifier, "label_order_", None) or resolve_label_order(classifier.classes_)
    if order is None:
        raise ValueError(
            f"the classes {classifier.classes_.tolist()} have no known order from worst to best: "
            "pass label_order=[worst, …, best] to PRMClassifier"
        )
    if not solutions:
        return []
    ends = np.cumsum([solution.n_steps for solution in solutions])
    parts = np.split(classifier.predict_proba(steps) if proba is None else proba, ends[:-1])
    classes = tuple(classifier.classes_.tolist())
    return [
        ScoredSolution(solution=solution, proba=proba, classes=classes, label_order=tuple(order))
        for solution, proba in zip(solutions, parts, strict=True)
    ]
