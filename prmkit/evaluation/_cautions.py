"""What to know before believing a number: problems that a model was trained on, and steps that it could not read."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from prmkit.data._problem_keys import problem_keys
from prmkit.evaluation._benchmark import Benchmark
from prmkit.evaluation._models import JudgedModel
from prmkit.evaluation._step_scores import StepScores

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
