"""Objectives beside the labels of the steps: whether the final answer is right, and further targets of steps."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from prmkit.data.dataset import StepDataset
from prmkit.data.solution import Solution
from prmkit.models.tokens.scoring_pass import OUTCOME
from prmkit.models.trainer._targets import STEPWISE, Classes, column_names

if TYPE_CHECKING:
    from prmkit.models.trainer._targets import TrainingData

OUTCOME_FIELD = "final_answer_correct"
"""Where an outcome stands: in ``Solution.meta``, and as a column of stepwise rows."""


@dataclass(frozen=True)
class Objective:
    """A target beside the labels of the steps, with its weight in the loss and its classes in the order of outputs.

    The outcome is a value per solution, and its target is the last step. Any other is a list with a value per step.
    """

    name: str
    weight: float
    classes: Classes

    @property
    def field(self) -> str:
        """The key in ``Solution.meta`` and the column of stepwise rows that hold the values."""
        return OUTCOME_FIELD if self.of_solution else self.name

    @property
    def of_solution(self) -> bool:
        """Whether a value says something of the solution, and not of a step."""
        return self.name == OUTCOME

    @property
    def column(self) -> str:
        """The column of tokenised rows that holds the codes."""
        return f"target_{self.name}"

    def on_codes(self) -> Objective:
        """Return the objective for values that are codes already."""
        return replace(self, classes=tuple(range(len(self.classes))))

    def codes(self, value: Any, n_steps: int, where: str) -> Any:
        """Return the code of an outcome, or a list with the code of each step. None stands for no target."""
        value = known_value(value)
        if self.of_solution:
            return None if value is None else self.code(value, where)
        if value is None:
            return [None] * n_steps
        if not isinstance(value, list) or len(value) != n_steps:
            raise ValueError(f"{where}: {_not_one_per_step(self.field, value, n_steps)}")
        return [None if one is None else self.code(one, where) for one in map(known_value, value)]

    def targets(self, value: Any, n_steps: int, where: str) -> list[int | None]:
        """Return the code of each step, where an outcome is a target of the last step."""
        codes = self.codes(value, n_steps, where)
        return codes if isinstance(codes, list) else [*[None] * (n_steps - 1), codes]

    def code(self, value: Any, where: str) -> int:
        """Return the code of a value."""
        try:
            return self.classes.index(value)
        except ValueError:
            known = ", ".join(map(repr, self.classes))
            raise ValueError(
                f"{where}: {self.field} is {value!r}, expected one of {known}, or None where it is not known"
            ) from None


def _not_one_per_step(field: str, value: Any, n_steps: int) -> str:
    found = f"{len(value)} values" if isinstance(value, list) else repr(value)
    return f"{field} is {found}, expected a list of {n_steps}, one per step: None for a step without"


def find_objectives(asked: Mapping[str, float], scheme_name: str, dataset: TrainingData) -> tuple[Objective, ...]:
    """Return the objectives with their weights, and the classes that occur. Of a stream, the first 100 rows are read.

    >>> rows = [{"prompt": "2 + 3?", "completions": ["5"], "labels": [None], "final_answer_correct": True}]
    >>> find_objectives({"outcome": 0.5}, "separator", rows)
    (Objective(name='outcome', weight=0.5, classes=(False, True)),)
    """
    if scheme_name == "prefix":
        raise ValueError(
            f"scheme='prefix' makes a row of each step, and {', '.join(asked)} need the solution as a whole: choose "
            "scheme='separator', or leave outcome_weight and extra_targets out"
        )
    if not isinstance(dataset, StepDataset) and "input_ids" in column_names(dataset):
        raise ValueError(
            f"pre-tokenised rows hold no {', '.join(asked)}: pass rows with {', '.join(STEPWISE)}, or a StepDataset"
        )
    return tuple(_found(Objective(name, weight, (False, True)), dataset) for name, weight in asked.items())


def _found(objective: Objective, dataset: TrainingData) -> Objective:
    """Return the objective with the classes of the data. Raise ValueError where there is nothing to learn."""
    values = [value for value in map(known_value, _values(dataset, objective.field)) if value is not None]
    lists = (value if isinstance(value, list) else [value] for value in values)
    classes = classes_of(objective.name, [one for value in lists for one in map(known_value, value)])
    return replace(objective, classes=classes)


def classes_of(name: str, values: Iterable[Any]) -> Classes:
    """Return the distinct values of an objective, sorted. None stands for no target.

    >>> classes_of("error_type", ["units", None, "algebra", "units"])
    ('algebra', 'units')
    """
    found = [value for value in values if value is not None]
    if name == OUTCOME:
        if not found:
            raise ValueError(
                "outcome_weight is above 0, and no solution says whether its final answer is right: give "
                f"Solution.meta[{OUTCOME_FIELD!r}], or the column {OUTCOME_FIELD} of rows, as True or False; or leave "
                "outcome_weight out"
            )
        return (False, True)
    if odd := [value for value in found if not isinstance(value, (str, int))]:
        raise ValueError(f"{name} of a step is {odd[0]!r}, expected a text, a whole number or a boolean")
    classes = tuple(sorted(set(found), key=lambda one: (isinstance(one, str), one)))
    if len(classes) < 2:
        raise ValueError(
            f"extra_targets names {name!r}, and its values are {list(classes)}, expected two classes or more: give "
            f"Solution.meta[{name!r}], or the column of rows, as lists with a value per step"
        )
    return classes


def _values(dataset: TrainingData, field: str) -> Iterator[Any]:
    import datasets

    if isinstance(dataset, StepDataset):
        yield from (said.get(field) for said in known_of_solutions(dataset, [field]).values())
        return
    rows: Iterable[Mapping[str, Any]] = dataset
    if isinstance(dataset, datasets.Dataset):
        rows = dataset.select_columns([field]).with_format(None) if field in dataset.column_names else ()
    elif isinstance(dataset, datasets.IterableDataset):
        rows = dataset.take(100)
    yield from (row.get(field) for row in rows)


def targets_of_steps(steps: Iterable[Any], names: Iterable[str]) -> dict[str, np.ndarray]:
    """Return what the ``meta`` of its solution says of each step, by objective: None where it is not known.

    An outcome is a value of each step of its solution.
    """
    solutions = [(getattr(step, "solution", None), step) for step in steps]
    found = {name: np.full(len(solutions), None) for name in names}
    for name, values in found.items():
        field = OUTCOME_FIELD if name == OUTCOME else name
        for row, (solution, step) in enumerate(solutions):
            value = None if solution is None else known_value((solution.meta or {}).get(field))
            if solution is None or value is None or name == OUTCOME:
                values[row] = value
                continue
            if not isinstance(value, list) or len(value) != solution.n_steps:
                raise ValueError(_not_one_per_step(field, value, solution.n_steps))
            values[row] = known_value(value[step.index])
    return found


def coded(name: str, values: Iterable[Any]) -> tuple[Classes, np.ndarray]:
    """Return the classes of an objective, and the code of each step, -1 where there is none.

    >>> coded("error_type", ["units", None, "algebra"])
    (('algebra', 'units'), array([ 1, -1,  0]))
    """
    known = list(map(known_value, values))
    classes = classes_of(name, known)
    objective = Objective(name, 1.0, classes)
    codes = [-1 if value is None else objective.code(value, f"row {row}") for row, value in enumerate(known)]
    return classes, np.array(codes)


def known_of_solutions(dataset: StepDataset, fields: Sequence[str]) -> dict[Solution, dict[str, Any]]:
    """Return what ``meta`` says of each distinct solution. Raise ValueError if equal solutions say different things."""
    objects = {id(one): one for one in (*dataset.solutions, *(step.solution for step in dataset.X))}
    known: dict[Solution, dict[str, Any]] = {}
    for solution in objects.values():
        said = known.setdefault(solution, {})
        for field in fields:
            value = known_value((solution.meta or {}).get(field))
            if value is not None and said.setdefault(field, value) != value:
                raise ValueError(
                    f"a solution of {solution.problem!r:.60} occurs twice, with {field} {said[field]!r} and {value!r}: "
                    "correct one, or set it to None"
                )
    return known


def known_value(value: Any) -> Any:
    """Return a value as Python's own, with lists for arrays and None for a missing one."""
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    if isinstance(value, float):
        return None if math.isnan(value) else int(value) if value.is_integer() else value
    return list(value) if isinstance(value, tuple) else value
