"""The risk above which a step is called wrong; to be chosen on other data than it is tested on."""

from __future__ import annotations

from typing import Any

import numpy as np

from prmkit.metrics._calibration import check_event

_CRITERIA = ("macro_f1", "f1", "balanced_accuracy", "accuracy")


def choose_threshold(y_true: Any, risk: Any, *, criterion: str = "macro_f1") -> float:
    """Return the best threshold by a criterion; a step is called wrong if ``risk > threshold``.

    Candidates are all distinct risks and both ends (nothing wrong, everything wrong). Among equally good
    ones the lowest is taken. Say with every number on which data its threshold was chosen.

    Parameters
    ----------
    y_true : array-like of shape (n_steps,)
        True (or 1) where the step is wrong: ``y == -1``, not the labels themselves.
    risk : array-like of shape (n_steps,)
        P(step is wrong), in [0, 1].
    criterion : {"macro_f1", "f1", "balanced_accuracy", "accuracy"}
        ``"macro_f1"`` is the mean F1 of wrong and other steps, ``"f1"`` that of wrong steps.

    Returns
    -------
    float
        One of the risks; or, if calling everything wrong is best, 0.0 (-inf where a risk is 0).

    Raises
    ------
    ValueError
        For an unknown criterion, labels that are not 0/1, other lengths, NaN, or only wrong or only other
        steps.

    Examples
    --------
    >>> choose_threshold([False, False, True, True], [0.1, 0.4, 0.35, 0.8])
    0.1
    """
    if criterion not in _CRITERIA:
        raise ValueError(f"criterion is {criterion!r}, expected one of {', '.join(_CRITERIA)}")
    event, risk = check_event(y_true, risk)
    n_wrong, n_steps = event.sum(), len(event)
    if n_wrong in (0, n_steps):
        raise ValueError(
            f"{int(n_wrong)} of {n_steps} steps are wrong: a threshold needs wrong and other steps"
        )
    thresholds, block = np.unique(risk, return_inverse=True)
    # Steps above each threshold, all of them first: the low end.
    above = n_steps - np.concatenate([[0], np.cumsum(np.bincount(block))])
    hits = n_wrong - np.concatenate([[0], np.cumsum(np.bincount(block, weights=event))])
    low_end = 0.0 if thresholds[0] > 0 else -np.inf
    scores = _score(criterion, hits, above, n_wrong, n_steps)
    best = int(np.argmax(scores >= scores.max() - 1e-12))  # equal but for rounding: the first, so the lowest
    return float(np.append(low_end, thresholds)[best])


def _score(criterion: str, hits: np.ndarray, above: np.ndarray, n_wrong: float, n_steps: int) -> np.ndarray:
    """Hits: wrong steps above the threshold; ``above``: all steps above it."""
    n_right = n_steps - n_wrong
    kept = n_right - (above - hits)
    f1_wrong = 2 * hits / (n_wrong + above)
    if criterion == "f1":
        return f1_wrong
    if criterion == "macro_f1":
        return (f1_wrong + 2 * kept / (n_right + n_steps - above)) / 2
    if criterion == "accuracy":
        return (hits + kept) / n_steps
    return (hits / n_wrong + kept / n_right) / 2
