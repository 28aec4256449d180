"""``Benchmark``: solutions, the labels of their steps, and the problem of each solution."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import repeat
from typing import Any

import numpy as np

from prmkit.data import Solution, StepDataset
from prmkit.data.formats.label_words import Rating
from prmkit.data.formats.writing import labelled_solutions
from prmkit.data.problem_keys import problem_keys
from prmkit.evaluation._inputs._models import JudgedModel
from prmkit.evaluation._inputs._scoring import StepScores
from prmkit.scoring.scoring import unscored_solutions
from prmkit.utils.environment import as_printed
from prmkit.utils.ragged import Ragged

# A soft label, P(right), is read as right from here on.
SOFT_THRESHOLD = 0.5


@dataclass(frozen=True)
class CandidateRows:
    """The part of the data that best-of-N needs, one value per solution.

    ``sets`` numbers the record that a candidate was sampled for. The candidates of a record stand in the order of the
    file. ``answer_keys`` are equal for equal answers, and None if no answer was found. ``answers`` are their texts, and
    ``references`` the reference answers of the problems, where there are any: the report shows them.
    """

    sets: np.ndarray
    correct: np.ndarray
    answer_keys: Sequence[Hashable]
    answers: Sequence[str | None] = ()
    references: Sequence[str | None] = ()

    def take(self, rows: Sequence[int]) -> CandidateRows:
        """Return some of the candidates."""
        keys = [self.answer_keys[i] for i in rows]
        texts = ([values[i] for i in rows] if values else () for values in (self.answers, self.references))
        return CandidateRows(self.sets[rows], self.correct[rows], keys, *texts)


@dataclass(frozen=True, eq=False, repr=False)
class Benchmark:
    """Labelled solutions to evaluate on. :func:`read_benchmark` reads published ones.

    Parameters
    ----------
    name : str
        Name of the benchmark in tables.
    kind : str
        Format of its step labels, such as "processbench", or "bon" for candidates. It decides which tables are made.
    solutions : list of Solution
        The solutions.
    ratings : list of sequence of (int, float or None)
        For each solution one rating per step: -1, 0 or +1, P(right) if labels are soft, None if nobody judged it.
    first_errors : list of (int or None)
        The first error of each solution, -1 for none, None for unknown.
    problems : ndarray of shape (n_solutions,)
        The problem of each solution. Intervals resample problems.
    description : str, default=""
        Counts of the records that were read and left out.
    candidates : CandidateRows, optional
        The data of best-of-N.

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
    candidates: CandidateRows | None = None

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
        """Make a benchmark of a data set.

        Parameters
        ----------
        name : str
            Name of the benchmark in tables.
        dataset : StepDataset
            The solutions and their labels. A solution that is labelled twice keeps its first labels.
        kind : str, default="steps"
            Format of the step labels.
        problems : ndarray of shape (n_solutions,), optional
            The problem of each solution. By default the text of the problem decides.

        Returns
        -------
        Benchmark
            The benchmark.
        """
        labelled = [one for one, again in labelled_solutions(dataset) if not again]
        solutions = [one.solution for one in labelled]
        if problems is None:
            problems = problem_keys(solutions)
        return cls(
            name,
            kind,
            solutions,
            [one.ratings for one in labelled],
            [one.first_error for one in labelled],
            np.asarray(problems),
            dataset.description,
        )

    def __repr__(self) -> str:
        return as_printed(f"<Benchmark {self.name}: {len(self.solutions):,} solutions of {self.n_problems:,} problems>")

    @property
    def n_problems(self) -> int:
        """Number of distinct problems."""
        return len(np.unique(self.problems))

    @cached_property
    def lengths(self) -> np.ndarray:
        """Number of steps of each solution."""
        return np.array([solution.n_steps for solution in self.solutions], dtype=np.int64)

    @cached_property
    def labels(self) -> Ragged:
        """The rating of each step, NaN if it has none, one row per solution. Soft labels are read as right or wrong."""
        flat = (rating for ratings in self.ratings for rating in ratings)
        return self.rows(np.array([_hard(rating) for rating in flat], dtype=np.float64))

    @property
    def step_labels(self) -> np.ndarray:
        """The labels of all steps, end to end."""
        return self.labels.values

    @cached_property
    def step_problems(self) -> np.ndarray:
        """The problem of each step."""
        return np.repeat(self.problems, self.lengths)

    @cached_property
    def fingerprint(self) -> str:
        """A digest of all that results depend on."""
        digest = hashlib.sha256(f"{self.name}\0{self.kind}\n".encode())
        found = self.candidates
        more = zip(found.sets.tolist(), found.correct.tolist(), found.answer_keys, strict=True) if found else repeat("")
        columns = (self.solutions, self.ratings, self.first_errors, self.problems.tolist(), more)
        for solution, *labels in zip(*columns, strict=False):
            text = json.dumps([solution.id, solution.problem, *solution.steps, repr(labels)])
            digest.update(f"{text}\n".encode())
        return digest.hexdigest()

    def rows(self, values: np.ndarray) -> Ragged:
        """Return one value per step as one row per solution.

        Parameters
        ----------
        values : ndarray of shape (n_steps,)
            The values of all steps, end to end.

        Returns
        -------
        Ragged
            The values, one row per solution.
        """
        return Ragged(values, self.lengths)

    def subset(self, kept: np.ndarray, description: str) -> Benchmark:
        """Return some of the solutions.

        Parameters
        ----------
        kept : ndarray of bool, shape (n_solutions,)
            Whether to keep each solution.
        description : str
            Description of the new benchmark.

        Returns
        -------
        Benchmark
            The kept solutions, in the same order.
        """
        rows = np.flatnonzero(kept)
        candidates = None if self.candidates is None else self.candidates.take(rows.tolist())
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
    """Mark the solutions of problems that a model was trained on, and describe each such model in a line."""
    keys = problem_keys(benchmark.solutions)
    question_keys = np.array(
        [_named_key(one.meta, key) for one, key in zip(benchmark.solutions, keys.tolist(), strict=True)],
        dtype=np.uint64,
    )
    is_known = np.zeros(len(keys), dtype=bool)
    lines = []
    for model in models:
        if model.training_problems is None:
            continue
        in_training = np.isin(keys, model.training_problems) | np.isin(question_keys, model.training_problems)
        problems = np.unique(benchmark.problems[in_training])
        if len(problems):
            fate = "left out" if trained_on == "exclude" else "kept: its numbers here flatter it"
            lines.append(
                f"{model.name} was trained on {len(problems)} of {benchmark.n_problems} problems, which are {fate}"
            )
            is_known |= np.isin(benchmark.problems, problems)
    return is_known, lines


