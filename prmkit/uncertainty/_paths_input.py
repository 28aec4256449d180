"""What every path-level estimator reads: solutions with a fitted classifier, or arrays of risks without one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from prmkit.data._problem_keys import problem_keys
from prmkit.data._solution import Solution, as_solutions
from prmkit.metrics._paths import _concatenate
from prmkit.metrics._score_solutions import score_solutions


@dataclass(frozen=True)
class Paths:
    """The step risks of several paths, end to end, and what each path belongs to.

    Parameters
    ----------
    risks : ndarray of shape (n_steps_in_all,)
    lengths : ndarray of shape (n_paths,)
    units : ndarray of shape (n_paths,)
        The unit of each path as 0..n_units-1: its problem where that is known, else the path itself.
    keys : ndarray of uint64, shape (n_keys,)
        Keys of the problems, by which the same problem on two sides is found; empty where none is known.
    """

    risks: np.ndarray
    lengths: np.ndarray
    units: np.ndarray
    keys: np.ndarray

    @property
    def starts(self) -> np.ndarray:
        """Where each path begins in ``risks``."""
        return np.cumsum(self.lengths) - self.lengths

    @property
    def n_units(self) -> int:
        """Number of problems (or paths)."""
        return int(self.units.max(initial=-1)) + 1

    @property
    def path_of_step(self) -> np.ndarray:
        """The path of each step, shape (n_steps_in_all,)."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)

    @property
    def place(self) -> np.ndarray:
        """The 0-based index of each step in its path, shape (n_steps_in_all,)."""
        return np.arange(len(self.risks)) - np.repeat(self.starts, self.lengths)


def read_paths(classifier: Any, X: Any, groups: Any = None) -> Paths:
    """Read the step risks of paths.

    Parameters
    ----------
    classifier : fitted classifier over steps, or None
    X : list of Solution, or, without a classifier, of 1-D arrays of step risks
    groups : array-like of shape (n_paths,), optional
        The problem of each path. None: solutions say it themselves; each array is a problem of its own.

    Raises
    ------
    TypeError, ValueError
        If X is not what the classifier (or its absence) asks for, a path has no steps, a risk is no
        probability, or groups has another length.
    """
    if classifier is None:
        _refuse_solutions(X)
        risks, lengths = _concatenate(_as_list(X), True)
        keys = np.empty(0, dtype=np.uint64)
        units = np.arange(len(lengths))
    else:
        check_is_fitted(classifier)
        solutions = as_solutions(X)
        scored = score_solutions(classifier, solutions)
        risks, lengths = _concatenate([one.risks for one in scored], True)
        by_problem = problem_keys(solutions)
        keys, units = np.unique(by_problem, return_inverse=True)
    if groups is not None:
        groups = np.asarray(groups)
        if groups.shape != lengths.shape:
            raise ValueError(
                f"groups has shape {groups.shape}, expected one problem for each of the {len(lengths)} paths"
            )
        named, units = np.unique(groups, return_inverse=True)
        keys = np.union1d(keys, problem_keys([f"group {name}" for name in named.tolist()]))
    return Paths(risks, lengths, units.astype(np.int64), keys)


def check_first_errors(first_errors: Any, lengths: np.ndarray) -> np.ndarray:
    """Return the index of the first wrong step of each path as int64, -1 where there is none.

    Raises
    ------
    ValueError
        For another length, no integers, or an index that its path does not have.
    """
    values = np.asarray(first_errors)
    if values.shape != lengths.shape:
        raise ValueError(
            f"first_errors has shape {values.shape}, expected one number for each of the {len(lengths)} paths"
        )
    if not len(values):
        raise ValueError("X is empty: at least 1 path is required")
    if values.dtype.kind not in "iu" and not (
        values.dtype.kind == "f" and np.isfinite(values).all() and (values == np.round(values)).all()
    ):
        raise ValueError(
            f"first_errors holds {values.flat[0]!r}, expected 0-based indices, and -1 where a path "
            "has no error; leave out paths that were not judged to their end (None)"
        )
    values = values.astype(np.int64)
    bad = np.flatnonzero((values < -1) | (values >= lengths))
    if len(bad):
        i = int(bad[0])
        raise ValueError(
            f"first_errors[{i}] is {values[i]}, but path {i} has {lengths[i]} steps: expected -1 (no error) to "
            f"{lengths[i] - 1}"
        )
    return values


def refuse_shared_problems(keys: np.ndarray, seen: np.ndarray | None, what: str) -> None:
    """Raise where problems are also among those that were ``seen``.

    Parameters
    ----------
    keys, seen : ndarray of uint64, or None where not known
    what : str
        What saw them, as "the classifier was trained on".

    Raises
    ------
    ValueError
        Saying how many.
    """
    if seen is None or not len(seen) or not len(keys):
        return
    shared = int(np.isin(np.unique(keys), seen).sum())
    if shared:
        raise ValueError(
            f"{shared} of {len(np.unique(keys))} problems are also among those that {what}: numbers on them say "
            "nothing about new problems, and no guarantee holds. Split by problem (ProblemShuffleSplit) and leave "
            "them out here"
        )


def training_problems(classifier: Any) -> np.ndarray | None:
    """Return the keys of the problems that a classifier learnt from; None where it does not remember them."""
    return getattr(classifier, "training_problems_", None)


def _as_list(X: Any) -> Sequence[Any]:
    if isinstance(X, np.ndarray) and X.dtype != object and X.ndim != 2:
        raise ValueError(f"X has shape {X.shape}, expected a list of 1-D arrays, one per path: [risks]")
    return list(X)


def _refuse_solutions(X: Any) -> None:
    first = next(iter(X), None) if hasattr(X, "__iter__") else X
    if isinstance(first, Solution) or isinstance(X, Solution):
        raise TypeError(
            "X holds solutions, and classifier is None: pass a fitted classifier, or arrays of step risks"
        )
