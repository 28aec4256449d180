"""What a step report needs of its input, checked once: class numbers, probabilities from worst to best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from prmkit.data._labels import resolve_label_order
from prmkit.data._solution import Step, as_steps, problem_groups
from prmkit.metrics._baselines import majority_baseline, position_baseline, position_baseline_out_of_fold
from prmkit.metrics._bootstrap import problem_numbers
from prmkit.metrics._calibration import check_class_probabilities


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
