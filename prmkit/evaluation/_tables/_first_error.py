"""Where a solution first goes wrong: ProcessBench's protocol, and MR-Score's parts for its relatives."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from prmkit.evaluation._result import Row, Table, Value
from prmkit.evaluation._tables._context import (
    BASELINES_NOTE,
    HALF,
    Context,
    choose_by_first_error,
    first_errors_at,
    thresholds,
    thresholds_note,
)
from prmkit.evaluation._tables._quoted import PROCESSBENCH, PROCESSBENCH_SPLITS
from prmkit.metrics import BootstrapResult, Interval, bootstrap_by_problem
from prmkit.metrics.benchmarks.first_error import (
    first_error_f1_score,
    first_error_position_accuracy,
    mr_score_parts,
)

_MR = ("mr_ben", "mr_gsm8k")
_NOT_FIRST_ERRORS = ("prm800k", "prmbench", "bon")  # end at their first error; have several; have no labels
_F1 = "F1"


def first_error_tables(context: Context) -> list[Table]:
    """Return the table of first errors, where a benchmark is made for it."""
    benchmark = context.benchmark
    known = np.array([first is not None for first in benchmark.first_errors], dtype=bool)
    first_errors = np.array([first for first in benchmark.first_errors if first is not None], dtype=np.int64)
    if benchmark.kind in _NOT_FIRST_ERRORS or not (first_errors >= 0).any() or not (first_errors < 0).any():
        return []
    is_mr = benchmark.kind in _MR
    rows, first = [], context.compared_with
    results: dict[str, BootstrapResult] = {}
    for system in context.systems:
        chosen = thresholds(
            benchmark, system, choose_by_first_error, context.threshold_data, context.random_state
        )
        at = {"0.5": first_errors_at(benchmark, system, HALF)[known]}
        if chosen is not None:
            at["chosen"] = first_errors_at(benchmark, system, chosen.by_solution)[known]
        result = _bootstrap(context, first_errors, benchmark.problems[known], at, is_mr)
        values = {name: result.interval(name) for name in result.estimates}
        results[system.name] = result
        if first not in (None, system.name) and all(
            _F1 in results[name].estimates for name in (first, system.name)
        ):
            values[f"F1 minus {first}"] = result.minus(results[first], _F1)
        rows.append(
            Row(system.name, {**values, "risk threshold": chosen and chosen.shown}, system.baseline)
        )
    columns = [_F1, "on erroneous", "on correct", "within one step", "risk threshold", "F1 at 0.5"]
    n_wrong = int((first_errors >= 0).sum())
    sentences = [
        f"ProcessBench F1 of {len(first_errors):,} solutions, {n_wrong:,} of them erroneous: harmonic mean of the "
        "shares of erroneous solutions whose first error is found exactly, and of correct ones in which none is found",
        "The first step whose risk is above the threshold is the prediction",
        thresholds_note(benchmark, context.threshold_data),
        BASELINES_NOTE,
    ]
    if first:
        columns.append(f"F1 minus {first}")
    if is_mr:
        columns.append("MCC")
        sentences.insert(
            2, "MCC and 'on erroneous' are the parts of MR-Score that a model without words can have"
        )
    title = f"First errors of {benchmark.name}"
    return [Table(title, benchmark.name, columns, rows, context.note(*sentences))]


def processbench_mean(tables: Sequence[Table], names: Sequence[str], quoted: bool) -> list[Table]:
    """Return one table of the F1 of several ProcessBench splits with their plain mean, published numbers beside.

    Parameters
    ----------
    tables : sequence of Table
    names : sequence of str
        Of the benchmarks that are splits of ProcessBench.
    quoted : bool
    """
    found = {table.benchmark: table for table in tables if table.title.startswith("First errors")}
    parts = [found[name] for name in names if name in found]
    if len(parts) < (1 if quoted else 2):
        return []
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
    if quoted:
        note += " Quoted rows are published numbers for the whole splits, with one threshold chosen on GSM8K or none."
    shown = [*columns, "mean"] if len(columns) > 1 else columns
    return [Table("ProcessBench F1", "ProcessBench", shown, rows, note)]


def _split(name: str) -> str:
    return next((split for split in PROCESSBENCH_SPLITS if split in name.lower()), name)


def _with_mean(columns: Sequence[str], values: Sequence[Value]) -> dict[str, Value]:
    found: dict[str, Value] = dict(zip(columns, values, strict=True))
    numbers = [value.value for value in values if isinstance(value, Interval) and value.value is not None]
    if len(numbers) == len(columns):
        found["mean"] = Interval(float(np.mean(numbers)))
    return found


def _bootstrap(
    context: Context, y_true: np.ndarray, problems: np.ndarray, at: dict[str, np.ndarray], is_mr: bool
) -> BootstrapResult:
    names = list(at)

    def statistic(
        y: np.ndarray, *predictions: np.ndarray, sample_weight: np.ndarray
    ) -> dict[str, float | None]:
        predicted = dict(zip(names, predictions, strict=True))
        found = {"F1 at 0.5": first_error_f1_score(y, predicted["0.5"], sample_weight=sample_weight)}
        if "chosen" in predicted:
            parts = first_error_f1_score(
                y, predicted["chosen"], return_parts=True, sample_weight=sample_weight
            )
            found |= dict(zip((_F1, "on erroneous", "on correct"), parts, strict=True))
            found["within one step"] = first_error_position_accuracy(
                y, predicted["chosen"], within=1, sample_weight=sample_weight
            )
            if is_mr:
                found["MCC"] = mr_score_parts(y, predicted["chosen"], sample_weight=sample_weight)["mcc"]
        return found

    return bootstrap_by_problem(
        statistic,
        problems,
        y_true,
        *at.values(),
        n_resamples=context.n_resamples,
        random_state=context.random_state,
    )
