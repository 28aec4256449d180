"""The tables of ``bench_uncertainty.py``: steps, paths, guarantees, shift, and how they are written down."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from prmkit.metrics import aggregate, calibration_report, decompose_uncertainty, selective_report
from prmkit.uncertainty import (
    CalibratedStepClassifier,
    ErrorDetector,
    FirstErrorSet,
    LengthShift,
    MahalanobisShift,
    PathCalibrator,
    PathTriage,
    PrefixCertifier,
    path_uncertainty,
)

Table = list[dict[str, Any]]
_STEP_METRICS = ("ece", "brier_negative", "log_loss", "auroc")
_SELECTIVE_METRICS = ("auroc", "aurc", "prr@1", "prr@0.5", "risk@0.8")


def steps(
    classifier: Any, ensemble: Any, calibration: Any, test: Any, methods: tuple[str, ...], resamples: int
) -> dict[str, Table]:
    """Calibration of P(step is wrong) before and after, and whether doubtful verdicts are wrong."""
    X_known, y_known, _ = calibration.labelled()
    X, y, _ = test.labelled()
    problems = test.problems[[path for path, n in enumerate(_judged(test)) for _ in range(n)]]
    wrong = classifier.classes_.tolist().index("wrong")
    probas = {"before": classifier.predict_proba(X)}
    for method in methods:
        calibrated = CalibratedStepClassifier(classifier, method).fit(X_known, y_known)
        probas[method] = calibrated.predict_proba(X)
    probas["ensemble"] = ensemble.predict_proba(X)
    probas["ensemble, temperature"] = (
        CalibratedStepClassifier(ensemble, "temperature").fit(X_known, y_known).predict_proba(X)
    )
    for name, column in {"position": _index, "length": _log_characters}.items():
        baseline = LogisticRegression().fit(column(X_known), y_known)
        probas[name] = baseline.predict_proba(column(X))[:, np.argsort(np.argsort(classifier.classes_))]
    report = calibration_report(
        y, probas, classes=classifier.classes_, label_order=["wrong", "right"], groups=problems, n_resamples=resamples
    )
    calibrated_table = [
        {"model": name, **{metric: str(values[metric]) for metric in _STEP_METRICS}}
        for name, values in report.metrics.items()
    ]
    risk = probas["temperature"][:, wrong]
    verdict_wrong = ((risk > 0.5) != (y == "wrong")).astype(float)
    members = decompose_uncertainty(ensemble.member_proba(X))
    doubts = {
        "entropy, temperature": -np.abs(risk - 0.5),
        "ensemble, total": members.total,
        "ensemble, epistemic": members.epistemic,
        "position": _index(X)[:, 0],
        "length": _log_characters(X)[:, 0],
    }
    doubt = selective_report(
        verdict_wrong, doubts, groups=problems, n_resamples=resamples, target="step verdict is wrong"
    )
    return {"step calibration": calibrated_table, "step verdicts": _selective(doubt)}


def paths(classifier: Any, ensemble: Any, calibration: Any, test: Any, resamples: int) -> dict[str, Table]:
    """P(no error) as it is and recalibrated; by which number to accept whole solutions."""
    has_error = test.first_errors >= 0
    X_known, y_known, _ = calibration.labelled()
    tempered = CalibratedStepClassifier(classifier, "temperature").fit(X_known, y_known)
    risks = {
        "product of steps": _path_risks(classifier, test),
        "product of calibrated steps": _path_risks(tempered, test),
    }
    for method in ("temperature", "logistic"):
        calibrator = PathCalibrator(classifier, method).fit(calibration.solutions, calibration.first_errors)
        risks[f"path {method}"] = 1 - calibrator.p_no_error(test.solutions)
    for name, column in {"number of steps": _n_steps, "characters": _path_characters}.items():
        baseline = LogisticRegression().fit(column(calibration), calibration.first_errors >= 0)
        risks[name] = baseline.predict_proba(column(test))[:, 1]
    report = calibration_report(
        np.where(has_error, "wrong", "right"),
        {name: np.column_stack([1 - risk, risk]) for name, risk in risks.items()},
        classes=["right", "wrong"],
        label_order=["wrong", "right"],
        groups=test.problems,
        n_resamples=resamples,
    )
    table = [
        {"P(path has an error)": name, **{metric: str(values[metric]) for metric in _STEP_METRICS}}
        for name, values in report.metrics.items()
    ]
    of_steps = [one.rewards for one in classifier.score_solutions(test.solutions)]
    summed = path_uncertainty(ensemble, test.solutions)
    by = {
        "1 - P(no error)": risks["product of steps"],
        **{f"1 - {rule}": 1 - aggregate(of_steps, rule) for rule in ("min", "mean", "last")},
        "ensemble, 1 - P(no error)": np.array([one.risk for one in summed]),
        "ensemble, epistemic": np.array([one.epistemic for one in summed]),
        "number of steps": risks["number of steps"],
        "characters": risks["characters"],
    }
    accepted = selective_report(
        has_error.astype(float), by, groups=test.problems, n_resamples=resamples, target="accepted path has an error"
    )
    return {"path calibration": table, "path acceptance": _selective(accepted)}


def guarantees(classifier: Any, everything: Any, halves: Callable[..., Any], n_splits: int) -> dict[str, Table]:
    """Failure rates and usefulness over random halves; the risks are computed once."""
    by_model = [one.risks for one in classifier.score_solutions(everything.solutions)]
    sources = {
        "classifier": by_model,
        "position": [1 - 1 / (np.arange(len(risks)) + 2.0) for risks in by_model],
        "length": [
            1 - 1 / (1.0 + np.array([len(text) for text in solution.steps])) for solution in everything.solutions
        ],
        "constant": [np.full(len(risks), 0.5) for risks in by_model],
    }
    table = []
    for level in (0.1, 0.2):
        for name, guarantee, failure, useful in _promises(level):
            for source, risks in sources.items():
                if source != "classifier" and not name.startswith(("prefix", "detector")):
                    continue
                rates = list(_over_halves(guarantee, risks, everything, halves, n_splits))
                failed = np.array([failure(found) for found in rates])
                table.append(
                    {
                        "guarantee": name,
                        "level": level,
                        "risk by": source,
                        "failure": f"{failed.mean():.3f} ± {failed.std(ddof=1) / np.sqrt(n_splits):.3f}",
                        "its spread": _spread(failed),
                        **{what: _mean_and_spread(rates, key) for what, key in useful.items()},
                    }
                )
    columns = list(dict.fromkeys(key for row in table for key in row))
    return {"guarantees": [{key: row.get(key) for key in columns} for row in table]}


def shift(X: list[Any], y: np.ndarray, calibration: Any, test: Any) -> dict[str, Table]:
    """Whether ProcessBench's solutions, and the same with their steps shuffled, look unlike the training data."""
    rng = np.random.default_rng(0)
    chosen = np.sort(rng.choice(len(X), size=min(len(X), 8000), replace=False))
    X, y = [X[i] for i in chosen], y[chosen]
    detectors = {"Mahalanobis": MahalanobisShift(), "length": LengthShift()}
    easy = np.array(["gsm8k" in solution.meta["dataset"] for solution in test.solutions])
    known = [solution for solution in calibration.solutions if "math" in solution.meta["dataset"]]
    table = []
    for name, detector in detectors.items():
        detector.fit(X, y).calibrate(known)
        scores, p_values = detector.score(test.solutions), detector.p_value(test.solutions)
        table.append(
            {
                "detector": name,
                "flagged at 0.05, math": float(np.mean(p_values[~easy] <= 0.05)),
                "flagged at 0.05, gsm8k": float(np.mean(p_values[easy] <= 0.05)),
                "AUROC gsm8k against math": float(roc_auc_score(easy, scores)),
                "AUROC path has an error": float(roc_auc_score(test.first_errors >= 0, scores)),
            }
        )
    return {"shift": table}


