"""Cross entropies over class logits, over a wrong/right pair, and over a language model's reward tokens."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, log_softmax, nll_loss

from prmkit.models.losses._binary import binary_cross_entropy
from prmkit.models.losses._targets import (
    check_options,
    check_outputs,
    class_mask,
    mean_of,
    n_steps,
    step_mask,
    step_weights,
    working_precision,
)


def cross_entropy_loss(
    logits: Tensor,
    labels: Tensor,
    *,
    class_weight: Sequence[float] | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    r"""Cross entropy over C classes; micro mean over all steps with a target.

    .. math:: \ell_t = \log \sum_c e^{z_{tc}} - z_{t y_t}

    Parameters
    ----------
    logits : float tensor of shape (..., n_classes)
        Half precision is computed in float32.
    labels : integer tensor of shape (...)
        Class codes counted from the worst class, -100 for padding.
    class_weight : sequence of float of shape (n_classes,), optional
        Multiplies a step's loss and its share in the mean. Steps of a class of weight 0 are left out.
    label_smoothing : float, default=0.0
        This share of the target is spread evenly over all classes (PyTorch's convention).

    Returns
    -------
    Tensor
        A scalar; 0 with zero gradient where no step has a target.

    Raises
    ------
    ValueError
        For shapes that do not fit, float labels, codes that are no class, or an option out of range.

    Examples
    --------
    >>> import torch
    >>> logits = torch.tensor([[[0.0, 0.0, 0.0], [float("nan"), 0.0, 0.0]]])
    >>> cross_entropy_loss(logits, torch.tensor([[2, -100]]))  # log 3
    tensor(1.0986)
    """
    total = cross_entropy_total(logits, labels, class_weight=class_weight, label_smoothing=label_smoothing)
    return mean_of(total, step_weights(labels, class_weight, total.dtype).sum())


def soft_cross_entropy_loss(logits: Tensor, labels: Tensor) -> Tensor:
    r"""Cross entropy of a wrong/right pair with a chance of being right as target; micro mean over steps.

    .. math:: \ell_t = -p_t \log q_t(+) - (1 - p_t) \log q_t(-)

    which is :func:`bce_loss` of the difference of the logits.

    Parameters
    ----------
    logits : float tensor of shape (..., 2)
        In the order (wrong, right).
    labels : tensor of shape (...)
        Chance of being right in [0, 1], -100 for padding.

    Returns
    -------
    Tensor
        A scalar; 0 with zero gradient where no step has a target.

    Raises
    ------
    ValueError
        For shapes that do not fit or labels outside [0, 1].

    Examples
    --------
    >>> import torch
    >>> soft_cross_entropy_loss(torch.tensor([[[0.0, 2.0]]]), torch.tensor([[0.75]]))
    tensor(0.6269)
    """
    return mean_of(soft_cross_entropy_total(logits, labels), n_steps(labels))


def reward_token_loss(
    logits: Tensor, labels: Tensor, token_ids: Sequence[int], *, full_vocabulary: bool = False
) -> Tensor:
    """Cross entropy over the reward tokens of a language model; micro mean over all steps with a target.

    Parameters
    ----------
    logits : float tensor of shape (..., vocabulary)
        Those of the marked positions, one per step.
    labels : tensor of shape (...)
        Class codes counted from the worst class; or, with two tokens, floats: chances of being right
        in [0, 1]. -100 for padding.
    token_ids : sequence of int of shape (n_classes,)
        The reward token of each class code, worst first.
    full_vocabulary : bool, default=False
        False: the softmax is over the reward tokens alone. True: over the whole vocabulary, which also
        teaches the model to produce them.

    Returns
    -------
    Tensor
        A scalar; 0 with zero gradient where no step has a target.

    Raises
    ------
    ValueError
        For shapes that do not fit, labels that fit no token, repeated ids or ids outside the vocabulary.

    Examples
    --------
    >>> import torch
    >>> logits = torch.tensor([[[0.0, 1.0, 0.0, 3.0]]])
    >>> reward_token_loss(logits, torch.tensor([[1]]), token_ids=(1, 3))  # 3 is the right one's
    tensor(0.1269)
    >>> reward_token_loss(logits, torch.tensor([[1]]), token_ids=(1, 3), full_vocabulary=True)
    tensor(0.2110)
    """
    total = reward_token_total(logits, labels, token_ids, full_vocabulary=full_vocabulary)
    return mean_of(total, n_steps(labels))


def cross_entropy_total(
    logits: Tensor,
    labels: Tensor,
    *,
    class_weight: Sequence[float] | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Sum of the steps' weighted cross entropies."""
    check_options(class_weight=class_weight, label_smoothing=label_smoothing)
    check_outputs(logits, labels, "the classes")
    n_classes = logits.shape[-1]
    if class_weight is not None and len(class_weight) != n_classes:
        raise ValueError(f"class_weight has {len(class_weight)} weights, the logits {n_classes} classes")
    class_mask(labels, n_classes)
    chosen = step_weights(labels, class_weight, torch.float32) > 0
    answers = working_precision(logits[chosen])
    weight = None if class_weight is None else answers.new_tensor([float(weight) for weight in class_weight])
    return cross_entropy(
        answers, labels[chosen].long(), weight, reduction="sum", label_smoothing=label_smoothing
    )


def soft_cross_entropy_total(logits: Tensor, labels: Tensor) -> Tensor:
    """Sum of the steps' cross entropies."""
    check_outputs(logits, labels, "wrong and right")
    if logits.shape[-1] != 2:
        raise ValueError(f"logits have {logits.shape[-1]} classes, expected 2: wrong and right")
    valid = step_mask(labels, soft=True)
    answers = working_precision(logits[valid])
    return binary_cross_entropy(answers[:, 1] - answers[:, 0], labels[valid]).sum()


def reward_token_total(
    logits: Tensor, labels: Tensor, token_ids: Sequence[int], *, full_vocabulary: bool = False
) -> Tensor:
    """Sum of the steps' cross entropies."""
    check_options(token_ids=token_ids, full_vocabulary=full_vocabulary)
    check_outputs(logits, labels, "the vocabulary")
    ids = [int(token) for token in token_ids]
    if max(ids) >= logits.shape[-1]:
        raise ValueError(f"token_ids={ids}, but the vocabulary has {logits.shape[-1]} logits")
    soft = labels.is_floating_point()
    if soft and len(ids) != 2:
        raise ValueError(
            f"labels are {labels.dtype} with {len(ids)} token_ids: chances of being right need two, "
            "(wrong, right); class codes are integers"
        )
    if not full_vocabulary:
        read = soft_cross_entropy_total if soft else cross_entropy_total
        return read(logits[..., ids], labels)
    valid = step_mask(labels, soft=True) if soft else class_mask(labels, len(ids))
    log_proba = log_softmax(working_precision(logits[valid]), -1)[:, ids]
    if not soft:
        return nll_loss(log_proba, labels[valid].long(), reduction="sum")
    right = labels[valid].to(log_proba.dtype)
    return -(right * log_proba[:, 1] + (1 - right) * log_proba[:, 0]).sum()
