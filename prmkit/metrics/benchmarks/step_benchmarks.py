"""The scores of PRMBench and ReasonEval: how well right and wrong steps are told apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from prmkit.metrics.benchmarks.first_error import check_weight
from prmkit.metrics.selective._selective import RankedDecisions
from prmkit.metrics.solutions.aggregation import ragged_scores
from prmkit.metrics.solutions.first_errors import check_first_errors
from prmkit.metrics.steps.step_metrics import f1_scores, macro_f1
from prmkit.utils.ragged import BoolArray, FloatArray, IntArray, Ragged

PRMBENCH_GROUPS = {
    "simplicity": ("redundency", "circular"),
    "soundness": ("counterfactual", "step_contradiction", "domain_inconsistency", "confidence"),
    "sensitivity": ("missing_condition", "deception", "multi_solutions"),
}
# All steps of this class are right by construction.
_ALL_RIGHT = "multi_solutions"


def prm_score(
    y_true: npt.ArrayLike, y_pred: npt.ArrayLike, *, sample_weight: npt.ArrayLike | None = None
) -> float | None:
    """Return PRMScore, the mean of the F1 of right steps and the F1 of wrong steps, over pooled steps.

    Parameters
    ----------
    y_true, y_pred : array-like of shape (n_steps,)
        Whether each step is, and is judged, right: True/False, 1/0 or +1/-1. Pass all steps of all modified solutions,
        and none of unmodified ones. A risk becomes a verdict by ``risk <= threshold``. Report the threshold.
    sample_weight : array-like of shape (n_steps,), optional
        The weight of each step.

    Returns
    -------
    float or None
        The score in [0, 1]. None if right, or wrong, steps are missing in ``y_true``. A class that is never predicted
        has an F1 of 0.

    Raises
    ------
    ValueError
        If lengths differ, or an array holds other values, or both 0 and -1.

    Notes
    -----
    arXiv:2501.03124. The authors' code puts -1 in place of an undefined ratio and lets it enter the F1. For PRMBench's
    classes ``redundency`` and ``circular`` it takes a model's verdict on redundancy where there is one.

    Examples
    --------
    >>> prm_score([1, 1, 1, -1], [1, 1, -1, -1])
    0.7333333333333334
    """
    is_right, judged_right = _check_verdicts(y_true, "y_true"), _check_verdicts(y_pred, "y_pred")
    if len(is_right) != len(judged_right):
        raise ValueError(f"y_true has {len(is_right)} steps and y_pred {len(judged_right)}, expected the same")
    weight = check_weight(sample_weight, len(is_right))
    return macro_f1(np.bincount(2 * is_right + judged_right, weights=weight, minlength=4).reshape(2, 2))


def prm_score_by_class(
    y_true: npt.ArrayLike, y_pred: npt.ArrayLike, classes: npt.ArrayLike, *, sample_weight: npt.ArrayLike | None = None
) -> dict[str, float | None]:
    """Return the PRMScore of all steps, of each PRMBench class and of its three groups.

    A sensitivity without ``multi_solutions`` is not the published one, so look which classes are there.
    """
    is_right, judged_right = _check_verdicts(y_true, "y_true"), _check_verdicts(y_pred, "y_pred")
    names, numbers = np.unique(np.asarray(classes, dtype=str), return_inverse=True)
    if not len(is_right) == len(judged_right) == len(numbers):
        raise ValueError(
            f"y_true has {len(is_right)} steps, y_pred {len(judged_right)}, classes {len(numbers)}, expected the same"
        )
    published = [name for group in PRMBENCH_GROUPS.values() for name in group]
    unknown = sorted(set(names.tolist()) - set(published))
    if unknown:
        raise ValueError(f"classes holds {', '.join(map(repr, unknown))}, expected of {', '.join(published)}")
    weight = check_weight(sample_weight, len(is_right))
    cells = 4 * numbers + 2 * is_right + judged_right
    confusions = np.bincount(cells, weights=weight, minlength=4 * len(names)).reshape(-1, 2, 2)
    by_class = {str(name): macro_f1(confusion) for name, confusion in zip(names, confusions, strict=True)}
    if _ALL_RIGHT in by_class:
        f1_of_right = float(f1_scores(confusions[names.tolist().index(_ALL_RIGHT)])[1])
        by_class[_ALL_RIGHT] = None if np.isnan(f1_of_right) else f1_of_right
    scores = {"overall": macro_f1(confusions.sum(axis=0))}
    scores |= {name: by_class[name] for name in published if name in by_class}
    for group, members in PRMBENCH_GROUPS.items():
        of_group = [by_class[name] for name in members if name in by_class]
        defined = [score for score in of_group if score is not None]
        if of_group:
            scores[group] = sum(defined) / len(defined) if len(defined) == len(of_group) else None
    return scores


def _check_verdicts(values: npt.ArrayLike, name: str) -> IntArray:
    """Return 1 for right and 0 for wrong steps."""
    array = np.asarray(values)
    if array.ndim != 1:
        raise ValueError(f"{name} has shape {array.shape}, expected one value per step, in one flat array")
    if not len(array):
        return np.empty(0, dtype=np.int64)
    if array.dtype.kind == "O" and any(value is None for value in array):
        raise ValueError(f"{name} holds None: leave out steps that nobody judged")
    if array.dtype.kind == "O" and all(isinstance(value, (bool, int, float, np.generic)) for value in array):
        array = array.astype(np.float64)
    distinct = set(np.unique(array).tolist()) if array.dtype.kind in "biuf" else {str(array[0])}
    if not (distinct <= {0, 1} or distinct <= {-1, 1}):
        shown = ", ".join(map(repr, sorted(distinct)[:5]))
        raise ValueError(f"{name} holds {shown}, expected True/False, 1/0 or +1/-1: right or wrong")
    return (array > 0).astype(np.int64)


ReasonEvalTask: TypeAlias = Literal["invalid", "redundant"]
_THRESHOLDS: dict[str, float] = {"invalid": 0.5, "redundant": 0.15}
# A verdict that is right for no class.
_UNDECIDED = 2


def reasoneval_scores(
    y_true: Sequence[Any] | npt.NDArray[Any],
    risks: Sequence[npt.ArrayLike],
    *,
    task: ReasonEvalTask = "invalid",
    threshold: float | None = None,
    sample_weight: npt.ArrayLike | None = None,
) -> dict[str, float | None]:
    """Return ReasonEval's macro-F1 and AUROC of solutions and of steps, from step risks.

    Parameters
    ----------
    y_true : sequence
        For task ``"invalid"``: the 0-based first invalid step of each solution, -1 for none. For task ``"redundant"``:
        for each solution an array of 1 (useful) or 0 (redundant) per step.
    risks : sequence of array-like of shape (n_steps,)
        One 1-D array per solution, higher is worse: P(negative) of each step for ``"invalid"``, P(neutral) for
        ``"redundant"``. A block of several sub-steps has the highest of their risks.
    task : {"invalid", "redundant"}
        Which kind of bad step is looked for.
    threshold : float, optional
        A step is bad if its risk reaches the threshold. If None, it is 0.5 for ``"invalid"`` and 0.15 for
        ``"redundant"``. Pass 0.5 in both tasks for models with one scalar reward per step.
    sample_weight : array-like of shape (n_solutions,), optional
        The weight of each solution.

    Returns
    -------
    dict of str to (float or None)
        ``"solution_macro_f1"``, ``"solution_auroc"``, ``"step_macro_f1"``, ``"step_auroc"``. A number is None if a
        class is missing.

    Raises
    ------
    ValueError
        If the task is unknown, lengths differ, a label is beyond the last step, a rating is neither 0 nor 1, or a risk
        is NaN.

    Notes
    -----
    arXiv:2404.05692. The publication thresholds rewards: validity ``1 - P(negative)`` at 0.5 and ``-P(neutral)`` at
    -0.15. Its rules for equality differ from the rest of this package. A step that equals the threshold is bad. A
    solution, whose risk is its highest step risk, is good below the threshold, bad above, and a miss for both classes
    if equal. Task ``"invalid"`` counts steps up to and including the first invalid one.

    Examples
    --------
    >>> scores = reasoneval_scores([1, -1], [[0.1, 0.8, 0.2], [0.3, 0.6]])
    >>> scores["solution_auroc"], scores["step_macro_f1"]
    (1.0, 0.7333333333333334)
    """
    if task not in _THRESHOLDS:
        raise ValueError(f"task is {task!r}, expected one of {', '.join(_THRESHOLDS)}")
    ragged = ragged_scores(risks, False)
    limit = _THRESHOLDS[task] if threshold is None else threshold
    labels = _reasoneval_labels(y_true, ragged.lengths, task)
    weight = check_weight(sample_weight, len(ragged))
    step_weight = ragged.spread(weight) * labels.counts
    highest = ragged.reduce(np.maximum)
    verdicts = np.where(highest == limit, _UNDECIDED, highest < limit)
    return {
        "solution_macro_f1": _macro_f1_of_verdicts(labels.good_solutions, verdicts, weight),
        "solution_auroc": _auroc(labels.good_solutions, highest, weight),
        "step_macro_f1": _macro_f1_of_verdicts(labels.good_steps, (ragged.values < limit).astype(int), step_weight),
        "step_auroc": _auroc(labels.good_steps, ragged.values, step_weight),
    }


class _ReasonEvalLabels(NamedTuple):
    """Which steps are good, which of them count, and which solutions are good."""

    good_steps: BoolArray
    counts: BoolArray
    good_solutions: BoolArray


def _reasoneval_labels(y_true: Any, lengths: IntArray, task: str) -> _ReasonEvalLabels:
    if len(y_true) != len(lengths):
        raise ValueError(f"y_true has {len(y_true)} solutions and risks {len(lengths)}, expected the same")
    steps = Ragged(np.empty(0), lengths)
    if task == "invalid":
        first = check_first_errors(y_true, lengths, "y_true") if len(lengths) else lengths
        last = steps.spread(np.where(first < 0, lengths, first))
        return _ReasonEvalLabels(steps.positions < last, steps.positions <= last, first < 0)
    ratings = ragged_scores(y_true, False)
    odd = np.flatnonzero(ratings.lengths != lengths)
    if len(odd):
        i = odd[0]
        raise ValueError(f"solution {i} has {ratings.lengths[i]} ratings and {lengths[i]} risks, expected the same")
    if not np.isin(ratings.values, (0, 1)).all():
        raise ValueError("y_true of task 'redundant' holds other values than 1 (useful) and 0 (redundant)")
    every_step = np.ones(len(ratings.values), dtype=bool)
    return _ReasonEvalLabels(ratings.values > 0, every_step, ratings.reduce(np.minimum) > 0)


def _macro_f1_of_verdicts(is_good: BoolArray, verdicts: npt.NDArray[Any], weight: FloatArray) -> float | None:
    """Return the mean F1 of bad (0) and good (1) rows. An undecided verdict is a miss."""
    return macro_f1(np.bincount(is_good * 3 + verdicts, weights=weight, minlength=6).reshape(2, 3))


def _auroc(is_good: BoolArray, risk: FloatArray, weight: FloatArray) -> float | None:
    """Return the AUROC of risk for bad rows, None if a class is missing."""
    if not len(risk):
        return None
    return RankedDecisions(~is_good, risk, np.arange(len(risk))).weigh(weight).auroc()
