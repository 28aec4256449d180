"""What calibration reads: steps, which know their problems, or numbers, whose problems ``groups`` may name."""

from __future__ import annotations

from typing import Any

import numpy as np

from prmkit.data._problem_keys import problem_keys
from prmkit.data._solution import as_steps
from prmkit.data._splitters import holds_numbers
from prmkit.uncertainty._paths_input import check_groups, group_keys


def problems_of_rows(X: Any, groups: Any) -> tuple[np.ndarray | None, Any]:
    """Return the key of each row's problem, where it is known, and X, steps as a list.

    Raises
    ------
    TypeError, ValueError
        If X is not a flat list of steps, or groups has another length, or comes with steps.
    """
    if hasattr(X, "__array__") and not hasattr(X, "__iter__"):
        X = np.asarray(X)
    if not holds_numbers(X):
        if groups is not None:
            raise ValueError("groups is for numeric X: a Step already knows its problem")
        X = as_steps(X)
        return problem_keys(X), X
    if groups is None:
        return None, X
    named, numbers = np.unique(check_groups(groups, len(X), "row"), return_inverse=True)
    return group_keys(named)[numbers], X
