"""The table to print for every step classifier: its metrics beside two baselines that need no model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from prmkit.data.labels import resolve_label_order
from prmkit.data.solution import Step, as_steps, problem_groups
from prmkit.metrics._report_table import html_table, interval_note, metrics_frame, text_table
from prmkit.metrics.bootstrap import Interval, bootstrap_counts, problem_numbers
from prmkit.metrics.calibration.calibration import check_class_probabilities
from prmkit.metrics.steps.step_metrics import HEADLINES, N_BINS, WeightedStepMetrics
from prmkit.metrics.steps.threshold import majority_baseline, position_baseline, position_baseline_out_of_fold


@dataclass(frozen=True)
class StepRows:
    """Labelled steps: classes are numbered, and columns ordered, from worst to best."""

    y: np.ndarray
    proba: np.ndarray
    classes: tuple[Any, ...]
    column_order: np.ndarray  # which of the caller's columns each class was

    groups: np.ndarray | None
    positions: np.ndarray | None


def check_rows(
    y_true: Any,
    proba: Any,
    classes: Sequence[Any] | None = None,
    label_order: Sequence[Any] | None = None,
    steps: Any = None,
    groups: Any = None,
    positions: Any = None,
) -> StepRows:
    """Check a report's input; the errors say what was found and what was expected."""
    proba = np.asarray(proba, dtype=np.float64)
    labels = _plain(y_true)
    if proba.ndim != 2 or proba.shape[1] < 2:
        raise ValueError(
            f"proba has shape {proba.shape}, expected (n_steps, n_classes): np.c_[risk, 1 - risk] for a risk"
        )
    if len(labels) != len(proba):
        raise ValueError(f"y_true has {len(labels)} labels and proba {len(proba)} rows, expected the same")
    if not labels:
        raise ValueError("y_true is empty: at least 1 labelled step is required")
    names = _class_names(labels, classes, proba.shape[1])
    ordered = resolve_label_order(names, label_order)
    if ordered is None:
        raise ValueError(f"nothing tells which of {names} is worst: pass label_order=[worst, …, best]")
    columns = np.array([names.index(label) for label in ordered])
    proba = check_class_probabilities(proba, (len(labels), len(ordered)))[:, columns]
    if steps is not None:
        steps = as_steps(steps)
        groups = problem_groups(steps) if groups is None else groups
        positions = [step.index for step in steps] if positions is None else positions
    return StepRows(
        _class_numbers(labels, ordered, "y_true"),
        proba,
        ordered,
        columns,
        _per_row(groups, len(labels), "groups"),
        _check_positions(_per_row(positions, len(labels), "positions"), "positions"),
    )


def decide(proba: np.ndarray, column_order: np.ndarray, threshold: float | None) -> np.ndarray:
    """Return the class number of each row: negative above the threshold, else the likeliest (other) class."""
    caller_order = np.argsort(column_order)
    likeliest = caller_order[proba[:, caller_order].argmax(axis=1)]  # ties as predict breaks them
    if threshold is None:
        return likeliest
    return np.where(proba[:, 0] > threshold, 0, 1 + proba[:, 1:].argmax(axis=1))


def predicted_numbers(rows: StepRows, y_pred: Any) -> np.ndarray:
    """Return the class number of each predicted label."""
    labels = _plain(y_pred)
    if len(labels) != len(rows.y):
        raise ValueError(f"y_pred has {len(labels)} labels for {len(rows.y)} steps, expected one per step")
    return _class_numbers(labels, rows.classes, "y_pred")


