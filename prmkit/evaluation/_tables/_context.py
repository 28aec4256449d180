"""The input of every table: a benchmark, the scores of its systems, their thresholds, and the settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from prmkit.evaluation._inputs._benchmark import Benchmark
from prmkit.evaluation._inputs._scoring import StepScores
from prmkit.metrics import choose_first_error_threshold, choose_threshold
from prmkit.metrics.benchmarks.first_error import ragged_first_errors
from prmkit.metrics.bootstrap import problem_numbers
from prmkit.metrics.steps.rows import position_baseline

_N_FOLDS = 5
BASELINES_NOTE = (
    "Baselines: majority (a constant, the share of wrong steps here), position (a step's index alone) and length (a "
    "step's number of characters alone); the last two are fitted to these very labels, out of fold by problem"
)


@dataclass(frozen=True, eq=False)
class System:
    """A model or a baseline with its scores of one benchmark."""

    name: str
    scores: StepScores
    baseline: bool = False

    def rows(self, kept: np.ndarray) -> System:
        """Return the system with the steps for which ``kept`` is True."""
        return System(self.name, self.scores.rows(kept), self.baseline)


def baseline_systems(benchmark: Benchmark, random_state: int) -> list[System]:
    """Return the trivial baselines of a benchmark's steps. There are none if no step is labelled."""
    labels = benchmark.step_labels
    labelled = ~np.isnan(labels)
    if not labelled.any():
        return []
    has_neutral = bool((labels == 0).any())
    classes = np.where(labels == 0, 1, np.where(labels < 0, 0, 2)).astype(np.int64)  # worst first
    n_characters = np.array([len(step) for one in benchmark.solutions for step in one.steps])
    octaves = np.floor(4 * np.log2(1 + n_characters)).astype(np.int64)  # four steps to a doubling
    problems, n_problems = problem_numbers(benchmark.step_problems)
    folds = np.random.default_rng(random_state).permutation(n_problems)[problems] % _N_FOLDS
    shares = np.bincount(classes[labelled], minlength=3) / labelled.sum()
    probabilities = {"majority": np.tile(shares, (len(labels), 1))}
    for name, places in (("position", benchmark.labels.positions), ("length", octaves)):
        proba = np.tile(shares, (len(labels), 1))
        for fold in range(_N_FOLDS):
            rows, others = folds == fold, (folds != fold) & labelled
            if rows.any() and others.any():
                proba[rows] = position_baseline(places[rows], 3, train=(places[others], classes[others]))
        probabilities[name] = proba
    return [
        System(name, StepScores(proba[:, 0], proba[:, 1] if has_neutral else None), baseline=True)
        for name, proba in probabilities.items()
    ]


NO_NEUTRAL = "no model here gives a probability of neutral steps: its labels are right and wrong alone"
_CROSSED = "each half of the problems is judged with the threshold that the other half chose"


@dataclass(frozen=True, eq=False)
class ThresholdData:
    """Another benchmark that chooses thresholds, with every system's scores there."""

    benchmark: Benchmark
    systems: dict[str, System]


@dataclass(frozen=True, eq=False)
class Thresholds:
    """The threshold of each solution, and its text in a table."""

    by_solution: np.ndarray
    text: str


def choose_by_first_error(benchmark: Benchmark, system: System) -> float | None:
    """Return the threshold with the best ProcessBench F1, None if erroneous or correct solutions are missing."""
    known = np.array([first is not None for first in benchmark.first_errors], dtype=bool)
    first_errors = [first for first in benchmark.first_errors if first is not None]
    if not any(first >= 0 for first in first_errors) or not any(first < 0 for first in first_errors):
        return None
    risks = benchmark.rows(system.scores.ranking).take(np.flatnonzero(known)).split()
    return _lowest(choose_first_error_threshold(first_errors, risks, data=benchmark.name).threshold, system)


def choose_by_steps(benchmark: Benchmark, system: System) -> float | None:
    """Return the threshold with the best macro-F1 of wrong and other steps, None if one kind is missing."""
    labels = benchmark.step_labels
    kept = ~np.isnan(labels)
    wrong = labels[kept] < 0
    if not wrong.any() or wrong.all():
        return None
    return _lowest(choose_threshold(wrong, system.scores.ranking[kept]), system)


