"""Scores of sampled solutions by a classifier of whole solutions, such as ``PathClassifier``."""

from __future__ import annotations

from typing import Any

import numpy as np

from prmkit.data import Candidates, CandidateSet
from prmkit.data.problem_keys import problem_keys
from prmkit.evaluation._inputs._benchmark import Benchmark
from prmkit.evaluation._inputs._models import JudgedModel
from prmkit.evaluation._inputs._scoring import StepScores


def path_scores(model: JudgedModel, benchmark: Benchmark) -> StepScores:
    """Return the probability of each sample to be wrong, as the risk of each of its steps.

    Problems that the model was trained on get none: it refuses them.
    """
    if benchmark.candidates is None:
        raise ValueError(
            f"{model.name} judges whole sampled solutions, and {benchmark.name} has labels of steps: evaluate it on "
            "candidates whose correctness is known, such as bon:samples.jsonl, and on them alone"
        )
    risks = np.full(len(benchmark.solutions), np.nan)
    seen = model.training_problems
    is_new = np.ones(len(risks), dtype=bool) if seen is None else ~np.isin(problem_keys(benchmark.solutions), seen)
    rows = np.flatnonzero(is_new)
    # Agreement looks at all samples of a problem, so they are scored together.
    rows = rows[np.argsort(benchmark.candidates.sets[rows], kind="stable")]
    if len(rows):
        classifier: Any = model.classifier
        proba = classifier.predict_proba(_candidates(benchmark, rows))
        risks[rows] = proba[:, np.asarray(classifier.classes_).tolist().index(False)]
    return StepScores(np.repeat(risks, benchmark.lengths), of_solutions=True)


def _candidates(benchmark: Benchmark, rows: np.ndarray) -> Candidates:
    assert benchmark.candidates is not None
    given = benchmark.candidates
    ends = np.flatnonzero(np.diff(given.sets[rows])) + 1
    sets = []
    for part in np.split(rows, ends):
        solutions = tuple(benchmark.solutions[i] for i in part)
        keys: Any = tuple(given.answer_keys[i] for i in part)
        right = tuple(map(bool, given.correct[part]))
        sets.append(CandidateSet(solutions[0].problem, solutions, right, keys, keys, None, str(given.sets[part[0]])))
    return Candidates(tuple(sets))
