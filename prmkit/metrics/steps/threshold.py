"""The risk above which a step is called wrong; to be chosen on other data than it is tested on."""

from __future__ import annotations

from typing import Any

import numpy as np

from prmkit.metrics.calibration.calibration import check_event

_PRIOR_STEPS = 10.0  # a position seen this often counts half, the overall shares the other half
_N_FOLDS = 5


def majority_baseline(y: np.ndarray, n_steps: int, n_classes: int) -> np.ndarray:
    """Return the shares of the classes in ``y`` as everybody's probabilities; the largest one wins.

    Parameters
    ----------
    y : ndarray of int, shape (n_training_steps,)
        Class numbers.
    n_steps, n_classes : int

    Returns
    -------
    ndarray of shape (n_steps, n_classes)

    Examples
    --------
    >>> majority_baseline(np.array([1, 1, 1, 0]), n_steps=2, n_classes=2)
    array([[0.25, 0.75],
           [0.25, 0.75]])
    """
    return np.tile(np.bincount(y, minlength=n_classes) / len(y), (n_steps, 1))


def position_baseline(
    positions: Any, n_classes: int, *, train: tuple[Any, Any], shrinkage: float = _PRIOR_STEPS
) -> np.ndarray:
    """Return class probabilities from the step's index alone: the shares seen at that index in training.

    The number of steps is not used: in use it is unknown, and where solutions end at their first error it
    gives the label away.

    Parameters
    ----------
    positions : array-like of int, shape (n_steps,)
        0-based.
    n_classes : int
    train : (positions, y)
        Of the training steps, ``y`` as class numbers.
    shrinkage : float, default 10
        So many steps with the overall shares are added at every index.

    Returns
    -------
    ndarray of shape (n_steps, n_classes)

    Examples
    --------
    >>> position_baseline([0, 7], 2, train=([0, 0, 1, 1], np.array([1, 1, 1, 0])), shrinkage=2.0)
    array([[0.125, 0.875],
           [0.25 , 0.75 ]])
    """
    positions, train_positions = np.asarray(positions), np.asarray(train[0])
    counts = _count(train_positions, np.asarray(train[1]), n_classes, int(positions.max()) + 1)
    return _smoothed(counts, shrinkage)[positions]


def position_baseline_out_of_fold(
    positions: Any,
    y: np.ndarray,
    n_classes: int,
    *,
    groups: np.ndarray | None = None,
    random_state: int | np.random.Generator | None = 0,
) -> np.ndarray:
    """Return :func:`position_baseline` for each step, fitted on the same rows without the step's own fold.

    Parameters
    ----------
    positions : array-like of int, shape (n_steps,)
    y : ndarray of int, shape (n_steps,)
        Class numbers.
    n_classes : int
    groups : ndarray of int, shape (n_steps,), optional
        The problem of each row, 0 to n_problems - 1; five folds by problem. None: five folds by row.
    random_state : int, Generator or None, default 0

    Returns
    -------
    ndarray of shape (n_steps, n_classes)
    """
    positions = np.asarray(positions)
    groups = np.arange(len(y)) if groups is None else groups
    n_groups = int(groups.max()) + 1
    n_folds = min(_N_FOLDS, n_groups)
    if n_folds < 2:  # one problem: nothing else to learn from
        return majority_baseline(y, len(y), n_classes)
    folds = np.random.default_rng(random_state).permutation(n_groups)[groups] % n_folds
    n_positions = int(positions.max()) + 1
    everything = _count(positions, y, n_classes, n_positions)
    proba = np.empty((len(y), n_classes))
    for fold in range(n_folds):
        rows = folds == fold
        rest = everything - _count(positions[rows], y[rows], n_classes, n_positions)
        proba[rows] = _smoothed(rest, _PRIOR_STEPS)[positions[rows]]
    return proba


def _count(positions: np.ndarray, y: np.ndarray, n_classes: int, n_positions: int) -> np.ndarray:
    n_positions = max(n_positions, int(positions.max(initial=-1)) + 1)
    counts = np.bincount(positions * n_classes + y, minlength=n_positions * n_classes)
    return counts.reshape(n_positions, n_classes)


def _smoothed(counts: np.ndarray, shrinkage: float) -> np.ndarray:
    shares = counts.sum(axis=0) / counts.sum()
    return (counts + shrinkage * shares) / (counts.sum(axis=1, keepdims=True) + shrinkage)


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
