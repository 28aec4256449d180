"""From the labels of the data to the targets of a loss, and to what the model must put out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch

from prmkit.marking.encoding import reward_token_ids
from prmkit.marking.scheme import MarkingScheme
from prmkit.models.losses import StepLoss, get_loss
from prmkit.models.losses._targets import binary_labels

if TYPE_CHECKING:
    from prmkit.models.trainer._config import PRMTrainingConfig

_NEEDS_WHOLE_SOLUTIONS = ("rank", "theory_rank", "ablate_rank", "orm")


@dataclass(frozen=True)
class TargetPlan:
    """How labels, loss and outputs fit together.

    Parameters
    ----------
    classes : tuple or None
        Labels of the data, worst first; None for soft labels in [0, 1].
    loss_name, loss_options
        As :func:`prmkit.models.losses.get_loss` takes them.
    neutral : {"positive", "negative", "drop"}
        What the classes between worst and best count as in a loss that knows right and wrong alone.

    Raises
    ------
    ValueError
        If loss, labels and scheme do not fit together.
    """

    classes: tuple[Any, ...] | None
    loss_name: str
    loss_options: dict[str, Any]
    neutral: str

    @classmethod
    def of(cls, args: PRMTrainingConfig, classes: tuple[Any, ...] | None) -> TargetPlan:
        """Plan for the settings of a run."""
        options = dict(args.loss_options or {})
        plan = cls(classes, args.loss, options, args.neutral)
        if args.scheme == "prefix" and args.loss in _NEEDS_WHOLE_SOLUTIONS:
            raise ValueError(
                f"loss={args.loss!r} compares the steps of a solution, but scheme='prefix' makes a row of each: "
                "choose scheme='separator'"
            )
        if args.loss == "reward_token" and args.scheme != "reward_tokens":
            raise ValueError(f"loss='reward_token' needs scheme='reward_tokens', found {args.scheme!r}")
        if classes is None and not plan._bare_loss.soft:
            raise ValueError(
                f"loss={args.loss!r} takes no soft labels: choose 'bce', 'mse' or 'soft_cross_entropy', or round "
                "the labels yourself (with a threshold that you state)"
            )
        return plan

    @property
    def is_binary(self) -> bool:
        """Whether the loss knows right and wrong alone."""
        return (
            self.classes is None
            or self._bare_loss.reads == "reward"
            or self._bare_loss.name == "soft_cross_entropy"
        )

    @property
    def n_outputs(self) -> int:
        """Classes that the model tells apart."""
        return 2 if self.is_binary or self.classes is None else len(self.classes)

    @property
    def head_size(self) -> int:
        """Width of the model's head: one raw reward, or a logit per class."""
        return 1 if self._bare_loss.reads == "reward" else self.n_outputs

    @property
    def output_classes(self) -> tuple[Any, ...]:
        """The labels that the outputs stand for, worst first."""
        if self.classes is None:
            return (0, 1)
        return (self.classes[0], self.classes[-1]) if self.is_binary else self.classes

    @property
    def output_names(self) -> list[str]:
        """One name per output of the head, for ``config.id2label``."""
        return ["reward"] if self.head_size == 1 else [str(label) for label in self.output_classes]

    def loss(self, tokenizer: Any, scheme: MarkingScheme) -> StepLoss:
        """Make the loss; that of reward tokens knows their ids."""
        if self.loss_name != "reward_token":
            return self._bare_loss
        return get_loss("reward_token", token_ids=reward_token_ids(tokenizer, scheme), **self.loss_options)

    def of_labels(self, labels: torch.Tensor) -> torch.Tensor:
        """Turn class codes (worst is 0, padding -100) or soft labels into what the loss takes."""
        if not self.is_binary or self.classes is None:
            return labels
        targets = binary_labels(labels, len(self.classes), self.neutral)
        return targets.float() if self._bare_loss.soft else targets

    def keep_rows(self, rows: Any) -> Any:
        """Leave out solutions of which ``neutral="drop"`` takes every target.

        Raises
        ------
        ValueError
            If none is left.
        """
        if not self.is_binary or self.neutral != "drop" or self.classes is None or len(self.classes) == 2:
            return rows
        outer = (0, len(self.classes) - 1)
        kept = rows.filter(lambda row: any(label in outer for label in row["labels"]))
        if hasattr(kept, "__len__") and not len(kept):
            raise ValueError(
                f"all labelled steps are neutral, and neutral='drop' leaves none of {len(rows)} solutions"
            )
        return kept

    @cached_property
    def _bare_loss(self) -> StepLoss:
        options = {"token_ids": [0, 1]} if self.loss_name == "reward_token" else {}
        return get_loss(self.loss_name, **options, **self.loss_options)
