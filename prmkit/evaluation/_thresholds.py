"""On which data a threshold is chosen: never on the problems that it judges."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from prmkit.evaluation._benchmark import Benchmark
from prmkit.evaluation._systems import System
from prmkit.metrics import choose_threshold
from prmkit.metrics._bootstrap import problem_numbers
from prmkit.metrics._first_error_threshold import choose_first_error_threshold

HALF = 0.5
_CROSSED = "each half of the problems is judged with the threshold that the other half chose"


@dataclass(frozen=True, eq=False)
class ThresholdData:
    """Another benchmark that chooses thresholds, with every system's scores there."""

    benchmark: Benchmark
    systems: dict[str, System]


@dataclass(frozen=True, eq=False)
class Chosen:
    """The threshold of each solution, and how it is shown in a table."""

    by_solution: np.ndarray
    shown: str


def choose_by_first_error(benchmark: Benchmark, system: System) -> float | None:
    """Return the **reward** with the best ProcessBench F1: a step is wrong if its own is below.

    None where erroneous or correct solutions are missing.
    """
    known = np.array([first is not None for first in benchmark.first_errors], dtype=bool)
    first_errors = [first for first in benchmark.first_errors if first is not None]
    if not any(first >= 0 for first in first_errors) or not any(first < 0 for first in first_errors):
        return None
    paths = [path for path, one in zip(system.scores.paths(benchmark.lengths), known, strict=True) if one]
    return choose_first_error_threshold(first_errors, paths, data=benchmark.name).threshold


def choose_by_steps(benchmark: Benchmark, system: System) -> float | None:
    """Return the **risk** with the best macro-F1 of wrong and other steps: a step is wrong if its own is above.

    None where wrong or other steps are missing.
    """
    labels = benchmark.step_labels
    kept = ~np.isnan(labels)
    wrong = labels[kept] < 0
    if not wrong.any() or wrong.all():
        return None
    return choose_threshold(wrong, system.scores.risks[kept])


Choose = Callable[[Benchmark, System], "float | None"]


def thresholds(
    benchmark: Benchmark, system: System, choose: Choose, data: ThresholdData | None, random_state: int
) -> Chosen | None:
    """Return the threshold for each solution of a benchmark; None where the data cannot choose one.

    Parameters
    ----------
    benchmark : Benchmark
    system : System
    choose : callable
        :func:`choose_by_first_error` or :func:`choose_by_steps`.
    data : ThresholdData or None
        None, or the benchmark itself: each half of its problems chooses for the other.
    random_state : int
    """
    n = len(benchmark.solutions)
    if data is not None and data.benchmark.name != benchmark.name and not system.baseline:
        value = choose(data.benchmark, data.systems[system.name])
        return None if value is None else Chosen(np.full(n, value), _shown(value))
    problems, n_problems = problem_numbers(benchmark.problems)
    second = (np.random.default_rng(random_state).permutation(n_problems) % 2 == 1)[problems]
    by_solution = np.empty(n)
    found = []
    for half in (second, ~second):
        if not half.any():
            return None
        part = benchmark.subset(half, benchmark.description)
        value = choose(part, system.rows(np.repeat(half, benchmark.lengths)))
        if value is None:
            return None
        found.append(value)
        by_solution[~half] = value
    return Chosen(by_solution, " / ".join(map(_shown, found)))


def thresholds_note(benchmark: Benchmark, data: ThresholdData | None) -> str:
    """Return in words where thresholds come from."""
    if data is not None and data.benchmark.name != benchmark.name:
        of_baselines = f"of the baselines, fitted to {benchmark.name} itself: {_CROSSED}"
        return f"Thresholds chosen on {data.benchmark.name}; {of_baselines}"
    return f"Thresholds of {benchmark.name}: {_CROSSED}"


def first_errors_at(benchmark: Benchmark, system: System, threshold: np.ndarray | float) -> np.ndarray:
    """Return each solution's first step whose reward is below the threshold, -1 where there is none."""
    by_step = np.repeat(np.broadcast_to(threshold, benchmark.lengths.shape), benchmark.lengths)
    places = np.where(system.scores.rewards < by_step, np.arange(len(by_step)), len(by_step))
    first = np.minimum.reduceat(places, benchmark.starts)
    return np.where(first < len(by_step), first - benchmark.starts, -1)


def _shown(threshold: float) -> str:
    return f"{threshold:.4g}"
