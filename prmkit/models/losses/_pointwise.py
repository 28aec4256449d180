"""Losses that judge each step by itself: cross entropies over classes, pairs and reward tokens, and BCE, MSE, ORM."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from operator import index
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, log_softmax, logsigmoid, nll_loss

from prmkit.models.losses._registry import (
    Option,
    check_outputs,
    class_mask,
    read_rewards,
    register_loss,
    step_mask,
    step_weights,
    working_precision,
)


def _read_weights(value: Any) -> tuple[float, ...] | None:
    if value is None:
        return None
    weights = () if isinstance(value, Mapping) else tuple(float(weight) for weight in value)
    if not all(0 <= weight < math.inf for weight in weights) or not sum(weights) > 0:
        raise ValueError
    return weights


def _read_smoothing(value: Any) -> float:
    if not 0 <= value <= 1:
        raise ValueError
    return float(value)


def _read_tokens(value: Any) -> tuple[int, ...]:
    ids = tuple(index(token) for token in value)
    if not len(ids) == len(set(ids)) >= 2 or min(ids) < 0:
        raise ValueError
    return ids


def _read_flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


@register_loss(
    "cross_entropy",
    reads="classes",
    options={
        "class_weight": Option(_read_weights, "None or a finite weight of at least 0 per class code, not all 0"),
        "label_smoothing": Option(_read_smoothing, "a number from 0 to 1"),
    },
)
def cross_entropy_loss(
    logits: Tensor, labels: Tensor, *, class_weight: Sequence[float] | None = None, label_smoothing: float = 0.0
) -> Tensor:
    r"""Cross entropy over C classes, as a micro mean over all steps with a target.

    .. math:: \ell_t = \log \sum_c e^{z_{tc}} - z_{t y_t}

    Parameters
    ----------
    logits : float tensor of shape (..., n_classes)
        Scores of the classes. Half precision is computed in float32.
    labels : integer tensor of shape (...)
        Class codes counted from the worst class, -100 for padding.
    class_weight : sequence of float of shape (n_classes,), optional
        Weight of each class. It multiplies a step's loss and the share of the step in the mean. Steps of a class with
        weight 0 are left out.
    label_smoothing : float, default=0.0
        Share of the target that is spread evenly over all classes (PyTorch's convention).

    Returns
    -------
    Tensor
        A scalar. It is 0 with zero gradient where no step has a target.

    Examples
    --------
    >>> import torch
    >>> logits = torch.tensor([[[0.0, 0.0, 0.0], [float("nan"), 0.0, 0.0]]])
    >>> cross_entropy_loss(logits, torch.tensor([[2, -100]]))  # log 3
    tensor(1.0986)
    """
    return _cross_entropy_sum(logits, labels, class_weight, label_smoothing)


@register_loss(
    "reward_token",
    reads="vocabulary",
    soft=lambda options: len(options["token_ids"]) == 2,
    options={
        "token_ids": Option(_read_tokens, "the token ids of the classes, worst first: two or more, all different"),
        "full_vocabulary": Option(_read_flag, "True or False"),
    },
)
def reward_token_loss(
    logits: Tensor, labels: Tensor, token_ids: Sequence[int], *, full_vocabulary: bool = False
) -> Tensor:
    """Cross entropy over the reward tokens of a language model, as a micro mean over all steps with a target.

    Parameters
    ----------
    logits : float tensor of shape (..., vocabulary)
        Logits at the marked positions, one vector per step.
    labels : tensor of shape (...)
        Class codes counted from the worst class. With two tokens, floats are chances of being right in [0, 1]. -100 for
        padding.
    token_ids : sequence of int of shape (n_classes,)
        The reward token of each class code, worst first.
    full_vocabulary : bool, default=False
        If False, the softmax is over the reward tokens alone. If True, it is over the whole vocabulary, which also
        teaches the model to produce the tokens.

    Returns
    -------
    Tensor
        A scalar. It is 0 with zero gradient where no step has a target.

    Examples
    --------
    >>> import torch
    >>> logits = torch.tensor([[[0.0, 1.0, 0.0, 3.0]]])
    >>> reward_token_loss(logits, torch.tensor([[1]]), token_ids=(1, 3))  # 3 is the token of "right"
    tensor(0.1269)
    >>> reward_token_loss(logits, torch.tensor([[1]]), token_ids=(1, 3), full_vocabulary=True)
    tensor(0.2110)
    """
    check_outputs(logits, labels, "the vocabulary")
    ids = list(token_ids)
    if max(ids) >= logits.shape[-1]:
        raise ValueError(f"token_ids={ids}, but the vocabulary has {logits.shape[-1]} logits")
    soft = labels.is_floating_point()
    if soft and len(ids) != 2:
        raise ValueError(
            f"labels are {labels.dtype} with {len(ids)} token_ids: chances of being right need two, "
            "(wrong, right). Class codes are integers"
        )
    if not full_vocabulary:
        restricted = logits[..., ids]
        return _soft_cross_entropy_sum(restricted, labels) if soft else _cross_entropy_sum(restricted, labels)
    valid = step_mask(labels, soft=True) if soft else class_mask(labels, len(ids))
    log_proba = log_softmax(working_precision(logits[valid]), -1)[:, ids]
    if not soft:
        return nll_loss(log_proba, labels[valid].long(), reduction="sum")
    right = labels[valid].to(log_proba.dtype)
    return -(right * log_proba[:, 1] + (1 - right) * log_proba[:, 0]).sum()


@register_loss("soft_cross_entropy", reads="classes", soft=True)
def soft_cross_entropy_loss(logits: Tensor, labels: Tensor) -> Tensor:
    r"""Cross entropy of a wrong/right pair against a chance of being right, as a micro mean over steps.

    .. math:: \ell_t = -p_t \log q_t(+) - (1 - p_t) \log q_t(-)

    which is :func:`bce_loss` of the difference of the logits.

    Parameters
    ----------
    logits : float tensor of shape (..., 2)
        Scores in the order (wrong, right).
    labels : tensor of shape (...)
        Chance of being right in [0, 1], -100 for padding.

    Returns
    -------
    Tensor
        A scalar. It is 0 with zero gradient where no step has a target.

    Examples
    --------
    >>> import torch
    >>> soft_cross_entropy_loss(torch.tensor([[[0.0, 2.0]]]), torch.tensor([[0.75]]))
    tensor(0.6269)
    """
    return _soft_cross_entropy_sum(logits, labels)


@register_loss("bce", reads="reward", soft=True)
def bce_loss(rewards: Tensor, labels: Tensor) -> Tensor:
    r"""Binary cross entropy of ``sigmoid(reward)``, as a micro mean over all steps with a target.

    .. math:: \ell_t = \log(1 + e^{r_t}) - y_t r_t

    Parameters
    ----------
    rewards : float tensor of shape (n_solutions, max_steps)
        Raw outputs (log odds), no sigmoid. Half precision is computed in float32.
    labels : tensor of the same shape
        1 right, 0 wrong, or a chance of being right in [0, 1]. -100 for padding, anywhere.

    Returns
    -------
    Tensor
        A scalar. It is 0 with zero gradient where no step has a target.

    Examples
    --------
    >>> import torch
    >>> bce_loss(torch.tensor([[0.25, 1.0, -2.0]]), torch.tensor([[1, 1, 0]]))
    tensor(0.3387)
    """
    rewards, valid = read_rewards(rewards, labels, soft=True)
    return torch.where(valid, _binary_cross_entropy(rewards, labels), 0.0).sum()


@register_loss("mse", reads="reward", soft=True)
def mse_loss(rewards: Tensor, labels: Tensor) -> Tensor:
    r"""Squared error of ``sigmoid(reward)``, on probabilities, as a micro mean over all steps with a target.

    .. math:: \ell_t = (\sigma(r_t) - y_t)^2

    Parameters
    ----------
    rewards : float tensor of shape (n_solutions, max_steps)
        Raw outputs (log odds), no sigmoid.
    labels : tensor of the same shape
        1 right, 0 wrong, or a chance of being right in [0, 1]. -100 for padding, anywhere.

    Returns
    -------
    Tensor
        A scalar. It is 0 with zero gradient where no step has a target.

    Examples
    --------
    >>> import torch
    >>> mse_loss(torch.tensor([[0.25, 1.0, -2.0]]), torch.tensor([[1, 1, 0]]))
    tensor(0.0927)
    """
    rewards, valid = read_rewards(rewards, labels, soft=True)
    return torch.where(valid, (rewards.sigmoid() - labels.to(rewards.dtype)) ** 2, 0.0).sum()


@register_loss("orm", reads="reward", averaging="solution")
def orm_loss(rewards: Tensor, labels: Tensor) -> Tensor:
    r"""Outcome loss: the last step answers whether no step is wrong, as a mean over solutions with a target.

    .. math:: \ell = \log(1 + e^{r_T}) - Y r_T

    T is the last step that has a target. Y is 1 if no step is labelled wrong, else 0. To use the known correctness of
    the final answer as Y, give it as the only label, at the last step.

    Parameters
    ----------
    rewards : float tensor of shape (n_solutions, max_steps)
        Raw outputs, no sigmoid.
    labels : tensor of the same shape
        1 right, 0 wrong, -100 for padding, anywhere.

    Returns
    -------
    Tensor
        A scalar. It is 0 with zero gradient where no step has a target.

    Examples
    --------
    >>> import torch
    >>> orm_loss(torch.tensor([[0.25, 1.0, -2.0]]), torch.tensor([[1, 1, 0]]))
    tensor(0.1269)
    """
    rewards, valid = read_rewards(rewards, labels, soft=False)
    all_right = ~(labels == 0).any(-1, keepdim=True)
    # A last step is the only target from there to the end.
    n_from_here = valid.flip(-1).cumsum(-1).flip(-1)
    is_last = valid & (n_from_here == 1)
    return torch.where(is_last, _binary_cross_entropy(rewards, all_right.long()), 0.0).sum()


def _cross_entropy_sum(
    logits: Tensor, labels: Tensor, class_weight: Sequence[float] | None = None, label_smoothing: float = 0.0
) -> Tensor:
    check_outputs(logits, labels, "the classes")
    n_classes = logits.shape[-1]
    if class_weight is not None and len(class_weight) != n_classes:
        raise ValueError(f"class_weight has {len(class_weight)} weights, the logits {n_classes} classes")
    class_mask(labels, n_classes)
    # Steps of weight 0 are cut out first: a NaN among their logits must not reach the gradient.
    chosen = step_weights(labels, class_weight, torch.float32) > 0
    answers = working_precision(logits[chosen])
    weight = None if class_weight is None else answers.new_tensor([float(weight) for weight in class_weight])
    return cross_entropy(answers, labels[chosen].long(), weight, reduction="sum", label_smoothing=label_smoothing)


def _soft_cross_entropy_sum(logits: Tensor, labels: Tensor) -> Tensor:
    check_outputs(logits, labels, "wrong and right")
    if logits.shape[-1] != 2:
        raise ValueError(f"logits have {logits.shape[-1]} classes, expected 2: wrong and right")
    valid = step_mask(labels, soft=True)
    answers = working_precision(logits[valid])
    return _binary_cross_entropy(answers[:, 1] - answers[:, 0], labels[valid]).sum()


def _binary_cross_entropy(log_odds: Tensor, labels: Tensor) -> Tensor:
    """Return ``log(1 + e^d) - y d``, written as two terms so that a confident right answer keeps its digits."""
    labels = labels.to(log_odds.dtype)
    return -(labels * logsigmoid(log_odds) + (1 - labels) * logsigmoid(-log_odds))
