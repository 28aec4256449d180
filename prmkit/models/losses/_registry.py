"""The losses by name. prmkit knows a file of losses by its line in the list of imports here."""

from __future__ import annotations

from typing import Any

# Importing a file registers its losses. Add the file of a new loss here.
from prmkit.models.losses import (
    _pointwise,  # noqa: F401
    _ranking,  # noqa: F401
)
from prmkit.models.losses._step_loss import StepLoss, loss_names, make_loss

__all__ = ["get_loss", "loss_names"]


def get_loss(name: str, **options: Any) -> StepLoss:
    """Return a loss by name.

    Parameters
    ----------
    name : str
        "cross_entropy", "reward_token", "soft_cross_entropy", "bce", "mse", "orm", "rank", "theory_rank",
        "ablate_rank", or the name of a loss that :func:`register_loss` added. A hyphen may stand for an underscore. All
        but the first two take labels 1 (right) and 0 (wrong).
    **options
        Keyword arguments of the function of that name, such as ``zeta`` of :func:`rank_loss`.

    Returns
    -------
    StepLoss
        The loss with its options.

    Raises
    ------
    ValueError
        If the name or an option is unknown, or an option is out of range.

    Examples
    --------
    >>> get_loss("rank", zeta=2.0)
    StepLoss(name='rank', reads='reward', averaging='macro', soft=False, options={'zeta': 2.0})
    """
    registered = name.replace("-", "_")
    if registered not in loss_names():
        raise ValueError(f"loss {name!r} is unknown, expected one of {', '.join(loss_names())}")
    return make_loss(registered, options)