def _lowest(threshold: float, system: System) -> float:
    """Return a threshold, or -inf if it lies below all raw rewards' places: their scale has no end such as 0."""
    is_end = system.scores.raw is not None and threshold < system.scores.ranking.min()
    return -np.inf if is_end else threshold


Choose = Callable[[Benchmark, System], "float | None"]


def thresholds(
    benchmark: Benchmark, system: System, choose: Choose, data: ThresholdData | None, random_state: int
) -> Thresholds | None:
    """Return the threshold for each solution of a benchmark, None if the data cannot choose one.

    Without ``data``, and for baselines, each half of the benchmark's problems chooses for the other half.
    """
    n = len(benchmark.solutions)
    if data is not None and data.benchmark.name != benchmark.name and not system.baseline:
        value = choose(data.benchmark, data.systems[system.name])
        return None if value is None else Thresholds(np.full(n, value), _shown(value, system))
    problems, n_problems = problem_numbers(benchmark.problems)
    second = (np.random.default_rng(random_state).permutation(n_problems) % 2 == 1)[problems]
    by_solution = np.empty(n)
    values = []
    for half in (second, ~second):
        if not half.any():
            return None
        part = benchmark.subset(half, benchmark.description)
        value = choose(part, system.rows(np.repeat(half, benchmark.lengths)))
        if value is None:
            return None
        values.append(value)
        by_solution[~half] = value
    return Thresholds(by_solution, " / ".join(_shown(value, system) for value in values))


def thresholds_note(benchmark: Benchmark, data: ThresholdData | None) -> str:
    """Return a sentence that names the data which chose the thresholds."""
    if data is not None and data.benchmark.name != benchmark.name:
        baselines = f"The baselines are fitted to {benchmark.name} itself: {_CROSSED}"
        return f"Thresholds chosen on {data.benchmark.name}. {baselines}"
    return f"Thresholds of {benchmark.name}: {_CROSSED}"


def no_threshold_note(systems: Sequence[str], column: str, kinds: str) -> list[str]:
    """Return a sentence that says why systems have no number in a column, if there are such systems."""
    if not systems:
        return []
    why = f"a half of the problems, or the data that choose thresholds, do not hold both {kinds}"
    return [f"{column} of {', '.join(systems)} is not there, since no threshold could be chosen: {why}"]


def first_errors_at(benchmark: Benchmark, system: System, threshold: np.ndarray | float) -> np.ndarray:
    """Return the first step of each solution whose risk is above the threshold, -1 if there is none."""
    return ragged_first_errors(benchmark.rows(system.scores.ranking), threshold)


def _shown(threshold: float, system: System) -> str:
    return f"{threshold:.4g}" if system.scores.raw is None else f"reward {0.0 - threshold:.4g}"


@dataclass(frozen=True, eq=False)
class Context:
    """A benchmark with the scores of all systems, models first.

    If ``quoted``, published numbers stand beside. ``cautions`` are facts to know before one believes a number, such as
    the number of problems that a model was trained on.
    """

    benchmark: Benchmark
    systems: list[System]
    threshold_data: ThresholdData | None = None
    n_resamples: int = 1000
    random_state: int = 0
    quoted: bool = False
    cautions: tuple[str, ...] = ()

    @property
    def compared_with(self) -> str | None:
        """Name of the first of several models. The others show their difference to it. None for a single model."""
        models = [system.name for system in self.systems if not system.baseline]
        return models[0] if len(models) > 1 else None

    def note(self, *sentences: str) -> str:
        """Return the note of a table, with the cautions and an explanation of the brackets."""
        intervals = (
            [f"[ ]: 95% intervals from {self.n_resamples:,} resamples of the {self.benchmark.n_problems:,} problems"]
            if self.n_resamples and self.benchmark.n_problems > 1
            else []
        )
        raw = [one.name for one in self.systems if one.scores.raw is not None]
        scales = [
            f"{' and '.join(raw)}: raw rewards on their own scale. Their threshold is a reward, and a step is wrong if "
            "its own is below. 0.5 and all probabilities are those of their sigmoid"
        ]
        return ". ".join([*self.cautions, *sentences, *(scales if raw else []), *intervals]) + "."
