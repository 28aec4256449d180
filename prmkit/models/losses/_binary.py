"""Losses on one number per step, each step by itself (BCE, MSE) or the last one alone (ORM)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from prmkit.models.losses._targets import mean_of, n_solutions, n_steps, read_rewards


def bce_loss(rewards: Tensor, labels: Tensor) -> Tensor:
    r"""Binary cross entropy of ``sigmoid(reward)``; micro mean over all steps with a target.

    .. math:: \ell_t = \log(1 + e^{r_t}) - y_t r_t

    Parameters
    ----------
    rewards : float tensor of shape (n_solutions, max_steps)
        Raw outputs (log odds), no sigmoid. Half precision is computed in float32.
    labels : tensor of the same shape
        1 right, 0 wrong, or a chance of being right in [0, 1]; -100 for padding, anywhere.

    Returns
    -------
    Tensor
        A scalar; 0 with zero gradient where no step has a target.

    Raises
    ------
    ValueError
        For shapes that differ or labels outside [0, 1].

    Examples
    --------
    >>> import torch
    >>> bce_loss(torch.tensor([[0.25, 1.0, -2.0]]), torch.tensor([[1, 1, 0]]))
    tensor(0.3387)
    """
    return mean_of(bce_total(rewards, labels), n_steps(labels))


def mse_loss(rewards: Tensor, labels: Tensor) -> Tensor:
    r"""Squared error of ``sigmoid(reward)``, on probabilities; micro mean over all steps with a target.

    .. math:: \ell_t = (\sigma(r_t) - y_t)^2

    Parameters
    ----------
    rewards : float tensor of shape (n_solutions, max_steps)
        Raw outputs (log odds), no sigmoid.
    labels : tensor of the same shape
        1 right, 0 wrong, or a chance of being right in [0, 1]; -100 for padding, anywhere.

    Returns
    -------
    Tensor
        A scalar; 0 with zero gradient where no step has a target.

    Raises
    ------
    ValueError
        For shapes that differ or labels outside [0, 1].

    Examples
    --------
    >>> import torch
    >>> mse_loss(torch.tensor([[0.25, 1.0, -2.0]]), torch.tensor([[1, 1, 0]]))
    tensor(0.0927)
    """
    return mean_of(mse_total(rewards, labels), n_steps(labels))


def orm_loss(rewards: Tensor, labels: Tensor) -> Tensor:
    r"""Outcome loss: the last step answers whether no step is wrong; mean over solutions with a target.

    .. math:: \ell = \log(1 + e^{r_T}) - Y r_T

    with T the last step that has a target, and Y = 1 if no step is labelled wrong, else 0. The known
    correctness of the final answer can stand for Y: give it as the only label, at the last step.

    Parameters
    ----------
    rewards : float tensor of shape (n_solutions, max_steps)
        Raw outputs, no sigmoid.
    labels : tensor of the same shape
        1 right, 0 wrong, -100 for padding, anywhere.

    Returns
    -------
    Tensor
        A scalar; 0 with zero gradient where no step has a target.

    Raises
    ------
    ValueError
        For shapes that differ or labels other than 0, 1 and -100.

    Examples
    --------
    >>> import torch
    >>> orm_loss(torch.tensor([[0.25, 1.0, -2.0]]), torch.tensor([[1, 1, 0]]))
    tensor(0.1269)
    """
    return mean_of(orm_total(rewards, labels), n_solutions(labels))


def bce_total(rewards: Tensor, labels: Tensor) -> Tensor:
    """Sum of the steps' binary cross entropies."""
    rewards, valid = read_rewards(rewards, labels, soft=True)
    return torch.where(valid, binary_cross_entropy(rewards, labels), 0.0).sum()


def mse_total(rewards: Tensor, labels: Tensor) -> Tensor:
    """Sum of the steps' squared errors."""
    rewards, valid = read_rewards(rewards, labels, soft=True)
    return torch.where(valid, (rewards.sigmoid() - labels.to(rewards.dtype)) ** 2, 0.0).sum()


def orm_total(rewards: Tensor, labels: Tensor) -> Tensor:
    """Sum of the solutions' losses."""
    rewards, valid = read_rewards(rewards, labels, soft=False)
    all_right = ~(labels == 0).any(-1, keepdim=True)
    left = valid.flip(-1).cumsum(-1).flip(-1)  # targets from here to the end
    return torch.where(valid & (left == 1), binary_cross_entropy(rewards, all_right.long()), 0.0).sum()


def binary_cross_entropy(log_odds: Tensor, labels: Tensor) -> Tensor:
    """Return ``log(1 + e^d) - y d``, written as two terms so that a confident right answer keeps its digits."""
    labels = labels.to(log_odds.dtype)
    return -(labels * logsigmoid(log_odds) + (1 - labels) * logsigmoid(-log_odds))
