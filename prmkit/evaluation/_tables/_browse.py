"""Solutions with what is known and predicted of their steps: the rows of the error browser."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from prmkit.evaluation._result import rounded
from prmkit.evaluation._tables._context import (
    HALF,
    Context,
    choose_by_first_error,
    first_errors_at,
    thresholds,
)

_ANSWER_CORRECT = ("final_answer_correct", "answer_correct", "is_correct")


def browsed_solutions(contexts: Sequence[Context]) -> Iterator[dict[str, Any]]:
    """Yield one record per solution: risks and predicted first error of each model, and the labels.

    Predictions are made with the threshold of the tables where first errors chose one, else with 0.5.
    """
    for context in contexts:
        benchmark = context.benchmark
        models = [system for system in context.systems if not system.baseline]
        risks = {one.name: np.split(one.scores.risks, benchmark.starts[1:]) for one in models}
        predicted = {}
        for one in models:
            chosen = thresholds(
                benchmark, one, choose_by_first_error, context.threshold_data, context.random_state
            )
            limit = HALF if chosen is None else chosen.by_solution
            predicted[one.name] = first_errors_at(benchmark, one, limit)
        labels = np.split(benchmark.step_labels, benchmark.starts[1:])
        for i, solution in enumerate(benchmark.solutions):
            meta = solution.meta or {}
            correct = next((meta[key] for key in _ANSWER_CORRECT if isinstance(meta.get(key), bool)), None)
            if benchmark.candidates is not None:
                correct = bool(benchmark.candidates.correct[i])
            error_type = meta.get("error_type")
            yield {
                "benchmark": benchmark.name,
                "id": solution.id or str(i),
                "problem": solution.problem,
                "steps": list(solution.steps),
                "risks": {name: [rounded(float(risk)) for risk in of[i]] for name, of in risks.items()},
                "gold": benchmark.first_errors[i],
                "ratings": [None if np.isnan(label) else int(label) for label in labels[i]],
                "predicted": {name: int(of[i]) for name, of in predicted.items()},
                "error_type": None if error_type is None else str(error_type),
                "answer_correct": correct,
            }
