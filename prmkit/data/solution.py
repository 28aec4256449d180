"""The data contract: a solution, a step of a solution, and X as a flat list of steps."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from prmkit.data.step_splitting import By, Think, split_steps
from prmkit.utils.environment import as_printed

_SHORT = reprlib.Repr()
_SHORT.maxstring, _SHORT.maxtuple = 60, 2
"""The form of texts where a solution or a step is printed: thousands of them in a list can still be read."""
_WHAT_TO_PASS = (
    "X holds one row per step: pass flatten(solutions), and one label per step as y. A table with one step per row "
    "becomes both by X, y = StepDataset.from_frame(frame)."
)


# Neither class has __len__ or __getitem__: np.asarray of a list of solutions or steps must stay one-dimensional.
@dataclass(frozen=True, slots=True, init=False, repr=False)
class Solution:
    """A problem and the steps of a solution, which may be unfinished.

    Parameters
    ----------
    problem : str
        Text of the problem.
    steps : iterable of str
        Text of each step. An empty text is a step like any other.
    id : str, optional
        Name of the solution. It does not count in comparisons.
    meta : mapping, optional
        Anything else, such as reference answer, generator or source. It does not count in comparisons.

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

    def __init__(
        self,
        problem: str,
        steps: Iterable[str],
        id: str | None = None,  # noqa: A002 (the field's name)
        meta: Mapping[str, Any] | None = None,
    ) -> None:
        if isinstance(steps, str):
            raise TypeError(
                f"steps is one string, expected a list of strings, one per step: [{steps[:40]!r}, …]. "
                "Solution.from_text(problem, text) cuts a text into steps"
            )
        if not isinstance(steps, Iterable):
            raise TypeError(f"steps is {type(steps).__name__}, expected a list of strings, one per step")
        steps = tuple(steps)
        if not isinstance(problem, str):
            raise TypeError(f"problem is {type(problem).__name__}, expected str")
        for i, step in enumerate(steps):
            if not isinstance(step, str):
                raise TypeError(f"steps[{i}] is {type(step).__name__} ({step!r:.60}), expected str")
        for name, value in (("problem", problem), ("steps", steps), ("id", id), ("meta", meta)):
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        name = "" if self.id is None else f", id={_SHORT.repr(self.id)}"
        return as_printed(
            f"<Solution of {self.n_steps} steps: {_SHORT.repr(self.problem)}, {_SHORT.repr(self.steps)}{name}>"
        )

    @classmethod
    def from_text(
        cls,
        problem: str,
        text: str,
        *,
        by: By = "paragraph",
        think: Think = "keep",
        id: str | None = None,  # noqa: A002 (the field's name)
        meta: Mapping[str, Any] | None = None,
    ) -> Solution:
        r"""Cut a text into steps, as `split_steps` does, and return them as a solution.

        Parameters
        ----------
        problem : str
            Text of the problem.
        text : str
            Solution as a language model wrote it. A blank text gives a solution without steps.
        by : {"paragraph", "line", "enumeration", "sentence"} or callable, default="paragraph"
            Unit that becomes a step, or a function of a text that returns its steps.
        think : {"keep", "drop", "only"}, default="keep"
            What happens to thoughts between ``<think>`` and ``</think>``.
        id : str, optional
            Name of the solution.
        meta : mapping, optional
            Anything else.

        Returns
        -------
        Solution
            The problem and the steps.

        Raises
        ------
        TypeError
            If the problem or the text is no string.
        ValueError
            If ``by`` or ``think`` is unknown, or if a step of the function does not stand in the text.

        Examples
        --------
        >>> Solution.from_text("2 + 3 * 4?", "3 * 4 = 12.\n\n2 + 12 = 14.").steps
        ('3 * 4 = 12.', '2 + 12 = 14.')
        """
        return cls(problem, split_steps(text, by, think=think), id=id, meta=meta)

    @property
    def n_steps(self) -> int:
        """Number of steps."""
        return len(self.steps)


