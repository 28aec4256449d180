"""Who stands in a table: the models, and beside them what a constant, a step's place and a step's length would say."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prmkit.evaluation._benchmark import Benchmark
from prmkit.evaluation._step_scores import StepScores
from prmkit.metrics._baselines import position_baseline
from prmkit.metrics._bootstrap import problem_numbers

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
        """Return it with the steps where ``kept`` is True."""
        return System(self.name, self.scores.rows(kept), self.baseline)


def baseline_systems(benchmark: Benchmark, random_state: int) -> list[System]:
    """Return the trivial baselines of a benchmark's steps; none where no step is labelled."""
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
    found = {"majority": np.tile(shares, (len(labels), 1))}
    for name, places in (("position", benchmark.positions), ("length", octaves)):
        proba = np.tile(shares, (len(labels), 1))
        for fold in range(_N_FOLDS):
            rows, others = folds == fold, (folds != fold) & labelled
            if rows.any() and others.any():
                proba[rows] = position_baseline(places[rows], 3, train=(places[others], classes[others]))
        found[name] = proba
    return [
        System(name, StepScores(proba[:, 0], proba[:, 1] if has_neutral else None), baseline=True)
        for name, proba in found.items()
    ]
