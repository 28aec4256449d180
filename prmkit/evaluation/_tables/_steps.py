"""Tables and curves of single steps: how well wrong steps are found, and whether probabilities are calibrated."""

from __future__ import annotations

import numpy as np

from prmkit.evaluation._evaluation import Curve, LeftOut, Row, Series, Table
from prmkit.evaluation._tables._context import (
    BASELINES_NOTE,
    NO_NEUTRAL,
    Context,
    choose_by_steps,
    no_threshold_note,
    thresholds,
    thresholds_note,
)
from prmkit.metrics import reliability_curve, risk_coverage_curve
from prmkit.metrics.bootstrap import Interval, bootstrap_systems, problem_numbers
from prmkit.metrics.steps.step_metrics import WeightedStepMetrics, macro_f1

_MOST_POINTS = 100
# The share of wrong steps in a smaller bin is mostly chance.
_FEWEST_STEPS = 10


def step_curves(context: Context) -> list[Curve]:
    """Return the reliability and the risk-coverage curves of a benchmark's labelled steps."""
    benchmark = context.benchmark
    kept = ~np.isnan(benchmark.step_labels)
    if not kept.any():
        return []
    wrong = benchmark.step_labels[kept] < 0
    reliability, coverage = [], []
    for system in context.systems:
        risks, ranking, half = system.scores.risks[kept], system.scores.ranking[kept], system.scores.half
        if not system.baseline:
            mean_risk, share, counts = reliability_curve(wrong, risks)
            enough = counts >= min(_FEWEST_STEPS, counts.max())
            reliability.append(Series(system.name, mean_risk[enough], share[enough]))
        loss = (ranking > half) != wrong
        curve = risk_coverage_curve(loss, -np.abs(ranking - half))
        points = np.unique(np.linspace(0, len(loss) - 1, _MOST_POINTS).round().astype(int))
        coverage.append(Series(system.name, curve.coverages[points], curve.risks[points], baseline=system.baseline))
    name = benchmark.name
    return [
        Curve(f"Reliability, {name}", name, "reliability", "mean P(wrong)", "share of wrong steps", reliability),
        Curve(
            f"Risk and coverage, {name}",
            name,
            "risk_coverage",
            "share of steps decided, surest first",
            "share of wrong verdicts at 0.5",
            coverage,
        ),
    ]


_CHOSEN = "macro-F1"
_COLUMNS = {
    "AUROC": "auroc",
    "average precision": "average_precision",
    "macro-F1 at 0.5": "macro_f1",
    "accuracy at 0.5": "accuracy",
    "log-loss": "log_loss",
    "ECE": "ece",
}
_THREE = {"macro-F1": "macro_f1", "accuracy": "accuracy"} | {
    f"F1 of {name}": f"f1[{name}]" for name in ("negative", "neutral", "positive")
}


def step_tables(context: Context) -> list[Table | LeftOut]:
    """Return the table of steps, and a table of three classes, or why it is left out, if steps are rated neutral."""
    labels = context.benchmark.step_labels
    if np.isnan(labels).all():
        return []
    tables: list[Table | LeftOut] = [_binary(context)]
    if (labels == 0).any():
        tables.append(_three_classes(context))
    return tables


