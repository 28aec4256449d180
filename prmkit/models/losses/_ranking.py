"""The ranking losses of PQM: right steps above the start and above every wrong step."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import pad

from prmkit.models.losses._registry import Option, read_rewards, register_loss

# In place of a step outside a set: below any reward, yet finite, so that gradients are 0 and not NaN.
_ABSENT = -1e30


def _read_margin(value: Any) -> float:
    if not 0 <= value < math.inf:
        raise ValueError
    return float(value)


def _read_divisor(value: Any) -> str:
    if value not in ("code", "single"):
        raise ValueError
    return str(value)


_ZETA = Option(_read_margin, "a finite number of at least 0")


@register_loss("rank", reads="reward", averaging="macro", options={"zeta": _ZETA})
def rank_loss(rewards: Tensor, labels: Tensor, zeta: float = 4.0) -> Tensor:
    r"""PQM's practical ranking loss (Li and Li, arXiv:2410.11287, Eq. 10), as a macro mean over solutions.

    With P the right and N the wrong steps of a solution, and a start state of reward 0 before the first:

    .. math::
        \ell_0 &= \log\bigl(1 + \sum_{j \in N} e^{r_j + \zeta}\bigr)
            \quad\text{(counted where N is not empty)} \\
        \ell_t &= \log\bigl(1 + \sum_{i \in P, i \le t} e^{r_i}
            + \sum_{j \in N} e^{r_j + \zeta}\bigr) - r_t, \quad t \in P

    A solution's loss is the mean of the terms it counts. Each step enters in log space.

    Parameters
    ----------
    rewards : float tensor of shape (n_solutions, max_steps)
        Raw outputs. Half precision is computed in float32.
    labels : tensor of the same shape
        1 right, 0 wrong, -100 for padding, anywhere.
    zeta : float, default=4.0
        Margin by which wrong steps are pushed down, at least 0.

    Returns
    -------
    Tensor
        A scalar. Solutions without a target are left out. It is 0 with zero gradient where all are.

    Notes
    -----
    PQM's program adds 1e-5 to each denominator. A denominator here is at least 1, so the term changes a loss by less
    than 1e-5 per step, and prmkit leaves it out. An early README of PQM counted a right step twice in its own
    denominator, which was an error.

    Examples
    --------
    >>> import torch
    >>> rewards, labels = torch.tensor([[0.25, 1.0, -2.0]]), torch.tensor([[1, 1, 0]])
    >>> rank_loss(rewards, labels, zeta=2.0)
    tensor(0.8081)
    """
    rewards, _ = read_rewards(rewards, labels, soft=False)
    right, wrong = labels == 1, labels == 0
    raised = torch.where(wrong, rewards + zeta, rewards)
    return _ratio(_terms(raised, right, wrong), right.sum(-1) + wrong.any(-1)).sum()


@register_loss(
    "theory_rank",
    reads="reward",
    averaging="macro",
    options={"zeta": _ZETA, "divisor": Option(_read_divisor, "'code' or 'single'")},
)
def theory_rank_loss(
    rewards: Tensor, labels: Tensor, zeta: float = 4.0, *, divisor: Literal["code", "single"] = "code"
) -> Tensor:
    r"""PQM's theoretical ranking loss (arXiv:2410.11287, Eq. 9), as a macro mean over solutions.

    To A, the sum of the terms of :func:`rank_loss`, it adds an order among the wrong steps, an earlier one above a
    later one:

    .. math:: B = \sum_{j \in N} \Bigl(\log \sum_{i \in N, i \ge j} e^{r_i} - r_j\Bigr)

    Parameters
    ----------
    rewards : float tensor of shape (n_solutions, max_steps)
        Raw outputs. Half precision is computed in float32.
    labels : tensor of the same shape
        1 right, 0 wrong, -100 for padding, anywhere.
    zeta : float, default=4.0
        Margin by which wrong steps are pushed down, at least 0.
    divisor : {"code", "single"}, default="code"
        How the sums are averaged over the T steps with a target. ``"code"`` is A / (T + 1) + B / T, as in PQM's
        program. ``"single"`` is (A + B) / T, another reading of the paper.

    Returns
    -------
    Tensor
        A scalar. Solutions without a target are left out. It is 0 with zero gradient where all are.

    Examples
    --------
    >>> import torch
    >>> rewards, labels = torch.tensor([[0.5, -0.5, 0.0, -1.0]]), torch.tensor([[1, 0, 1, 0]])
    >>> theory_rank_loss(rewards, labels, zeta=1.0)
    tensor(0.9789)
    """
    rewards, valid = read_rewards(rewards, labels, soft=False)
    right, wrong = labels == 1, labels == 0
    n_valid = valid.sum(-1)
    raised = torch.where(wrong, rewards + zeta, rewards)
    above = _ratio(_terms(raised, right, wrong), n_valid + (divisor == "code"))
    # Read from the end, the wrong steps after j are those before it, and n_j is a softplus as l_t is.
    members = torch.where(wrong, rewards, _ABSENT).flip(-1)
    later = _sums_before(pad(members, (1, 0), value=_ABSENT)).flip(-1)
    steps = torch.logaddexp(later - rewards, torch.zeros_like(rewards))
    among = torch.where(wrong, steps, 0.0).sum(-1)
    return (above + _ratio(among, n_valid)).sum()


@register_loss("ablate_rank", reads="reward", averaging="macro")
def ablate_rank_loss(rewards: Tensor, labels: Tensor) -> Tensor:
    """PQM's ablation (arXiv:2410.11287, Eq. 12): only the first of the wrong steps, without a margin.

    It is :func:`rank_loss` with zeta = 0 and the first wrong step as the only member of N. Later wrong steps have no
    influence. Macro mean over solutions. (PQM's program takes the step at index "number of right steps", which is the
    first wrong one only where no right step follows.)

    Parameters
    ----------
    rewards : float tensor of shape (n_solutions, max_steps)
        Raw outputs. Half precision is computed in float32.
    labels : tensor of the same shape
        1 right, 0 wrong, -100 for padding, anywhere.

    Returns
    -------
    Tensor
        A scalar. Solutions without a target are left out. It is 0 with zero gradient where all are.

    Examples
    --------
    >>> import torch
    >>> rewards, labels = torch.tensor([[0.5, -0.5, 0.0, -1.0]]), torch.tensor([[1, 0, 1, 0]])
    >>> ablate_rank_loss(rewards, labels)
    tensor(0.8675)
    """
    rewards, _ = read_rewards(rewards, labels, soft=False)
    right, wrong = labels == 1, labels == 0
    first = wrong & (wrong.cumsum(-1) == 1)
    return _ratio(_terms(rewards, right, first), right.sum(-1) + wrong.any(-1)).sum()


def _terms(rewards: Tensor, right: Tensor, wrong: Tensor) -> Tensor:
    """Return l_0 (where a step is wrong) plus the l_t of the right steps, of the shape of the solutions.

    A denominator is the sum of the members before t plus e^(r_t) itself, so l_t is the softplus of log(members
    before) - r_t: no difference of nearly equal numbers, and never below 0.
    """
    shifted = torch.where(wrong, rewards, _ABSENT)
    # The zero in front is the start state, which stands in every denominator.
    base = torch.logsumexp(pad(shifted, (1, 0), value=0.0), -1)
    members = torch.where(right, rewards, _ABSENT)
    before = _sums_before(torch.cat([base.unsqueeze(-1), members], -1))
    # Not torch's softplus, which is linear from 20 on and loses digits in float64.
    steps = torch.logaddexp(before - rewards, torch.zeros_like(rewards))
    return torch.where(right, steps, 0.0).sum(-1) + torch.where(wrong.any(-1), base, 0.0)


def _sums_before(members: Tensor) -> Tensor:
    """Log-sum-exp of the members before each position but the first, in one pass."""
    return torch.logcumsumexp(members, -1)[..., :-1]


def _ratio(terms: Tensor, count: Tensor) -> Tensor:
    return terms / count.clamp(min=1)
