"""PRMBench's score: how well right and wrong steps are told apart, both classes counting the same."""

from __future__ import annotations

from typing import Any

import numpy as np

from prmkit.metrics.benchmarks.first_error import check_weight

PRMBENCH_GROUPS = {
    "simplicity": ("redundency", "circular"),
    "soundness": ("counterfactual", "step_contradiction", "domain_inconsistency", "confidence"),
    "sensitivity": ("missing_condition", "deception", "multi_solutions"),
}
_ALL_RIGHT = "multi_solutions"  # right by construction


def prm_score(y_true: Any, y_pred: Any, *, sample_weight: Any = None) -> float | None:
    """Return PRMScore, the mean of the F1 of right steps and the F1 of wrong steps, over pooled steps.

    Parameters
    ----------
    y_true, y_pred : array-like of shape (n_steps,)
        Of all steps of all modified solutions: whether the step is, and is judged, right. True/False, 1/0 or
        +1/-1. Unmodified solutions do not belong here.
    sample_weight : array-like of shape (n_steps,), optional

    Returns
    -------
    float or None
        In [0, 1]. None if right, or wrong, steps are missing in ``y_true``. A class that is never predicted
        has an F1 of 0.

    Raises
    ------
    ValueError
        For other lengths, other values (turn rewards into verdicts with a threshold, and report it), or 0
        and -1 in one array.

    Notes
    -----
    arXiv:2501.03124. Upstream puts -1 in place of an undefined ratio and lets it enter the F1. For PRMBench's
    classes ``redundency`` and ``circular`` upstream takes a model's verdict on redundancy where it has one.

    Examples
    --------
    >>> prm_score([1, 1, 1, -1], [1, 1, -1, -1])
    0.7333333333333334
    """
    right, judged_right = _steps(y_true, "y_true"), _steps(y_pred, "y_pred")
    if len(right) != len(judged_right):
        raise ValueError(f"y_true has {len(right)} steps and y_pred {len(judged_right)}, expected the same")
    weight = check_weight(sample_weight, len(right))
    return _mean_f1(np.bincount(2 * right + judged_right, weights=weight, minlength=4), False)


def prm_score_by_class(
    y_true: Any, y_pred: Any, classes: Any, *, sample_weight: Any = None
) -> dict[str, float | None]:
    """Return the PRMScore of all steps, of each PRMBench class and of its three groups.

    Parameters
    ----------
    y_true, y_pred : array-like of shape (n_steps,)
        As in :func:`prm_score`.
    classes : array-like of str, shape (n_steps,)
        The class of the solution that each step belongs to, as published (``"redundency"``).
    sample_weight : array-like of shape (n_steps,), optional

    Returns
    -------
    dict of str to (float or None)
        ``"overall"``: one pool over all classes. One entry for each class that occurs; ``multi_solutions``,
        which has no wrong steps, is the F1 of right steps alone. ``"simplicity"``, ``"soundness"``,
        ``"sensitivity"``: plain means over those of their classes that occur, None if one of these is
        undefined; groups without a class are left out.

    Raises
    ------
    ValueError
        As :func:`prm_score`, or for an unknown class.

    Notes
    -----
    It fits :func:`prmkit.metrics.bootstrap_by_problem`. A sensitivity without ``multi_solutions`` is not the
    published one: see which classes are there.

    Examples
    --------
    >>> y, predicted = [1, 1, 0, 1, 0, 0], [1, 0, 0, 1, 0, 1]
    >>> scores = prm_score_by_class(y, predicted, ["circular"] * 3 + ["deception"] * 3)
    >>> {name: round(score, 3) for name, score in scores.items()}
    {'overall': 0.667, 'circular': 0.667, 'deception': 0.667, 'simplicity': 0.667, 'sensitivity': 0.667}
    """
    right, judged_right = _steps(y_true, "y_true"), _steps(y_pred, "y_pred")
    names, numbers = np.unique(np.asarray(classes, dtype=str), return_inverse=True)
    if not len(right) == len(judged_right) == len(numbers):
        raise ValueError(
            f"y_true has {len(right)} steps, y_pred {len(judged_right)}, classes {len(numbers)}, expected the same"
        )
    known = [name for group in PRMBENCH_GROUPS.values() for name in group]
    unknown = sorted(set(names.tolist()) - set(known))
    if unknown:
        raise ValueError(f"classes holds {', '.join(map(repr, unknown))}, expected of {', '.join(known)}")
    weight = check_weight(sample_weight, len(right))
    counts = np.bincount(4 * numbers + 2 * right + judged_right, weights=weight, minlength=4 * len(names))
    counts = counts.reshape(-1, 4)
    scores = {"overall": _mean_f1(counts.sum(axis=0), False)}
    by_class = {str(name): _mean_f1(row, name == _ALL_RIGHT) for name, row in zip(names, counts, strict=True)}
    scores |= {name: by_class[name] for name in known if name in by_class}
    for group, members in PRMBENCH_GROUPS.items():
        found = [by_class[name] for name in members if name in by_class]
        defined = [score for score in found if score is not None]
        if found:
            scores[group] = sum(defined) / len(defined) if len(defined) == len(found) else None
    return scores


def _mean_f1(counts: np.ndarray, right_alone: bool) -> float | None:
    """Counts: wrong judged wrong, wrong judged right, right judged wrong, right judged right."""
    true_wrong, false_right, false_wrong, true_right = counts
    missed = false_right + false_wrong
    if right_alone:
        return float(2 * true_right / (2 * true_right + missed)) if true_right + missed else None
    if not true_right + false_wrong or not true_wrong + false_right:
        return None
    return float(true_right / (2 * true_right + missed) + true_wrong / (2 * true_wrong + missed))


def _steps(values: Any, name: str) -> np.ndarray:
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
    found = set(np.unique(array).tolist()) if array.dtype.kind in "biuf" else {str(array[0])}
    if not (found <= {0, 1} or found <= {-1, 1}):
        shown = ", ".join(map(repr, sorted(found)[:5]))
        raise ValueError(f"{name} holds {shown}, expected True/False, 1/0 or +1/-1: right or wrong")
    return (array > 0).astype(np.int64)