def markdown(results: Mapping[str, Any], n_splits: int) -> str:
    """Return all tables as a page."""
    data = results["data"]
    head = [
        "# Uncertainty on problems of another data set",
        "",
        f"`benchmarks/bench_uncertainty.py`: `PRMClassifier()` trained on {data['training_steps']:,} steps of PRM800K "
        f"and PRMBench; calibrated on {data['calibration_paths']} solutions of {data['calibration_problems']} "
        f"ProcessBench problems (gsm8k, math), tested on {data['test_paths']} solutions of {data['test_problems']} "
        f"others, {data['test_with_error']} with an error. Labels wrong/right; ECE of P(wrong) with 15 bins of equal "
        "width; intervals (95 %) resample problems. Nothing was chosen on the test half.",
    ]
    notes = {
        "step calibration": "P(step is wrong), steps up to the first error. `position` and `length` (characters) are "
        "logistic regressions on the calibration half; `constant` is the class shares.",
        "step verdicts": "Verdict: P(wrong) > 0.5 after temperature. Which verdicts are wrong? The most uncertain are "
        "rejected first.",
        "path calibration": "P(path has an error).",
        "path acceptance": "Which solutions can be accepted: loss 1 where an accepted one has an error; the riskiest "
        "are rejected first.",
        "guarantees": f"Over {n_splits:,} random halves of the 655 problems: observed failure rate (mean ± standard "
        "error of the mean over halves), which must not exceed the level on average, and what is left to use; in "
        "brackets where 90 % of the halves lie. A perfect verifier keeps .612 of the steps.",
        "shift": "Calibrated on math solutions of the calibration half; p-values of the test half.",
    }
    parts = ["\n".join(head)]
    for name, note in notes.items():
        parts += [f"## {name[0].upper()}{name[1:]}\n\n{note}", _as_markdown(results[name])]
    return "\n\n".join(parts) + "\n"


