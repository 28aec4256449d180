"""The data contract: a solution, a step of it, and X as a flat list of steps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

_WHAT_TO_PASS = "X holds one row per step: pass flatten(solutions), and one label per step as y."


@dataclass(frozen=True, slots=True)
class Solution:
    """A problem and the steps of a (possibly unfinished) solution of it.

    Deliberately without ``__len__`` and ``__getitem__``: ``np.asarray`` of a list of solutions
    must stay one-dimensional.

    Parameters
    ----------
    problem : str
    steps : sequence of str
        Kept as a tuple. An empty text is a step like any other.
    id : str, optional
        Not part of equality or hash.
    meta : mapping, optional
        Anything worth keeping (reference answer, generator, source); not part of equality or hash.

    Raises
    ------
    TypeError
        If the problem or a step is not a string, or ``steps`` is one string.

    Examples
    --------
    >>> solution = Solution("What is 2 + 3 * 4?", ["3 * 4 = 12.", "2 + 12 = 14."])
    >>> solution.n_steps
    2
    >>> solution == Solution("What is 2 + 3 * 4?", ["3 * 4 = 12.", "2 + 12 = 14."], id="other")
    True
    """

    problem: str
    steps: tuple[str, ...]
    id: str | None = field(default=None, compare=False)
    meta: Mapping[str, Any] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if isinstance(self.steps, str):
            raise TypeError(
                f"steps is one string, expected a list of strings, one per step: [{self.steps[:40]!r}, …]"
            )
        if not isinstance(self.steps, Iterable):
            raise TypeError(f"steps is {type(self.steps).__name__}, expected a list of strings, one per step")
        steps = tuple(self.steps)
        if not isinstance(self.problem, str):
            raise TypeError(f"problem is {type(self.problem).__name__}, expected str")
        for i, step in enumerate(steps):
            if not isinstance(step, str):
                raise TypeError(f"steps[{i}] is {type(step).__name__} ({step!r:.60}), expected str")
        object.__setattr__(self, "steps", steps)

    @property
    def n_steps(self) -> int:
        """Number of steps."""
        return len(self.steps)


@dataclass(frozen=True, slots=True)
class Step:
    """Step ``index`` of a solution: a view, so that all steps of a solution share its text.

    Parameters
    ----------
    solution : Solution
    index : int
        0-based.

    Raises
    ------
    IndexError
        If the solution has no such step.

    Examples
    --------
    >>> step = Step(Solution("2 + 3 * 4?", ["3 * 4 = 12.", "2 + 12 = 14."]), 1)
    >>> step.text, step.prefix
    ('2 + 12 = 14.', ('3 * 4 = 12.',))
    """

    solution: Solution
    index: int

    def __post_init__(self) -> None:
        if not 0 <= self.index < len(self.solution.steps):
            raise IndexError(
                f"step {self.index} of a solution with {len(self.solution.steps)} steps (0-based)"
            )

    @property
    def text(self) -> str:
        """The step itself."""
        return self.solution.steps[self.index]

    @property
    def prefix(self) -> tuple[str, ...]:
        """The steps before it."""
        return self.solution.steps[: self.index]

    @property
    def problem(self) -> str:
        """The problem of its solution."""
        return self.solution.problem


def flatten(solutions: Iterable[Solution]) -> list[Step]:
    """Return every step of every solution, in order.

    Examples
    --------
    >>> [step.text for step in flatten([Solution("p", ["a", "b"]), Solution("q", ["c"])])]
    ['a', 'b', 'c']
    """
    steps = []
    for i, solution in enumerate(as_solutions(solutions)):
        if not isinstance(solution, Solution):
            raise TypeError(f"solutions[{i}] is {type(solution).__name__}, expected Solution(problem, steps)")
        steps += [Step(solution, index) for index in range(solution.n_steps)]
    return steps


def as_solutions(solutions: Any) -> list[Solution]:
    """Return an iterable of solutions as a list.

    Raises
    ------
    TypeError
        For one solution alone, a whole data set, or what cannot be iterated.
    """
    if hasattr(solutions, "solutions"):
        raise TypeError(
            f"solutions is a {type(solutions).__name__}, expected a list of Solution: pass dataset.solutions"
        )
    if isinstance(solutions, (Solution, str)) or not isinstance(solutions, Iterable):
        raise TypeError(
            f"solutions is one {type(solutions).__name__}, expected a list of Solution: [solution]"
        )
    return list(solutions)


def refuse_steps(X: Any) -> None:
    """Raise where X holds steps or texts and numbers are expected."""
    first = next(iter(X), None) if isinstance(X, (list, tuple, np.ndarray)) and np.ndim(X) else X
    if isinstance(first, (Step, Solution, str)):
        raise TypeError(
            f"X holds {type(first).__name__}, but featurizer='precomputed' reads numbers of shape "
            "(n_steps, n_features): leave it out, PRMClassifier() reads steps"
        )


def as_steps(X: Any) -> list[Step]:
    """Check a 1-D array-like of steps and return it as a list; a plain ``str`` becomes a step alone.

    Raises
    ------
    TypeError
        For solutions, nested lists, one bare string, or anything else that is not a step.
    ValueError
        For an empty or a two-dimensional X.
    """
    if hasattr(X, "solutions") and hasattr(X, "X"):
        raise TypeError(f"X is a whole {type(X).__name__}, expected its steps: pass dataset.X and dataset.y")
    if isinstance(X, (str, Step, Solution)):
        raise TypeError(f"X is one {type(X).__name__}, expected a list of steps. {_WHAT_TO_PASS}")
    if getattr(X, "ndim", 1) != 1:
        raise ValueError(f"X has shape {X.shape}, expected a 1-D array of steps. {_WHAT_TO_PASS}")
    if not isinstance(X, Iterable) or isinstance(X, Mapping):
        raise TypeError(f"X is {type(X).__name__}, expected a list of steps. {_WHAT_TO_PASS}")
    steps = [Step(Solution("", (x,)), 0) if isinstance(x, str) else x for x in X]
    if not steps:
        raise ValueError(
            f"X is empty: found array with 0 sample(s), at least 1 step is required. {_WHAT_TO_PASS}"
        )
    for i, step in enumerate(steps):
        if not isinstance(step, Step):
            raise TypeError(f"X[{i}] is {type(step).__name__}, expected Step (or str). {_WHAT_TO_PASS}")
    return steps


def iter_solutions(steps: Sequence[Step]) -> Iterator[tuple[Solution, list[int], list[int]]]:
    """Yield ``(solution, rows, indices)`` once per distinct solution, equal ones merged.

    ``rows`` are positions in ``steps`` and ``indices`` the step numbers found there: what lets a
    model spend one pass per solution on rows in any order.
    """
    by_object: dict[int, tuple[Solution, list[int], list[int]]] = {}
    distinct: dict[Solution, tuple[Solution, list[int], list[int]]] = {}
    for row, step in enumerate(steps):
        key = id(step.solution)  # hashing long texts once per object, not once per row
        if key not in by_object:
            by_object[key] = distinct.setdefault(step.solution, (step.solution, [], []))
        _, rows, indices = by_object[key]
        rows.append(row)
        indices.append(step.index)
    yield from distinct.values()


def problem_groups(X: Any) -> np.ndarray:
    """Return one integer per step, equal if and only if the problem texts are equal.

    Parameters
    ----------
    X : 1-D array-like of Step
        A plain string has no problem; each distinct one counts as a problem of its own.

    Returns
    -------
    ndarray of shape (n_steps,), dtype int64

    Examples
    --------
    >>> problem_groups(flatten([Solution("p", ["a", "b"]), Solution("q", ["c"])]))
    array([0, 0, 1])
    """
    ids: dict[tuple[str, str], int] = {}
    keys = [(step.problem, "" if step.problem else step.solution.steps[0]) for step in as_steps(X)]
    return np.array([ids.setdefault(key, len(ids)) for key in keys], dtype=np.int64)
