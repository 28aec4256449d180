"""One line per solution: the columns in which labelled solutions are kept, in files and as Hugging Face data."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from prmkit.data.solution import Solution, Step

if TYPE_CHECKING:
    import datasets

_ARROW_TYPES = {"i": "int64", "u": "int64", "f": "float64", "b": "bool"}


def table_of_lines(dataset: Any, positions: Sequence[int]) -> datasets.Dataset:
    """Return the Hugging Face data set of a ``StepDataset``, given the position of each row's solution."""
    import datasets

    lines = _lines(dataset, positions)
    text, number = datasets.Value("string"), datasets.Value("int64")
    labels = [datasets.Value(_ARROW_TYPES.get(dataset.y.dtype.kind, "string"))]
    features = {"id": text, "problem": text, "steps": [text], "labels": labels, "first_error": number}
    features |= {"vocabulary": text, "meta": text, "positions": [number], "rows": text}
    if dataset.first_errors is None:
        del features["first_error"]
    for line in lines:
        line["vocabulary"] = json.dumps(dataset.vocabulary)
    table = datasets.Dataset.from_dict(
        {name: [line[name] for line in lines] for name in features}, features=datasets.Features(features)
    )
    table.info.description = dataset.description
    return table


def arguments_of_lines(dataset: datasets.Dataset) -> dict[str, Any]:
    """Return the arguments of the ``StepDataset`` that a Hugging Face data set holds. See ``StepDataset.from_hf``."""
    if isinstance(dataset, dict):
        splits = ", ".join(dataset)
        raise TypeError(f"a DatasetDict with splits {splits}, expected one Dataset: pass dataset['train']")
    columns = dataset.column_names
    if missing := [name for name in ("problem", "steps", "labels") if name not in columns]:
        raise ValueError(f"columns {', '.join(columns)} lack {', '.join(missing)}; expected those of to_hf()")
    # Two lines are one solution, with two labels for a step, if they agree in their id too.
    solutions: dict[tuple[str | None, Solution], Solution] = {}
    first_errors: dict[tuple[str | None, Solution], int | None] = {}
    # Each row as its position, its step, its label and its metadata.
    rows: list[tuple[int, Step, Any, dict[str, Any]]] = []
    declared: set[str] = set()
    for number, line in enumerate(dataset):
        declared.add(line.get("vocabulary") or "null")
        meta = json.loads(line["meta"]) if line.get("meta") else None
        solution = Solution(line["problem"], line["steps"], id=line.get("id"), meta=meta)
        key = solution.id, solution
        solution = solutions.setdefault(key, solution)
        first_errors[key] = line.get("first_error")
        if len(line["labels"]) != solution.n_steps:
            raise ValueError(f"line {number} has {len(line['labels'])} labels for {solution.n_steps} steps")
        rows += _read_rows(line, solution, len(rows))
    if len(declared) > 1:
        raise ValueError(f"lines declare the vocabularies {', '.join(sorted(declared))}, expected one: read them apart")
    vocabulary = json.loads(declared.pop()) if declared else None
    rows.sort(key=lambda row: row[0])
    names = rows[0][3] if rows else ()
    return {
        "X": [step for _, step, _, _ in rows],
        "y": np.array([label for _, _, label, _ in rows]),
        "solutions": list(solutions.values()),
        "description": dataset.info.description or "",
        "first_errors": list(first_errors.values()) if "first_error" in columns else None,
        "rows": {name: typed_column([meta[name] for *_, meta in rows]) for name in names},
        "vocabulary": tuple(vocabulary) if isinstance(vocabulary, list) else vocabulary,
    }


def solution_record(solution: Solution, labels: Sequence[Any], first_error: int | None, meta: Any) -> dict[str, Any]:
    """Return the fields of a labelled solution in prmkit's own columns: the format "rated" and ``to_hf``.

    A label is None where a step has none. ``meta`` comes in the shape that the file needs.
    """
    return {
        "id": solution.id,
        "problem": solution.problem,
        "steps": list(solution.steps),
        "labels": list(labels),
        "first_error": first_error,
        "meta": meta,
    }


def _lines(dataset: Any, positions: Sequence[int]) -> list[dict[str, Any]]:
    """Return one line per solution, or several where a step of it has several labels."""
    errors = dataset.first_errors or [None] * len(dataset.solutions)
    lines_of = [[_empty_line(solution, error)] for solution, error in zip(dataset.solutions, errors, strict=True)]
    rows = zip(dataset.X, dataset.y.tolist(), positions, strict=True)
    for row, (step, label, position) in enumerate(rows):
        lines = lines_of[position]
        line = next((line for line in lines if line["positions"][step.index] is None), None)
        if line is None:
            line = _empty_line(step.solution, lines[0]["first_error"])
            lines.append(line)
        line["labels"][step.index], line["positions"][step.index] = label, row
    all_lines = [line for lines in lines_of for line in lines]
    columns = {name: column.tolist() for name, column in dataset.rows.items()}
    for line in all_lines:
        numbers = [row for row in line["positions"] if row is not None]
        line["rows"] = _to_json({name: [column[i] for i in numbers] for name, column in columns.items()})
    return all_lines


def _empty_line(solution: Solution, first_error: int | None) -> dict[str, Any]:
    # Arrow wants one type per column, and metadata differ from solution to solution: they are written as text.
    meta = None if solution.meta is None else _to_json(dict(solution.meta))
    record = solution_record(solution, [None] * solution.n_steps, first_error, meta)
    return {**record, "positions": [None] * solution.n_steps}


def _to_json(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except TypeError as error:
        raise TypeError(f"metadata cannot be written as JSON ({error}): {value!r:.200}") from None


def _read_rows(
    line: dict[str, Any], solution: Solution, n_before: int
) -> Iterator[tuple[int, Step, Any, dict[str, Any]]]:
    """Yield the position, step, label and metadata of each row that a line holds."""
    columns = json.loads(line.get("rows") or "{}")
    labelled = [i for i, label in enumerate(line["labels"]) if label is not None]
    positions = line.get("positions") or dict(zip(labelled, count(n_before), strict=False))
    for k, i in enumerate(labelled):
        yield positions[i], Step(solution, i), line["labels"][i], {name: c[k] for name, c in columns.items()}


def typed_column(values: list[Any]) -> npt.NDArray[Any]:
    """Return a column of numbers or booleans where all values are, and of objects otherwise."""
    plain = np.fromiter(values, dtype=object, count=len(values))  # lists of equal length stay lists
    kinds = {type(value) for value in values}
    return plain.astype(kinds.pop()) if kinds in ({bool}, {int}, {float}) else plain