def unscored_in(
    models: Sequence[JudgedModel], benchmark: Benchmark, scores: Mapping[str, Mapping[str, StepScores]]
) -> tuple[np.ndarray, list[str]]:
    """Mark the solutions to leave out since a model gave a step no score, and describe each such model in a line.

    Such a step gets no default score, since no model gave one. The other solutions of its problem stay. A candidate of
    best-of-N stays too: to leave out what is hard would flatter the model, so it is chosen after all others.
    """
    left_out = np.zeros(len(benchmark.solutions), dtype=bool)
    lines = []
    for model in models:
        without = np.isnan(scores[model.name][benchmark.name].risks)
        if not without.any():
            continue
        concerned = np.unique(np.repeat(np.arange(len(left_out)), benchmark.lengths)[without])
        found = f"{model.name} gives no score to {unscored_solutions(benchmark.solutions, without)}: "
        if benchmark.candidates is not None:
            lines.append(f"{found}{model.why_unscored}. It chooses these candidates after all others")
            continue
        left_out[concerned] = True
        has_error = benchmark.rows(benchmark.step_labels < 0).reduce(np.logical_or)
        lines.append(
            f"{found}{model.why_unscored}. These solutions are left out for all: {has_error[concerned].sum():,} of the "
            f"{has_error.sum():,} with a wrong step, {(~has_error[concerned]).sum():,} of the {(~has_error).sum():,} "
            "without"
        )
    return left_out, lines


def _named_key(meta: Mapping[str, Any] | None, key: int) -> int:
    """Return the key of the question alone, if a format wrote one since the problem's text also holds options."""
    problem_id = (meta or {}).get("problem_id")
    return int(problem_id, 16) if isinstance(problem_id, str) and _KEY.fullmatch(problem_id) else key
