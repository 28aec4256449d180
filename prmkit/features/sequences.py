"""Rows of a solution as one sequence, the problem first, for heads that attend over the steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from prmkit.data.solution import Solution, Step, as_steps, iter_solutions
from prmkit.utils.ragged import Ragged, row_starts


class Transformer(Protocol):
    """A fitted transformer over steps."""

    def transform(self, X: Sequence[Step]) -> Any:
        """Return one row of features per step."""


@dataclass(frozen=True)
class StepSequences:
    """Feature rows of several solutions, end to end, and the rows of X that they answer.

    ``values`` has one row per position, ``lengths`` the positions of each sequence. ``answers`` gives the position in
    ``values`` of the step of each row of X. ``problems`` numbers the problem of each sequence, for splits by problem.

    Examples
    --------
    >>> sequences = StepSequences.from_rows(np.arange(4.0)[:, None], groups=["b", "a", "b", "a"])
    >>> sequences.values.ravel(), sequences.lengths, sequences.answers
    (array([1., 3., 0., 2.]), array([2, 2]), array([2, 0, 3, 1]))
    """

    values: np.ndarray
    lengths: np.ndarray
    answers: np.ndarray
    problems: np.ndarray

    @cached_property
    def starts(self) -> np.ndarray:
        """First position of each sequence."""
        return row_starts(self.lengths)

    @cached_property
    def owners(self) -> np.ndarray:
        """The sequence to which each row of X belongs, of shape (n_rows,)."""
        return np.searchsorted(self.starts + self.lengths, self.answers, side="right")

    @cached_property
    def _rows_by_sequence(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows of X in the order of their sequences, and the number of rows of each sequence."""
        return np.argsort(self.owners, kind="stable"), np.bincount(self.owners, minlength=len(self.lengths))

    @classmethod
    def from_rows(cls, X: np.ndarray, groups: npt.ArrayLike | None = None) -> StepSequences:
        """Make one sequence of the rows of each group, in the order of X. Without groups, each row is a sequence."""
        groups = np.arange(len(X)) if groups is None else np.asarray(groups)
        if groups.shape != (len(X),):
            raise ValueError(f"groups has shape {groups.shape}, expected one solution id per row: ({len(X)},)")
        _, owner, lengths = np.unique(groups, return_inverse=True, return_counts=True)
        order = np.argsort(owner, kind="stable")
        answers = np.empty(len(X), dtype=np.int64)
        answers[order] = np.arange(len(X))
        return cls(np.asarray(X)[order], lengths, answers, np.arange(len(lengths)))

    @classmethod
    def from_steps(cls, transformer: Transformer, X: Sequence[Step | str]) -> StepSequences:
        """Transform the problem and the steps of each distinct solution, up to the last step in X."""
        texts: list[Step] = []
        lengths: list[int] = []
        problems: list[int] = []
        numbers: dict[str, int] = {}
        steps = as_steps(X)
        answers = np.empty(len(steps), dtype=np.int64)
        for solution, rows, indices in iter_solutions(steps):
            last = max(indices) + 1
            answers[rows] = len(texts) + 1 + np.asarray(indices)
            texts.append(Step(Solution("", (solution.problem,)), 0))
            texts += [Step(solution, index) for index in range(last)]
            lengths.append(last + 1)
            problems.append(numbers.setdefault(solution.problem, len(numbers)))
        values = np.asarray(transformer.transform(texts), dtype=np.float32)
        return cls(values, np.array(lengths), answers, np.array(problems))

    def as_rows(self) -> StepSequences:
        """Return each answered row as a sequence of its own, for heads that read single rows."""
        n = len(self.answers)
        return StepSequences(
            self.values[self.answers], np.ones(n, dtype=np.int64), np.arange(n), self.problems[self.owners]
        )

    def take(self, chosen: npt.NDArray[np.integer]) -> tuple[StepSequences, npt.NDArray[np.int64]]:
        """Return some sequences, in the order of ``chosen``, and the rows of X that they answer."""
        sequences = Ragged(self.values, self.lengths).take(chosen)
        rows = Ragged(*self._rows_by_sequence).take(chosen)
        answers = self.answers[rows.values] + rows.spread(sequences.starts - self.starts[chosen])
        return (StepSequences(sequences.values, sequences.lengths, answers, self.problems[chosen]), rows.values)
