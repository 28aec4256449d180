"""How far people who rate the same steps agree: the ceiling for a model that learns from their ratings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def cohen_kappa(
    first: Any, second: Any, *, weights: str | None = None, sample_weight: Any = None
) -> float | None:
    """Return Cohen's kappa of two labellings of the same steps.

    Parameters
    ----------
    first, second : array-like of shape (n_steps,)
        Labels; steps that either of them left out (None) do not count.
    weights : {None, "linear", "quadratic"}
        None counts every disagreement the same; the others by the distance between sorted labels.
    sample_weight : array-like of shape (n_steps,), optional

    Returns
    -------
    float or None
        1 is perfect agreement, 0 that of chance. None without steps that both labelled, or if both gave all
        steps the same label: chance then agrees too.

    Raises
    ------
    ValueError
        For other lengths, or unknown ``weights``.

    See Also
    --------
    sklearn.metrics.cohen_kappa_score : Does the work.

    Examples
    --------
    >>> cohen_kappa([1, 1, -1, 0], [1, 1, -1, None])
    1.0
    """
    from sklearn.metrics import cohen_kappa_score

    a, b = list(first), list(second)
    if len(a) != len(b):
        raise ValueError(f"first has {len(a)} steps and second {len(b)}, expected the same")
    both = [i for i in range(len(a)) if a[i] is not None and b[i] is not None]
    a, b = [a[i] for i in both], [b[i] for i in both]
    if len({*a, *b}) < 2:
        return None
    weight = None if sample_weight is None else np.asarray(sample_weight)[both]
    return float(cohen_kappa_score(a, b, weights=weights, sample_weight=weight))


def fleiss_kappa(counts: Any) -> float | None:
    """Return Fleiss' kappa of any number of labels per step.

    Parameters
    ----------
    counts : array-like of int, shape (n_steps, n_labels)
        How many raters gave each step each label. Steps may have different numbers of raters; those with
        fewer than two are left out.

    Returns
    -------
    float or None
        None without such steps, or if all labels are the same.

    Raises
    ------
    ValueError
        For another shape, or negative numbers.

    Notes
    -----
    Fleiss 1971. Agreement is the mean over steps of the share of pairs that agree; the chance of it comes from
    the mean over steps of the shares of labels, so that a step with many raters counts no more than others.
    With equal numbers of raters this is Fleiss' own definition.

    Examples
    --------
    >>> round(fleiss_kappa([[3, 0], [0, 3], [2, 1]]), 3)
    0.55
    """
    counts = np.asarray(counts, dtype=np.float64)
    if counts.ndim != 2 or not (counts >= 0).all():
        raise ValueError(
            f"counts has shape {counts.shape}, expected (n_steps, n_labels), numbers of 0 or more"
        )
    counts = counts[counts.sum(axis=1) >= 2]
    if not len(counts):
        return None
    chance = float(np.square((counts / counts.sum(axis=1, keepdims=True)).mean(axis=0)).sum())
    if (counts > 0).any(axis=0).sum() < 2:
        return None
    return (float(_pairs_that_agree(counts).mean()) - chance) / (1 - chance)


def rating_agreement(labellings: Sequence[Sequence[Any]]) -> dict[str, float | int | None]:
    """Return how far several labellings of the same solutions agree, step by step.

    For first errors instead of ratings, pass each as a labelling of one step: ``[[[2], [-1]], …]``.

    Parameters
    ----------
    labellings : sequence, length n_solutions
        For each solution its labellings; each is a sequence of ratings, one per step, None where not rated.
        They may end at different steps.

    Returns
    -------
    dict of str to (float, int or None)
        ``"n_solutions"`` and ``"n_steps"`` with at least two ratings; ``"agreement"``, the mean over those
        steps of the share of pairs of ratings that are equal; ``"fleiss_kappa"``; ``"cohen_kappa"`` of the
        first two labellings of each solution.

    Examples
    --------
    >>> numbers = rating_agreement([[[1, 1, -1], [1, 0, -1]], [[1], [1], [1]]])
    >>> numbers["n_steps"], numbers["agreement"]
    (4, 0.75)
    """
    rows = [
        (solution, rater, step, rating)
        for solution, of_solution in enumerate(labellings)
        for rater, ratings in enumerate(of_solution)
        for step, rating in enumerate(ratings)
        if rating is not None
    ]
    nothing: dict[str, Any] = {"n_solutions": 0, "n_steps": 0, "agreement": None}
    nothing |= {"fleiss_kappa": None, "cohen_kappa": None}
    if not rows:
        return nothing
    solution, rater, step, rating = map(np.asarray, zip(*rows, strict=True))
    steps, unit = np.unique(np.column_stack([solution, step]), axis=0, return_inverse=True)
    labels, label = np.unique(rating, return_inverse=True)
    counts = np.zeros((len(steps), len(labels)))
    np.add.at(counts, (unit.ravel(), label.ravel()), 1)
    repeated = counts.sum(axis=1) >= 2
    if not repeated.any():
        return nothing
    pair = [np.full(len(steps), -1) for _ in range(2)]
    for which, column in enumerate(pair):
        column[unit.ravel()[rater == which]] = label.ravel()[rater == which]
    both = (pair[0] >= 0) & (pair[1] >= 0)
    return {
        "n_solutions": len(np.unique(steps[repeated, 0])),
        "n_steps": int(repeated.sum()),
        "agreement": float(_pairs_that_agree(counts[repeated]).mean()),
        "fleiss_kappa": fleiss_kappa(counts),
        "cohen_kappa": cohen_kappa(pair[0][both], pair[1][both]),
    }


def _pairs_that_agree(counts: np.ndarray) -> np.ndarray:
    """Return of each step, with at least two raters, the share of pairs of raters that agree."""
    n = counts.sum(axis=1)
    return (counts * (counts - 1)).sum(axis=1) / (n * (n - 1))
