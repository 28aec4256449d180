"""A loss as prmkit uses it: a sum over steps, the count to divide it by, and the decorator that registers one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import wraps
from inspect import Parameter, signature
from typing import Any, Literal, NamedTuple, TypeVar, cast

import torch
from torch import Tensor

from prmkit.models.losses._targets import mean_of, n_solutions, step_weights

Outputs = Literal["classes", "reward", "vocabulary"]
Averaging = Literal["micro", "macro", "solution"]
Total = TypeVar("Total", bound=Callable[..., Tensor])


class Option(NamedTuple):
    """How the value of a loss's option is checked.

    Parameters
    ----------
    read : callable
        Gets the value and returns it as the loss takes it. It raises ``TypeError`` or ``ValueError`` for a value that
        is out of range.
    expected : str
        Description of the allowed values, for the error message.
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


_LOSSES: dict[str, _Entry] = {}


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
        """Return the mean.

        Parameters
        ----------
        outputs : Tensor
            Outputs of the model, in the shape that ``reads`` names.
        labels : Tensor
            Targets, -100 where there is none.

        Returns
        -------
        Tensor
            A scalar. It is 0 with zero gradient where nothing has a target.
        """
        total = self.total(outputs, labels)
        return mean_of(total, self._count(labels, total.dtype))

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
        return _LOSSES[self.name].total(outputs, labels, **self.options)

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
        return n_solutions(labels).to(dtype)


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
    ``prmkit train --loss name`` know the loss. A loss of prmkit's own stands in a file of this folder, and the list of
    files in ``_registry.py`` names the file.

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
            return make_loss(name, arguments)(outputs, labels)

        return cast(Total, mean)

    return register


def make_loss(name: str, options: Mapping[str, Any]) -> StepLoss:
    """Return a registered loss with checked options; see :func:`get_loss`."""
    entry = _LOSSES[name]
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
    """Return the names of the losses that are registered."""
    return tuple(_LOSSES)


def _checked(option: str, value: Any, entry: _Entry) -> Any:
    if option not in entry.options:
        return value
    try:
        return entry.options[option].read(value)
    except (TypeError, ValueError):
        raise ValueError(f"{option}={value!r}, expected {entry.options[option].expected}") from None


def _address(function: Callable[..., Any]) -> str:
    return f"{function.__module__}.{function.__qualname__}"