@dataclass(frozen=True, slots=True, repr=False)
class Step:
    """One step of a solution, in the context of its problem and of the steps before it.

    A step is a view: all steps of a solution share its text.

    Parameters
    ----------
    solution : Solution
        Solution that holds the step.
    index : int
        Position of the step, from 0.

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
            raise IndexError(f"step {self.index} of a solution with {len(self.solution.steps)} steps (0-based)")

    def __repr__(self) -> str:
        return as_printed(f"<Step {self.index} of {self.solution.n_steps}: {_SHORT.repr(self.text)}>")

    @property
    def text(self) -> str:
        """Text of the step."""
        return self.solution.steps[self.index]

    @property
    def prefix(self) -> tuple[str, ...]:
        """Texts of the steps before it."""
        return self.solution.steps[: self.index]

    @property
    def problem(self) -> str:
        """Text of the problem."""
        return self.solution.problem


def wrong_solution(index: int, value: object) -> TypeError:
    """Return the error that says that an entry of solutions is none."""
    hint = ". A text becomes one by Solution.from_text(problem, text)" if isinstance(value, str) else ""
    return TypeError(f"solutions[{index}] is {type(value).__name__}, expected Solution(problem, steps){hint}")


def solutions_with_steps(solutions: Iterable[Solution]) -> list[Solution]:
    """Return solutions as a list. Refuse what is no solution, and a solution without steps."""
    checked = only_solutions(solutions)
    for i, solution in enumerate(checked):
        if not solution.steps:
            raise ValueError(f"solutions[{i}] has no steps: there is nothing to score; leave it out")
    return checked


def flatten(solutions: Iterable[Solution]) -> list[Step]:
    """Return every step of every solution, in order.

    Parameters
    ----------
    solutions : iterable of Solution
        Solutions to flatten.

    Returns
    -------
    list of Step
        Steps of the first solution, then those of the second, and so on.

    Raises
    ------
    TypeError
        If ``solutions`` is one solution or a data set, or holds anything but solutions.

    Examples
    --------
    >>> [step.text for step in flatten([Solution("p", ["a", "b"]), Solution("q", ["c"])])]
    ['a', 'b', 'c']
    """
    return [Step(solution, index) for solution in only_solutions(solutions) for index in range(solution.n_steps)]


def only_solutions(solutions: Iterable[Solution]) -> list[Solution]:
    """Return solutions as a list. Refuse what is no solution."""
    checked = as_solutions(solutions)
    for i, solution in enumerate(checked):
        if not isinstance(solution, Solution):
            raise wrong_solution(i, solution)
    return checked


def as_solutions(solutions: Iterable[Solution]) -> list[Solution]:
    """Return an iterable of solutions as a list. Refuse a single solution and a whole data set."""
    if hasattr(solutions, "solutions"):
        raise TypeError(
            f"solutions is a {type(solutions).__name__}, expected a list of Solution: pass dataset.solutions"
        )
    if isinstance(solutions, (Solution, str)) or not isinstance(solutions, Iterable):
        raise TypeError(f"solutions is one {type(solutions).__name__}, expected a list of Solution: [solution]")
    return list(solutions)


def refuse_steps(X: object) -> None:
    """Raise a TypeError if X holds steps or texts where numbers are expected."""
    first = next(iter(X), None) if isinstance(X, (list, tuple, np.ndarray)) and np.ndim(X) else X
    if isinstance(first, (Step, Solution, str)):
        raise TypeError(
            f"X holds {type(first).__name__}, but featurizer='precomputed' reads numbers of shape "
            "(n_steps, n_features): to ask about steps, leave it out in fit, since PRMClassifier() reads steps"
        )


def as_steps(X: Iterable[Step | str]) -> list[Step]:
    """Check a 1-D array-like of steps, and return it as a list. A string becomes a step without problem or prefix."""
    if hasattr(X, "solutions") and hasattr(X, "X"):
        raise TypeError(f"X is a whole {type(X).__name__}, expected its steps: pass dataset.X and dataset.y")
    if isinstance(X, (str, Step, Solution)):
        raise TypeError(f"X is one {type(X).__name__}, expected a list of steps. {_WHAT_TO_PASS}")
    shape = getattr(X, "shape", (0,))
    if len(shape) != 1:
        raise ValueError(f"X has shape {shape}, expected a 1-D array of steps. {_WHAT_TO_PASS}")
    if not isinstance(X, Iterable) or isinstance(X, Mapping):
        raise TypeError(f"X is {type(X).__name__}, expected a list of steps. {_WHAT_TO_PASS}")
    steps = [Step(Solution("", (x,)), 0) if isinstance(x, str) else x for x in X]
    if not steps:
        raise ValueError(f"X is empty: found array with 0 sample(s), at least 1 step is required. {_WHAT_TO_PASS}")
    for i, step in enumerate(steps):
        if not isinstance(step, Step):
            raise TypeError(f"X[{i}] is {type(step).__name__}, expected Step (or str). {_WHAT_TO_PASS}")
    return steps


def iter_solutions(steps: Sequence[Step]) -> Iterator[tuple[Solution, list[int], list[int]]]:
    """Yield each distinct solution of some steps once, so that a model reads it once.

    It comes with the positions in ``steps`` that hold a step of it, and the index of the step at each position.
    """
    by_object: dict[int, tuple[Solution, list[int], list[int]]] = {}
    distinct: dict[Solution, tuple[Solution, list[int], list[int]]] = {}
    for row, step in enumerate(steps):
        # Long texts are hashed once per object, not once per row.
        key = id(step.solution)
        if key not in by_object:
            by_object[key] = distinct.setdefault(step.solution, (step.solution, [], []))
        _, rows, indices = by_object[key]
        rows.append(row)
        indices.append(step.index)
    yield from distinct.values()


_MOST_NAMES = 5


def name_solutions(solutions: Sequence[Solution], concerned: Sequence[int], rows: Sequence[int] | None = None) -> str:
    """Return in words how many solutions a warning is about, and the names of the first ones.

    A solution without an id is named by its place in the list, or by its first row of X if ``rows`` holds one for each.

    >>> name_solutions([Solution("p", ["a"], id="mine"), Solution("q", ["a"]), Solution("r", ["a"])], [0, 2])
    "2 of 3 solutions ('mine', solutions[2])"
    """
    names = [
        repr(solutions[i].id)
        if solutions[i].id is not None
        else f"solutions[{i}]"
        if rows is None
        else f"that of X[{rows[i]}]"
        for i in concerned[:_MOST_NAMES]
    ] + (["…"] if len(concerned) > _MOST_NAMES else [])
    return f"{len(concerned):,} of {len(solutions):,} solutions ({', '.join(names)})"
