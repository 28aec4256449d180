"""The stepwise layout (prompt, completions, labels): TRL's tokens of a row, and the classes of a data set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from prmkit.data._dataset import StepDataset
from prmkit.data._labels import resolve_label_order
from prmkit.models.trainer._label_codes import IGNORE, check_lengths
from prmkit.models.trainer._row_sources import column_names

if TYPE_CHECKING:
    import datasets


def tokenize_row(
    row: Mapping[str, Any],
    tokenizer: Any,
    step_separator: str,
    max_length: int | None,
    max_completion_length: int | None,
    train_on_last_step_only: bool,
    is_eval: bool,
) -> dict[str, list[Any]]:
    """Tokenise a stepwise row by TRL's rule, with its result.

    Prompt, steps and separator are tokenised apart; each step is closed by the separator, whose last token holds
    the label; the tokenizer's BOS comes first, no EOS last. The steps are cut at ``max_completion_length`` tokens,
    then the whole at ``max_length``, within a step if it falls so.

    Parameters
    ----------
    row : mapping
        ``prompt``: str; ``completions``: list of str, the steps; ``labels``: one per step.
    tokenizer : transformers tokenizer
    step_separator : str
    max_length, max_completion_length : int or None
        Tokens of the whole, and of the steps. None: no limit.
    train_on_last_step_only : bool
        Whether the last step alone keeps its label; without effect if ``is_eval``.
    is_eval : bool

    Returns
    -------
    dict
        ``input_ids`` and ``labels``, lists of equal length; -100 where a token has no label. Booleans and whole
        numbers become int. Unlike TRL's, a float stays a float (there 0.7 became 0), and None stands for a step
        without label.

    Raises
    ------
    ValueError
        If there are no steps, not one label per step, or no token in the separator.

    Examples
    --------
    >>> class Letters:
    ...     bos_token_id = 1
    ...     def __call__(self, text, add_special_tokens):
    ...         return {"input_ids": [ord(letter) for letter in text]}
    >>> row = {"prompt": "a", "completions": ["bb", "c"], "labels": [True, False]}
    >>> tokenize_row(row, Letters(), ".", 6, None, False, False)
    {'input_ids': [1, 97, 98, 98, 46, 99], 'labels': [-100, -100, -100, -100, 1, -100]}
    """
    steps, labels = list(row["completions"]), list(row["labels"])
    check_lengths(steps, labels, "the row")

    def ids(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    separator = ids(step_separator)
    if not separator:
        raise ValueError(
            f"step_separator={step_separator!r} has no token in this tokenizer: choose one that has"
        )
    if train_on_last_step_only and not is_eval:
        labels = [None] * (len(labels) - 1) + labels[-1:]
    prompt = ids(row["prompt"])
    if tokenizer.bos_token_id is not None:
        prompt = [tokenizer.bos_token_id, *prompt]
    tokens: list[int] = []
    targets: list[int | float] = []
    for step, label in zip(steps, labels, strict=True):
        tokens += ids(step) + separator
        targets += [IGNORE] * (len(tokens) - len(targets) - 1) + [_target(label)]
    return {
        "input_ids": (prompt + tokens[:max_completion_length])[:max_length],
        "labels": ([IGNORE] * len(prompt) + targets[:max_completion_length])[:max_length],
    }


def _target(label: Any) -> int | float:
    if label is None:
        return IGNORE
    return float(label) if isinstance(label, float) else int(label)


def find_classes(dataset: Any, declared: Sequence[Any] | None = None) -> tuple[Any, ...] | None:
    """Return the classes of a data set from worst to best, or None where its labels are probabilities.

    Parameters
    ----------
    dataset : Dataset, IterableDataset, StepDataset or list of dict
        As :func:`training_rows` takes it; of a stream only the first 100 rows are looked at.
    declared : sequence, optional
        The classes, worst first; returned as they are.

    Returns
    -------
    tuple or None
        ``(False, True)`` for booleans and 0/1. None for floats in [0, 1], even if all are 0.0 or 1.0.

    Raises
    ------
    ValueError
        If floats and other labels are mixed, nothing is labelled, or nothing tells which label is worst.

    Examples
    --------
    >>> find_classes([{"prompt": "2 + 3?", "completions": ["2 + 3 = 5"], "labels": [True]}])
    (False, True)
    >>> find_classes([{"prompt": "2 + 3?", "completions": ["2 + 3 = 5"], "labels": [0.9]}]) is None
    True
    """
    if declared is not None:
        classes = tuple(declared)
        if len(set(classes)) < max(2, len(classes)):
            raise ValueError(
                f"label_order={list(classes)}, expected two or more distinct labels, worst first"
            )
        return classes
    found = _distinct_labels(dataset)
    if not found:
        raise ValueError("no step of the data set is labelled, expected a label for at least one")
    kinds = {kind for kind, _ in found}
    if kinds == {float} and all(0 <= value <= 1 for _, value in found):
        return None
    if float in kinds and len(kinds) > 1:
        names = " and ".join(sorted(kind.__name__ for kind in kinds))
        raise ValueError(
            f"labels mix {names}, expected one kind: floats in [0, 1] are probabilities, which True and 1 are not; "
            "write 1.0 for a certain step"
        )
    values = {value for _, value in found}
    if kinds <= {bool, int} and values <= {0, 1}:
        return (False, True)
    order = resolve_label_order(sorted(values, key=lambda value: (isinstance(value, str), value)))
    if isinstance(dataset, StepDataset) and order is not None:
        return order
    proposal = ", ".join(map(repr, order)) if order else "worst, …, best"
    raise ValueError(
        f"labels are {sorted(values, key=str)}, expected booleans, 0/1 or floats in [0, 1]: for other classes "
        f"say which is worst, label_order=[{proposal}]"
    )


def _distinct_labels(dataset: Any) -> set[tuple[type, Any]]:
    """Labels with their type, since 1, 1.0 and True are equal; without null and the -100 of pre-tokenised rows."""
    import datasets

    if isinstance(dataset, StepDataset):
        return {(type(label), label) for label in dataset.y.tolist()}
    columns = column_names(dataset)
    if isinstance(dataset, datasets.Dataset):
        lists = _distinct_per_batch(dataset)
    else:
        rows = dataset.take(100) if isinstance(dataset, datasets.IterableDataset) else dataset
        lists = (row["labels"] for row in rows)
    found = {(type(label), label) for labels in lists for label in labels if label is not None}
    return {(kind, label) for kind, label in found if "input_ids" not in columns or label != IGNORE}


def _distinct_per_batch(dataset: datasets.Dataset) -> Iterable[list[Any]]:
    import pyarrow.compute as pc

    for table in dataset.select_columns("labels").with_format("arrow").iter(10_000):
        yield pc.unique(pc.list_flatten(table["labels"])).to_pylist()
