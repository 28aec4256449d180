"""A benchmark in memory: solutions, what is known of their steps, and which problem each belongs to."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from prmkit.data import Solution, StepDataset
from prmkit.data.formats.format import Rating
from prmkit.data.formats.writing import labelled_solutions
from prmkit.data.problem_keys import problem_keys
from prmkit.evaluation._inputs._models import JudgedModel
from prmkit.evaluation._inputs._scoring import StepScores

SOFT_THRESHOLD = 0.5  # a soft label, P(right), is read as right from here on


@dataclass(frozen=True)
class Candidates:
    """What best-of-N needs to know of the solutions, one value per solution.

    Parameters
    ----------
    sets : ndarray of int
        The record that a candidate was sampled for; candidates of one stand in the order of the file.
    correct : ndarray of bool
    answer_keys : list
        Equal for equal answers, None where no answer was found.
    """

    sets: np.ndarray
    correct: np.ndarray
    answer_keys: Sequence[Hashable]


@dataclass(frozen=True, eq=False, repr=False)
class Benchmark:
    """Labelled solutions to evaluate on; :func:`read_benchmark` reads published ones.

    Parameters
    ----------
    name : str
    kind : str
        What the numbers are: a layout of step labels such as "processbench", or "bon" for candidates.
    solutions : list of Solution
    ratings : list, one per solution, of a sequence of (int, float or None) per step
        -1, 0, +1; P(right) where labels are soft; None where nobody judged the step.
    first_errors : list of (int or None), one per solution
    problems : ndarray, one per solution
        Equal where problems are: what is resampled.
    description : str, default=""
    candidates : Candidates, optional

    Raises
    ------
    ValueError
        If a solution has no steps, or another number of ratings than steps.

    Examples
    --------
    >>> from prmkit.data import make_arithmetic_solutions
    >>> Benchmark.from_dataset("made up", make_arithmetic_solutions(10, 2, random_state=0))
    <Benchmark made up: 20 solutions of 10 problems>
    """

    name: str
    kind: str
    solutions: list[Solution]
    ratings: list[Sequence[Rating]]
    first_errors: list[int | None]
    problems: np.ndarray
    description: str = ""
    candidates: Candidates | None = None

    def __post_init__(self) -> None:
        for solution, ratings in zip(self.solutions, self.ratings, strict=True):
            if not solution.steps or len(ratings) != solution.n_steps:
                raise ValueError(
                    f"{self.name}: solution {solution.id} has {solution.n_steps} steps and {len(ratings)} ratings, "
                    "expected at least one step, and a rating (or None) for each"
                )

    @classmethod
    def from_dataset(
        cls, name: str, dataset: StepDataset, kind: str = "steps", problems: np.ndarray | None = None
    ) -> Benchmark:
        """Make a benchmark of a data set; a solution labelled twice is taken with its first labelling."""
        found = [labelled for labelled, again in labelled_solutions(dataset) if not again]
        solutions = [one.solution for one in found]
        if problems is None:
            problems = problem_keys(solutions)
        return cls(
            name,
            kind,
            solutions,
            [one.ratings for one in found],
            [one.first_error for one in found],
            np.asarray(problems),
            dataset.description,
        )

    def __repr__(self) -> str:
        return f"<Benchmark {self.name}: {len(self.solutions):,} solutions of {self.n_problems:,} problems>"

    @property
    def n_problems(self) -> int:
        """Number of distinct problems."""
        return len(np.unique(self.problems))

    @cached_property
    def lengths(self) -> np.ndarray:
        """Steps of each solution."""
        return np.array([solution.n_steps for solution in self.solutions], dtype=np.int64)

    @cached_property
    def starts(self) -> np.ndarray:
        """Where the steps of each solution begin, all steps end to end."""
        return np.cumsum(self.lengths) - self.lengths

    @cached_property
    def positions(self) -> np.ndarray:
        """The 0-based index of each step in its solution."""
        return np.arange(self.lengths.sum()) - np.repeat(self.starts, self.lengths)

    @cached_property
    def step_labels(self) -> np.ndarray:
        """-1, 0 or +1 of each step, NaN where it has no label; soft labels are read as right or wrong."""
        flat = (rating for ratings in self.ratings for rating in ratings)
        return np.array([_hard(rating) for rating in flat], dtype=np.float64)

    @cached_property
    def step_problems(self) -> np.ndarray:
        """The problem of each step."""
        return np.repeat(self.problems, self.lengths)

    def subset(self, kept: np.ndarray, description: str) -> Benchmark:
        """Return the solutions where ``kept``, a bool per solution, is True."""
        rows = np.flatnonzero(kept)
        candidates = self.candidates and Candidates(
            self.candidates.sets[rows],
            self.candidates.correct[rows],
            [self.candidates.answer_keys[i] for i in rows.tolist()],
        )
        return Benchmark(
            self.name,
            self.kind,
            [self.solutions[i] for i in rows],
            [self.ratings[i] for i in rows],
            [self.first_errors[i] for i in rows],
            self.problems[rows],
            description,
            candidates,
        )


def _hard(rating: Rating) -> float:
    if rating is None:
        return np.nan
    if isinstance(rating, float):
        return 1.0 if rating >= SOFT_THRESHOLD else -1.0
    return float(rating)


_KEY = re.compile(r"[0-9a-f]{16}")


def known_problems(
    models: Sequence[JudgedModel], benchmark: Benchmark, trained_on: str
) -> tuple[np.ndarray, list[str]]:
    """Return which solutions are of problems that a model was trained on, and a line on each such model."""
    keys = problem_keys(benchmark.solutions)
    named = np.array(
        [_named_key(one.meta, key) for one, key in zip(benchmark.solutions, keys.tolist(), strict=True)],
        dtype=np.uint64,
    )
    known = np.zeros(len(keys), dtype=bool)
    lines = []
    for model in models:
        if model.training_problems is None:
            continue
        seen = np.isin(keys, model.training_problems) | np.isin(named, model.training_problems)
        problems = np.unique(benchmark.problems[seen])
        if len(problems):
            done = "left out" if trained_on == "exclude" else "kept: its numbers here flatter it"
            lines.append(
                f"{model.name} was trained on {len(problems)} of {benchmark.n_problems} problems, which are {done}"
            )
            known |= np.isin(benchmark.problems, problems)
    return known, lines


def unread_problems(
    benchmark: Benchmark, scores: Mapping[str, Mapping[str, StepScores]]
) -> tuple[np.ndarray, list[str]]:
    """Return which solutions are of problems with a step that a model could not read, and a line on each such model.

    A step without a score has none: to call it right, or wrong, would be a number that no model said.
    """
    unread = np.zeros(len(benchmark.solutions), dtype=bool)
    lines = []
    for name, of in scores.items():
        steps = np.isnan(of[benchmark.name].risks)
        problems = np.unique(benchmark.step_problems[steps])
        if len(problems):
            lines.append(
                f"{name} could not read {steps.sum():,} of {len(steps):,} steps, too long for it: the {len(problems)} "
                "problems they belong to are left out for all"
            )
            unread |= np.isin(benchmark.problems, problems)
    return unread, lines


def _named_key(meta: Mapping[str, Any] | None, key: int) -> int:
    """Return the key that a format took of the question alone, where the problem's text holds more (its options)."""
    named = (meta or {}).get("problem_id")
    return int(named, 16) if isinstance(named, str) and _KEY.fullmatch(named) else key
