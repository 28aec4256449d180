"""The uncertainty of several models about the same steps: the part they share and the part they disagree on."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral

import numpy as np
import numpy.typing as npt

from prmkit.metrics.calibration.calibration import NOT_ONE, check_probabilities
from prmkit.metrics.solutions.aggregation import entropy
from prmkit.utils.ragged import FloatArray


@dataclass(frozen=True, eq=False)
class MemberUncertainty:
    """Uncertainty of each step by members of an ensemble, with entropies in nats.

    Everywhere higher is more uncertain. The uncertainty is about the model's verdict. The risk of a step is another
    number.

    Parameters
    ----------
    total : ndarray of shape (n_steps,)
        Entropy of the mean prediction: ``aleatoric + epistemic``.
    aleatoric : ndarray of shape (n_steps,)
        Mean entropy of the members: the doubt of each of them.
    epistemic : ndarray of shape (n_steps,)
        Mutual information of prediction and member, at least 0: the disagreement of the members.
    risk_variance : ndarray of shape (n_steps,), or None
        Population variance over members of P(worst class), which is also that of the reward. None if the worst class
        was not named.
    variation_ratio : ndarray of shape (n_steps,)
        1 - the largest share of members that vote for one class.
    """

    total: FloatArray
    aleatoric: FloatArray
    epistemic: FloatArray
    risk_variance: FloatArray | None
    variation_ratio: FloatArray


def decompose_uncertainty(member_proba: npt.ArrayLike, worst_column: int | None = None) -> MemberUncertainty:
    """Split the uncertainty of an ensemble into aleatoric and epistemic, per step.

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
        The uncertainties of each step.

    Raises
    ------
    ValueError
        If the shape is another, there are no members, a row is no distribution, or there is no such column.

    Notes
    -----
    The decomposition is that of Depeweg et al. (ICML 2018, arXiv:1710.07283). The variation ratio is that of Gal
    (Uncertainty in Deep Learning, 2016, section 3.3.1). A member that finds two classes equally likely votes for the
    first of them.

    Examples
    --------
    Two members agree that the first step is a toss-up, and are each sure of another class in the second:

    >>> parts = decompose_uncertainty([[[0.5, 0.5], [1.0, 0.0]], [[0.5, 0.5], [0.0, 1.0]]], worst_column=0)
    >>> parts.total.round(3), parts.aleatoric.round(3), parts.epistemic.round(3)
    (array([0.693, 0.693]), array([0.693, 0.   ]), array([0.   , 0.693]))
    >>> parts.risk_variance, parts.variation_ratio
    (array([0.  , 0.25]), array([0. , 0.5]))
    """
    proba = _check_member_proba(member_proba)
    n_members, n_steps, n_classes = proba.shape
    is_column = isinstance(worst_column, Integral) and not isinstance(worst_column, bool)
    if worst_column is not None and not (is_column and 0 <= worst_column < n_classes):
        raise ValueError(f"worst_column is {worst_column}, expected 0 to {n_classes - 1}, or None")
    total, aleatoric = entropy(proba.mean(axis=0)), entropy(proba).mean(axis=0)
    step = np.broadcast_to(np.arange(n_steps), (n_members, n_steps))
    votes = np.bincount((step * n_classes + proba.argmax(axis=2)).ravel(), minlength=n_steps * n_classes)
    # Entropy is concave, so total - aleatoric is below 0 by rounding errors only.
    return MemberUncertainty(
        total=total,
        aleatoric=aleatoric,
        epistemic=np.maximum(total - aleatoric, 0.0),
        risk_variance=None if worst_column is None else proba[:, :, worst_column].var(axis=0),
        variation_ratio=1.0 - votes.reshape(n_steps, n_classes).max(axis=1) / n_members,
    )


def _check_member_proba(member_proba: npt.ArrayLike) -> FloatArray:
    """Return the probabilities of all members, each row a distribution."""
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
        raise ValueError(
            f"the probabilities of step {step} by member {member} sum to {proba[member, step].sum():.4f}, expected 1"
        )
    return proba
