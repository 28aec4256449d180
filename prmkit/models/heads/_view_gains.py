"""What each view of a step adds to those that are cheaper: gains in log loss with intervals by problem."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypedDict

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student
from sklearn.linear_model import LogisticRegression

from prmkit.data.solution import Step, iter_solutions
from prmkit.utils.environment import import_optional

if TYPE_CHECKING:
    import pandas as pd

Folds = Sequence[tuple[np.ndarray, np.ndarray]]


class ViewRow(TypedDict, total=False):
    """A row of ``view_report_``, and the reason why the view was kept or left out. ``None`` is not known."""

    view: str
    gain: float | None
    gain_low: float | None
    gain_high: float | None
    seconds_per_1000_steps: float | None
    kept: bool
    reason: str


_COLUMNS = ("view", "gain", "gain_low", "gain_high", "seconds_per_1000_steps", "kept")
_LEVEL = 0.95


def sampled_rows(X: Sequence[Step], problems: np.ndarray, most: int, seed: int) -> npt.NDArray[np.int64]:
    """Return ``most`` rows at most: those of one solution of each problem, then of a second one, in random order.

    So many steps tell more of many problems than of few.
    """
    solutions = [rows for _, rows, _ in iter_solutions(X)]
    order = np.random.RandomState(seed).permutation(len(solutions)).tolist()
    n_earlier: Counter[int] = Counter()
    turns = {}
    for i in order:
        problem = int(problems[solutions[i][0]])
        turns[i] = n_earlier[problem]
        n_earlier[problem] += 1
    chosen: list[int] = []
    for i in sorted(order, key=turns.__getitem__):
        if len(chosen) + len(solutions[i]) <= most:
            chosen += solutions[i]
    return np.sort(chosen).astype(np.int64)


def gains(
    views: dict[str, np.ndarray],
    codes: np.ndarray,
    folds: Folds,
    problems: np.ndarray,
    weight: np.ndarray | None = None,
) -> dict[str, ViewRow]:
    """Return the gain in log loss that each view brings to those before it, the first one to the shares of classes.

    ``views`` holds out-of-fold log-ratios, the cheapest view first. What joins them is learnt in the same folds, so
    that no step judges what it has taught. The interval treats the steps of a problem as one observation.
    """
    weight = np.ones(len(codes)) if weight is None else weight
    stacks = [np.zeros((len(codes), 0))]
    for columns in views.values():
        stacks.append(np.hstack([stacks[-1], columns]))
    losses = [_losses(stack, codes, folds, weight) for stack in stacks]
    return {
        name: _mean_by_problem(before - after, problems, weight)
        for name, before, after in zip(views, losses, losses[1:], strict=False)
    }


def _losses(rows: np.ndarray, codes: np.ndarray, folds: Folds, weight: np.ndarray) -> np.ndarray:
    """Return the log loss of each step by a logistic regression that has learnt on the other folds."""
    n_classes = int(codes.max()) + 1
    losses = np.zeros(len(codes))
    for learn, check in folds:
        # Each class counts one step more than it has, so that none is impossible.
        shares = np.bincount(codes[learn], weight[learn], n_classes) + 1.0
        proba = np.tile(shares / shares.sum(), (len(check), 1))
        if rows.shape[1]:
            joined = LogisticRegression(max_iter=300).fit(rows[learn], codes[learn], sample_weight=weight[learn])
            proba[:, joined.classes_] = np.maximum(joined.predict_proba(rows[check]), 1e-9)
        losses[check] = -np.log(proba[np.arange(len(check)), codes[check]])
    return losses


def _mean_by_problem(differences: np.ndarray, problems: np.ndarray, weight: np.ndarray) -> ViewRow:
    """Return the mean over steps with its interval, from the spread of the sums of problems."""
    sums, sizes = np.bincount(problems, differences * weight), np.bincount(problems, weight)
    n, mean = np.count_nonzero(sizes), float(sums.sum() / sizes.sum())
    if n < 2:
        return {"gain": mean, "gain_low": None, "gain_high": None}
    deviation = np.sqrt(n / (n - 1) * ((sums - mean * sizes) ** 2).sum()) / sizes.sum()
    half = float(student.ppf((1 + _LEVEL) / 2, n - 1) * deviation)
    return {"gain": mean, "gain_low": mean - half, "gain_high": mean + half}


def frame(rows: Sequence[ViewRow]) -> pd.DataFrame:
    """Return the report as a data frame. Its ``attrs["reasons"]`` say why each view was kept or left out."""
    pandas = import_optional("pandas", "view_report_")
    columns = {name: [row.get(name) for row in rows] for name in _COLUMNS}
    table: pd.DataFrame = pandas.DataFrame(columns)
    numbers = list(_COLUMNS[1:5])
    table[numbers] = table[numbers].astype(float)
    table.attrs["reasons"] = {row["view"]: row["reason"] for row in rows}
    return table


def in_words(row: ViewRow) -> str:
    """Return what became of a view and why, in a line."""
    _, gain, seconds, _, reason = cells(row)
    text = f"{row['view']} {'kept' if row['kept'] else 'left out'}: {reason}"
    text += f"; gain in log loss {gain}" if gain else ""
    return f"{text}; {seconds} s per 1,000 steps" if seconds else text


HEADER = ["view", "gain in log loss [95 %]", "s per 1,000 steps", "kept", "why"]


def cells(row: ViewRow) -> list[str]:
    """Return the texts of a row, under ``HEADER``."""
    gain, low, high = row.get("gain"), row.get("gain_low"), row.get("gain_high")
    shown = "" if gain is None else f"{gain:+.4f}" + ("" if low is None else f" [{low:+.4f}, {high:+.4f}]")
    seconds = row.get("seconds_per_1000_steps")
    return [
        row["view"],
        shown,
        "" if seconds is None else f"{seconds:.2g}",
        "yes" if row["kept"] else "no",
        row["reason"],
    ]
