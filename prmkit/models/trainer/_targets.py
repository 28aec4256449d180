"""From the labels of a data set to its classes, to codes, and to the targets and outputs that a loss needs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import torch

from prmkit.data.dataset import StepDataset
from prmkit.data.labels import declared_order, resolve_label_order
from prmkit.marking.encoding import reward_token_ids
from prmkit.marking.scheme import MarkingScheme
from prmkit.models.losses import get_loss
from prmkit.models.losses._registry import StepLoss, binary_labels

if TYPE_CHECKING:
    import datasets
    import pandas as pd
    from transformers import PreTrainedTokenizerBase

    from prmkit.models.trainer._config import NeutralPolicy, PRMTrainingConfig

    Rows: TypeAlias = datasets.Dataset | datasets.IterableDataset
    TrainingData: TypeAlias = Rows | StepDataset | Sequence[Mapping[str, Any]] | pd.DataFrame

IGNORE = -100
"""The label of a token without a target."""

Label = Any  # a label of the user's own: bool, int, float or str
Classes = tuple[Label, ...]


STEPWISE = ("prompt", "completions", "labels")
"""Columns of stepwise rows: a text, a list of texts, a label (or null) for each of them."""
_WHAT_TO_PASS = (
    "pass a Dataset with columns prompt, completions and labels (or input_ids and labels), a list of such rows, "
    "or a StepDataset. prmkit.data.load(dataset) makes a StepDataset of other formats"
)


def find_classes(dataset: TrainingData, declared: Sequence[Label] | None = None) -> Classes | None:
    """Return the classes of a data set from worst to best, or None where its labels are probabilities.

    Classes that the user declared are returned as they are. Booleans and 0/1 give ``(False, True)``. Floats in [0, 1]
    give None, even if all are 0.0 or 1.0. Only the first 100 rows of a stream are looked at.

    >>> find_classes([{"prompt": "2 + 3?", "completions": ["2 + 3 = 5"], "labels": [True]}])
    (False, True)
    >>> find_classes([{"prompt": "2 + 3?", "completions": ["2 + 3 = 5"], "labels": [0.9]}]) is None
    True
    """
    if declared is not None:
        if len(set(declared)) < max(2, len(declared)):
            raise ValueError(f"label_order={list(declared)}, expected two or more distinct labels, worst first")
        return tuple(declared)
    if isinstance(dataset, StepDataset) and dataset.vocabulary is not None:
        return _declared_classes(dataset)
    return _order_classes(_distinct_labels(dataset), order_is_known=isinstance(dataset, StepDataset))


def worst_first(classes: Sequence[Label], declared: Sequence[Label] | None, loss: str) -> Classes:
    """Return the classes of steps to fit from worst to best. Where no loss needs their order, it may stay unknown.

    >>> worst_first([-1, 0, 1], None, "rank"), worst_first(["bad", "fine"], None, "cross_entropy")
    ((-1, 0, 1), ('bad', 'fine'))
    """
    order = resolve_label_order(classes, declared)
    if order is None and declared is not None:
        raise ValueError(
            f"y holds the classes {list(classes)} and lacks the worst label of {list(declared)}, expected steps "
            "of both kinds: add wrong steps, or pass label_order=[worst, …, best] of these classes"
        )
    if order is None and loss != "cross_entropy":
        raise ValueError(
            f"the classes {list(classes)} have no known order, and loss={loss!r} needs one: "
            "pass label_order=[worst, …, best]"
        )
    return tuple(classes) if order is None else tuple(order)


def _declared_classes(dataset: StepDataset) -> Classes | None:
    """Return the classes of a data set that declares its vocabulary."""
    if dataset.vocabulary == "soft":
        return None
    order = declared_order(dataset.y) or ()
    labels = sorted(set(dataset.y.tolist()), key=order.index)
    classes = resolve_label_order(labels, order)
    if classes is None:
        raise ValueError(
            f"the labels are {labels} and lack the worst of {list(order)}, expected wrong steps too: add them, or "
            f"declare all classes, label_order={list(order)}"
        )
    return (False, True) if dataset.vocabulary == "binary" else classes


def _distinct_labels(dataset: TrainingData) -> list[Label]:
    """Distinct labels by type and value, since 1, 1.0 and True are equal; without null, and -100 of tokens."""
    import datasets

    if isinstance(dataset, StepDataset):
        return list({(type(label), label): label for label in dataset.y.tolist()}.values())
    columns = column_names(dataset)
    lists: Iterable[Sequence[Label]]
    if isinstance(dataset, datasets.Dataset):
        lists = _distinct_per_batch(dataset)
    else:
        rows = dataset.take(100) if isinstance(dataset, datasets.IterableDataset) else dataset
        lists = (row["labels"] for row in rows)
    labels = {(type(label), label): label for labels in lists for label in labels if label is not None}
    return [label for label in labels.values() if "input_ids" not in columns or label != IGNORE]


def _distinct_per_batch(dataset: datasets.Dataset) -> Iterator[list[Label]]:
    import pyarrow.compute as pc

    for table in dataset.select_columns("labels").with_format("arrow").iter(10_000):
        yield pc.unique(pc.list_flatten(table["labels"])).to_pylist()


def column_names(dataset: TrainingData) -> list[str]:
    """Return the columns of a data set, or of a list of rows, whose first row tells them."""
    import datasets

    if isinstance(dataset, Mapping):
        raise TypeError(f"a dict of data sets ({', '.join(map(str, dataset))}), expected one: dataset['train']")
    if not isinstance(dataset, (datasets.Dataset, datasets.IterableDataset, list, tuple)):
        raise TypeError(f"the data set is {type(dataset).__name__}: {_WHAT_TO_PASS}")
    if "ClassLabel" in str((getattr(dataset, "features", None) or {}).get("labels")):
        raise ValueError(
            "the column labels numbers classes that have names (ClassLabel), and their order is not known here: pass "
            "prmkit.data.load(dataset), which reads the names"
        )
    columns = getattr(dataset, "column_names", None)
    if columns is None:
        first = next(iter(dataset), None)
        if not isinstance(first, Mapping):
            state = "is empty" if first is None else f"has rows of type {type(first).__name__}"
            raise ValueError(f"the data set {state}: {_WHAT_TO_PASS}")
        columns = list(first)
    expected = ("input_ids", "labels") if "input_ids" in columns else STEPWISE
    missing = [name for name in expected if name not in columns]
    if missing:
        hint = "StepDataset.from_hf(dataset)" if {"problem", "steps", "labels"} <= set(columns) else _WHAT_TO_PASS
        raise ValueError(f"the data set lacks {', '.join(missing)} and has {', '.join(columns)}: {hint}")
    return list(columns)


def check_lengths(steps: Sequence[str], labels: Sequence[Label], where: str) -> None:
    """Raise ValueError unless there are steps and one label for each."""
    if not steps:
        raise ValueError(f"{where} has no steps (completions is empty), expected one or more: leave the row out")
    if len(labels) != len(steps):
        raise ValueError(
            f"{where} has {len(labels)} labels for {len(steps)} steps (completions), expected one for each, "
            "None for a step without label"
        )


def _order_classes(labels: Collection[Label], *, order_is_known: bool) -> Classes | None:
    """Return the classes that occur, from worst to best, or None where the labels are probabilities.

    Labels that Python takes for equal, such as 1, 1.0 and True, may occur side by side. If the order is not known,
    only booleans, 0/1 and probabilities need no declaration by the user.
    """
    if not labels:
        raise ValueError("no step of the data set is labelled, expected a label for at least one")
    kinds = {type(label) for label in labels}
    # JSON may write 1.0 as 1.
    if float in kinds and kinds <= {float, int} and all(0 <= label <= 1 for label in labels):
        return None
    if float in kinds and len(kinds) > 1:
        names = " and ".join(sorted(kind.__name__ for kind in kinds))
        raise ValueError(
            f"labels mix {names}, expected one kind: floats in [0, 1] are probabilities, True and 1 are not. "
            "Write 1.0 for a certain step"
        )
    values = set(labels)
    if kinds <= {bool, int} and values <= {0, 1}:
        return (False, True)
    order = resolve_label_order(sorted(values, key=lambda value: (isinstance(value, str), value)))
    if order is not None and order_is_known:
        return tuple(order)
    proposal = ", ".join(map(repr, order)) if order else "worst, …, best"
    raise ValueError(
        f"labels are {sorted(values, key=str)}, expected booleans, 0/1 or floats in [0, 1]: for other classes "
        f"say which is worst, label_order=[{proposal}]"
    )


def label_codes(labels: Sequence[Label], classes: Sequence[Label] | None, where: str) -> list[int | float | None]:
    """Return the code of each label: its position among the classes, or its probability. None stays None.

    >>> label_codes([1, None, -1], (-1, 0, 1), "row 0")
    [2, None, 0]
    """
    kinds = {isinstance(label, float) for label in labels if label is not None}
    if len(kinds) > 1 and (classes is not None or any(isinstance(label, (bool, str)) for label in labels)):
        raise ValueError(
            f"{where}: labels mix floats with others ({list(labels)}), expected one kind: write 1.0, not 1 or True"
        )
    return [None if label is None else _code(label, classes, where) for label in labels]


def _code(label: Label, classes: Sequence[Label] | None, where: str) -> int | float:
    if label == IGNORE:
        raise ValueError(f"{where}: label -100, which only tokens have: write None for a step without label")
    if classes is None:
        if isinstance(label, (bool, int, float)) and 0 <= label <= 1:
            return float(label)
        raise ValueError(
            f"{where}: label {label!r}, expected a probability in [0, 1], or None for a step without label"
        )
    binary = set(classes) == {0, 1}
    # False is 0 to Python, and would be read as neutral among -1, 0 and 1.
    if label in classes and (binary or not isinstance(label, bool)):
        return list(classes).index(label)
    hint = ": ratings need three classes, label_order=[-1, 0, 1]" if label == -1 and binary else ""
    if isinstance(label, float):
        hint = ": probabilities need a data set of them, and a loss that takes them"
    raise ValueError(f"{where}: label {label!r}, expected one of {', '.join(map(repr, classes))}{hint}")


@dataclass(frozen=True)
class TargetPlan:
    """How labels, loss and outputs fit together.

    ``classes`` are the labels of the data, worst first, or None for soft labels in [0, 1]. ``neutral`` says how the
    classes between worst and best count in a loss that knows only right and wrong.
    """

    classes: Classes | None
    loss_name: str
    loss_options: dict[str, Any]
    neutral: NeutralPolicy

    @classmethod
    def of(cls, args: PRMTrainingConfig, classes: Classes | None) -> TargetPlan:
        """Plan for the settings of a run."""
        plan = cls(classes, args.loss, cast("dict[str, Any]", args.loss_options or {}), args.neutral)
        if args.scheme_name == "prefix" and plan._bare_loss.averaging != "micro":
            raise ValueError(
                f"loss={args.loss!r} compares the steps of a solution, but scheme='prefix' makes a row of each: "
                "choose scheme='separator'"
            )
        if args.loss == "reward_token" and args.scheme_name != "reward_tokens":
            raise ValueError(f"loss='reward_token' needs scheme='reward_tokens', found {args.scheme_name!r}")
        if classes is None and not plan._bare_loss.soft:
            raise ValueError(
                f"loss={args.loss!r} takes no soft labels: choose 'bce', 'mse' or 'soft_cross_entropy', or round "
                "the labels yourself (with a threshold that you state)"
            )
        return plan

    @property
    def is_binary(self) -> bool:
        """Whether the loss knows only right and wrong."""
        return self.classes is None or self._bare_loss.reads == "reward" or self._bare_loss.name == "soft_cross_entropy"

    @property
    def ranks(self) -> bool:
        """Whether the loss compares steps, so that its rewards are no probabilities."""
        return self._bare_loss.averaging == "macro"

    @property
    def n_outputs(self) -> int:
        """Classes that the model tells apart."""
        return 2 if self.is_binary or self.classes is None else len(self.classes)

    @property
    def head_size(self) -> int:
        """Width of the model's head: one raw reward, or a logit per class."""
        return 1 if self._bare_loss.reads == "reward" else self.n_outputs

    @property
    def output_classes(self) -> Classes:
        """The labels that the outputs stand for, worst first."""
        if self.classes is None:
            return (0, 1)
        return (self.classes[0], self.classes[-1]) if self.is_binary else self.classes

    @property
    def output_names(self) -> list[str]:
        """One name per output of the head, for ``config.id2label``."""
        return ["reward"] if self.head_size == 1 else [str(label) for label in self.output_classes]

    def loss(self, tokenizer: PreTrainedTokenizerBase, scheme: MarkingScheme) -> StepLoss:
        """Make the loss. The loss of reward tokens knows their ids."""
        if self.loss_name != "reward_token":
            return self._bare_loss
        return get_loss("reward_token", token_ids=reward_token_ids(tokenizer, scheme), **self.loss_options)

    def of_labels(self, labels: torch.Tensor) -> torch.Tensor:
        """Turn class codes (worst is 0, padding -100) or soft labels into the targets that the loss takes."""
        if not self.is_binary or self.classes is None:
            return labels
        targets = binary_labels(labels, len(self.classes), self.neutral)
        return targets.float() if self._bare_loss.soft else targets

    def keep_rows(self, rows: Rows, others: Sequence[str] = ()) -> Rows:
        """Leave out solutions that lose every target by ``neutral="drop"`` and have none in the ``others`` columns."""
        if not self.is_binary or self.neutral != "drop" or self.classes is None or len(self.classes) == 2:
            return rows
        outer = (0, len(self.classes) - 1)
        kept_rows = rows.filter(
            lambda row: (
                any(label in outer for label in row["labels"])
                or any(code != IGNORE for name in others for code in row[name])
            )
        )
        if hasattr(kept_rows, "__len__") and not len(kept_rows):
            raise ValueError(f"all labelled steps are neutral, and neutral='drop' leaves none of {len(rows)} solutions")
        return kept_rows

    @cached_property
    def _bare_loss(self) -> StepLoss:
        # The ids are not known before the tokenizer is: any two will do here.
        options = {"token_ids": [0, 1]} if self.loss_name == "reward_token" else {}
        return get_loss(self.loss_name, **options, **self.loss_options)
