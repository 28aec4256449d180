"""Any fitted classifier over steps becomes a judge of whole solutions."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from prmkit.data.solution import Solution, flatten, name_solutions, solutions_with_steps
from prmkit.fitted import (
    FittedClassifier,
    Label,
    fitted_parts,
    gives_unscored_steps,
    label_order as order_of,
    with_setting,
)
from prmkit.metrics.calibration.calibration import check_class_probabilities
from prmkit.scoring.scored_solution import ScoredList, ScoredSolution
from prmkit.utils.environment import UnscoredWarning

WHY_UNSCORED = (
    "the model cannot read these steps, and they are NaN, as are the numbers of the whole solutions. Raise max_length "
    "if the model has room, or leave them out"
)


def score_solutions(
    classifier: FittedClassifier,
    solutions: Iterable[Solution],
    label_order: Sequence[Label] | None = None,
    *,
    too_long: Literal["raise", "nan"] | None = None,
    proba: npt.NDArray[np.floating] | None = None,
) -> ScoredList[ScoredSolution]:
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
    too_long : {"raise", "nan"}, default=None
        What to do with steps that the model cannot read, such as those beyond its length. With ``"raise"`` they are an
        error. With ``"nan"`` they are NaN, and so are the numbers of their solutions as a whole. Other solutions do not
        notice, and a warning names the ones that are concerned. If ``None``, the classifier's own ``too_long`` decides.
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
        If nothing tells which label is the worst, a solution has no steps, or the classifier gives NaN for another
        reason than steps it cannot read.

    Warns
    -----
    UserWarning
        If steps have no score. It names their solutions.

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
    solutions, order = checked(classifier, solutions, label_order)
    if too_long not in (None, "raise", "nan"):
        raise ValueError(f"too_long is {too_long!r}, expected 'raise', 'nan' or None")
    if not solutions:
        return ScoredList()
    if too_long is not None:
        classifier = with_setting(classifier, "too_long", too_long)
    ends = np.cumsum([solution.n_steps for solution in solutions])
    proba = step_proba(classifier, solutions, proba)
    classes = tuple(classifier.classes_.tolist())
    return ScoredList(
        ScoredSolution(solution=solution, proba=part, classes=classes, label_order=order)
        for solution, part in zip(solutions, np.split(proba, ends[:-1]), strict=True)
    )


def step_risks(
    classifier: FittedClassifier, solutions: Iterable[Solution], label_order: Sequence[Label] | None = None
) -> tuple[np.ndarray, np.ndarray, list[Solution]]:
    """Return the risks of all steps end to end, the number of steps of each solution, and the solutions as a list.

    The risks are those of :func:`score_solutions`, without one object per solution: NaN for a step without a score. The
    errors and the warning are the same too.
    """
    solutions, order = checked(classifier, solutions, label_order)
    lengths = np.array([solution.n_steps for solution in solutions], dtype=np.int64)
    if not solutions:
        return np.empty(0), lengths, solutions
    proba = step_proba(classifier, solutions)
    return proba[:, classifier.classes_.tolist().index(order[0])], lengths, solutions


def step_proba(
    classifier: FittedClassifier, solutions: list[Solution], proba: npt.NDArray[np.floating] | None = None
) -> np.ndarray:
    """Return checked probabilities of all steps, and warn of those without a score."""
    rows = quiet_step_proba(classifier, solutions, proba)
    without = np.isnan(rows[:, 0])
    if without.any():
        warnings.warn(
            f"no score for {unscored_solutions(solutions, without)}: {WHY_UNSCORED}", UserWarning, stacklevel=3
        )
    return rows


def quiet_step_proba(
    classifier: FittedClassifier, solutions: Sequence[Solution], proba: npt.NDArray[np.floating] | None = None
) -> np.ndarray:
    """Return checked probabilities of all steps of some solutions, NaN for steps that the classifier cannot read."""
    if proba is None:
        with warnings.catch_warnings():
            # Who scores solutions says the same of the whole call.
            warnings.simplefilter("ignore", UnscoredWarning)
            proba = classifier.predict_proba(flatten(solutions))
    n_steps = sum(solution.n_steps for solution in solutions)
    rows = check_class_probabilities(proba, (n_steps, len(classifier.classes_)), unscored=True)
    without = np.isnan(rows[:, 0])
    if without.any() and not gives_unscored_steps(classifier):
        why = (
            "They do not fit into its language model: pass too_long='nan' to score the others"
            if any(getattr(part, "too_long", None) == "raise" for part in fitted_parts(classifier))
            else "It says of no step that it is too long, so its own numbers fail: look at the model and at what its "
            "features hold"
        )
        raise ValueError(f"{type(classifier).__name__} gives NaN for {unscored_solutions(solutions, without)}. {why}")
    return rows


def unscored_solutions(solutions: Sequence[Solution], without: np.ndarray) -> str:
    """Return in words which solutions have steps without a score, from one boolean per step."""
    lengths = [solution.n_steps for solution in solutions]
    concerned = np.unique(np.repeat(np.arange(len(solutions)), lengths)[without]).tolist()
    return f"{int(without.sum()):,} of {len(without):,} steps, in {name_solutions(solutions, concerned)}"


def checked(
    classifier: FittedClassifier, solutions: Iterable[Solution], label_order: Sequence[Label] | None
) -> tuple[list[Solution], tuple[Label, ...]]:
    """Return the solutions, each with steps, and the labels from worst to best."""
    if isinstance(classifier, (type, BaseEstimator)):
        check_is_fitted(classifier)
    elif not (hasattr(classifier, "predict_proba") and hasattr(classifier, "classes_")):
        raise TypeError(
            f"classifier is {type(classifier).__name__}, expected a fitted classifier with predict_proba and classes_"
        )
    return solutions_with_steps(solutions), order_of(classifier, label_order)
