"""Shared by all losses: which steps have a target, how many they are, and which labels are refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy.typing as npt
import torch
from torch import Tensor

PADDING = -100
"""The label of a position without a target."""


def binary_labels(
    codes: Tensor | npt.ArrayLike,
    n_classes: int,
    neutral: Literal["positive", "negative", "drop"] = "positive",
) -> Tensor:
    """Turn class codes into 1 right, 0 wrong, -100 no target.

    Parameters
    ----------
    codes : tensor or array-like
        Class codes counted from the worst class, -100 for padding. Floats are chances of being right. They are checked
        and returned as they are.
    n_classes : int
        Number of classes. The first class is wrong, the last one right.
    neutral : {"positive", "negative", "drop"}, default="positive"
        How the classes between them count. ``"drop"`` makes them padding.

    Returns
    -------
    Tensor
        Labels in the shape of ``codes``: int64, or the dtype of ``codes`` where it is a float.

    Raises
    ------
    ValueError
        For a code that is no class, a float outside [0, 1], an unknown policy, or fewer than two classes.

    Examples
    --------
    >>> binary_labels([0, 1, 2, -100], n_classes=3)
    tensor([   0,    1,    1, -100])
    >>> binary_labels([0, 1, 2, -100], n_classes=3, neutral="drop")
    tensor([   0, -100,    1, -100])
    """
    neutral_label = {"positive": 1, "negative": 0, "drop": PADDING}
    if neutral not in neutral_label:
        raise ValueError(f"neutral={neutral!r}, expected one of {sorted(neutral_label)}")
    if n_classes < 2:
        raise ValueError(f"n_classes={n_classes}, expected at least 2: a wrong and a right one")
    codes = torch.as_tensor(codes)
    if codes.is_floating_point():
        step_mask(codes, soft=True)
        return codes
    codes = codes.long()
    valid = class_mask(codes, n_classes)
    between = valid & (codes > 0) & (codes < n_classes - 1)
    right = valid & (codes == n_classes - 1)
    return codes.masked_fill(right, 1).masked_fill(between, neutral_label[neutral])


def step_mask(labels: Tensor, *, soft: bool) -> Tensor:
    """Return which steps have a target, after checking that it is 0 or 1 (``soft``: from 0 to 1)."""
    valid = labels != PADDING
    if soft:
        expected = "chances of being right, from 0 to 1"
        fits = (labels >= 0) & (labels <= 1)
    else:
        expected = "1 (right) or 0 (wrong)"
        fits = (labels == 0) | (labels == 1)
    _refuse(labels, valid & ~fits, expected, "make two classes of class codes first")
    return valid


def class_mask(labels: Tensor, n_classes: int) -> Tensor:
    """Return which steps have a target, after checking that it is a class code."""
    if labels.is_floating_point():
        raise ValueError(
            f"labels are {labels.dtype}, expected class codes (integers): "
            "soft_cross_entropy, bce and mse take chances of being right, .long() makes codes of whole numbers"
        )
    valid = labels != PADDING
    fits = (labels >= 0) & (labels < n_classes)
    _refuse(labels, valid & ~fits, f"class codes from 0 (worst) to {n_classes - 1}", "codes are no ratings")
    return valid


def _refuse(labels: Tensor, wrong: Tensor, expected: str, remedy: str) -> None:
    if wrong.any():
        found = sorted({float(label) for label in labels[wrong][:1000]})[:5]
        values = ", ".join(f"{label:g}" for label in found)
        raise ValueError(f"labels hold {values}, expected {expected}, and {PADDING} for padding: {remedy}")


def check_outputs(outputs: Tensor, labels: Tensor, axes: str) -> None:
    """Raise unless the outputs are floats in the shape of the labels, with one more axis if ``axes`` names it."""
    for name, value in (("outputs", outputs), ("labels", labels)):
        if not isinstance(value, Tensor):
            raise TypeError(f"{name} are {type(value).__name__}, expected a torch tensor: torch.as_tensor(…)")
    if not outputs.is_floating_point():
        raise ValueError(f"outputs are {outputs.dtype}, expected floating-point numbers: outputs.float()")
    shape = outputs.shape if axes == "steps" else outputs.shape[:-1]
    if outputs.ndim == 0 or shape != labels.shape:
        expected = (
            "the shape of the labels" if axes == "steps" else f"the shape of the labels and {axes} last"
        )
        raise ValueError(
            f"outputs have shape {tuple(outputs.shape)} and labels {tuple(labels.shape)}, expected {expected}"
        )


def working_precision(outputs: Tensor) -> Tensor:
    """Return the outputs in float32, float64 ones as they are."""
    return outputs if outputs.dtype == torch.float64 else outputs.float()


def read_rewards(rewards: Tensor, labels: Tensor, *, soft: bool) -> tuple[Tensor, Tensor]:
    """Check rewards and labels; return the rewards, 0 where there is no target, and which steps have one.

    Padding is replaced before anything else is computed: a mask applied later would multiply a
    gradient of zero with the NaN of the branch not taken.
    """
    check_outputs(rewards, labels, "steps")
    valid = step_mask(labels, soft=soft)
    return torch.where(valid, working_precision(rewards), 0.0), valid


def n_steps(labels: Tensor) -> Tensor:
    """Return how many steps have a target."""
    return (labels != PADDING).sum()


def n_solutions(labels: Tensor) -> Tensor:
    """Return how many solutions (the last axis is the steps) have a target."""
    return (labels != PADDING).any(-1).sum()


def step_weights(labels: Tensor, class_weight: Sequence[float] | None, dtype: torch.dtype) -> Tensor:
    """Return the share of each step in the mean: the weight of its class, or 1 without weights; 0 for padding."""
    valid = labels != PADDING
    if class_weight is None:
        return valid.to(dtype)
    class_mask(labels, len(class_weight))
    weights = torch.tensor([float(weight) for weight in class_weight], dtype=dtype, device=labels.device)
    return torch.where(valid, weights[labels.long().clamp(min=0)], 0.0)


def mean_of(total: Tensor, count: Tensor) -> Tensor:
    """Return total / count, or the total, which is 0 then, where the count is 0."""
    return total / torch.where(count > 0, count, 1).to(total.dtype)
