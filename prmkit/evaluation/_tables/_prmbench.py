"""PRMScore: of each class of PRMBench, of its groups, and over all steps."""

from __future__ import annotations

import numpy as np

from prmkit.evaluation._result import Row, Table
from prmkit.evaluation._tables._context import (
    BASELINES_NOTE,
    HALF,
    Context,
    choose_by_steps,
    thresholds,
    thresholds_note,
)
from prmkit.evaluation._tables._quoted import PRMBENCH
from prmkit.metrics import BootstrapResult, Interval
from prmkit.metrics.benchmarks.step_benchmarks import PRMBENCH_GROUPS, prm_score_by_class
from prmkit.metrics.bootstrap import bootstrap_counts, problem_numbers

_GROUPS = ["overall", *PRMBENCH_GROUPS]


def prmbench_tables(context: Context) -> list[Table]:
    """Return PRMScore with a chosen threshold, by group and class; "overall at 0.5" beside."""
    benchmark = context.benchmark
    if benchmark.kind != "prmbench":
        return []
    classes = [str((solution.meta or {}).get("error_type")) for solution in benchmark.solutions]
    by_step = np.repeat(np.array(classes), benchmark.lengths)
    kept = ~np.isnan(benchmark.step_labels)
    rows, columns = [], _GROUPS
    for system in context.systems:
        chosen = thresholds(benchmark, system, choose_by_steps, context.threshold_data, context.random_state)
        limit = HALF if chosen is None else np.repeat(chosen.by_solution, benchmark.lengths)[kept]
        risks = system.scores.risks[kept]
        result = _bootstrap(context, kept, risks <= limit, by_step)
        at_half = _bootstrap(context, kept, risks <= HALF, by_step)
        values = {name: result.interval(name) for name in result.estimates}
        columns = [name for name in values if name not in _GROUPS]
        shown = "0.5" if chosen is None else chosen.shown
        values = {**values, "overall at 0.5": at_half.interval("overall"), "risk threshold": shown}
        rows.append(Row(system.name, values, system.baseline))
    if context.quoted:
        rows += [
            Row(
                one.system,
                {name: Interval(value) for name, value in one.values.items()},
                quoted=True,
                source=one.source,
            )
            for one in PRMBENCH
        ]
    note = context.note(
        "PRMScore: mean of the F1 of right and of wrong steps, pooled over modified solutions; groups are plain means "
        "of the classes that are there",
        "A step is called wrong if its risk is above the threshold",
        thresholds_note(benchmark, context.threshold_data),
        BASELINES_NOTE,
        *(
            ["Quoted rows are published numbers for the whole of PRMBench, of all classes"]
            if context.quoted
            else []
        ),
    )
    groups = [name for name in _GROUPS if any(name in row.values for row in rows)]
    return [
        Table(
            f"PRMScore of {benchmark.name}",
            benchmark.name,
            [*groups, "risk threshold", "overall at 0.5"],
            rows,
            note,
        ),
        Table(
            f"PRMScore of the classes of {benchmark.name}",
            benchmark.name,
            columns,
            [row for row in rows if not row.quoted],
            note,
        ),
    ]


def _bootstrap(
    context: Context, kept: np.ndarray, judged_right: np.ndarray, by_step: np.ndarray
) -> BootstrapResult:
    """Sum steps per problem, class and kind of verdict first, so that a resample costs no pass over the steps."""
    benchmark = context.benchmark
    right = benchmark.step_labels[kept] >= 0
    problems, n_problems = problem_numbers(benchmark.step_problems[kept])
    names, numbers = np.unique(by_step[kept], return_inverse=True)
    n_cells = 4 * len(names)
    cells = 4 * numbers + 2 * right + judged_right
    counts = np.bincount(n_cells * problems + cells, minlength=n_cells * n_problems)
    by_problem = counts.reshape(n_problems, n_cells).T.astype(np.float64)
    kinds = np.arange(n_cells) % 4
    of_class = names[np.arange(n_cells) // 4]
    return bootstrap_counts(
        lambda weight: prm_score_by_class(
            kinds >= 2, kinds % 2 == 1, of_class, sample_weight=(by_problem * weight).sum(axis=1)
        ),
        n_problems,
        context.n_resamples,
        context.random_state,
    )
