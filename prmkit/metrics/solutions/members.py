"""What several models say of the same steps, parted into what they share and what they disagree on."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np

from prmkit.metrics.calibration.calibration import NOT_ONE, check_probabilities
from prmkit.metrics.solutions.aggregation import entropy

_ROUNDING = 1e-12  # a mutual information this far below 0 is a rounding error; further is impossible


@dataclass(frozen=True, eq=False)
class MemberUncertainty:
    """Uncertainty of each step by members of an ensemble; each array of shape (n_steps,), entropies in nats.

    Everywhere higher is more uncertain. The uncertainty is about the model's verdict; the risk of a step is
    another number.

    Parameters
    ----------
    total : ndarray
        Entropy of the mean prediction; ``aleatoric + epistemic``.
    aleatoric : ndarray
        Mean entropy of the members: what each of them is unsure of.
    epistemic : ndarray
        Mutual information of prediction and member, at least 0: what the members disagree on.
    risk_variance : ndarray or None
        Population variance over members of P(worst class), which is that of the reward too. None where the worst
        class was not named.
    variation_ratio : ndarray
        1 - the largest share of members that vote for one class.
    """

    total: np.ndarray
    aleatoric: np.ndarray
    epistemic: np.ndarray
    risk_variance: np.ndarray | None
    variation_ratio: np.ndarray


def decompose_uncertainty(member_proba: Any, worst_column: int | None = None) -> MemberUncertainty:
    """Part the uncertainty of an ensemble into aleatoric and epistemic, per step.

    ``H(mean p) = mean H(p) + I(prediction; member)``, with natural logarithms.

    Parameters
    ----------
    member_proba : array-like of shape (n_members, n_steps, n_classes)
        Class probabilities by each member.
    worst_column : int, optional
        Column of the worst class, for the variance of the risk.

    Returns
    -------
    MemberUncertainty

    Raises
    ------
    ValueError
        For another shape, no members, rows that are no probabilities (NaN among them), or no such column.

    Notes
    -----
    The decomposition is that of Depeweg et al. (ICML 2018, arXiv:1710.07283); the variation ratio that of Gal
    (Uncertainty in Deep Learning, 2016, section 3.3.1). A member that finds two classes equally likely votes for
    the first of them.

    Examples
    --------
    Two members agree that the first step is a toss-up, and are each sure of another class in the second:

    >>> found = decompose_uncertainty([[[0.5, 0.5], [1.0, 0.0]], [[0.5, 0.5], [0.0, 1.0]]], worst_column=0)
    >>> found.total.round(3), found.aleatoric.round(3), found.epistemic.round(3)
    (array([0.693, 0.693]), array([0.693, 0.   ]), array([0.   , 0.693]))
    >>> found.risk_variance, found.variation_ratio
    (array([0.  , 0.25]), array([0. , 0.5]))
    """
    proba = _checked(member_proba)
    n_members, n_steps, n_classes = proba.shape
    known = isinstance(worst_column, Integral) and not isinstance(worst_column, bool)
    if worst_column is not None and not (known and 0 <= worst_column < n_classes):
        raise ValueError(f"worst_column is {worst_column}, expected 0 to {n_classes - 1}, or None")
    total, aleatoric = entropy(proba.mean(axis=0)), entropy(proba).mean(axis=0)
    epistemic = total - aleatoric
    assert epistemic.min(initial=0.0) >= -_ROUNDING, "entropy is concave: this cannot be"
    step = np.broadcast_to(np.arange(n_steps), (n_members, n_steps))
    votes = np.bincount((step * n_classes + proba.argmax(axis=2)).ravel(), minlength=n_steps * n_classes)
    return MemberUncertainty(
        total=total,
        aleatoric=aleatoric,
        epistemic=np.maximum(epistemic, 0.0),
        risk_variance=None if worst_column is None else proba[:, :, worst_column].var(axis=0),
        variation_ratio=1.0 - votes.reshape(n_steps, n_classes).max(axis=1) / n_members,
    )


def _checked(member_proba: Any) -> np.ndarray:
    proba = np.asarray(member_proba, dtype=np.float64)
    if proba.ndim != 3 or not proba.shape[0] or not proba.shape[2]:
        raise ValueError(
            f"member_proba has shape {proba.shape}, expected (n_members, n_steps, n_classes) with at least 1 member: "
            "np.stack([member.predict_proba(X) for member in members])"
        )
    proba = check_probabilities(proba, "member_proba")
    off = np.abs(proba.sum(axis=2) - 1)
    if off.max(initial=0.0) > NOT_ONE:
        member, step = np.unravel_index(int(off.argmax()), off.shape)
        found = proba[member, step].sum()
        raise ValueError(
            f"the probabilities of step {step} by member {member} sum to {found:.4f}, expected 1"
        )
    return proba
