"""From probabilities to labels, with weights that keep a rare class from being lost."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import f1_score

_POWERS = np.linspace(0, 1, 11)


def choose_decision_weights(
    y: np.ndarray, proba: np.ndarray, sample_weight: np.ndarray | None = None
) -> np.ndarray:
    """Return the class weights under which the weighted likeliest class has the best macro-F1.

    A class weighs its share to the power ``-p``. With p = 0 the likeliest class wins, which on step labels
    is nearly always "positive". With p = 1 the class wins whose probability rises most above its share. One number
    p is chosen, on predictions for rows that the model has not seen. A tie takes the smaller p.

    Parameters
    ----------
    y : ndarray of int of shape (n_rows,)
        Column of the label in ``proba``.
    proba : ndarray of shape (n_rows, n_classes)
        Probability of each class.
    sample_weight : ndarray of shape (n_rows,), default=None
        Weight of each row in the score.

    Returns
    -------
    ndarray of shape (n_classes,)
        The largest class weighs 1.
    """
    shares = np.bincount(y, weights=sample_weight, minlength=proba.shape[1])
    shares = np.maximum(shares / shares.max(), 1e-12)
    scores = [
        f1_score(
            y,
            (proba * shares**-power).argmax(axis=1),
            average="macro",
            sample_weight=sample_weight,
            zero_division=0,
        )
        for power in _POWERS
    ]
    weights: np.ndarray = shares ** -_POWERS[int(np.argmax(np.round(scores, 6)))]
    return weights


def most_probable(classes: np.ndarray, proba: np.ndarray) -> np.ndarray:
    """Return the class of the largest number in each row.

    Parameters
    ----------
    classes : ndarray of shape (n_classes,)
        Labels of the columns.
    proba : ndarray of shape (n_rows, n_classes)
        Probabilities, weighed or not.

    Returns
    -------
    ndarray of shape (n_rows,)
        Labels out of ``classes``.

    Raises
    ------
    ValueError
        If a row is NaN: its step did not fit into the model (``too_long="nan"``), and has no class.

    Examples
    --------
    >>> most_probable(np.array(["bad", "good"]), np.array([[0.9, 0.1], [0.2, 0.8]])).tolist()
    ['bad', 'good']
    """
    if lost := int(np.isnan(proba).any(axis=1).sum()):
        raise ValueError(
            f"{lost} of {len(proba)} steps have no probabilities (NaN), for they do not fit into the model: they have "
            "no class. Leave them out, or raise max_length if the model has room"
        )
    labels: np.ndarray = classes[proba.argmax(axis=1)]
    return labels
