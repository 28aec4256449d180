"""Labelled steps with their probabilities, checked for a report, and baselines that need no model."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from prmkit.data.labels import declared_order, resolve_label_order
from prmkit.data.problem_keys import problem_groups
from prmkit.data.solution import Step, as_steps
from prmkit.metrics.bootstrap import problem_numbers
from prmkit.metrics.calibration.calibration import check_class_probabilities
from prmkit.utils.ragged import FloatArray, IntArray

Label: TypeAlias = Hashable
RandomState: TypeAlias = "int | np.random.Generator | None"

# A position that training has seen this often counts half. The overall shares count the other half.
_PRIOR_STEPS = 10.0
_N_FOLDS = 5


@dataclass(frozen=True)
class StepRows:
    """Labelled steps. Classes are numbered, and columns ordered, from worst to best.

    ``column_order`` holds the caller's column of each class. ``positions`` are 0-based indices of steps in their
    solutions.
    """

    y: IntArray
    proba: FloatArray
    classes: tuple[Label, ...]
    column_order: IntArray
    groups: npt.NDArray[Any] | None
    positions: IntArray | None

    def problems(self) -> tuple[IntArray, int]:
        """Return the problem of each step as a number, and the number of problems. Without groups it is 1."""
        if self.groups is None:
            return np.zeros(len(self.y), dtype=np.int64), 1
        return problem_numbers(self.groups)

    def decide(self, proba: FloatArray, threshold: float | None = None) -> IntArray:
        """Return the class number of each row: negative above the threshold, else the likeliest (other) class."""
        # Ties are broken in the caller's order of columns, as ``predict`` breaks them.
        caller_order = np.argsort(self.column_order)
        likeliest: IntArray = caller_order[proba[:, caller_order].argmax(axis=1)]
        if threshold is None:
            return likeliest
        return np.where(proba[:, 0] > threshold, 0, 1 + proba[:, 1:].argmax(axis=1))

    def numbers_of(self, y_pred: npt.ArrayLike) -> IntArray:
        """Return the class number of each predicted label."""
        labels = _plain(y_pred)
        if len(labels) != len(self.y):
            raise ValueError(f"y_pred has {len(labels)} labels for {len(self.y)} steps, expected one per step")
        return _class_numbers(labels, self.classes, "y_pred")


def check_rows(
    y_true: Any,
    proba: npt.ArrayLike,
    classes: Sequence[Label] | None = None,
    label_order: Sequence[Label] | None = None,
    steps: Any = None,
    groups: npt.ArrayLike | None = None,
    positions: npt.ArrayLike | None = None,
) -> StepRows:
    """Check the input of a report. The errors say what was found and what was expected."""
    matrix = np.asarray(proba, dtype=np.float64)
    labels = _plain(y_true)
    if matrix.ndim != 2 or matrix.shape[1] < 2:
        raise ValueError(
            f"proba has shape {matrix.shape}, expected (n_steps, n_classes): np.c_[risk, 1 - risk] for a risk"
        )
    if len(labels) != len(matrix):
        raise ValueError(f"y_true has {len(labels)} labels and proba {len(matrix)} rows, expected the same")
    if not labels:
        raise ValueError("y_true is empty: at least 1 labelled step is required")
    names = _class_names(labels, classes, matrix.shape[1])
    ordered = resolve_label_order(names, declared_order(y_true, label_order))
    if ordered is None:
        raise ValueError(f"nothing tells which of {names} is worst: pass label_order=[worst, …, best]")
    columns = np.array([names.index(label) for label in ordered])
    matrix = check_class_probabilities(matrix, (len(labels), len(ordered)))[:, columns]
    if steps is not None:
        steps = as_steps(steps)
        groups = problem_groups(steps) if groups is None else groups
        positions = [step.index for step in steps] if positions is None else positions
    return StepRows(
        _class_numbers(labels, ordered, "y_true"),
        matrix,
        tuple(ordered),
        columns,
        _per_row(groups, len(labels), "groups"),
        _check_positions(_per_row(positions, len(labels), "positions"), "positions"),
    )


def _class_names(labels: list[Any], classes: Sequence[Label] | None, n_columns: int) -> list[Any]:
    """Return the labels of the columns, by default the sorted labels of the rows."""
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


def _class_numbers(labels: list[Any], ordered: Sequence[Label], name: str) -> IntArray:
    """Return the place of each label in the order from worst to best."""
    number = {label: i for i, label in enumerate(ordered)}
    unknown = {repr(label) for label in labels if label not in number}
    if unknown:
        raise ValueError(
            f"{name} holds {', '.join(sorted(unknown)[:5])}, expected only {list(ordered)}: "
            "leave out rows without a label, and name all labels in classes"
        )
    return np.array([number[label] for label in labels], dtype=np.int64)


def _plain(values: Any) -> list[Any]:
    """Return labels as a list of plain Python values."""
    array = values if hasattr(values, "tolist") else np.asarray(list(values), dtype=object)
    if getattr(array, "ndim", 1) != 1:
        raise ValueError(f"found labels of shape {array.shape}, expected one label per row")
    return [value.item() if isinstance(value, np.generic) else value for value in array.tolist()]


def _per_row(values: npt.ArrayLike | None, n_rows: int, name: str) -> npt.NDArray[Any] | None:
    """Return values as an array of one value per row."""
    if values is None:
        return None
    array = np.asarray(values)
    if array.shape != (n_rows,):
        raise ValueError(f"{name} has shape {array.shape}, expected ({n_rows},): one value per row")
    return array


def _check_positions(positions: npt.NDArray[Any] | None, name: str) -> IntArray | None:
    """Refuse positions that are no step indices."""
    if positions is not None and (positions.dtype.kind not in "iu" or positions.min() < 0):
        raise ValueError(f"{name} are not all integers of at least 0, expected 0-based step indices")
    return positions


class Baselines(NamedTuple):
    """Probabilities of the baselines by name, and in words where they come from."""

    proba: dict[str, FloatArray]
    source: str


def baselines(rows: StepRows, reference: tuple[Any, Any] | None, random_state: RandomState = 0) -> Baselines:
    """Return the baselines of a report."""
    n_steps, n_classes = rows.proba.shape
    if reference is not None:
        where, labels = reference
        train_y = _class_numbers(_plain(labels), rows.classes, "reference labels")
        train_positions = None if where is None else _reference_positions(where, len(train_y))
        proba = {"majority": majority_baseline(train_y, n_steps, n_classes)}
        if rows.positions is not None and train_positions is not None:
            proba["position"] = position_baseline(rows.positions, n_classes, train=(train_positions, train_y))
        return Baselines(proba, f"class shares (at each step index) of {len(train_y):,} reference steps")
    proba = {"majority": majority_baseline(rows.y, n_steps, n_classes)}
    source = "majority from the class shares of these steps"
    if rows.positions is not None:
        groups = None if rows.groups is None else rows.problems()[0]
        proba["position"] = position_baseline_out_of_fold(
            rows.positions, rows.y, n_classes, groups=groups, random_state=random_state
        )
        by = "row" if groups is None else "problem"
        source += f"; position (step index alone) fitted on these steps, out of fold by {by}"
    return Baselines(proba, source)


def _reference_positions(where: Any, n_rows: int) -> IntArray | None:
    """Return the positions of reference rows that are given as steps or as positions."""
    first = next(iter(where), None)
    values = [step.index for step in as_steps(where)] if isinstance(first, (Step, str)) else where
    return _check_positions(_per_row(values, n_rows, "reference positions"), "reference positions")


def majority_baseline(y: IntArray, n_steps: int, n_classes: int) -> FloatArray:
    """Return the shares of the classes in ``y`` as the probabilities of every step. The largest one wins."""
    return np.tile(np.bincount(y, minlength=n_classes) / len(y), (n_steps, 1))


def position_baseline(
    positions: npt.ArrayLike, n_classes: int, *, train: tuple[npt.ArrayLike, npt.ArrayLike]
) -> FloatArray:
    """Return class probabilities from the step's index alone: the shares seen at that index in training.

    The number of steps is not used. In use it is unknown, and in data whose solutions end at their first error it
    gives the label away.
    """
    where, train_where = np.asarray(positions), np.asarray(train[0])
    counts = _count(train_where, np.asarray(train[1]), n_classes, int(where.max()) + 1)
    return np.asarray(_smoothed(counts)[where])


def position_baseline_out_of_fold(
    positions: npt.ArrayLike,
    y: IntArray,
    n_classes: int,
    *,
    groups: IntArray | None = None,
    random_state: RandomState = 0,
) -> FloatArray:
    """Return :func:`position_baseline` for each step, fitted on the same rows without the step's own fold."""
    where = np.asarray(positions)
    units = np.arange(len(y)) if groups is None else groups
    n_units = int(units.max()) + 1
    n_folds = min(_N_FOLDS, n_units)
    # With one problem there are no others to learn from.
    if n_folds < 2:
        return majority_baseline(y, len(y), n_classes)
    folds = np.random.default_rng(random_state).permutation(n_units)[units] % n_folds
    n_positions = int(where.max()) + 1
    counts_of_all = _count(where, y, n_classes, n_positions)
    proba = np.empty((len(y), n_classes))
    for fold in range(n_folds):
        rows = folds == fold
        counts_of_others = counts_of_all - _count(where[rows], y[rows], n_classes, n_positions)
        proba[rows] = _smoothed(counts_of_others)[where[rows]]
    return proba


def _count(positions: IntArray, y: IntArray, n_classes: int, n_positions: int) -> IntArray:
    """Return how often each class occurs at each position, shape (n_positions, n_classes)."""
    n_positions = max(n_positions, int(positions.max(initial=-1)) + 1)
    counts = np.bincount(positions * n_classes + y, minlength=n_positions * n_classes)
    return counts.reshape(n_positions, n_classes)


def _smoothed(counts: IntArray) -> FloatArray:
    """Return class shares at each position, drawn towards the overall shares."""
    shares = counts.sum(axis=0) / counts.sum()
    return np.asarray((counts + _PRIOR_STEPS * shares) / (counts.sum(axis=1, keepdims=True) + _PRIOR_STEPS))
