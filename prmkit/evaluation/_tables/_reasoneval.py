"""ReasonEval's two tasks with its own fixed thresholds."""

from __future__ import annotations

import numpy as np

from prmkit.evaluation._inputs._benchmark import Benchmark
from prmkit.evaluation._result import Row, Table
from prmkit.evaluation._tables._context import BASELINES_NOTE, Context, System
from prmkit.metrics.benchmarks.step_benchmarks import reasoneval_scores
from prmkit.metrics.bootstrap import bootstrap_counts, problem_numbers

_COLUMNS = {
    "solution macro-F1": "solution_macro_f1",
    "solution AUROC": "solution_auroc",
    "step macro-F1": "step_macro_f1",
    "step AUROC": "step_auroc",
}


def reasoneval_tables(context: Context) -> list[Table]:
    """Return the tables of ReasonEval's tasks that a benchmark has labels for."""
    benchmark = context.benchmark
    if benchmark.kind != "reasoneval":
        return []
    kinds = np.array([str((solution.meta or {}).get("kind")) for solution in benchmark.solutions])
    tables = []
    if (kinds == "invalid").any():
        part, systems = _part(context, kinds == "invalid")
        tables.append(_table(context, part, systems, "invalid", part.first_errors, "P(wrong) of 0.5 or more"))
    if (kinds == "redundant").any():
        part, systems = _part(context, kinds == "redundant")
        systems = [system for system in systems if system.scores.neutral is not None]
        if not all(system.baseline for system in systems):  # else no model here tells neutral steps
            truth = np.split(part.step_labels > 0, part.starts[1:])
            tables.append(_table(context, part, systems, "redundant", truth, "P(neutral) of 0.15 or more"))
    return tables


def _part(context: Context, kept: np.ndarray) -> tuple[Benchmark, list[System]]:
    benchmark = context.benchmark
    by_step = np.repeat(kept, benchmark.lengths)
    return benchmark.subset(kept, benchmark.description), [system.rows(by_step) for system in context.systems]


def _table(
    context: Context, benchmark: Benchmark, systems: list[System], task: str, truth: list, rule: str
) -> Table:
    problems, n_problems = problem_numbers(benchmark.problems)
    rows = []
    for system in systems:
        scores = system.scores
        flat = scores.risks if task == "invalid" else np.asarray(scores.neutral)
        risks = np.split(flat, benchmark.starts[1:])

        def statistic(counts: np.ndarray, risks: list[np.ndarray] = risks) -> dict[str, float | None]:
            return reasoneval_scores(truth, risks, task=task, sample_weight=counts[problems])

        result = bootstrap_counts(statistic, n_problems, context.n_resamples, context.random_state)
        rows.append(
            Row(
                system.name,
                {column: result.interval(name) for column, name in _COLUMNS.items()},
                system.baseline,
            )
        )
    note = context.note(
        f"ReasonEval's task of {task} steps; its fixed rule: {rule}. A solution is as good as its worst step",
        "A block of several parts is scored as one step",
        BASELINES_NOTE,
    )
    return Table(f"ReasonEval, {task} steps: {benchmark.name}", benchmark.name, list(_COLUMNS), rows, note)
