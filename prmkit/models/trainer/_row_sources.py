"""Every kind of step-labelled data set as rows of the stepwise layout: prompt, completions, labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from prmkit.data._dataset import StepDataset
from prmkit.data._solution import iter_solutions
from prmkit.models.trainer._label_codes import check_lengths, label_codes

if TYPE_CHECKING:
    import datasets

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
            if {"problem", "steps", "ratings"} <= set(columns)
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
