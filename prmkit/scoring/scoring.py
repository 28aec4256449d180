"""Any fitted classifier over steps becomes a judge of whole solutions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
from sklearn.utils.validation import check_is_fitted

from prmkit.data.solution import Solution, as_solutions, flatten
from prmkit.fitted import FittedClassifier, Label, label_order as order_of
from prmkit.metrics.calibration.calibration import check_class_probabilities
from prmkit.scoring.scored_solution import ScoredSolution


def score_solutions(
    classifier: FittedClassifier,
    solutions: Iterable[Solution],
    label_order: Sequence[Label] | None = None,
    *,
    proba: npt.NDArray[np.floating] | None = None,
) -> list[ScoredSolution]:
    """Score every step of each solution with a fitted classifier, and each solution as a whole.

    Parameters
    ----------
    classifier : fitted classifier of steps
        A :class:`~prmkit.PRMClassifier`, or any estimator with ``predict_proba`` over steps and ``classes_``, such as
        a ``Pipeline``, a ``GridSearchCV`` or a ``CalibratedClassifierCV``.
    solutions : list of Solution
        Solutions to score. Each has at least one step.
    label_order : sequence of labels, default=None
        Labels from worst to best. If ``None``, the order is that of the ``PRMClassifier`` inside, or
        the labels themselves tell it, as -1/0/+1 and "negative"/"neutral"/"positive" do.
    proba : ndarray of shape (n_steps_in_all, n_classes), default=None
        Result of ``classifier.predict_proba(flatten(solutions))``, if it has been computed before.

    Returns
    -------
    list of ScoredSolution
        One per solution, in their order. Each has ``proba``, ``rewards``, ``risks``, ``entropy`` and ``margin`` per
        step, and ``aggregates``, ``p_no_error`` and ``first_error_distribution`` of the whole solution.

    Raises
    ------
    ValueError
        If nothing tells which label is the worst, or a solution has no steps.

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
    solutions, order = _checked(classifier, solutions, label_order)
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
    classifier: FittedClassifier, solutions: Iterable[Solution], label_order: Sequence[Label] | None = None
) -> tuple[np.ndarray, np.ndarray, list[Solution]]:
    """Return the risks of all steps end to end, the number of steps of each solution, and the solutions as a list.

    The risks are those of :func:`score_solutions`, without one object per solution. The errors are the same too.
    """
    solutions, order = _checked(classifier, solutions, label_order)
    lengths = np.array([solution.n_steps for solution in solutions], dtype=np.int64)
    if not solutions:
        return np.empty(0), lengths, solutions
    classes = classifier.classes_.tolist()
    proba = check_class_probabilities(classifier.predict_proba(flatten(solutions)), (int(lengths.sum()), len(classes)))
    return proba[:, classes.index(order[0])], lengths, solutions


def _checked(
    classifier: FittedClassifier, solutions: Iterable[Solution], label_order: Sequence[Label] | None
) -> tuple[list[Solution], tuple[Label, ...]]:
    """Return the solutions, each with steps, and the labels from worst to best."""
    check_is_fitted(classifier)
    solutions = as_solutions(solutions)
    for i, solution in enumerate(solutions):
        if not isinstance(solution, Solution):
            raise TypeError(f"solutions[{i}] is {type(solution).__name__}, expected Solution(problem, steps)")
        if not solution.steps:
            raise ValueError(f"solutions[{i}] has no steps: there is nothing to score; leave it out")
    return solutions, order_of(classifier, label_order)
