"""The stepwise layout (prompt, completions, labels): TRL's tokens of a row, and the classes of a data set."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from prmkit.data.dataset import StepDataset
from prmkit.data.labels import resolve_label_order
from prmkit.data.solution import iter_solutions

if TYPE_CHECKING:
    import datasets


IGNORE = -100
"""The label of a token without a target."""


def label_codes(labels: Sequence[Any], classes: Sequence[Any] | None, where: str) -> list[Any]:
    """Return the code of each label, its place among the classes, or its probability; None stays None.

    Parameters
    ----------
    labels : sequence
        Of one solution.
    classes : sequence or None
        Worst first. None: the labels are probabilities of the best class, in [0, 1].
    where : str
        The row, for messages.

    Raises
    ------
    ValueError
        For a label that is none of the classes, or no probability.

    Examples
    --------
    >>> label_codes([1, None, -1], (-1, 0, 1), "row 0")
    [2, None, 0]
    """
    kinds = {isinstance(label, float) for label in labels if label is not None}
    if len(kinds) > 1:
        raise ValueError(
            f"{where}: labels mix floats with others ({list(labels)}), expected one kind: write 1.0, not 1 or True"
        )
    return [None if label is None else _code(label, classes, where) for label in labels]


def _code(label: Any, classes: Sequence[Any] | None, where: str) -> int | float:
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


def check_lengths(steps: Sequence[str], labels: Sequence[Any], where: str) -> None:
    """Raise ValueError unless there are steps and one label for each."""
    if not steps:
        raise ValueError(
            f"{where} has no steps (completions is empty), expected one or more: leave the row out"
        )
    if len(labels) != len(steps):
        raise ValueError(
            f"{where} has {len(labels)} labels for {len(steps)} steps (completions), expected one for each, "
            "None for a step without label"
        )


STEPWISE = ("prompt", "completions", "labels")
"""Columns of the stepwise layout: a text, a list of texts, a label (or null) for each of them."""
_WHAT_TO_PASS = (
    "pass a Dataset with columns prompt, completions and labels (or input_ids and labels), a list of such rows, "
    "or a StepDataset"
)


def column_names(dataset: Any) -> list[str]:
    """Return the columns of a data set or a list of rows; the first row tells where nothing else does.

    Raises
    ------
    TypeError
        For what is no data set, or several.
    ValueError
        If it is empty, or lacks columns.
    """
    import datasets

    if isinstance(dataset, Mapping):
        raise TypeError(
            f"a dict of data sets ({', '.join(map(str, dataset))}), expected one: dataset['train']"
        )
    if isinstance(dataset, (datasets.Dataset, datasets.IterableDataset)):
        columns = dataset.column_names
    elif isinstance(dataset, (list, tuple)):
        columns = None
    else:
        raise TypeError(f"the data set is {type(dataset).__name__}: {_WHAT_TO_PASS}")
    if columns is None:
        first = next(iter(dataset), None)
        if not isinstance(first, Mapping):
            found = "is empty" if first is None else f"has rows of type {type(first).__name__}"
            raise ValueError(f"the data set {found}: {_WHAT_TO_PASS}")
        columns = list(first)
    expected = ("input_ids", "labels") if "input_ids" in columns else STEPWISE
    missing = [name for name in expected if name not in columns]
    if missing:
        hint = (
            "StepDataset.from_hf(dataset)"
            if {"problem", "steps", "labels"} <= set(columns)
            else _WHAT_TO_PASS
        )
        raise ValueError(f"the data set lacks {', '.join(missing)} and has {', '.join(columns)}: {hint}")
    return list(columns)


def stepwise_rows(
    dataset: StepDataset | Sequence[Mapping[str, Any]], classes: Sequence[Any] | None
) -> datasets.Dataset:
    """Return a StepDataset, or a list of stepwise rows, as a Dataset whose labels are codes.

    A StepDataset gives one row per distinct solution, unlabelled steps null; a step with two labels puts its
    solution on a second row, as in :meth:`StepDataset.to_hf`.

    Raises
    ------
    ValueError
        For labels that are none of the classes, or not as many as steps.
    """
    import datasets

    given = _lines(dataset) if isinstance(dataset, StepDataset) else dataset
    columns: dict[str, list[Any]] = {name: [] for name in STEPWISE}
    kinds: set[bool] = set()
    for i, row in enumerate(given):
        missing = [name for name in STEPWISE if name not in row]
        if missing:
            raise ValueError(f"row {i} lacks {', '.join(missing)}, expected {', '.join(STEPWISE)}")
        check_lengths(row["completions"], row["labels"], f"row {i}")
        for text in (row["prompt"], *row["completions"]):
            if not isinstance(text, str):  # the column type would turn 5 into "5"
                raise TypeError(f"row {i}: a text is {type(text).__name__} ({text!r:.40}), expected str")
        columns["prompt"].append(row["prompt"])
        columns["completions"].append(list(row["completions"]))
        columns["labels"].append(label_codes(row["labels"], classes, f"row {i}"))
        kinds |= {isinstance(label, float) for label in row["labels"] if label is not None}
        if len(kinds) > 1:
            raise ValueError(
                f"labels mix floats with others, in row {i} or before it, expected one kind: write 1.0, not 1 or True"
            )
    features = {
        "prompt": datasets.Value("string"),
        "completions": [datasets.Value("string")],
        "labels": [datasets.Value("float32" if classes is None else "int64")],
    }
    return datasets.Dataset.from_dict(columns, features=datasets.Features(features))


def pretokenized_rows(rows: Sequence[Mapping[str, Any]]) -> datasets.Dataset:
    """Return a list of pre-tokenised rows as a Dataset.

    Raises
    ------
    ValueError
        If a row lacks a column that the first one has.
    """
    import datasets

    names = [name for name in ("input_ids", "labels", "blocks") if name in rows[0]]
    for i, row in enumerate(rows):
        missing = [name for name in names if name not in row]
        if missing:
            raise ValueError(f"row {i} lacks {', '.join(missing)}, expected {', '.join(names)} as in row 0")
    return datasets.Dataset.from_dict({name: [list(row[name]) for row in rows] for name in names})


def _lines(dataset: StepDataset) -> Iterator[dict[str, Any]]:
    y = dataset.y.tolist()
    for solution, rows, indices in iter_solutions(dataset.X):
        lines: list[list[Any]] = []
        for row, index in zip(rows, indices, strict=True):
            line = next((line for line in lines if line[index] is None), None)
            if line is None:
                line = [None] * solution.n_steps
                lines.append(line)
            line[index] = y[row]
        for labels in lines:
            yield {"prompt": solution.problem, "completions": solution.steps, "labels": labels}


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