def baselines(
    rows: StepRows, reference: tuple[Any, Any] | None, random_state: int | np.random.Generator | None
) -> tuple[dict[str, np.ndarray], str]:
    """Return the probabilities of the baselines by name, and in words where they come from."""
    n_steps, n_classes = rows.proba.shape
    if reference is not None:
        where, labels = reference
        train_y = _class_numbers(_plain(labels), rows.classes, "reference labels")
        where = None if where is None else _reference_positions(where, len(train_y))
        found = {"majority": majority_baseline(train_y, n_steps, n_classes)}
        if rows.positions is not None and where is not None:
            found["position"] = position_baseline(rows.positions, n_classes, train=(where, train_y))
        return found, f"class shares (at each step index) of {len(train_y):,} reference steps"
    found = {"majority": majority_baseline(rows.y, n_steps, n_classes)}
    source = "majority from the class shares of these steps"
    if rows.positions is not None:
        groups = None if rows.groups is None else problem_numbers(rows.groups)[0]
        found["position"] = position_baseline_out_of_fold(
            rows.positions, rows.y, n_classes, groups=groups, random_state=random_state
        )
        by = "row" if groups is None else "problem"
        source += f"; position (step index alone) fitted on these steps, out of fold by {by}"
    return found, source


def _class_names(labels: list[Any], classes: Sequence[Any] | None, n_columns: int) -> list[Any]:
    if classes is not None:
        names = _plain(classes)
        if len(names) != n_columns:
            raise ValueError(f"classes has {len(names)} labels and proba {n_columns} columns: {names}")
        return names
    names = sorted(set(labels), key=lambda label: (str(type(label)), label))
    if len(names) != n_columns:
        raise ValueError(
            f"y_true holds {len(names)} labels ({names[:5]}) and proba has {n_columns} columns: "
            "pass classes=classifier.classes_"
        )
    return names


def _class_numbers(labels: list[Any], ordered: Sequence[Any], name: str) -> np.ndarray:
    number = {label: i for i, label in enumerate(ordered)}
    unknown = {repr(label) for label in labels if label not in number}
    if unknown:
        raise ValueError(
            f"{name} holds {', '.join(sorted(unknown)[:5])}, expected only {list(ordered)}: "
            "leave out rows without a label, and name all labels in classes"
        )
    return np.array([number[label] for label in labels], dtype=np.int64)


def _plain(values: Any) -> list[Any]:
    array = values if hasattr(values, "tolist") else np.asarray(list(values), dtype=object)
    if getattr(array, "ndim", 1) != 1:
        raise ValueError(f"found labels of shape {array.shape}, expected one label per row")
    return [value.item() if isinstance(value, np.generic) else value for value in array.tolist()]


def _per_row(values: Any, n_rows: int, name: str) -> np.ndarray | None:
    if values is None:
        return None
    array = np.asarray(values)
    if array.shape != (n_rows,):
        raise ValueError(f"{name} has shape {array.shape}, expected ({n_rows},): one value per row")
    return array


def _check_positions(positions: np.ndarray | None, name: str) -> np.ndarray | None:
    if positions is not None and (positions.dtype.kind not in "iu" or positions.min() < 0):
        raise ValueError(f"{name} are not all integers of at least 0, expected 0-based step indices")
    return positions


def _reference_positions(where: Any, n_rows: int) -> np.ndarray | None:
    first = next(iter(where), None)
    values = [step.index for step in as_steps(where)] if isinstance(first, (Step, str)) else where
    return _check_positions(_per_row(values, n_rows, "reference positions"), "reference positions")


_SHOWN_NAMES = {
    "macro_f1": "macro-F1",
    "balanced_accuracy": "balanced accuracy",
    "auroc": "AUROC of negative",
    "average_precision": "average precision of negative",
    "brier": "Brier (sum over classes)",
    "log_loss": "log-loss",
    "ece": f"ECE of P(negative), {N_BINS} bins",
}


