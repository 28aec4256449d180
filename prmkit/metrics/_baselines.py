"""What needs no model: class shares, overall and at each position. To be printed beside every model."""

from __future__ import annotations

from typing import Any

import numpy as np

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
