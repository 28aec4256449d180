"""Tables of published benchmarks: first errors (ProcessBench, MR-Ben), PRMBench and ReasonEval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from prmkit.evaluation._evaluation import LeftOut, Row, Table, Value
from prmkit.evaluation._inputs._benchmark import Benchmark
from prmkit.evaluation._tables._context import (
    BASELINES_NOTE,
    NO_NEUTRAL,
    Context,
    System,
    choose_by_first_error,
    choose_by_steps,
    first_errors_at,
    no_threshold_note,
    thresholds,
    thresholds_note,
)
from prmkit.evaluation._tables._quoted import PRMBENCH, PROCESSBENCH, PROCESSBENCH_SPLITS
from prmkit.metrics import Interval, bootstrap_by_problem
from prmkit.metrics.benchmarks.first_error import first_error_f1_score, first_error_position_accuracy, mr_score_parts
from prmkit.metrics.benchmarks.step_benchmarks import PRMBENCH_GROUPS, prm_score_by_class, reasoneval_scores
from prmkit.metrics.bootstrap import BootstrapResult, bootstrap_counts, problem_numbers

_MR = ("mr_ben", "mr_gsm8k")
# Solutions of PRMBench have several errors, and candidates have no labels.
_OTHER_TABLES = ("prmbench", "bon")
_F1 = "F1"


def first_error_tables(context: Context) -> list[Table | LeftOut]:
    """Return the table of first errors, or why there is none. Candidates and PRMBench have other tables."""
    benchmark = context.benchmark
    known = np.array([first is not None for first in benchmark.first_errors], dtype=bool)
    first_errors = np.array([first for first in benchmark.first_errors if first is not None], dtype=np.int64)
    title, n_wrong = f"First errors of {benchmark.name}", int((first_errors >= 0).sum())
    if benchmark.kind in _OTHER_TABLES:
        return []
    if why := _no_first_errors(benchmark, len(first_errors), n_wrong):
        return [LeftOut(title, benchmark.name, why)]
    is_mr = benchmark.kind in _MR
    rows, first = [], context.compared_with
    results: dict[str, BootstrapResult] = {}
    for system in context.systems:
        chosen = thresholds(benchmark, system, choose_by_first_error, context.threshold_data, context.random_state)
        at = {"0.5": first_errors_at(benchmark, system, system.scores.half)[known]}
        if chosen is not None:
            at["chosen"] = first_errors_at(benchmark, system, chosen.by_solution)[known]
        result = _bootstrap_first_errors(context, first_errors, benchmark.problems[known], at, is_mr)
        values: dict[str, Value] = {name: result.interval(name) for name in result.estimates}
        results[system.name] = result
        if first not in (None, system.name) and all(_F1 in results[name].estimates for name in (first, system.name)):
            values[f"F1 minus {first}"] = result.minus(results[first], _F1)
        rows.append(Row(system.name, {**values, "risk threshold": chosen.text if chosen else None}, system.baseline))
    columns = [_F1, "on erroneous", "on correct", "within one step", "risk threshold", "F1 at 0.5"]
    sentences = [
        f"ProcessBench F1 of {len(first_errors):,} solutions, {n_wrong:,} of them erroneous: harmonic mean of the "
        "shares of erroneous solutions whose first error is found exactly, and of correct ones in which none is found",
        "The first step whose risk is above the threshold is the prediction",
        thresholds_note(benchmark, context.threshold_data),
        *no_threshold_note(
            [row.system for row in rows if _F1 not in row.values], "F1", "correct and erroneous solutions"
        ),
        BASELINES_NOTE,
    ]
    if first:
        columns.append(f"F1 minus {first}")
    if is_mr:
        columns.append("MCC")
        sentences.insert(2, "MCC and 'on erroneous' are the parts of MR-Score that a model without words can have")
    return [Table(title, benchmark.name, columns, rows, context.note(*sentences))]


def _no_first_errors(benchmark: Benchmark, n_known: int, n_wrong: int) -> str:
    """Return why F1 of first errors has no meaning here, "" if it has one."""
    if benchmark.kind == "prm800k":
        return "a solution of PRM800K ends at its first error, so that its length alone tells the place"
    n, unknown = len(benchmark.solutions), len(benchmark.solutions) - n_known
    among = f"among the {n_known:,} solutions" + (f" whose first error is known ({unknown:,} more)" if unknown else "")
    if not n_known:
        return f"the first error is known of none of the {n:,} solutions: a step before it has no label"
    if not n_wrong:
        return f"there is no solution with an error {among}, and F1 is a mean of the shares found in both kinds"
    if n_wrong == n_known:
        return f"there is no correct solution {among}, and F1 is a mean of the shares found in both kinds"
    return ""


def processbench_mean(tables: Sequence[Table], names: Sequence[str], quoted: bool) -> list[Table | LeftOut]:
    """Return one table of the F1 of several ProcessBench splits with their plain mean.

    ``names`` are the benchmarks that are splits of ProcessBench. If ``quoted``, published numbers stand beside.
    """
    by_benchmark = {table.benchmark: table for table in tables if table.title.startswith("First errors")}
    parts = [by_benchmark[name] for name in names if name in by_benchmark]
    without = [name for name in names if name not in by_benchmark]
    if len(parts) < (1 if quoted else 2):
        why = f"it compares splits, and there is no table of first errors of {' and '.join(without)}"
        return [LeftOut("ProcessBench F1", "ProcessBench", why)] if without and len(names) > 1 else []
    columns = [table.benchmark for table in parts]
    splits = [_split(name) for name in columns]
    rows = []
    for i, row in enumerate(parts[0].rows):
        values = [table.rows[i].values.get(_F1) for table in parts]
        rows.append(Row(row.system, _with_mean(columns, values), row.baseline))
    if quoted and set(splits) & set(PROCESSBENCH_SPLITS):
        for one in PROCESSBENCH:
            published = [Interval(one.values[name]) if name in one.values else None for name in splits]
            rows.append(Row(one.system, _with_mean(columns, published), quoted=True, source=one.source))
    note = (
        "F1 with the thresholds of each split's own table; the mean is the plain mean of the splits shown, without an "
        "interval."
    )
    if without:
        note += f" Without {' and '.join(without)}, which has no table of first errors."
    if quoted:
        note += " Quoted rows are published numbers for the whole splits, with one threshold chosen on GSM8K or none."
    shown = [*columns, "mean"] if len(columns) > 1 else columns
    return [Table("ProcessBench F1", "ProcessBench", shown, rows, note)]


def without_published(kinds: Mapping[str, str]) -> list[LeftOut]:
    """Return the benchmarks, each with its kind, of which no published number is known."""
    splits = f"a name with one of {', '.join(PROCESSBENCH_SPLITS)} tells which split of ProcessBench it is"
    why = dict.fromkeys(kinds, "no published number is known of this kind of data")
    why |= {name: splits for name, kind in kinds.items() if kind == "processbench"}
    return [
        LeftOut(f"Published numbers for {name}", name, why[name])
        for name, kind in kinds.items()
        if kind not in ("prmbench", "bon") and not (kind == "processbench" and _split(name) in PROCESSBENCH_SPLITS)
    ]


def _split(name: str) -> str:
    return next((split for split in PROCESSBENCH_SPLITS if split in name.lower()), name)


def _with_mean(columns: Sequence[str], values: Sequence[Value]) -> dict[str, Value]:
    row: dict[str, Value] = dict(zip(columns, values, strict=True))
    numbers = [value.value for value in values if isinstance(value, Interval) and value.value is not None]
    if len(numbers) == len(columns):
        row["mean"] = Interval(float(np.mean(numbers)))
    return row


def _bootstrap_first_errors(
    context: Context, y_true: np.ndarray, problems: np.ndarray, at: dict[str, np.ndarray], is_mr: bool
) -> BootstrapResult:
    names = list(at)

    def statistic(y: np.ndarray, *predictions: np.ndarray, sample_weight: np.ndarray) -> dict[str, float | None]:
        predicted = dict(zip(names, predictions, strict=True))
        found = {"F1 at 0.5": first_error_f1_score(y, predicted["0.5"], sample_weight=sample_weight)}
        if "chosen" in predicted:
            parts = first_error_f1_score(y, predicted["chosen"], return_parts=True, sample_weight=sample_weight)
            found |= dict(zip((_F1, "on erroneous", "on correct"), parts, strict=True))
            found["within one step"] = first_error_position_accuracy(
                y, predicted["chosen"], within=1, sample_weight=sample_weight
            )
            if is_mr:
                found["MCC"] = mr_score_parts(y, predicted["chosen"], sample_weight=sample_weight)["mcc"]
        return found

    return bootstrap_by_problem(
        statistic, problems, y_true, *at.values(), n_resamples=context.n_resamples, random_state=context.random_state
    )


_GROUPS = ["overall", *PRMBENCH_GROUPS]


def prmbench_tables(context: Context) -> list[Table | LeftOut]:
    """Return the tables of PRMScore by group and by class, or nothing for other benchmarks."""
    benchmark = context.benchmark
    if benchmark.kind != "prmbench":
        return []
    classes = [str((solution.meta or {}).get("error_type")) for solution in benchmark.solutions]
    by_step = np.repeat(np.array(classes), benchmark.lengths)
    kept = ~np.isnan(benchmark.step_labels)
    rows, columns = [], _GROUPS
    for system in context.systems:
        chosen = thresholds(benchmark, system, choose_by_steps, context.threshold_data, context.random_state)
        half, ranking = system.scores.half, system.scores.ranking[kept]
        limit = half if chosen is None else np.repeat(chosen.by_solution, benchmark.lengths)[kept]
        result = _bootstrap_prm_score(context, kept, ranking <= limit, by_step)
        at_half = _bootstrap_prm_score(context, kept, ranking <= half, by_step)
        values: dict[str, Value] = {name: result.interval(name) for name in result.estimates}
        columns = [name for name in values if name not in _GROUPS]
        shown = "0.5" if chosen is None else chosen.text
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
        *(["Quoted rows are published numbers for the whole of PRMBench, of all classes"] if context.quoted else []),
    )
    groups = [name for name in _GROUPS if any(name in row.values for row in rows)]
    return [
        Table(
            f"PRMScore of {benchmark.name}", benchmark.name, [*groups, "risk threshold", "overall at 0.5"], rows, note
        ),
        Table(
            f"PRMScore of the classes of {benchmark.name}",
            benchmark.name,
            columns,
            [row for row in rows if not row.quoted],
            note,
        ),
    ]


def _bootstrap_prm_score(
    context: Context, kept: np.ndarray, judged_right: np.ndarray, by_step: np.ndarray
) -> BootstrapResult:
    """Count steps per problem, class and kind of verdict first, so that a resample costs no pass over the steps."""
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


_REASONEVAL_COLUMNS = {
    "solution macro-F1": "solution_macro_f1",
    "solution AUROC": "solution_auroc",
    "step macro-F1": "step_macro_f1",
    "step AUROC": "step_auroc",
}


def reasoneval_tables(context: Context) -> list[Table | LeftOut]:
    """Return the tables of ReasonEval's tasks, or why one is left out."""
    benchmark = context.benchmark
    if benchmark.kind != "reasoneval":
        return []
    kinds = np.array([str((solution.meta or {}).get("kind")) for solution in benchmark.solutions])
    tables: list[Table | LeftOut] = [
        LeftOut(
            f"ReasonEval, {task} steps: {benchmark.name}", benchmark.name, f"no solution of the task of {task} steps"
        )
        for task in ("invalid", "redundant")
        if not (kinds == task).any()
    ]
    if (kinds == "invalid").any():
        part, systems = _part(context, kinds == "invalid")
        tables.append(
            _reasoneval_table(context, part, systems, "invalid", part.first_errors, "P(wrong) of 0.5 or more")
        )
    if (kinds == "redundant").any():
        part, systems = _part(context, kinds == "redundant")
        systems = [system for system in systems if system.scores.neutral is not None]
        if all(system.baseline for system in systems):
            title = f"ReasonEval, redundant steps: {benchmark.name}"
            tables.append(LeftOut(title, benchmark.name, NO_NEUTRAL))
        else:
            truth = part.rows(part.step_labels > 0).split()
            tables.append(_reasoneval_table(context, part, systems, "redundant", truth, "P(neutral) of 0.15 or more"))
    return tables


