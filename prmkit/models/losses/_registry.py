"""The registry of losses, and the checks and counts that all of them share.

A new loss is a function in a file of this folder, the name of that file in ``_FILES``, and its test.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import wraps
from importlib import import_module
from inspect import Parameter, signature
from numbers import Real
from typing import Any, Literal, NamedTuple, TypeVar, cast

import numpy.typing as npt
import torch
from torch import Tensor

Outputs = Literal["classes", "reward", "vocabulary"]
Averaging = Literal["micro", "macro", "solution"]
Total = TypeVar("Total", bound=Callable[..., Tensor])


class Option(NamedTuple):
    """How a loss's option is checked: ``read`` returns the value as the loss takes it, or raises TypeError or
    ValueError.

    ``expected`` describes the allowed values, for the error message.
    """

    read: Callable[[Any], Any]
    expected: str


class _Entry(NamedTuple):
    """What the table holds of a registered loss."""

    total: Callable[..., Tensor]
    reads: Outputs
    averaging: Averaging
    soft: bool | Callable[[Mapping[str, Any]], bool]
    options: Mapping[str, Option]


_FILES = ("_pointwise", "_ranking")
"""The files of losses. Importing one registers its losses."""
_LOSSES: dict[str, _Entry] = {}
PADDING = -100
"""The label of a position without a target."""


@dataclass(frozen=True)
class StepLoss:
    """A loss with its options, as :func:`get_loss` returns it.

    Over several devices or accumulated batches the exact mean is the sum of ``total`` divided by the sum of ``count``.
    A mean of the batches' means is not exact.

    Parameters
    ----------
    name : str
        Name of the loss in the registry.
    reads : {"classes", "reward", "vocabulary"}
        Shape of the outputs: (..., n_classes), the shape of the labels, or (..., vocabulary).
    averaging : {"micro", "macro", "solution"}
        Mean over all steps, mean over the means of the solutions, or one term per solution.
    soft : bool
        Whether labels may be chances of being right instead of codes, or of 0 and 1.
    options : mapping
        Keyword arguments of the loss, such as ``{"zeta": 2.0}``.

    Examples
    --------
    >>> import torch
    >>> from prmkit.models.losses import get_loss
    >>> loss = get_loss("bce")
    >>> rewards, labels = torch.zeros(2, 3), torch.tensor([[1, 0, 1], [1, -100, -100]])
    >>> loss(rewards, labels), loss.total(rewards, labels), loss.count(labels)
    (tensor(0.6931), tensor(2.7726), tensor(4.))
    """

    name: str
    reads: Outputs
    averaging: Averaging
    soft: bool
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __call__(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Return the mean of the terms, a scalar. It is 0 with zero gradient where nothing has a target."""
        total = self.total(outputs, labels)
        count = self._count(labels, total.dtype)
        return total / torch.where(count > 0, count, 1)

    def total(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Return the sum of the terms.

        Parameters
        ----------
        outputs : Tensor
            Outputs of the model, in the shape that ``reads`` names.
        labels : Tensor
            Targets, -100 where there is none.

        Returns
        -------
        Tensor
            A scalar.
        """
        return _entry(self.name).total(outputs, labels, **self.options)

    def count(self, labels: Tensor) -> Tensor:
        """Return the number that the sum is divided by: steps (weighted by class) or solutions.

        Parameters
        ----------
        labels : Tensor
            Targets, -100 where there is none.

        Returns
        -------
        Tensor
            A float32 scalar.
        """
        return self._count(labels, torch.float32)

    def _count(self, labels: Tensor, dtype: torch.dtype) -> Tensor:
        if self.averaging == "micro":
            return step_weights(labels, self.options.get("class_weight"), dtype).sum()
        # The last axis is the steps of a solution.
        return (labels != PADDING).any(-1).sum().to(dtype)


def register_loss(
    name: str,
    *,
    reads: Outputs,
    averaging: Averaging = "micro",
    soft: bool | Callable[[Mapping[str, Any]], bool] = False,
    options: Mapping[str, Option] | None = None,
) -> Callable[[Total], Total]:
    """Decorate a sum over steps, so that it becomes a loss that can be named.

    The decorated function returns the sum of the terms. In its place stands a function that checks the options and
    returns the mean. From then on ``get_loss(name)``, ``TokenPRM(loss=name)``, ``PRMTrainingConfig(loss=name)`` and
    ``prmkit train --loss name`` know the loss. A loss of prmkit's own stands in a file of this folder that ``_FILES``
    names.

    Parameters
    ----------
    name : str
        Name of the loss.
    reads : {"classes", "reward", "vocabulary"}
        Outputs that the loss takes: a logit per class, one number per step, or the logits of the whole vocabulary.
    averaging : {"micro", "macro", "solution"}, default="micro"
        How the sum is averaged: over steps (``"micro"``), or over solutions, with their means (``"macro"``) or with one
        term each (``"solution"``).
    soft : bool or callable, default=False
        Whether labels may be chances of being right. A function decides from the options.
    options : mapping of str to Option, optional
        How the keyword arguments of the function are checked. An argument without an entry is not checked here.

    Returns
    -------
    callable
        The decorator.

    Raises
    ------
    ValueError
        If another function has this name already.

    Examples
    --------
    >>> import torch
    >>> from prmkit.models.losses import get_loss, register_loss
    >>> @register_loss("absolute_error", reads="reward", soft=True)
    ... def absolute_error_loss(rewards, labels):
    ...     valid = labels != -100
    ...     return torch.where(valid, (rewards.sigmoid() - labels).abs(), 0.0).sum()
    >>> get_loss("absolute_error")(torch.zeros(1, 3), torch.tensor([[1, 0, -100]]))
    tensor(0.5000)
    """

    def register(function: Total) -> Total:
        known = _LOSSES.get(name)
        # A notebook cell that runs twice defines the same function again.
        if known is not None and _address(known.total) != _address(function):
            raise ValueError(f"a loss {name!r} exists already ({_address(known.total)}): choose another name")
        _LOSSES[name] = _Entry(function, reads, averaging, soft, options or {})
        parameters = signature(function)

        @wraps(function)
        def mean(*args: Any, **kwargs: Any) -> Tensor:
            arguments = parameters.bind(*args, **kwargs).arguments
            outputs, labels = (arguments.pop(first) for first in list(parameters.parameters)[:2])
            return _make_loss(name, arguments)(outputs, labels)

        return cast(Total, mean)

    return register


def _make_loss(name: str, options: Mapping[str, Any]) -> StepLoss:
    """Return a registered loss with checked options; see :func:`get_loss`."""
    entry = _entry(name)
    parameters = list(signature(entry.total).parameters.values())[2:]
    allowed = [parameter.name for parameter in parameters]
    if unknown := [option for option in options if option not in allowed]:
        takes = f"expected {', '.join(allowed)}" if allowed else "it has none"
        raise ValueError(f"loss {name!r} has no option {', '.join(unknown)}: {takes}")
    for parameter in parameters:
        if parameter.default is Parameter.empty and parameter.name not in options:
            rule = entry.options.get(parameter.name)
            raise ValueError(f"loss {name!r} needs {parameter.name}" + (f", {rule.expected}" if rule else ""))
    checked = {option: _checked(option, value, entry) for option, value in options.items()}
    soft = entry.soft(checked) if callable(entry.soft) else entry.soft
    return StepLoss(name, entry.reads, entry.averaging, soft, checked)


def loss_names() -> tuple[str, ...]:
    """Return the names of all losses."""
    for file in _FILES:
        import_module(f"prmkit.models.losses.{file}")
    return tuple(_LOSSES)


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
    return _make_loss(registered, options)


def _entry(name: str) -> _Entry:
    if name not in _LOSSES:
        # A loss that was unpickled in a new process finds no file imported yet.
        loss_names()
    return _LOSSES[name]


def _checked(option: str, value: Any, entry: _Entry) -> Any:
    if option not in entry.options:
        return value
    try:
        return entry.options[option].read(value)
    except (TypeError, ValueError):
        raise ValueError(f"{option}={value!r}, expected {entry.options[option].expected}") from None


def _address(function: Callable[..., Any]) -> str:
    return f"{function.__module__}.{function.__qualname__}"


def binary_labels(
    codes: Tensor | npt.ArrayLike, n_classes: int, neutral: Literal["positive", "negative", "drop"] = "positive"
) -> Tensor:
    """Turn class codes into 1 (right: the last class), 0 (wrong: the first class), -100 (no target).

    ``neutral`` says how the classes between them count. Floats are chances of being right. They are checked and
    returned as they are.

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
        expected = "the shape of the labels" if axes == "steps" else f"the shape of the labels and {axes} last"
        raise ValueError(
            f"outputs have shape {tuple(outputs.shape)} and labels {tuple(labels.shape)}, expected {expected}"
        )


def working_precision(outputs: Tensor) -> Tensor:
    """Return the outputs in float32, float64 ones as they are."""
    return outputs if outputs.dtype == torch.float64 else outputs.float()


def read_rewards(rewards: Tensor, labels: Tensor, *, soft: bool) -> tuple[Tensor, Tensor]:
    """Check rewards and labels. Return the rewards, 0 where there is no target, and which steps have one.

    Padding is replaced before anything else is computed: a mask applied later would multiply a gradient of zero with
    the NaN of the branch not taken.
    """
    check_outputs(rewards, labels, "steps")
    valid = step_mask(labels, soft=soft)
    return torch.where(valid, working_precision(rewards), 0.0), valid


def step_weights(labels: Tensor, class_weight: Sequence[float] | None, dtype: torch.dtype) -> Tensor:
    """Return the share of each step in the mean: the weight of its class, or 1 without weights; 0 for padding."""
    valid = labels != PADDING
    if class_weight is None:
        return valid.to(dtype)
    class_mask(labels, len(class_weight))
    weights = torch.tensor([float(weight) for weight in class_weight], dtype=dtype, device=labels.device)
    return torch.where(valid, weights[labels.long().clamp(min=0)], 0.0)


def objective_weights(outcome_weight: float, extra_targets: Mapping[str, float] | None) -> dict[str, float]:
    """Return the weight of each objective that has one, by name.

    >>> objective_weights(0.5, {"error_type": 0.0})
    {'outcome': 0.5}
    """
    extra = extra_targets or {}
    if reserved := {"outcome", "final_answer_correct", "prompt", "completions", "labels"} & set(extra):
        raise ValueError(
            f"extra_targets names {min(reserved)!r}, expected a target of steps by another name: outcome_weight is "
            "the weight of outcomes"
        )
    for name, weight in {"outcome_weight": outcome_weight, **extra}.items():
        if not isinstance(weight, Real) or not 0 <= float(weight) < math.inf:
            raise ValueError(f"{name} has the weight {weight!r}, expected a finite number of at least 0")
    return {name: float(weight) for name, weight in {"outcome": outcome_weight, **extra}.items() if weight}
