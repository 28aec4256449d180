"""What a verifier is, and where it finds the reference of a problem."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Generic, TypeAlias, TypeVar

from prmkit.data.problem_keys import problem_keys
from prmkit.data.solution import Solution

Verifier: TypeAlias = Callable[[str, Solution], bool]
"""``verifier(problem, solution)`` says whether a solution is right. What it cannot tell is an error, never False."""
T = TypeVar("T")


class References(Generic[T]):
    """The references of problems: those of a mapping, or what each solution says under a name in its ``meta``.

    Problems are the same if their texts differ only in case, white space, ``$`` or LaTeX spacing.
    """

    def __init__(self, given: Mapping[str, T] | None, name: str, field: str) -> None:
        if given is not None and not isinstance(given, Mapping):
            raise TypeError(f"{name} is {type(given).__name__}, expected a mapping of problem to {field}, or None")
        self._name = name
        self._field = field
        self._given: dict[int, T] | None = None if given is None else {}
        for problem, key in zip(given or (), problem_keys(given or ()).tolist(), strict=True):
            value = (given or {})[problem]
            if self._given is not None and self._given.setdefault(key, value) != value:
                raise ValueError(
                    f"{name} holds {self._given[key]!r:.60} and {value!r:.60} for one problem, which is there twice, "
                    f"spelled in two ways: {problem!r:.60}"
                )

    def of(self, problem: str, solution: Solution) -> T:
        """Return the reference of a problem. What is not there is a LookupError."""
        if not isinstance(problem, str) or not isinstance(solution, Solution):
            raise TypeError(
                f"a verifier got {type(problem).__name__} and {type(solution).__name__}, expected the text of the "
                "problem and its Solution: pass solution.problem and solution"
            )
        if self._given is None:
            found: T | None = (solution.meta or {}).get(self._field)
            why = (
                f'solution.meta["{self._field}"] is not there. Pass {self._name}={{problem: {self._field}}}, or start '
                f'from Solution(problem, (), meta={{"{self._field}": …}})'
            )
        else:
            found = self._given.get(int(problem_keys([problem])[0]))
            why = f"{self._name} has no entry for it"
        if found is None:
            raise LookupError(f"nothing is known to verify {problem!r:.60}: {why}")
        return found
