"""A StepDataset put back into one solution per record: what every writer starts from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from prmkit.data.dataset import StepDataset
from prmkit.data.formats.format import LabelledSolution, Rating, first_error_of
from prmkit.data.labels import names_to_ratings
from prmkit.data.solution import Solution


def labelled_solutions(dataset: StepDataset) -> Iterator[tuple[LabelledSolution, bool]]:
    """Yield each solution with the ratings of its steps, and whether it is there again for a step's further label.

    Raises
    ------
    ValueError
        If labels are neither ratings, nor their names, nor booleans, nor floats in [0, 1].
    """
    ratings = _as_ratings(dataset)
    position = {id(solution): i for i, solution in enumerate(dataset.solutions)}
    equal: dict[Solution, int] = {}
    for i, solution in enumerate(dataset.solutions):
        equal.setdefault(solution, i)
    lines: list[list[list[Rating]]] = [[[None] * solution.n_steps] for solution in dataset.solutions]
    for step, rating in zip(dataset.X, ratings, strict=True):
        i = position.get(id(step.solution), -1)
        i = equal.get(step.solution, -1) if i < 0 else i
        if i < 0:
            raise ValueError(
                f"a row's solution ({step.solution.id}) is not among the solutions of the data set"
            )
        line = next((line for line in lines[i] if line[step.index] is None), None)
        if line is None:
            line = [None] * step.solution.n_steps
            lines[i].append(line)
        line[step.index] = rating
    for i, solution in enumerate(dataset.solutions):
        for number, line in enumerate(lines[i]):
            known = None if dataset.first_errors is None else dataset.first_errors[i]
            first_error = first_error_of(line) if dataset.first_errors is None or number else known
            yield LabelledSolution(solution, tuple(line), first_error), number > 0


def _as_ratings(dataset: StepDataset) -> Iterable[Any]:
    y = dataset.y
    values = y.tolist()
    kind: str = y.dtype.kind
    if kind == "O" and len({type(value) for value in values}) == 1:
        kind = {str: "U", bool: "b", int: "i", float: "f"}.get(type(values[0]), "O")
    if kind == "U":
        return names_to_ratings(values).tolist()
    if kind == "b":
        return [1 if value else -1 for value in values]
    if kind in "iu" and set(values) <= {-1, 0, 1}:
        return values
    if kind == "f" and all(0 <= value <= 1 for value in values):
        return [float(value) for value in values]
    found = sorted({repr(value) for value in values})[:5]
    raise ValueError(
        f"y holds {', '.join(found)} ({y.dtype}), expected ratings -1, 0, 1 as integers, their names, booleans, or "
        "probabilities in [0, 1]"
    )
