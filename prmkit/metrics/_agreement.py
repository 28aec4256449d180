"""How far people who rate the same steps agree: the ceiling for a model that learns from their ratings."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt


def rating_agreement(labellings: Sequence[Sequence[Sequence[Hashable | None]]]) -> dict[str, float | int | None]:
    """Return how far several labellings of the same solutions agree, step by step.

    For first errors instead of ratings, pass each as a labelling of one step: ``[[[2], [-1]], …]``. For Cohen's kappa
    of two raters use :func:`sklearn.metrics.cohen_kappa_score`.

    Parameters
    ----------
    labellings : sequence, length n_solutions
        For each solution its labellings. Each is a sequence of ratings, one per step, None for a step without rating.
        They may end at different steps.

    Returns
    -------
    dict of str to (float, int or None)
        ``"n_solutions"`` and ``"n_steps"`` count those with at least two ratings of a step. ``"agreement"`` is the mean
        over these steps of the share of pairs of ratings that are equal. ``"krippendorff_alpha"`` (nominal) and
        ``"fleiss_kappa"`` compare it with chance: 1 is perfect agreement, 0 that of chance. They are None if all
        ratings are the same.

    Notes
    -----
    Steps may have different numbers of raters, the usual case. Krippendorff's alpha (Krippendorff 2004, chapter 11) is
    defined for this case. Fleiss' kappa (Fleiss 1971) is not. Here its chance comes from the mean over steps of the
    shares of labels, which is Fleiss' definition if all steps have the same number of raters.

    Examples
    --------
    >>> numbers = rating_agreement([[[1, 1, -1], [1, 0, -1]], [[1], [1], [1]]])
    >>> numbers["n_steps"], numbers["agreement"], round(numbers["krippendorff_alpha"], 3)
    (4, 0.75, 0.6)
    """
    rows = [
        (solution, step, rating)
        for solution, of_solution in enumerate(labellings)
        for ratings in of_solution
        for step, rating in enumerate(ratings)
        if rating is not None
    ]
    undefined = {"n_solutions": 0, "n_steps": 0, "agreement": None}
    if not rows:
        return {**undefined, "krippendorff_alpha": None, "fleiss_kappa": None}
    solutions, steps, ratings = map(np.asarray, zip(*rows, strict=True))
    units, unit = np.unique(np.column_stack([solutions, steps]), axis=0, return_inverse=True)
    labels, label = np.unique(ratings, return_inverse=True)
    counts = np.zeros((len(units), len(labels)))
    np.add.at(counts, (unit.ravel(), label.ravel()), 1)
    # A step with one rating says nothing about agreement.
    is_repeated = counts.sum(axis=1) >= 2
    counts, units = counts[is_repeated], units[is_repeated]
    if not len(counts):
        return {**undefined, "krippendorff_alpha": None, "fleiss_kappa": None}
    return {
        "n_solutions": len(np.unique(units[:, 0])),
        "n_steps": len(units),
        "agreement": float(_equal_pairs(counts).mean()),
        "krippendorff_alpha": _krippendorff_alpha(counts),
        "fleiss_kappa": _fleiss_kappa(counts),
    }


def _equal_pairs(counts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the share of pairs of ratings that are equal, for each step (row) with its ratings per label."""
    n = counts.sum(axis=1)
    shares: npt.NDArray[np.float64] = (counts * (counts - 1)).sum(axis=1) / (n * (n - 1))
    return shares


def _krippendorff_alpha(counts: npt.NDArray[np.float64]) -> float | None:
    """Return Krippendorff's alpha for nominal labels. Each rating counts the same."""
    n_of_step, n_of_label = counts.sum(axis=1), counts.sum(axis=0)
    n = counts.sum()
    observed = ((1 - _equal_pairs(counts)) * n_of_step).sum() / n
    expected = 1 - (n_of_label * (n_of_label - 1)).sum() / (n * (n - 1))
    return float(1 - observed / expected) if expected else None


def _fleiss_kappa(counts: npt.NDArray[np.float64]) -> float | None:
    """Return Fleiss' kappa. Each step counts the same."""
    chance = float(np.square((counts / counts.sum(axis=1, keepdims=True)).mean(axis=0)).sum())
    if (counts > 0).any(axis=0).sum() < 2:
        return None
    return (float(_equal_pairs(counts).mean()) - chance) / (1 - chance)
