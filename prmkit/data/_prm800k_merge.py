"""Rows from many records made one per judged step: duplicates counted, disagreements settled."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from prmkit.data._labels import ratings_to_first_error
from prmkit.data._solution import Solution, Step

NEUTRAL = ("keep", "positive", "negative", "drop")
CONFLICTS = ("majority", "drop", "keep")


class MergedRows:
    """Collects labelled steps; equal ones become one, with a vote for each rating it was given.

    Parameters
    ----------
    whole_solutions : bool
        Whether steps are equal only within equal solutions (trajectories), not already when problem,
        prefix and text are (prefixes).
    """

    def __init__(self, *, whole_solutions: bool) -> None:
        self.whole_solutions = whole_solutions
        self.steps: list[Step] = []
        self.columns: dict[str, list[Any]] = {}
        self._number: dict[Any, int] = {}
        self._votes = array("i")  # three per row: -1, 0, +1
        self._solutions: dict[Solution, Solution] = {}
        self._known: list[int | None] = []

    def add(self, step: Step, rating: int, meta: Mapping[str, Any]) -> None:
        """Count one labelling of a step."""
        row = self._number.setdefault(self._key(step.solution, step.index), len(self.steps))
        if row == len(self.steps):
            self.steps.append(self._shared(step))
            self._votes.extend((0, 0, 0))
            for name, value in meta.items():
                self.columns.setdefault(name, []).append(value)
        else:
            self._merge(row, step, meta)
        self._votes[3 * row + rating + 1] += 1

    def _merge(self, row: int, step: Step, meta: Mapping[str, Any]) -> None:
        by_model = "model" in (meta["source"], self.columns["source"][row])
        if meta["chosen"] and not self.columns["chosen"][row]:
            # A candidate given twice, one of them chosen: the row then lives in the long solution.
            self.steps[row] = self._shared(step)
            for name, value in meta.items():
                self.columns[name][row] = value
        # A text that a labeller wrote and a model too is no human step to leave out.
        self.columns["source"][row] = "model" if by_model else "human"

    def settle(
        self, *, neutral: str, conflicts: str, include_human: bool, counts: Counter[str]
    ) -> tuple[list[Step], np.ndarray, dict[str, np.ndarray]]:
        """Apply the policies and return steps, ratings and metadata columns."""
        votes = np.array(self._votes, dtype=np.int64).reshape(-1, 3)
        if neutral in ("positive", "negative"):
            votes[:, 2 if neutral == "positive" else 0] += votes[:, 1]
            votes[:, 1] = 0
        wins = self._winners(votes, conflicts, counts)
        single = np.where(wins.sum(axis=1) == 1, wins.argmax(axis=1) - 1, 2)
        self._known = [None if rating == 2 else rating for rating in single.tolist()]

        if neutral == "drop":
            counts["neutral left out"] += int(wins[:, 1].sum())
            wins[:, 1] = False
        if not include_human:
            human = np.array([source == "human" for source in self.columns.get("source", ())], dtype=bool)
            counts["human steps left out"] += int(wins[human].sum())
            wins[human] = False

        rows, ratings = np.nonzero(wins)
        columns = {name: _column(values)[rows] for name, values in self.columns.items()}
        columns["count"] = votes[rows, ratings]
        return [self.steps[row] for row in rows], ratings - 1, columns

    def first_error(self, solution: Solution) -> int | None:
        """Return the first error by the settled ratings, those that are left out as rows included."""
        numbers = [self._number.get(self._key(solution, i)) for i in range(solution.n_steps)]
        return ratings_to_first_error([None if row is None else self._known[row] for row in numbers])

    def _winners(self, votes: np.ndarray, conflicts: str, counts: Counter[str]) -> np.ndarray:
        """Return which ratings of each row stay, shape (n_rows, 3)."""
        given = votes > 0
        conflict = given.sum(axis=1) > 1
        most = given & (votes == votes.max(axis=1, keepdims=True, initial=0))
        tie = most.sum(axis=1) > 1
        wins = {"majority": most & ~tie[:, None], "drop": given & ~conflict[:, None], "keep": given}[
            conflicts
        ]
        counts["duplicates"] += int((votes - given)[wins].sum())
        counts["conflicts"] += int(conflict.sum())
        counts["conflicts dropped"] += int((~wins.any(axis=1)).sum())
        counts["labellings lost to conflicts"] += int(votes[given & ~wins].sum())
        return wins.copy()

    def _key(self, solution: Solution, index: int) -> tuple[Any, ...]:
        if self.whole_solutions:
            return solution.problem, solution.steps, index
        return solution.problem, solution.steps[: index + 1]

    def _shared(self, step: Step) -> Step:
        solution = self._solutions.setdefault(step.solution, step.solution)
        return step if solution is step.solution else Step(solution, step.index)


def _column(values: list[Any]) -> np.ndarray:
    if all(isinstance(value, bool) for value in values):
        return np.array(values, dtype=bool)
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column
