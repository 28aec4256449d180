"""The metrics, intervals and tables of bench_quality.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from _quality_models import CAUSAL, DEFAULT, LABELS, LOOK_AHEAD

from prmkit.metrics.bootstrap import BootstrapResult, Interval
from prmkit.metrics.steps.step_metrics import WeightedStepMetrics

LEAKY = "prm800k_train"
METRICS = {
    "auroc": "AUROC",
    "average_precision": "AP",
    "macro_f1": "macro-F1",
    "macro_f1_likeliest": "macro-F1, likeliest class",
    "accuracy": "accuracy",
    "log_loss": "log-loss",
}
CRITERIA = tuple(METRICS)[:3]
Metrics = Callable[[np.ndarray], dict[str, float]]
Results = Mapping[str, Mapping[str, BootstrapResult]]  # by protocol and data set, "mean" among these


def measure(y: np.ndarray, proba: np.ndarray, weighed: np.ndarray, problems: np.ndarray) -> Metrics:
    """The metrics of one model as a function of how often each problem counts."""
    negative, risk = (y != 0).astype(int), proba[:, 0]
    decided = WeightedStepMetrics(y, proba, weighed.argmax(axis=1), problems, LABELS.tolist())
    likeliest = WeightedStepMetrics(y, proba, proba.argmax(axis=1), problems, LABELS.tolist())
    of_risk = WeightedStepMetrics(
        negative, np.column_stack([risk, 1 - risk]), negative, problems, ("negative", "other")
    )

    def metrics(counts: np.ndarray) -> dict[str, float]:
        found = decided(counts)
        found["macro_f1_likeliest"] = likeliest(counts)["macro_f1"]
        found["log_loss"] = of_risk(counts)["log_loss"]
        return {name: found[name] for name in METRICS}

    return metrics


def together(measured: Mapping[str, Metrics]) -> Metrics:
    """The metrics of several models as one function, so that they share their resamples."""
    return lambda counts: {
        f"{name}/{metric}": value for name, metrics in measured.items() for metric, value in metrics(counts).items()
    }


def mean(results: list[BootstrapResult]) -> BootstrapResult:
    """The plain mean over data sets, resampled independently of each other."""
    names = list(results[0].estimates)
    return BootstrapResult(
        {name: float(np.mean([result.estimates[name] for result in results])) for name in names},
        {name: np.mean([result.replicates[name] for result in results], axis=0) for name in names},
    )


def lost(result: BootstrapResult, name: str, metric: str) -> bool:
    """Whether the interval of default minus the other lies on the wrong side of 0."""
    difference = result.difference(f"{DEFAULT}/{metric}", f"{name}/{metric}")
    if difference.low is None or difference.high is None:
        return False
    return difference.low > 0 if metric == "log_loss" else difference.high < 0


def tables(results: Results, names: list[str]) -> dict[str, list[dict[str, Any]]]:
    """Every table of the report, by its title."""
    shown: dict[str, list[dict[str, Any]]] = {}
    others = [name for name in names if name != DEFAULT]
    for protocol, per_dataset in results.items():
        average = per_dataset["mean"]
        rows = []
        for name in names:
            row = {"model": name} | {
                shown_as: f"{average.estimates[f'{name}/{metric}']:.3f}" for metric, shown_as in METRICS.items()
            }
            for metric in CRITERIA:
                difference = average.difference(f"{DEFAULT}/{metric}", f"{name}/{metric}")
                row[f"default − it: {METRICS[metric]}"] = "" if name == DEFAULT else signed(difference)
            rows.append(row)
        shown[f"{protocol}: mean over {len(per_dataset) - 1} data sets"] = rows
        for metric in CRITERIA:
            shown[f"{protocol}, {METRICS[metric]} per data set"] = [
                {"data set": dataset} | {name: f"{r.estimates[f'{name}/{metric}']:.3f}" for name in names}
                for dataset, r in per_dataset.items()
            ]
    shown["clearly lost: the interval of default − other lies on the wrong side of 0"] = [
        {
            "protocol": protocol,
            "metric": METRICS[metric],
            "data set": dataset,
            "to": name,
            "default": f"{result.estimates[f'{DEFAULT}/{metric}']:.3f}",
            "other": f"{result.estimates[f'{name}/{metric}']:.3f}",
            "difference": signed(result.difference(f"{DEFAULT}/{metric}", f"{name}/{metric}")),
        }
        for protocol, per_dataset in results.items()
        for metric in CRITERIA
        for dataset, result in per_dataset.items()
        for name in others
        if lost(result, name, metric)
    ]
    if {CAUSAL, LOOK_AHEAD} <= set(names):
        shown["the leak: look-ahead transformer − its causal twin"] = list(leak(results))
    return shown


def leak(results: Results) -> Iterator[dict[str, Any]]:
    """What seeing later steps gains where solutions end at their first error, and elsewhere."""
    for protocol, per_dataset in results.items():
        elsewhere = [r for dataset, r in per_dataset.items() if dataset not in (LEAKY, "mean")]
        there = [per_dataset[LEAKY]] if LEAKY in per_dataset else []
        for place, parts in ((LEAKY, there), ("mean of the others", elsewhere)):
            if not parts:
                continue
            result = mean(parts)
            row = {"protocol": protocol, "on": place}
            for metric in CRITERIA[:2]:
                names = [f"{name}/{metric}" for name in (LOOK_AHEAD, CAUSAL, DEFAULT)]
                for shown_as, name in zip(("look-ahead", "causal", "default"), names, strict=True):
                    row[f"{METRICS[metric]}, {shown_as}"] = f"{result.estimates[name]:.3f}"
                row[f"{METRICS[metric]}, look-ahead − causal"] = signed(result.difference(*names[:2]))
            yield row


def signed(difference: Interval) -> str:
    if difference.low is None:
        return f"{difference.value:+.3f}"
    return f"{difference.value:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}]"


def markdown(
    shown: dict[str, list[dict[str, Any]]],
    notes: list[str],
    title: str = "Quality of the default model beside its baselines",
) -> str:
    """The same tables as a page; ``notes`` say where they come from."""
    lines = [f"# {title}", "", *notes]
    for title, rows in shown.items():
        lines += ["", f"## {title}", ""]
        if not rows:
            lines.append("None.")
            continue
        lines += ["| " + " | ".join(rows[0]) + " |", "|---" * len(rows[0]) + "|"]
        cells = ([f"{v:.1f}" if isinstance(v, float) else str(v) for v in row.values()] for row in rows)
        lines += ["| " + " | ".join(row) + " |" for row in cells]
    return "\n".join(lines) + "\n"


def values(results: Results, names: Sequence[str]) -> dict[str, Any]:
    """Every number, and what the default has more as text with its interval, for JSON."""
    written: dict[str, Any] = {}
    for protocol, per_dataset in results.items():
        for dataset, result in per_dataset.items():
            for name in names:
                of_model = written.setdefault(protocol, {}).setdefault(dataset, {}).setdefault(name, {})
                for metric in METRICS:
                    of_model[metric] = round(result.estimates[f"{name}/{metric}"] or 0.0, 4)
                    if name != DEFAULT:
                        difference = result.difference(f"{DEFAULT}/{metric}", f"{name}/{metric}")
                        of_model[f"default minus its {metric}"] = signed(difference)
    return written
