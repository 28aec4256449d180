"""The bridge to Hugging Face ``datasets``: a StepDataset as one, back again, and records by name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np

from prmkit.data._dataset import StepDataset
from prmkit.data._solution import Solution, Step

if TYPE_CHECKING:
    import datasets

_REQUIRED = ("problem", "steps", "ratings")


def dataset_to_hf(dataset: StepDataset) -> datasets.Dataset:
    """Write the layout documented at ``StepDataset.to_hf``."""
    import datasets

    lines = _lines(dataset)
    label = datasets.Value("int64" if dataset.y.dtype.kind in "iu" else "string")
    features = {
        "problem": datasets.Value("string"),
        "steps": [datasets.Value("string")],
        "ratings": [label],
        "positions": [datasets.Value("int64")],
        "first_error": datasets.Value("int64"),
        "id": datasets.Value("string"),
        "meta": datasets.Value("string"),
        "rows": datasets.Value("string"),
    }
    if dataset.first_errors is None:
        del features["first_error"]
    written = datasets.Dataset.from_dict(
        {name: [line[name] for line in lines] for name in features}, features=datasets.Features(features)
    )
    written.info.description = dataset.description
    return written


def _lines(dataset: StepDataset) -> list[dict[str, Any]]:
    """One line per solution, or several where a step of it has several labels."""
    lines_of: dict[Solution, list[dict[str, Any]]] = {}
    errors = dataset.first_errors or [None] * len(dataset.solutions)
    for solution, error in zip(dataset.solutions, errors, strict=True):
        lines_of[solution] = [_empty_line(solution, error)]
    for position, (step, label) in enumerate(zip(dataset.X, dataset.y.tolist(), strict=True)):
        lines = lines_of[step.solution]
        line = next((line for line in lines if line["positions"][step.index] is None), None)
        if line is None:
            line = _empty_line(step.solution, lines[0]["first_error"])
            lines.append(line)
        line["ratings"][step.index], line["positions"][step.index] = label, position
    lines = [line for lines in lines_of.values() for line in lines]
    columns = {name: column.tolist() for name, column in dataset.rows.items()}
    for line in lines:
        positions = [position for position in line["positions"] if position is not None]
        line["rows"] = _to_json({name: [column[i] for i in positions] for name, column in columns.items()})
    return lines


def _empty_line(solution: Solution, first_error: int | None) -> dict[str, Any]:
    return {
        "problem": solution.problem,
        "steps": list(solution.steps),
        "ratings": [None] * solution.n_steps,
        "positions": [None] * solution.n_steps,
        "first_error": first_error,
        "id": solution.id,
        "meta": None if solution.meta is None else _to_json(dict(solution.meta)),
    }


def _to_json(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except TypeError as error:
        raise TypeError(f"metadata cannot be written as JSON ({error}): {value!r:.200}") from None


def dataset_from_hf(dataset: datasets.Dataset) -> StepDataset:
    """Read the layout documented at ``StepDataset.to_hf``."""
    if isinstance(dataset, dict):
        raise TypeError(
            f"a DatasetDict with splits {', '.join(dataset)}, expected one Dataset: pass dataset['train']"
        )
    missing = [name for name in _REQUIRED if name not in dataset.column_names]
    if missing:
        raise ValueError(
            f"columns {', '.join(dataset.column_names)} lack {', '.join(missing)}; expected those of to_hf()"
        )
    first_errors: dict[Solution, int | None] = {}
    shared: dict[Solution, Solution] = {}
    found: list[tuple[int, Step, Any, dict[str, Any]]] = []  # position, step, label, metadata
    for number, line in enumerate(dataset):
        solution = _read_solution(line)
        solution = shared.setdefault(solution, solution)
        first_errors[solution] = line.get("first_error")
        if len(line["ratings"]) != solution.n_steps:
            raise ValueError(f"line {number} has {len(line['ratings'])} ratings for {solution.n_steps} steps")
        found += _read_rows(line, solution, len(found))
    found.sort(key=lambda row: row[0])
    return StepDataset(
        [step for _, step, _, _ in found],
        np.array([label for _, _, label, _ in found]),
        solutions=list(shared),
        description=dataset.info.description or "",
        first_errors=list(first_errors.values()) if "first_error" in dataset.column_names else None,
        rows={name: _column([meta[name] for *_, meta in found]) for name in (found[0][3] if found else ())},
    )


def _read_solution(line: dict[str, Any]) -> Solution:
    meta = json.loads(line["meta"]) if line.get("meta") else None
    return Solution(line["problem"], line["steps"], id=line.get("id"), meta=meta)


def _read_rows(
    line: dict[str, Any], solution: Solution, n_before: int
) -> Iterator[tuple[int, Step, Any, dict[str, Any]]]:
    columns = json.loads(line.get("rows") or "{}")
    labelled = [i for i, label in enumerate(line["ratings"]) if label is not None]
    positions = line.get("positions") or dict(zip(labelled, count(n_before), strict=False))
    for k, i in enumerate(labelled):
        yield positions[i], Step(solution, i), line["ratings"][i], {name: c[k] for name, c in columns.items()}


def _column(values: list[Any]) -> np.ndarray:
    plain = np.array(values, dtype=object)
    kinds = {type(value) for value in values}
    return plain.astype(kinds.pop()) if kinds in ({bool}, {int}, {float}) else plain


def iter_hub_records(name: str, split: str) -> Iterator[dict[str, Any]]:
    """Stream the lines of a Hugging Face data set.

    Raises
    ------
    ConnectionError
        If it cannot be read, naming both ways out.
    """
    import datasets

    try:
        lines = iter(datasets.load_dataset(name, split=split, streaming=True))
        first = next(lines, None)
    except Exception as error:  # the hub, the network, the file format: each raises its own kind
        raise ConnectionError(
            f"{name!r} is no local file or folder, and as a Hugging Face data set its split {split!r} could "
            f"not be read ({type(error).__name__}: {error}). Either pass the path of a PRM800K file or of "
            "the folder with phase1_train.jsonl and the others, or name a data set in PRM800K's own schema "
            "and make huggingface.co reachable (HF_HUB_OFFLINE unset)."
        ) from error
    if first is not None:
        yield first
        yield from lines
