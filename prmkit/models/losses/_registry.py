"""The losses by name, each with what a head or trainer must know to use it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from inspect import signature
from typing import Any, Literal

import torch
from torch import Tensor

from prmkit.models.losses._binary import bce_total, mse_total, orm_total
from prmkit.models.losses._classification import (
    cross_entropy_total,
    reward_token_total,
    soft_cross_entropy_total,
)
from prmkit.models.losses._ranking import ablate_rank_total, rank_total, theory_rank_total
from prmkit.models.losses._targets import check_options, mean_of, n_solutions, step_weights

_TOTALS: dict[str, Callable[..., Tensor]] = {
    "cross_entropy": cross_entropy_total,
    "reward_token": reward_token_total,
    "soft_cross_entropy": soft_cross_entropy_total,
    "bce": bce_total,
    "mse": mse_total,
    "orm": orm_total,
    "rank": rank_total,
    "theory_rank": theory_rank_total,
    "ablate_rank": ablate_rank_total,
}
LOSSES = tuple(_TOTALS)


@dataclass(frozen=True)
class StepLoss:
    """A loss with its options, as :func:`get_loss` returns it.

    Over several devices or accumulated batches the exact mean is the sum of ``total`` divided by the
    sum of ``count``; a mean of the batches' means is not.

    Parameters
    ----------
    name : str
    reads : {"classes", "reward", "vocabulary"}
        Shape of the outputs: (..., n_classes), the labels' own, or (..., vocabulary).
    averaging : {"micro", "macro", "solution"}
        Mean over all steps, mean over the solutions' own means, or one term per solution.
    soft : bool
        Whether labels may be chances of being right instead of 0 and 1, or codes.
    options : mapping

    Examples
    --------
    >>> import torch
    >>> loss = get_loss("bce")
    >>> rewards, labels = torch.zeros(2, 3), torch.tensor([[1, 0, 1], [1, -100, -100]])
    >>> loss(rewards, labels), loss.total(rewards, labels), loss.count(labels)
    (tensor(0.6931), tensor(2.7726), tensor(4.))
    """

    name: str
    reads: Literal["classes", "reward", "vocabulary"]
    averaging: Literal["micro", "macro", "solution"]
    soft: bool
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __call__(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Return the mean, a scalar; 0 with zero gradient where nothing has a target."""
        total = self.total(outputs, labels)
        return mean_of(total, self._count(labels, total.dtype))

    def total(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Return the sum of the terms, a scalar."""
        return _TOTALS[self.name](outputs, labels, **self.options)

    def count(self, labels: Tensor) -> Tensor:
        """Return what the sum is divided by, a float32 scalar: steps (weighted by class) or solutions."""
        return self._count(labels, torch.float32)

    def _count(self, labels: Tensor, dtype: torch.dtype) -> Tensor:
        if self.averaging == "micro":
            return step_weights(labels, self.options.get("class_weight"), dtype).sum()
        return n_solutions(labels).to(dtype)


_PLAIN = {
    loss.name: loss
    for loss in (
        StepLoss("cross_entropy", "classes", "micro", soft=False),
        StepLoss("reward_token", "vocabulary", "micro", soft=False),
        StepLoss("soft_cross_entropy", "classes", "micro", soft=True),
        StepLoss("bce", "reward", "micro", soft=True),
        StepLoss("mse", "reward", "micro", soft=True),
        StepLoss("orm", "reward", "solution", soft=False),
        StepLoss("rank", "reward", "macro", soft=False),
        StepLoss("theory_rank", "reward", "macro", soft=False),
        StepLoss("ablate_rank", "reward", "macro", soft=False),
    )
}


def get_loss(name: str, **options: Any) -> StepLoss:
    """Return a loss by name.

    Parameters
    ----------
    name : str
        "cross_entropy", "reward_token", "soft_cross_entropy", "bce", "mse", "orm", "rank",
        "theory_rank" or "ablate_rank" (``LOSSES``). All but the first two read labels 1 right, 0 wrong:
        :func:`binary_labels` makes them of three classes.
    **options
        The keyword arguments of the function of that name, such as ``zeta`` of :func:`rank_loss`.

    Returns
    -------
    StepLoss

    Raises
    ------
    ValueError
        For an unknown name or option, or an option out of range.

    Examples
    --------
    >>> get_loss("rank", zeta=2.0)
    StepLoss(name='rank', reads='reward', averaging='macro', soft=False, options={'zeta': 2.0})
    """
    if name not in _TOTALS:
        raise ValueError(f"loss {name!r} is unknown, expected one of {', '.join(LOSSES)}")
    known = list(signature(_TOTALS[name]).parameters)[2:]  # after outputs and labels
    unknown = [option for option in options if option not in known]
    if unknown:
        takes = f"expected {', '.join(known)}" if known else "it has none"
        raise ValueError(f"loss {name!r} has no option {', '.join(unknown)}: {takes}")
    if name == "reward_token" and "token_ids" not in options:
        raise ValueError("loss 'reward_token' needs token_ids, the reward tokens' ids, worst class first")
    check_options(**options)
    loss = _PLAIN[name]
    if options.get("class_weight") is not None:
        options["class_weight"] = tuple(float(weight) for weight in options["class_weight"])
    if "token_ids" in options:
        options["token_ids"] = tuple(int(token) for token in options["token_ids"])
        loss = replace(loss, soft=len(options["token_ids"]) == 2)
    return replace(loss, options=options)
