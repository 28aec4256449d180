"""What tells a wrong sample: models, agreement of the answers, and length, paired by problem."""

from __future__ import annotations

import numpy as np

from prmkit.evaluation._evaluation import LeftOut, Row, Table
from prmkit.evaluation._tables._context import Context, System
from prmkit.features.agreement.answers import answer_agreement
from prmkit.metrics import Interval, aggregate, selective_report

_COLUMNS = {"auroc": "AUROC", "aurc": "AURC", "prr@1": "PRR"}
_LENGTH, _DISAGREEMENT = "length", "disagreement"


def wrong_samples(context: Context) -> list[Table | LeftOut]:
    """Return the table of what tells a wrong sample, and the same minus the plainest baseline."""
    benchmark = context.benchmark
    assert benchmark.candidates is not None
    title, name = f"Wrong samples, {benchmark.name}", benchmark.name
    wrong = ~np.asarray(benchmark.candidates.correct, dtype=bool)
    if wrong.all() or not wrong.any():
        return [LeftOut(title, name, f"all samples are {'wrong' if wrong[0] else 'right'}")]
    scores = {key: score for one in context.systems if not one.baseline for key, score in _risks(context, one).items()}
    n_characters = np.array([sum(map(len, one.steps)) for one in benchmark.solutions], dtype=np.float64)
    disagreement = answer_agreement(benchmark.candidates.answer_keys, benchmark.candidates.sets).disagreement
    baselines = {_LENGTH: n_characters}
    if any(key is not None for key in benchmark.candidates.answer_keys) and not np.isnan(disagreement).all():
        baselines = {_DISAGREEMENT: disagreement, _LENGTH: n_characters}
    first = next(iter(baselines))
    every = baselines | scores
    known = np.logical_and.reduce([np.isfinite(values) for values in every.values()])
    if len(np.unique(wrong[known])) < 2:
        return [LeftOut(title, name, "no right and wrong samples have all scores")]
    report = selective_report(
        wrong[known],
        {key: values[known] for key, values in every.items()},
        benchmark.problems[known],
        n_resamples=context.n_resamples,
        random_state=context.random_state,
    )
    order = [*scores, *baselines]
    rows = [Row(key, {_COLUMNS[m]: report.metrics[key][m] for m in _COLUMNS}, key in baselines) for key in order]
    gains = [
        Row(key, {_COLUMNS[m]: _turned(report.differences[key][m]) for m in _COLUMNS}, key in baselines)
        for key in order
        if key != first
    ]
    lost = f". {int((~known).sum()):,} samples lack a score and are left out for all" if not known.all() else ""
    note = context.note(
        f"{int(wrong[known].sum()):,} of {int(known.sum()):,} samples are wrong{lost}",
        "Higher is better: AUROC of a wrong sample, PRR; lower is better: AURC, the mean share of wrong samples among "
        "those that are kept",
        "Disagreement is the share of the other samples of the problem with another answer. Length counts characters",
    )
    columns = list(_COLUMNS.values())
    return [
        Table(title, name, columns, rows, note),
        Table(f"Wrong samples minus {first}, {name}", name, columns, gains, note),
    ]


def _risks(context: Context, system: System) -> dict[str, np.ndarray]:
    """Return how likely each sample is wrong: what a model says of it, or the lowest reward of its steps and others."""
    paths, is_raw = context.benchmark.rows(system.scores.rewards).split(), system.scores.raw is not None
    rules = ("last",) if system.scores.of_solutions else ("min", "mean", "last", *([] if is_raw else ["product"]))
    found = {rule: -aggregate(paths, rule, probabilities=not is_raw, unscored=np.nan) for rule in rules}
    return {system.name if system.scores.of_solutions else f"{system.name}, {rule}": one for rule, one in found.items()}


def _turned(difference: Interval) -> Interval:
    """Return b - a for a - b."""
    value, low, high = (None if one is None else -one for one in (difference.value, difference.high, difference.low))
    return Interval(value, low, high, difference.n_undefined)
