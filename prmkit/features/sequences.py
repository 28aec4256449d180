"""Rows of one solution as a sequence, problem first: what a head that attends over steps reads."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from prmkit.data.solution import Solution, Step, as_steps, iter_solutions


@dataclass(frozen=True)
class StepSequences:
    """Feature rows of several solutions, end to end, and which of them answer which row of X.

    Parameters
    ----------
    values : ndarray of shape (n_positions, n_features), dtype float32
    lengths : ndarray of int of shape (n_sequences,)
        Positions of each sequence; they add up to ``n_positions``.
    answers : ndarray of int of shape (n_rows,)
        For each row of X the position in ``values`` at which its step stands.
    problems : ndarray of int of shape (n_sequences,)
        Equal for solutions of one problem, so that a validation part can be cut by problem.

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
        return np.cumsum(self.lengths) - self.lengths

    @cached_property
    def owners(self) -> np.ndarray:
        """The sequence to which each row of X belongs, of shape (n_rows,)."""
        return np.searchsorted(self.starts + self.lengths, self.answers, side="right")

    @cached_property
    def _rows_by_sequence(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows of X ordered by their sequence, and how many each sequence has."""
        return np.argsort(self.owners, kind="stable"), np.bincount(self.owners, minlength=len(self.lengths))

    @classmethod
    def from_rows(cls, X: np.ndarray, groups: Any = None) -> StepSequences:
        """Rows of equal group, in the order they stand in X, form one sequence; no groups: one row each."""
        groups = np.arange(len(X)) if groups is None else np.asarray(groups)
        if groups.shape != (len(X),):
            raise ValueError(
                f"groups has shape {groups.shape}, expected one solution id per row: ({len(X)},)"
            )
        _, owner, lengths = np.unique(groups, return_inverse=True, return_counts=True)
        order = np.argsort(owner, kind="stable")
        answers = np.empty(len(X), dtype=np.int64)
        answers[order] = np.arange(len(X))
        return cls(np.asarray(X)[order], lengths, answers, np.arange(len(lengths)))

    @classmethod
    def from_steps(cls, transformer: Any, X: Any) -> StepSequences:
        """Transform problem and steps of each distinct solution, up to the last step asked for."""
        texts: list[Step] = []
        lengths: list[int] = []
        problems: list[int] = []
        seen: dict[str, int] = {}
        steps = as_steps(X)
        answers = np.empty(len(steps), dtype=np.int64)
        for solution, rows, indices in iter_solutions(steps):
            last = max(indices) + 1
            answers[rows] = len(texts) + 1 + np.asarray(indices)
            texts.append(Step(Solution("", (solution.problem,)), 0))
            texts += [Step(solution, index) for index in range(last)]
            lengths.append(last + 1)
            problems.append(seen.setdefault(solution.problem, len(seen)))
        values = np.asarray(transformer.transform(texts), dtype=np.float32)
        return cls(values, np.array(lengths), answers, np.array(problems))

    def as_rows(self) -> StepSequences:
        """Return each answered row as a sequence of its own, for heads that look at no other row."""
        n = len(self.answers)
        return StepSequences(
            self.values[self.answers], np.ones(n, dtype=np.int64), np.arange(n), self.problems[self.owners]
        )

    def take(self, chosen: np.ndarray) -> tuple[StepSequences, np.ndarray]:
        """Return the chosen sequences and the rows of X that they answer."""
        lengths = self.lengths[chosen]
        order, counts = self._rows_by_sequence
        rows = order[_ranges((np.cumsum(counts) - counts)[chosen], counts[chosen])]
        moved = np.repeat(np.cumsum(lengths) - lengths - self.starts[chosen], counts[chosen])
        values = self.values[_ranges(self.starts[chosen], lengths)]
        return StepSequences(values, lengths, self.answers[rows] + moved, self.problems[chosen]), rows


def _ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Concatenate ``start, start + 1, …, start + length - 1`` of every pair."""
    return np.arange(lengths.sum()) + np.repeat(starts - (np.cumsum(lengths) - lengths), lengths)