def _part(context: Context, kept: np.ndarray) -> tuple[Benchmark, list[System]]:
    benchmark = context.benchmark
    by_step = np.repeat(kept, benchmark.lengths)
    return benchmark.subset(kept, benchmark.description), [system.rows(by_step) for system in context.systems]


def _reasoneval_table(
    context: Context,
    benchmark: Benchmark,
    systems: list[System],
    task: Literal["invalid", "redundant"],
    truth: Sequence[Any],
    rule: str,
) -> Table:
    problems, n_problems = problem_numbers(benchmark.problems)
    rows = []
    for system in systems:
        scores = system.scores
        flat, limit = (scores.ranking, scores.half) if task == "invalid" else (np.asarray(scores.neutral), None)
        risks = benchmark.rows(flat).split()

        def statistic(
            counts: np.ndarray, risks: list[np.ndarray] = risks, limit: float | None = limit
        ) -> dict[str, float | None]:
            return reasoneval_scores(truth, risks, task=task, threshold=limit, sample_weight=counts[problems])

        result = bootstrap_counts(statistic, n_problems, context.n_resamples, context.random_state)
        rows.append(
            Row(
                system.name,
                {column: result.interval(name) for column, name in _REASONEVAL_COLUMNS.items()},
                system.baseline,
            )
        )
    note = context.note(
        f"ReasonEval's task of {task} steps; its fixed rule: {rule}. A solution is as good as its worst step",
        "A block of several parts is scored as one step",
        BASELINES_NOTE,
    )
    return Table(f"ReasonEval, {task} steps: {benchmark.name}", benchmark.name, list(_REASONEVAL_COLUMNS), rows, note)
