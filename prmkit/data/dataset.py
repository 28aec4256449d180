"""What every loader returns: steps and labels, and what belongs to them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np

from prmkit.data.solution import Solution, Step, as_steps, iter_solutions, problem_groups

if TYPE_CHECKING:
    import datasets
    import pandas as pd


@dataclass(frozen=True, eq=False, repr=False)
class StepDataset:
    """Labelled steps; unpacks as ``X, y = dataset``.

    Parameters
    ----------
    X : list of Step, length n_steps
        One row per labelled step.
    y : array-like of shape (n_steps,)
        Ratings (-1, 0, +1) or label names.
    groups : array-like of int, shape (n_steps,), optional
        Equal where the problems are; computed from ``X`` by default.
    solutions : list of Solution, optional
        The distinct solutions of ``X``, in order of their first row; computed by default.
    description : str, default=""
        Where the steps come from and what was left out.
    first_errors : list of (int or None), one per solution, optional
        0-based; -1 when no step is wrong; None where the solution is not judged to its end. The
        attribute itself is None where the source says nothing of it.
    rows : mapping of str to array-like of shape (n_steps,), optional
        Metadata of the rows, one column per name. Not for features: such columns give labels away.
    counts : mapping of str to int, optional
        What a loader read, kept and left out, by reason.

    Raises
    ------
    TypeError
        If ``X`` holds anything but steps.
    ValueError
        If lengths do not agree.

    Examples
    --------
    >>> from prmkit.data import Solution, flatten
    >>> steps = flatten([Solution("2 + 3 * 4?", ["3 * 4 = 12.", "2 + 12 = 15."])])
    >>> dataset = StepDataset(steps, [1, -1], first_errors=[1])
    >>> dataset
    StepDataset(n_steps=2, n_solutions=1, n_problems=1, labels={-1: 1, 1: 1})
    >>> X, y = dataset
    >>> X[1].text, int(y[1])
    ('2 + 12 = 15.', -1)
    """

    X: list[Step]
    y: np.ndarray
    groups: np.ndarray = field(default=None)  # type: ignore[arg-type]
    solutions: list[Solution] = field(default=None)  # type: ignore[arg-type]
    description: str = ""
    first_errors: list[int | None] | None = None
    rows: Mapping[str, np.ndarray] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        steps = as_steps(self.X)
        derived = {
            "X": steps,
            "y": np.asarray(self.y),
            "groups": problem_groups(steps) if self.groups is None else np.asarray(self.groups),
            "solutions": [s for s, _, _ in iter_solutions(steps)]
            if self.solutions is None
            else list(self.solutions),
            "first_errors": None if self.first_errors is None else list(self.first_errors),
            "rows": {name: np.asarray(column) for name, column in self.rows.items()},
        }
        for name, value in derived.items():
            object.__setattr__(self, name, value)
        for name, column in {"y": self.y, "groups": self.groups, **self.rows}.items():
            if column.shape != (len(steps),):
                raise ValueError(
                    f"{name} has shape {column.shape}, expected ({len(steps)},): one value per step of X"
                )
        if self.first_errors is not None and len(self.first_errors) != len(self.solutions):
            raise ValueError(
                f"{len(self.first_errors)} first_errors for {len(self.solutions)} solutions, expected as many"
            )

    def __iter__(self) -> Iterator[Any]:
        yield self.X
        yield self.y

    def __repr__(self) -> str:
        labels, n_rows = np.unique(self.y, return_counts=True)
        n_of = dict(zip(labels.tolist(), n_rows.tolist(), strict=True))
        return (
            f"StepDataset(n_steps={len(self.X)}, n_solutions={len(self.solutions)}, "
            f"n_problems={len(np.unique(self.groups))}, labels={n_of})"
        )

    def to_frame(self) -> pd.DataFrame:
        """Return a pandas frame with one line per row of ``X``.

        Returns
        -------
        DataFrame
            Columns ``problem``, ``solution`` (position in ``solutions``), ``id`` (of the solution),
            ``index`` (of the step, 0-based), ``text``, ``y``, ``group``, then those of ``rows``.

        Raises
        ------
        ImportError
            If pandas is not installed.

        Examples
        --------
        >>> from prmkit.data import Solution, flatten
        >>> StepDataset(flatten([Solution("p", ["a", "b"])]), [1, 0]).to_frame()[["index", "text", "y"]]
           index text  y
        0      0    a  1
        1      1    b  0
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError("to_frame needs pandas: pip install pandas") from error
        position = {solution: i for i, solution in enumerate(self.solutions)}
        return pd.DataFrame(
            {
                "problem": [step.problem for step in self.X],
                "solution": [position[step.solution] for step in self.X],
                "id": [step.solution.id for step in self.X],
                "index": [step.index for step in self.X],
                "text": [step.text for step in self.X],
                "y": self.y,
                "group": self.groups,
                **self.rows,
            }
        )

    def to_hf(self) -> datasets.Dataset:
        """Return a Hugging Face data set with one line per solution; ``from_hf`` reads it back.

        Returns
        -------
        datasets.Dataset
            Columns ``problem`` (str), ``steps`` (list of str), ``ratings`` (the label of each step,
            null where it is no row), ``positions`` (where in ``X`` that row was, or null),
            ``first_error`` (int or null), ``id`` (str or null), ``meta`` and ``rows`` (JSON: the
            solution's metadata, and the metadata columns of its rows). A step with two labels puts
            its solution on a second line. The description is ``.info.description``.

        Raises
        ------
        TypeError
            If metadata cannot be written as JSON.

        Examples
        --------
        >>> from prmkit.data import Solution, flatten
        >>> hf = StepDataset(flatten([Solution("p", ["a", "b"])]), [1, 0]).to_hf()
        >>> hf[0]["steps"], hf[0]["ratings"]
        (['a', 'b'], [1, 0])
        """

        return dataset_to_hf(self)

    @classmethod
    def from_hf(cls, dataset: datasets.Dataset) -> StepDataset:
        """Read the layout that ``to_hf`` writes.

        Parameters
        ----------
        dataset : datasets.Dataset
            ``problem``, ``steps`` and ``ratings`` are enough; rows then follow the order of the steps.

        Raises
        ------
        TypeError
            If it is a ``DatasetDict``: pick one split.
        ValueError
            If one of the three columns is missing, or a line has another number of ratings than steps.

        Examples
        --------
        >>> from prmkit.data import Solution, flatten
        >>> dataset = StepDataset(flatten([Solution("p", ["a", "b"])]), [1, 0])
        >>> StepDataset.from_hf(dataset.to_hf()).X == dataset.X
        True
        """

        return dataset_from_hf(dataset)


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