@dataclass(frozen=True, repr=False)
class StepReport:
    """Metrics of step probabilities beside the baselines; made by :func:`step_report`.

    Parameters
    ----------
    n_steps : int
    n_problems : int or None
        None: no groups were given, so there are no intervals.
    classes : tuple
        From worst to best; the first is "the negative class".
    class_shares : dict of class to float
    metrics : dict of str to dict of str to Interval
        ``metrics["model"]["macro_f1"]``; beside the model stand majority and, where positions are known,
        position. Per class: ``"precision[-1]"``, ``"recall[-1]"``, ``"f1[-1]"``.
    differences : dict of str to dict of str to Interval
        ``differences["position"]["auroc"]`` is model minus position baseline, resampled in pairs.
    support : dict of class to int
    predicted : bool
        Whether the labels of the model are its own predictions.
    threshold : float or None
        A step was called negative if its risk was above it; None: the likeliest class was taken, unless
        ``predicted``.
    threshold_source : str or None
        The data that chose it.
    baseline_source : str
        Where the baselines learned their shares.
    n_resamples : int
    confidence_level : float
    """

    n_steps: int
    n_problems: int | None
    classes: tuple[Any, ...]
    class_shares: Mapping[Any, float]
    metrics: Mapping[str, Mapping[str, Interval]]
    differences: Mapping[str, Mapping[str, Interval]]
    support: Mapping[Any, int]
    predicted: bool
    threshold: float | None
    threshold_source: str | None
    baseline_source: str
    n_resamples: int
    confidence_level: float

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain Python values, ready for JSON; labels that are keys become strings."""
        result = asdict(self)
        result["classes"] = list(self.classes)
        for name in ("class_shares", "support"):
            result[name] = {str(label): value for label, value in result[name].items()}
        if self.threshold is not None and not np.isfinite(self.threshold):
            result["threshold"] = str(self.threshold)  # JSON has no infinity
        return result

    def to_frame(self) -> Any:
        """Return a pandas DataFrame: one row per metric, columns (model, value), (model, low), …"""
        return metrics_frame(self.metrics)

    def __str__(self) -> str:
        lines = text_table(self.metrics, self._shown_names())
        n_headlines = len(HEADLINES) + 1
        table = [*lines[:n_headlines], "", *lines[n_headlines:]]
        return "\n".join([*self._head(), "", *table, "", *self._notes()])

    def __repr__(self) -> str:
        shown = ", ".join(f"{name} {self.metrics['model'][name]}" for name in ("macro_f1", "auroc"))
        return f"<StepReport: {self.n_steps} steps, {shown}>"

    def _repr_html_(self) -> str:
        return html_table(self.metrics, self._shown_names(), self._head(), self._notes())

    def _shown_names(self) -> dict[str, str]:
        return {name: _SHOWN_NAMES.get(name, name.replace("[", " [")) for name in self.metrics["model"]}

    def _head(self) -> list[str]:
        of_problems = f" of {self.n_problems:,} problems" if self.n_problems is not None else ""
        shares = ", ".join(
            f"{label} {share:.1%} ({self.support[label]:,})" for label, share in self.class_shares.items()
        )
        return [f"{self.n_steps:,} steps{of_problems}", f"classes, worst first: {shares}"]

    def _notes(self) -> list[str]:
        if self.predicted:
            notes = ["decision: the classifier's own predictions; the baselines take their likeliest class"]
        elif self.threshold is None:
            notes = ["decision: the likeliest class"]
        else:
            source = self.threshold_source or "data that was not named"
            notes = [
                f"decision: {self.classes[0]} if its probability is above {self.threshold:.4g} (chosen on "
                f"{source}), else the likeliest other class; the baselines take their likeliest class"
            ]
        notes.append(f"baselines: {self.baseline_source}")
        if absent := [label for label, n in self.support.items() if not n]:
            notes.append(f"means over classes leave out {absent}: no step has that label")
        notes += interval_note(self.n_problems, self.n_resamples, self.confidence_level, "groups or steps")
        return notes


def step_report(
    y_true: Any,
    proba: Any,
    *,
    classes: Sequence[Any] | None = None,
    label_order: Sequence[Any] | None = None,
    steps: Any = None,
    groups: Any = None,
    positions: Any = None,
    reference: tuple[Any, Any] | None = None,
    y_pred: Any = None,
    threshold: float | None = None,
    threshold_source: str | None = None,
    n_resamples: int = 1000,
    confidence_level: float = 0.95,
    random_state: int | np.random.Generator | None = 0,
) -> StepReport:
    """Report step metrics with problem-level intervals beside the majority and the position baseline.

    Parameters
    ----------
    y_true : array-like of shape (n_steps,)
        Labels of the labelled steps.
    proba : array-like of shape (n_steps, n_classes)
        As ``predict_proba`` returns it.
    classes : sequence, length n_classes, optional
        The labels of the columns (``classifier.classes_``); None: the sorted labels in ``y_true``.
    label_order : sequence, optional
        The labels from worst to best; not needed for -1/0/+1, "negative"/"neutral"/"positive" and the like.
    steps : 1-D array-like of Step, optional
        The rows' steps: they give groups and positions.
    groups : array-like of shape (n_steps,), optional
        The problem of each row. Without groups and steps there are no intervals.
    positions : array-like of int, shape (n_steps,), optional
        The 0-based index of each step. Without positions and steps there is no position baseline.
    reference : (steps or positions, labels), optional
        Training rows for the baselines. None: the majority baseline takes the shares of these rows, and the
        position baseline is fitted on these rows, out of fold by problem.
    y_pred : array-like of shape (n_steps,), optional
        The classifier's own labels (``predict``), where it decides otherwise than by the likeliest class.
    threshold : float, optional
        Call a step negative if its risk is above it, see :func:`choose_threshold`; None: take the
        likeliest class.
    threshold_source : str, optional
        The data that chose the threshold; it is printed.
    n_resamples : int, default 1000
    confidence_level : float, default 0.95
    random_state : int, Generator or None, default 0

    Returns
    -------
    StepReport
        Undefined numbers are None: the AUROC of one class, the precision of a class never predicted.

    Raises
    ------
    ValueError
        For other lengths, labels outside the classes, unlabelled rows, rows that are no probabilities, or
        labels of which nothing tells the worst.

    Examples
    --------
    >>> y = ["negative", "positive", "positive", "negative", "positive", "positive"]
    >>> risk = np.array([0.9, 0.2, 0.4, 0.3, 0.1, 0.3])
    >>> report = step_report(y, np.column_stack([risk, 1 - risk]), groups=[0, 0, 0, 1, 1, 2])
    >>> round(report.metrics["model"]["auroc"].value, 3), report.metrics["majority"]["auroc"].value
    (0.812, 0.5)
    """
    rows = check_rows(y_true, proba, classes, label_order, steps, groups, positions)
    if y_pred is not None and threshold is not None:
        raise ValueError("both y_pred and threshold are given, expected one of them: each decides the labels")
    decisions = decide(rows.proba, rows.column_order, threshold)
    if y_pred is not None:
        decisions = predicted_numbers(rows, y_pred)
    baseline_proba, baseline_source = baselines(rows, reference, random_state)
    systems = {"model": (rows.proba, decisions)} | {
        name: (p, decide(p, rows.column_order, None)) for name, p in baseline_proba.items()
    }
    problems, n_problems = (
        (np.zeros(len(rows.y), dtype=np.int64), 1) if rows.groups is None else problem_numbers(rows.groups)
    )
    computed = {
        name: WeightedStepMetrics(rows.y, p, decided, problems, rows.classes)
        for name, (p, decided) in systems.items()
    }
    result = bootstrap_counts(
        lambda counts: {
            f"{name}/{metric}": value
            for name, metrics in computed.items()
            for metric, value in metrics(counts).items()
        },
        n_problems,
        n_resamples,
        random_state,
        confidence_level,
    )
    names = [key.removeprefix("model/") for key in result.estimates if key.startswith("model/")]
    support = np.bincount(rows.y, minlength=len(rows.classes))
    return StepReport(
        n_steps=len(rows.y),
        n_problems=None if rows.groups is None else n_problems,
        classes=rows.classes,
        class_shares={label: float(n / len(rows.y)) for label, n in zip(rows.classes, support, strict=True)},
        metrics={system: {name: result.interval(f"{system}/{name}") for name in names} for system in systems},
        differences={
            system: {name: result.difference(f"model/{name}", f"{system}/{name}") for name in HEADLINES}
            for system in baseline_proba
        },
        support={label: int(n) for label, n in zip(rows.classes, support, strict=True)},
        predicted=y_pred is not None,
        threshold=None if threshold is None else float(threshold),
        threshold_source=threshold_source,
        baseline_source=baseline_source,
        n_resamples=n_resamples,
        confidence_level=confidence_level,
    )