def _binary(context: Context) -> Table:
    benchmark = context.benchmark
    kept = ~np.isnan(benchmark.step_labels)
    right = (benchmark.step_labels[kept] >= 0).astype(np.int64)  # classes from worst to best
    problems, n_problems = problem_numbers(benchmark.step_problems[kept])
    computed, confusions, texts = {}, {}, {}
    for system in context.systems:
        risks, ranking = system.scores.risks[kept], system.scores.ranking[kept]
        proba = np.column_stack([risks, 1 - risks])
        at_half = (ranking <= system.scores.half).astype(np.int64)
        computed[system.name] = WeightedStepMetrics(right, proba, at_half, problems, ("wrong", "right"), ranking)
        chosen = thresholds(benchmark, system, choose_by_steps, context.threshold_data, context.random_state)
        if chosen is not None:
            limits = np.repeat(chosen.by_solution, benchmark.lengths)[kept]
            cells = 2 * right + (ranking <= limits)
            counts = np.bincount(4 * problems + cells, minlength=4 * n_problems).reshape(n_problems, 4)
            confusions[system.name], texts[system.name] = counts.T.astype(np.float64), chosen.text

    def statistic(counts: np.ndarray) -> dict[str, dict[str, float | None]]:
        numbers = {name: metrics(counts) for name, metrics in computed.items()}
        for name, cells in confusions.items():
            numbers[name][_CHOSEN] = macro_f1((cells * counts).sum(axis=1).reshape(2, 2))
        return numbers

    results = bootstrap_systems(statistic, n_problems, context.n_resamples, context.random_state, lifted=["ece"])
    rows, first = [], context.compared_with
    n, n_wrong = len(right), int((right == 0).sum())
    for system in context.systems:
        name = system.name
        values = {column: results[name].interval(metric) for column, metric in _COLUMNS.items()}
        # The mean over two classes is undefined if one of them does not occur.
        if n_wrong in (0, n):
            values["macro-F1 at 0.5"] = Interval(None)
        if name in confusions:
            values[_CHOSEN] = results[name].interval(_CHOSEN)
        if first not in (None, name):
            values[f"AUROC minus {first}"] = results[name].minus(results[first], "auroc")
        rows.append(Row(name, {**values, "risk threshold": texts.get(name)}, system.baseline))
    return Table(
        f"Steps of {benchmark.name}",
        benchmark.name,
        [
            "AUROC",
            "average precision",
            _CHOSEN,
            "risk threshold",
            *list(_COLUMNS)[2:],
            *([f"AUROC minus {first}"] if first else []),
        ],
        rows,
        context.note(
            f"{n:,} labelled steps, {n_wrong / n:.1%} wrong. AUROC, average precision and ECE (15 bins) of P(wrong)",
            "Macro-F1 calls a step wrong if its risk is above the threshold",
            thresholds_note(benchmark, context.threshold_data),
            *no_threshold_note(
                [row.system for row in rows if _CHOSEN not in row.values], _CHOSEN, "right and wrong steps"
            ),
            BASELINES_NOTE,
        ),
    )


def _three_classes(context: Context) -> Table | LeftOut:
    benchmark = context.benchmark
    title = f"Three classes of {benchmark.name}"
    systems = [system for system in context.systems if system.scores.neutral is not None]
    if all(system.baseline for system in systems):
        return LeftOut(title, benchmark.name, NO_NEUTRAL)
    kept = ~np.isnan(benchmark.step_labels)
    classes = benchmark.step_labels[kept].astype(np.int64) + 1
    problems, n_problems = problem_numbers(benchmark.step_problems[kept])
    computed = {}
    for system in systems:
        assert system.scores.neutral is not None
        risks, neutral = system.scores.risks[kept], system.scores.neutral[kept]
        proba = np.column_stack([risks, neutral, 1 - risks - neutral])
        names = ("negative", "neutral", "positive")
        computed[system.name] = WeightedStepMetrics(classes, proba, proba.argmax(axis=1), problems, names)
    results = bootstrap_systems(
        lambda counts: {name: metrics(counts) for name, metrics in computed.items()},
        n_problems,
        context.n_resamples,
        context.random_state,
    )
    values_of = {
        system.name: {column: results[system.name].interval(metric) for column, metric in _THREE.items()}
        for system in systems
    }
    # The mean over three classes is undefined if one of them does not occur.
    if len(np.unique(classes)) < 3:
        for values in values_of.values():
            values["macro-F1"] = Interval(None)
    rows = [Row(system.name, {**values_of[system.name]}, system.baseline) for system in systems]
    note = context.note(
        "Negative, neutral and positive steps. The prediction of a system is its likeliest class", BASELINES_NOTE
    )
    return Table(title, benchmark.name, list(_THREE), rows, note)