def _promises(level: float) -> Iterator[tuple[str, Any, Callable[[Any], float], dict[str, str]]]:
    def missing(key: str) -> Callable[[Any], float]:
        return lambda found: 1 - found[key]

    kept = {"kept": "kept_fraction"}
    yield "prefix", PrefixCertifier(alpha=level), lambda found: found["failure_rate"], kept
    yield ("prefix, delta 0.1", PrefixCertifier(alpha=level, delta=0.1), lambda found: found["failure_rate"], kept)
    alarms = {"false alarms": "false_alarm_rate"}
    yield "detector", ErrorDetector(recall=1 - level), missing("recall"), alarms
    yield "detector, delta 0.1", ErrorDetector(recall=1 - level, delta=0.1), missing("recall"), alarms
    yield "first-error set", FirstErrorSet(alpha=level), missing("coverage"), {"set size": "mean_size"}
    triage = PathTriage(accept_error=level, reject_error=level)
    shares = {"accepted": "accepted", "escalated": "escalated", "rejected": "rejected"}
    yield "triage, accepted wrongly", triage, lambda found: found["accepted_with_error"], shares


def _over_halves(
    guarantee: Any, risks: list[np.ndarray], everything: Any, halves: Callable[..., Any], n_splits: int
) -> Iterator[dict[str, Any]]:
    rng = np.random.default_rng(1)
    for _ in range(n_splits):
        known, new = halves(everything.problems, rng)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # not attainable: says the table
            guarantee.fit([risks[i] for i in known], everything.first_errors[known], everything.problems[known])
        yield guarantee.evaluate([risks[i] for i in new], everything.first_errors[new], everything.problems[new])


def _spread(values: np.ndarray) -> str:
    return "[{:.3f}, {:.3f}]".format(*np.quantile(values, [0.05, 0.95]))


def _mean_and_spread(rates: list[dict[str, Any]], key: str) -> str:
    values = np.array([found[key] for found in rates])
    return f"{values.mean():.3f} {_spread(values)}"


def _selective(report: Any) -> Table:
    return [
        {"uncertainty": name, **{metric: str(values[metric]) for metric in _SELECTIVE_METRICS}}
        for name, values in report.metrics.items()
    ]


def _judged(part: Any) -> list[int]:
    return [
        solution.n_steps if error < 0 else error + 1
        for solution, error in zip(part.solutions, part.first_errors.tolist(), strict=True)
    ]


def _path_risks(classifier: Any, part: Any) -> np.ndarray:
    return np.array([1 - one.p_no_error for one in classifier.score_solutions(part.solutions)])


def _index(X: list[Any]) -> np.ndarray:
    return np.array([[step.index] for step in X], dtype=float)


def _log_characters(X: list[Any]) -> np.ndarray:
    return np.log1p([[len(step.text)] for step in X])


def _n_steps(part: Any) -> np.ndarray:
    return np.log([[solution.n_steps] for solution in part.solutions])


def _path_characters(part: Any) -> np.ndarray:
    return np.log1p([[sum(map(len, solution.steps))] for solution in part.solutions])


def _as_markdown(table: Table) -> str:
    def cell(value: Any) -> str:
        return "" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)

    lines = ["| " + " | ".join(table[0]) + " |", "|" + "---|" * len(table[0])]
    return "\n".join(lines + ["| " + " | ".join(map(cell, row.values())) + " |" for row in table])
